//! The local HTTP listener, if one is configured: health checks, metrics for Prometheus, and the state. It is read-only
//! and has no authentication. So it listens on this machine by default, and there refuses requests whose `Host` is a
//! foreign name (DNS rebinding). It has no pages, and refuses the requests of every other server's, wherever it listens.
//!
//! | path | answer |
//! |---|---|
//! | `/live` | 200 while the loop gets to what is due; else 503 |
//! | `/ready` | 200 where it serves, also with a task in hand; else 503 and why not, a reason a line |
//! | `/metrics` | Prometheus text, see `docs/operating.md` |
//! | `/state` | the document of `status --json` |

mod metrics;
mod prometheus;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::common::http_host::{Authority, WebOrigin};
use crate::common::http_server;
use crate::sidecar::admin::handle::AdminHandle;
use crate::sidecar::admin::status::{Status, TaskPart};

/// The time limit for a request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit of a connection; each carries one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The connection limit; further connections wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// The interval at which a port that is taken is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// The event loop counts as stuck once a deadline is overdue by this much, in ms.
const OVERDUE_MS: u64 = 30_000;

/// Serves at the address as long as the process lives. A port that is taken is logged and tried again: it may belong to
/// the previous run, which is about to end.
pub(crate) async fn serve(address: SocketAddr, admin: AdminHandle) {
    let listener = listen(address).await;
    match listener.local_addr() {
        Ok(address) => tracing::info!(%address, "the local HTTP listener is open"),
        Err(error) => tracing::debug!(%error, "the local HTTP listener does not know its address"),
    }
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed: this waits for a permit.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = admin.clone();
                tokio::spawn(async move {
                    serve_connection(stream, admin, address.ip().is_loopback()).await;
                    drop(permit);
                });
            }
            Err(error) if http_server::is_peer_error(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "the local HTTP listener could not take a connection; trying again");
                sleep(RETRY_INTERVAL).await;
            }
        }
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    let mut warned = false;
    loop {
        // tokio sets SO_REUSEADDR: connections of the previous run do not block the port.
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                if !warned {
                    tracing::warn!(%address, %error, "{}", bind_failure(&error));
                    warned = true;
                }
                sleep(RETRY_INTERVAL).await;
            }
        }
    }
}

fn bind_failure(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AddrInUse {
        "the port of `http_listen` is taken: give each sidecar its own; trying again until it is free"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "the port of `http_listen` is not for this user: take one above 1023"
    } else {
        "there is no local HTTP listener: see `http_listen`; trying again"
    }
}

async fn serve_connection(stream: TcpStream, admin: AdminHandle, local: bool) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut admin = admin.clone();
        async move {
            Ok::<_, Infallible>(match refusal(request.headers(), local) {
                Some(why) => plain(StatusCode::FORBIDDEN, why.into()),
                None => answer(request.method(), request.uri().path(), &mut admin),
            })
        }
    });
    let connection = http_server::connection(HEAD_TIMEOUT, MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection broke off"),
        Err(_) => tracing::debug!("an HTTP connection took too long"),
    }
}

/// Returns why a request is refused before its path is looked at: it comes from a web page, or, where the listener is
/// `local`, by a name that may be one's.
fn refusal(headers: &HeaderMap, local: bool) -> Option<&'static str> {
    let host = headers.get(HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
    if local && host.as_deref().is_some_and(|host| !is_this_machine(host)) {
        return Some("call me by my address, or localhost\n");
    }
    let own = host.as_deref().and_then(Authority::parse);
    let is_own = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(WebOrigin::parse);
        origin.zip(own.as_ref()).is_some_and(|(origin, own)| origin.is_at(own))
    };
    let is_foreign = !headers.get_all(ORIGIN).iter().all(is_own);
    is_foreign.then_some("no web page but my own may ask: a program sends no `Origin`\n")
}

/// Returns whether a `Host` header certainly names this machine: an address or `localhost`. Any other name may be a web
/// page's.
fn is_this_machine(host: &str) -> bool {
    Authority::parse(host).is_some_and(|named| !named.host.is_in_dns())
}

type Answer = Response<Full<Bytes>>;

fn answer(method: &Method, path: &str, admin: &mut AdminHandle) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match path {
        "/live" => live(admin.overdue_ms()),
        "/ready" => ready(&admin.status()),
        "/metrics" => typed(StatusCode::OK, prometheus::CONTENT_TYPE, metrics::write(&admin.status())),
        "/state" => {
            // Strings and numbers only: serialization cannot fail.
            let document = serde_json::to_string(&admin.status()).unwrap_or_default() + "\n";
            typed(StatusCode::OK, "application/json", document)
        }
        _ => plain(StatusCode::NOT_FOUND, "/live /ready /metrics /state\n".into()),
    }
}

fn live(overdue_ms: u64) -> Answer {
    if overdue_ms < OVERDUE_MS {
        return plain(StatusCode::OK, "live\n".into());
    }
    let why = format!("the loop has not got to what was due {} s ago: a disk that hangs?\n", overdue_ms / 1_000);
    plain(StatusCode::SERVICE_UNAVAILABLE, why)
}

