//! `GET /api/v1/events`: what happens, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::hub::actor::event_log::{self, Following};
use crate::hub::http::credentials::Credentials;
use crate::hub::http::reply::{Caller, require};
use crate::hub::http::request::{App, Shared};
use crate::hub::problem::Problem;
use crate::hub::state::roles::Permission;
use crate::protocol::JsonFields;

/// The number of events that are taken from the log at a time.
const PART: usize = 64;
/// The longest time without a line.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How often a reader that waits is still to be the holder of a valid token.
const TOKEN_CHECK: Duration = Duration::from_secs(1);

/// A reader of events.
struct Reader {
    app: Arc<App>,
    caller: Caller,
    /// The number of the last event that it got.
    last: u64,
    /// Whether it is still to be told that it missed events.
    missed: bool,
    pending: std::vec::IntoIter<event_log::Event>,
    newest: watch::Receiver<u64>,
}

/// Streams what happens to tasks, restarts, rollouts, agents, drains and healing rules from now on, or after the event `Last-Event-ID`. An event `missed`
/// comes first where events between are not kept any more: then the lists must be read again.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", operation_id = "follow_events", security(("token" = [])),
    params(("Last-Event-ID" = Option<String>, Header, description = "the id of the last event that was received")),
    responses(
        (status = 200, description = "events `task`, `restart`, `rollout`, `agent`, `drain`, `healing` and `missed`", body = String, content_type = "text/event-stream"),
        (status = "4XX", description = "no valid token", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn follow(State(app): Shared, who: Credentials, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = require(&app.snapshot(), &who, Permission::ReadFleet, "follow events")?;
    let newest = app.actor.events().subscribe();
    let now = *newest.borrow();
    let seen = headers.get("last-event-id").map(|id| id.to_str().ok().and_then(|id| app.actor.events().number_of(id)));
    let (last, missed) = match seen {
        None => (now, false),
        Some(Some(number)) => (number, false),
        // Another run's: everything that is kept is new to it.
        Some(None) => (0, true),
    };
    let reader = Reader { app, caller, last, missed, pending: Vec::new().into_iter(), newest };
    let events = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok::<Event, Infallible>(event), reader))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// Returns whether the caller may be told: an agent does not read the restarts of others or what healing rules do to them,
/// nor rollouts.
fn may_see(caller: &Caller, event: &event_log::Event) -> bool {
    let agent_id = || JsonFields::of_unchecked(event.data.as_str(), |name| name == "agent_id").string("agent_id");
    match event.kind {
        "restart" | "healing" => caller.may(Permission::ReadAnyRestarts) || agent_id().as_ref() == Some(&caller.name),
        "rollout" => caller.may(Permission::ReadAnyRestarts),
        _ => true,
    }
}

impl Reader {
    /// Waits for the next event; `None` when the hub stops, or the token is no longer valid.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if !self.app.is_valid(self.caller.proof) {
                return None;
            }
            if std::mem::take(&mut self.missed) {
                return Some(Event::default().event("missed").data("{}"));
            }
            if let Some(event) = self.pending.next() {
                self.last = event.number;
                if !may_see(&self.caller, &event) {
                    continue;
                }
                let id = self.app.actor.events().id_of(event.number);
                return Some(Event::default().id(id).event(event.kind).data(event.data.as_str()));
            }
            self.newest.mark_unchanged();
            let Following { gap, events } = self.app.actor.events().after(self.last, PART);
            self.missed = gap;
            if gap && events.is_empty() {
                // Its last event is of the future: of another hub with the same clock.
                self.last = *self.newest.borrow();
            }
            if !events.is_empty() {
                self.pending = events.into_iter();
                continue;
            }
            if self.missed {
                continue;
            }
            tokio::select! {
                () = self.app.stop.cancelled() => return None,
                // The token may be worth nothing any more.
                () = sleep(TOKEN_CHECK) => {}
                changed = self.newest.changed() => changed.ok()?,
            }
        }
    }
}
