//! The hub's HTTP routes: each reads the request, asks the actor for a change or reads the last snapshot, and writes
//! JSON. They decide nothing about tasks or restarts.
//!
//! | route | token | answer |
//! |---|---|---|
//! | `GET /health` | none | 200 |
//! | `GET /ready` | none | 200, 503 |
//! | `GET /metrics` | any; none for clients of this machine, or with `--public-metrics` | 200 |
//! | `GET /ws` | in `identify` | 101 |
//! | `GET /api/agents` | none | 200 |
//! | `GET /api/v1/agents`, `GET /api/v1/tasks` | any | 200 |
//! | `GET /api/agents/states`, `GET /api/agents/{id}/state` | any | 200, 404 |
//! | `POST /api/onboard/register` | none (admin where registration is closed) | 201, 409 |
//! | `POST /api/tasks` | any | 201 |
//! | `GET /api/tasks`, `GET /api/tasks/{id}` | any | 200, 404 |
//! | `POST /api/tasks/{id}/cancel`, `.../retry` | the submitter's, admin | 200, 404, 409 |
//! | `POST /api/admin/push-task` | any | 200, 404 |
//! | `GET /api/tasks/dead-letter`, `GET /api/tasks/stats` | any | 200 |
//! | `GET, POST /admin/tokens` | admin | 200, 201 |
//! | `DELETE /admin/tokens/{id}` | the agent's own, admin | 200 |
//! | `POST /api/admin/agents/{id}/reset-token` | admin | 201, 404 |
//! | `GET /api/config/default-repo` | none | 200 |
//! | `PUT /api/config/default-repo` | admin | 200 |
//! | `POST /api/admin/agents/{id}/restart` | the agent's own, admin | 200, 404 |
//! | `GET /api/admin/agents/{id}/restarts` | the agent's own, admin | 200 |

mod admin;
mod agents;
mod lists;
mod metrics;
mod not_offered;
mod ready;
pub mod reply;
mod request;
pub(crate) mod tasks;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use serde_json::{Value, json};

use crate::hub::api_error::ApiError;
use crate::hub::http::not_offered::alternative_to;
use crate::hub::http::reply::{MAX_BODY_BYTES, authenticate, check_name, read_body};
pub use crate::hub::http::request::App;
use crate::hub::http::request::{Body, Id, Reply, Shared, created, ok, path_id, require_agent_or_admin, required_text};
use crate::hub::hub_state::HubState;
use crate::hub::listener::Origin;
use crate::hub::scheduler::restart::{Restart, RestartRequest};
use crate::hub::scheduler::restart_ledger::MAX_DEADLINE_MS;
use crate::hub::state::settings::DEFAULT_REPO;
use crate::hub::state::tokens::Principal;
use crate::hub::upgrade::Upgrade;
use crate::hub::{random, websocket};
use crate::protocol::schema::{Kind, may, must};

/// Returns the router with all routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/ws", get(websocket))
        .route("/health", get(health))
        .route("/ready", get(ready::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/api/agents", get(agents::list))
        .route("/api/v1/agents", get(agents::page))
        .route("/api/v1/tasks", get(tasks::page))
        .route("/api/agents/states", get(agents::list_states))
        .route("/api/agents/{id}/state", get(agents::get_state))
        .route("/api/onboard/register", post(register))
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
        .route("/api/config/default-repo", get(admin::default_repo).put(admin::set_default_repo))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(app.clone(), note_token))
        .with_state(app)
}

/// Lets a connection with a valid token leave the connection limit: a herd of strangers does not close an operator's.
async fn note_token(
    State(app): Shared,
    Extension(origin): Extension<Origin>,
    request: Request,
    next: Next,
) -> Response {
    if origin.counts() && authenticate(&app.snapshot(), request.headers()).is_ok() {
        origin.authenticated();
    }
    next.run(request).await
}

async fn unknown_path(method: Method, uri: Uri) -> ApiError {
    if let Some(instead) = alternative_to(uri.path()) {
        let hint = format!("the original hub has {}, this one does not: {instead}", uri.path());
        return ApiError::new(StatusCode::NOT_FOUND, "not_offered", &hint);
    }
    let hint = format!("there is no {method} {}; the routes are in docs/hub.md", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "not_found", &hint)
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let hint = format!("{} does not take {method}; the routes are in docs/hub.md", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &hint)
}

