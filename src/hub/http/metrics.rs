//! `GET /metrics`, for Prometheus. Its figures come from what was recorded, the last snapshot and the system; they are put
//! together beside the workers, since there may be many agents, and the system may be slow to answer about the disk.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::common::http_host::Authority;
use crate::hub::api_error::ApiError;
use crate::hub::connections::listener::Origin;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::own_address::is_passed_on;
use crate::hub::http::ready::reasons;
use crate::hub::http::reply::{caller_of, unauthorized};
use crate::hub::http::request::{App, Shared};
use crate::hub::metrics::process::{ProcessFigures, disk_free};
use crate::hub::metrics::{CONTENT_TYPE, Seen};
use crate::hub::state::roles::Permission;

pub(super) async fn metrics(
    State(app): Shared,
    who: Credentials,
    origin: Option<Extension<Origin>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let is_open =
        app.public_metrics || origin.is_some_and(|Extension(origin)| is_of_this_machine(origin.peer().ip(), &headers));
    if !is_open {
        let caller = caller_of(&app.snapshot(), &who).map_err(|_| {
            unauthorized().with("open_to", "any token; this machine's own clients; everyone with --public-metrics")
        })?;
        caller.require(Permission::ReadMetrics, "read the metrics")?;
    }
    // One at a time: where the disk hangs, one thread waits for it and not one for each scrape.
    let turn = Arc::clone(&app.scrape).lock_owned().await;
    let text = tokio::task::spawn_blocking(move || {
        let text = app.actor.metrics().text(&seen(&app));
        drop(turn);
        text
    });
    let text = text.await.map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "no_metrics", &format!("{error}: this is a bug"))
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

fn seen(app: &App) -> Seen {
    let snapshot = app.snapshot();
    let now_ms = snapshot.now_ms();
    Seen {
        ready: reasons(app).is_empty(),
        agents: snapshot.agents_by_status(now_ms),
        connections: vec![
            ("identified", snapshot.view.connected_count()),
            ("unidentified", app.connections.unidentified()),
            ("waiting", app.connections.waiting()),
        ],
        rollout_targets: snapshot.view.rollouts().open_targets().map(|(phase, count)| (phase.into(), count)).collect(),
        process: ProcessFigures::read(),
        disk_free: disk_free(&app.data_dir),
        certificate_expires_at_ms: app.certificate.as_ref().and_then(|certificate| certificate.expires_at_ms()),
        now_ms,
    }
}

/// Returns whether a client of this machine asks by itself: not through a proxy, behind which anybody may be, and not a web
/// page's script, which can only name a host.
fn is_of_this_machine(peer: IpAddr, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| Authority::parse(host.to_str().ok()?));
    peer.to_canonical().is_loopback() && !is_passed_on(headers) && host.is_some_and(|named| !named.host.is_in_dns())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::http::own_address::OF_A_PROXY;

    fn open(peer: &str, headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        is_of_this_machine(peer.parse().unwrap(), &map)
    }

    #[test]
    fn only_a_client_of_this_machine_needs_no_token() {
        for host in ["localhost", "localhost:4000", "127.0.0.1:4000", "[::1]:4000", "10.0.0.1"] {
            assert!(open("127.0.0.1", &[("host", host)]), "{host}");
        }
        assert!(open("::1", &[("host", "localhost")]) && open("::ffff:127.0.0.1", &[("host", "localhost")]));
        assert!(!open("10.0.0.2", &[("host", "localhost")]));
        assert!(!open("127.0.0.1", &[]) && !open("127.0.0.1", &[("host", "page.example:4000")]));
        for name in OF_A_PROXY {
            assert!(!open("127.0.0.1", &[("host", "localhost"), (name, "x")]), "{name}");
        }
    }
}
