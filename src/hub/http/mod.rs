//! The hub's HTTP routes: each reads the request, asks the actor for a change or reads the last snapshot, and writes
//! JSON. They decide nothing about tasks or restarts.
//!
//! | route | role | answer |
//! |---|---|---|
//! | `GET /health` | none | 200 |
//! | `GET /ready` | none | 200, 503 |
//! | `GET /metrics` | any; none for clients of this machine, or with `--public-metrics` | 200 |
//! | `GET /ws` | in `identify` | 101 |
//! | `GET /api/agents` | none | 200 |
//! | `GET /api/agents/states`, `GET /api/agents/{id}/state` | any | 200, 404 |
//! | `POST /api/onboard/register` | none (admin, or an invitation, where registration is not open) | 201, 403, 409, 429 |
//! | `POST /api/tasks` | operator, agent | 201 |
//! | `GET /api/tasks`, `GET /api/tasks/{id}` | any | 200, 404 |
//! | `POST /api/tasks/{id}/cancel`, `.../retry` | operator, the submitter's | 200, 404, 409 |
//! | `POST /api/admin/push-task` | operator, agent | 200, 404 |
//! | `GET /api/tasks/dead-letter`, `GET /api/tasks/stats` | any | 200 |
//! | `GET, POST /admin/tokens`, `GET, POST /api/admin/tokens` | admin | 200, 201 |
//! | `DELETE /admin/tokens/{id}`, `DELETE /api/admin/tokens/{id}` | admin, the agent's own | 200 |
//! | `POST /api/admin/agents/{id}/reset-token` | admin | 201, 404 |
//! | `GET /api/config/default-repo` | none | 200 |
//! | `PUT /api/config/default-repo` | admin | 200 |
//! | `POST /api/admin/agents/{id}/restart` | operator, the agent's own | 200, 404 |
//! | `GET /api/admin/agents/{id}/restarts` | viewer, the agent's own | 200 |
//! | `GET /dashboard...`, `POST /dashboard/login`, `POST /dashboard/logout` | none; the page asks `/api/v1` | 200, 303, 401 |
//!
//! Before any of them a web page that is not the hub's own is refused, by `browsers`.
//!
//! The routes of `/api/v1` are in [`v1`], with their description. An operator may do what a viewer may, and an admin everything: [`Permission`] has the table.

mod admin;
mod agents;
pub mod browsers;
pub mod credentials;
pub mod entrance;
mod lists;
mod metrics;
mod not_offered;
mod own_address;
#[cfg(feature = "page")]
mod page;
mod ready;
mod register;
pub mod reply;
mod request;
pub(crate) mod tasks;
mod v1;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use serde_json::{Value, json};

use crate::hub::actor::Stopping;
use crate::hub::api_error::ApiError;
use crate::hub::connections::listener::Origin;
use crate::hub::connections::upgrade::Upgrade;
use crate::hub::connections::websocket;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::not_offered::alternative_to;
use crate::hub::http::reply::{Caller, MAX_BODY_BYTES, Proof, caller_of, read_body};
pub use crate::hub::http::request::App;
use crate::hub::http::request::{Body, Id, Reply, Shared, ok, path_id};
use crate::hub::problem::{is_in_v1, or_problem};
use crate::hub::random;
use crate::hub::scheduler::restart::{Restart, RestartRequest};
use crate::hub::scheduler::restart_ledger::MAX_DEADLINE_MS;
use crate::hub::state::roles::Permission;
use crate::protocol::JsonFields;
use crate::protocol::schema::{Field, Kind, may};