async fn websocket(
    State(app): Shared,
    Extension(origin): Extension<Origin>,
    mut request: Request,
) -> Result<Response, ApiError> {
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

async fn health(State(app): Shared) -> Reply {
    ok(json!({
        "status": "ok",
        "service": "agent_com",
        "implementation": "agentcom-hub",
        "version": env!("CARGO_PKG_VERSION"),
        "agents_connected": app.snapshot().view.connected_count(),
    }))
}

async fn register(State(app): Shared, headers: HeaderMap, body: Body) -> Reply {
    let caller = match app.closed {
        true => {
            let what = "register agents: this hub was started with --closed-registration";
            Some(admin::require_admin(&app, &headers, what)?)
        }
        false => None,
    };
    let body = read_body(&headers, body, &[must("agent_id", Kind::Text)])?;
    let agent_id = required_text(&body, "agent_id");
    check_name(&agent_id)?;
    let secret = random::secret()?;
    let name = agent_id.clone();
    let issue = move |state: &mut HubState, now_ms| {
        let issued = state.issue_token(secret, Principal::new(&name, false, now_ms), true);
        (issued, state.settings.all().get(DEFAULT_REPO).cloned())
    };
    let (issued, default_repo) = match caller {
        Some(caller) => app.act(&caller, issue).await?,
        None => app.actor.ask(issue).await?,
    };
    let token = issued.map_err(|why| admin::not_issued_error(why).with("agent_id", agent_id.as_str()))?;
    let (tls, host) = tls_and_host(&headers, &app.listen);
    let (ws, http) = if tls { ("wss", "https") } else { ("ws", "http") };
    let answer = json!({
        "agent_id": agent_id,
        "token": token,
        "hub_ws_url": format!("{ws}://{host}/ws"),
        "hub_api_url": format!("{http}://{host}"),
        "default_repo": default_repo,
    });
    created(answer)
}

/// Returns whether the caller uses TLS (through a proxy), and the host that it reached the hub by (its `Host` header).
fn tls_and_host(headers: &HeaderMap, listen: &str) -> (bool, String) {
    let header_text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_plain = |host: &&str| {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'))
    };
    let host = header_text(header::HOST.as_str()).filter(is_plain).unwrap_or(listen).to_owned();
    (header_text("x-forwarded-proto") == Some("https"), host)
}

async fn restart_agent(State(app): Shared, headers: HeaderMap, id: Id, body: Body) -> Reply {
    let caller = authenticate(&app.snapshot(), &headers)?;
    let agent_id = path_id(id)?;
    require_agent_or_admin(&caller, &agent_id, "restart another agent")?;
    let fields = [may("reason", Kind::Text), may("deadline_ms", Kind::Count), may("force", Kind::Flag)];
    let body = read_body(&headers, body, &fields)?;
    let deadline_ms: Option<u64> = body.read("deadline_ms");
    if let Some(found) = deadline_ms.filter(|found| *found > MAX_DEADLINE_MS) {
        let detail = format!("found {found}, at most {MAX_DEADLINE_MS} (a day) is allowed");
        return Err(ApiError::invalid_field("deadline_ms", "too_large", detail));
    }
    let request = RestartRequest {
        reason: body.string("reason").unwrap_or_else(|| "admin_commanded".to_owned()),
        deadline_ms,
        force: body.read("force").unwrap_or(false),
        by: caller.name.clone(),
    };
    let command_id = format!("restart-{}", random::id()?);
    let target = agent_id.clone();
    let commanded = app
        .act(&caller, move |state, now_ms| state.scheduler.command_restart(command_id, &target, request, now_ms))
        .await?;
    let commanded = commanded.ok_or_else(|| {
        let hint = "GET /api/agents lists who is connected; try again when the agent is";
        ApiError::new(StatusCode::NOT_FOUND, "agent_not_connected", hint).with("agent_id", agent_id.as_str())
    })?;
    ok(json!({
        "status": "restart_commanded",
        "agent_id": agent_id,
        "reason": commanded.reason,
        "command_id": commanded.command_id,
        "repeated": commanded.repeated,
    }))
}

async fn list_restarts(State(app): Shared, headers: HeaderMap, id: Id) -> Reply {
    let snapshot = app.snapshot();
    let caller = authenticate(&snapshot, &headers)?;
    let agent_id = path_id(id)?;
    require_agent_or_admin(&caller, &agent_id, "read another agent's restarts")?;
    let restarts: Vec<Value> = snapshot.view.restarts().of_agent(&agent_id).map(Restart::to_json).collect();
    ok(json!({"agent_id": agent_id, "restarts": restarts}))
}