fn ready(status: &Status) -> Answer {
    let reasons = not_ready(status);
    if reasons.is_empty() {
        return plain(StatusCode::OK, format!("ready\n{}", status.task.as_ref().map(task_line).unwrap_or_default()));
    }
    plain(StatusCode::SERVICE_UNAVAILABLE, reasons.iter().map(|reason| format!("{reason}\n")).collect())
}

/// Returns how long the task in hand has been silent.
fn task_line(task: &TaskPart) -> String {
    format!("task {}: {}, silent for {} s\n", task.task_id, task.stage, task.silent_ms / 1_000)
}

/// Returns the reasons why the sidecar is not ready; empty if [`Status::is_ready`].
fn not_ready(status: &Status) -> Vec<String> {
    let mut reasons = Vec::new();
    if !status.journal.writable {
        reasons.push("the journal cannot be written".to_owned());
    }
    if status.hub.link != "online" {
        let hub = &status.hub;
        let trouble = hub.trouble.as_ref().map(|why| format!("; last: {why}")).unwrap_or_default();
        let overridden = hub.overridden.iter().map(|one| format!("; `{}` is that of {}", one.key, one.by));
        let overridden: String = overridden.collect();
        reasons.push(format!("the hub is not connected: {} ({}){trouble}{overridden}", hub.link, hub.detail));
    }
    if status.draining {
        reasons.push("draining: an operator wants no new task to be taken".to_owned());
    }
    if let Some(leaving) = &status.leaving {
        reasons.push(format!("leaving ({}): {}", leaving.kind, leaving.reason));
    }
    reasons
}

fn plain(status: StatusCode, text: String) -> Answer {
    typed(status, "text/plain; charset=utf-8", text)
}

fn typed(status: StatusCode, kind: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::admin::status::example;

    #[test]
    fn every_reason_not_to_be_ready_is_said_and_no_other() {
        assert!(example().is_ready() && not_ready(&example()).is_empty());
        let changes: [fn(&mut Status); 4] = [
            |status| status.journal.writable = false,
            |status| status.hub.link = "down".into(),
            |status| status.draining = true,
            |status| {
                status.leaving = Some(crate::sidecar::admin::status::LeavingPart {
                    kind: "restart".into(),
                    reason: "r".into(),
                    command_id: None,
                    by: None,
                    deadline_in_ms: None,
                });
            },
        ];
        for change in changes {
            let mut status = example();
            change(&mut status);
            assert!(!status.is_ready());
            assert_eq!(not_ready(&status).len(), 1, "{:?}", not_ready(&status));
        }
    }

    #[test]
    fn another_servers_page_gets_nothing_wherever_it_is_asked() {
        let is_refused = |local, lines: &[(hyper::header::HeaderName, &'static [u8])]| {
            let value = |bytes| HeaderValue::from_bytes(bytes).unwrap();
            let headers = lines.iter().map(|(name, bytes)| (name.clone(), value(bytes))).collect();
            refusal(&headers, local).is_some()
        };
        for local in [true, false] {
            for page in [&b"http://evil.example"[..], b"null", b"http://127.0.0.1:1", b"", b"\xff"] {
                assert!(is_refused(local, &[(HOST, b"127.0.0.1:9464"), (ORIGIN, page)]), "{page:?}");
            }
            assert!(is_refused(local, &[(ORIGIN, b"http://evil.example")]));
            assert!(!is_refused(local, &[(HOST, b"127.0.0.1:9464"), (ORIGIN, b"http://127.0.0.1:9464")]));
            assert!(!is_refused(local, &[(HOST, b"127.0.0.1:9464")]) && !is_refused(local, &[]));
        }
        assert!(is_refused(true, &[(HOST, b"evil.example")]) && is_refused(true, &[(HOST, b"\xff")]));
        assert!(!is_refused(false, &[(HOST, b"agents.example:9464")]));
    }

    #[test]
    fn the_silence_of_a_task_is_told_beside_ready() {
        let task = serde_json::json!({"task_id": "t", "generation": 1, "stage": "running", "waits_for": "its result",
            "recovering": false, "age_ms": 90_000, "assigned_at_ms": null, "silent_ms": 61_500});
        let task: TaskPart = serde_json::from_value(task).unwrap();
        assert_eq!(task_line(&task), "task t: running, silent for 61 s\n");
    }

    #[test]
    fn a_web_page_with_a_name_of_its_own_is_not_this_machine() {
        for host in ["127.0.0.1:9464", "127.0.0.1", "localhost:9464", "LOCALHOST", "[::1]:9464", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "evil.example:9464",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:1",
            "",
            ":9464",
            "::1",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn a_loop_that_stands_still_is_not_live() {
        assert_eq!(live(29_999).status(), StatusCode::OK);
        assert_eq!(live(30_000).status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