/// Returns the router with all routes.
pub fn router(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route("/ws", get(websocket))
        .route("/health", get(health))
        .route("/ready", get(ready::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/api/agents", get(agents::list))
        .route("/api/agents/states", get(agents::list_states))
        .route("/api/agents/{id}/state", get(agents::get_state))
        .route("/api/onboard/register", post(register::register))
        .route("/api/tasks", get(tasks::list).post(tasks::submit))
        .route("/api/tasks/dead-letter", get(tasks::dead_letters))
        .route("/api/tasks/stats", get(tasks::stats))
        .route("/api/tasks/{id}", get(tasks::get_task))
        .route("/api/tasks/{id}/cancel", post(tasks::cancel))
        .route("/api/tasks/{id}/retry", post(tasks::retry))
        .route("/api/admin/push-task", post(agents::push_task))
        .route("/api/admin/agents/{id}/restart", post(restart_agent))
        .route("/api/admin/agents/{id}/restarts", get(list_restarts))
        .route("/api/admin/agents/{id}/reset-token", post(admin::reset_token))
        .route("/admin/tokens", get(admin::list_tokens).post(admin::make_token))
        .route("/admin/tokens/{id}", delete(admin::revoke_tokens))
        .route("/api/admin/tokens", get(admin::list_tokens).post(admin::make_token))
        .route("/api/admin/tokens/{id}", delete(admin::revoke_tokens))
        .route("/api/config/default-repo", get(admin::default_repo).put(admin::set_default_repo))
        .merge(v1::router());
    #[cfg(feature = "page")]
    let sessions = page::Sessions::new(&app.data_dir);
    #[cfg(feature = "page")]
    let routes = routes.merge(page::router(sessions.clone()));
    let routes = routes
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(app.clone(), note_token));
    // Before whoever asks for the caller, and after the check of the page that a request comes from.
    #[cfg(feature = "page")]
    let routes = routes.layer(middleware::from_fn_with_state((app.clone(), sessions), page::recognise));
    let routes = routes.layer(middleware::from_fn_with_state(app.clone(), browsers::refuse_foreign));
    routes.layer(middleware::from_fn_with_state(app.clone(), only_while_leading)).with_state(app)
}

/// Answers only where no other hub can have taken over: what a route reads is as of a moment after its request came. Where the
/// store is a file, that is always so.
async fn only_while_leading(State(app): Shared, request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    // What a process says of itself is true whoever leads.
    if matches!(uri.path(), "/health" | "/ready" | "/metrics") {
        return next.run(request).await;
    }
    if app.actor.confirm().await.is_err() {
        return or_problem(&uri, Stopping.into());
    }
    let answer = next.run(request).await;
    if app.actor.may_speak() { answer } else { or_problem(&uri, Stopping.into()) }
}

/// Lets a connection with a valid token leave the connection limit: a herd of strangers does not close an operator's.
/// Notes that the token was used.
async fn note_token(
    State(app): Shared,
    who: Credentials,
    origin: Option<Extension<Origin>>,
    request: Request,
    next: Next,
) -> Response {
    if let Ok(Caller { proof: Proof::Token(token), use_is_news, .. }) = caller_of(&app.snapshot(), &who) {
        if let Some(Extension(origin)) = origin
            && origin.counts()
        {
            origin.authenticated();
        }
        if use_is_news {
            app.actor.note_use(token);
        }
    }
    next.run(request).await
}

async fn unknown_path(method: Method, uri: Uri) -> Response {
    or_problem(&uri, unknown_path_error(&method, &uri))
}

fn unknown_path_error(method: &Method, uri: &Uri) -> ApiError {
    if let Some(instead) = alternative_to(uri.path()) {
        let hint = format!("AgentCom's own hub has {}, this one does not: {instead}", uri.path());
        return ApiError::new(StatusCode::NOT_FOUND, "not_offered", &hint);
    }
    let hint = format!("there is no {method} {}; the routes are in {}", uri.path(), document_of(uri));
    ApiError::new(StatusCode::NOT_FOUND, "not_found", &hint)
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    or_problem(&uri, wrong_method_error(&method, &uri))
}

/// Returns the 405 error for a path that has not this method.
pub(super) fn wrong_method_error(method: &Method, uri: &Uri) -> ApiError {
    let hint = format!("{} does not take {method}; the routes are in {}", uri.path(), document_of(uri));
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &hint)
}

/// Returns whether the answer at this path may take longer than others to begin.
pub(in crate::hub) fn takes_its_time(uri: &Uri) -> bool {
    uri.path() == "/api/v1/backup"
}

/// Returns the document with the routes that a path is beside.
fn document_of(uri: &Uri) -> &'static str {
    if is_in_v1(uri) { "docs/api.md" } else { "docs/hub.md" }
}

async fn websocket(
    State(app): Shared,
    origin: Option<Extension<Origin>>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let Some(Extension(origin)) = origin else {
        let hint = "agents connect over TCP: this is the hub's own socket";
        return Err(ApiError::new(StatusCode::UPGRADE_REQUIRED, "websocket_only", hint));
    };
    let (upgrade, answer) = Upgrade::accept(&mut request)
        .map_err(|why| ApiError::new(StatusCode::UPGRADE_REQUIRED, "websocket_only", why))?;
    // Assigned before the peer receives the 101, and so before it sends a frame, closes or connects again: ids increase
    // in the order of connections.
    let conn = app.next_conn.fetch_add(1, Ordering::Relaxed);
    let address = address(&origin, request.headers());
    let (actor, patience, stop) = (app.actor.clone(), app.patience, app.stop.clone());
    app.sockets.spawn(websocket::serve(upgrade, conn, actor, origin, address, patience, stop));
    Ok(answer)
}

/// Returns where a client connects from, for people: through a proxy, what the proxy says of it stands first.
fn address(origin: &Origin, headers: &HeaderMap) -> String {
    let peer = origin.peer();
    let first = |value: &str| value.split(',').next().and_then(|first| first.trim().parse::<IpAddr>().ok());
    let forwarded = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok()).and_then(first);
    match forwarded {
        Some(client) => format!("{client} (through {peer})"),
        None => peer.to_string(),
    }
}

/// Returns what every hub that lives says of itself.
pub(in crate::hub) fn alive() -> Value {
    json!({
        "status": "ok",
        "service": "agent_com",
        "implementation": "agentcom-hub",
        "version": env!("CARGO_PKG_VERSION"),
    })
}

async fn health(State(app): Shared) -> Reply {
    let mut health = alive();
    health["agents_connected"] = app.snapshot().view.connected_count().into();
    if let Some(epoch) = app.epoch {
        health["role"] = "leader".into();
        health["epoch"] = epoch.into();
    }
    ok(health)
}

/// The fields of a restart request.
pub(super) const RESTART_FIELDS: &[Field] =
    &[may("reason", Kind::Text), may("deadline_ms", Kind::Count), may("force", Kind::Flag)];

/// Reads a restart request of this caller.
///
/// # Errors
/// 422 if the deadline is longer than a day.
pub(super) fn restart_request(body: &JsonFields, caller: &Caller) -> Result<RestartRequest, ApiError> {
    let deadline_ms: Option<u64> = body.read("deadline_ms");
    if let Some(found) = deadline_ms.filter(|found| *found > MAX_DEADLINE_MS) {
        let detail = format!("found {found}, at most {MAX_DEADLINE_MS} (a day) is allowed");
        return Err(ApiError::invalid_field("deadline_ms", "too_large", detail));
    }
    Ok(RestartRequest {
        reason: body.string("reason").unwrap_or_else(|| "admin_commanded".to_owned()),
        deadline_ms,
        force: body.read("force").unwrap_or(false),
        by: caller.name.clone(),
    })
}

/// Returns the 404 error for a restart of an agent that is away.
pub(super) fn not_connected(agent_id: &str) -> ApiError {
    let hint = "GET /api/agents lists who is connected; try again when the agent is";
    ApiError::new(StatusCode::NOT_FOUND, "agent_not_connected", hint).with("agent_id", agent_id)
}

async fn restart_agent(State(app): Shared, who: Credentials, headers: HeaderMap, id: Id, body: Body) -> Reply {
    let caller = caller_of(&app.snapshot(), &who)?;
    let agent_id = path_id(id)?;
    let what = "restart another agent";
    caller.require_for(&agent_id, Permission::RestartAnyAgent, Permission::RestartItself, what)?;
    let request = restart_request(&read_body(&headers, body, RESTART_FIELDS)?, &caller)?;
    let command_id = format!("restart-{}", random::id()?);
    let (target, author) = (agent_id.clone(), caller.author());
    let commanded = app
        .act(&caller, move |state, now_ms| {
            state.acts(&author, now_ms).command_restart(command_id, &target, request, None)
        })
        .await?;
    let commanded = commanded.ok_or_else(|| not_connected(&agent_id))?;
    ok(json!({
        "status": "restart_commanded",
        "agent_id": agent_id,
        "reason": commanded.reason,
        "command_id": commanded.command_id,
        "repeated": commanded.repeated,
    }))
}

async fn list_restarts(State(app): Shared, who: Credentials, id: Id) -> Reply {
    let snapshot = app.snapshot();
    let caller = caller_of(&snapshot, &who)?;
    let agent_id = path_id(id)?;
    let what = "read another agent's restarts";
    caller.require_for(&agent_id, Permission::ReadAnyRestarts, Permission::ReadOwnRestarts, what)?;
    let restarts: Vec<_> = snapshot.view.restarts().of_agent(&agent_id).map(Restart::shown).collect();
    ok(json!({"agent_id": agent_id, "restarts": restarts}))
}
