//! The hub over HTTP: reads requests, asks the core, writes JSON. It decides nothing about tasks or restarts.
//!
//! | route | token | answer |
//! |---|---|---|
//! | `GET /health` | none | 200 |
//! | `GET /ws` | in `identify` | 101 |
//! | `GET /api/agents` | none | 200 |
//! | `POST /api/onboard/register` | none | 201, 409 |
//! | `POST /api/tasks` | any | 201 |
//! | `GET /api/tasks`, `GET /api/tasks/{id}` | any | 200, 404 |
//! | `POST /api/tasks/{id}/cancel`, `.../retry` | the submitter's, admin | 200, 404, 409 |
//! | `POST /api/admin/agents/{id}/restart` | the agent's own, admin | 200, 404 |
//! | `GET /api/admin/agents/{id}/restarts` | the agent's own, admin | 200 |

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::auth::Principal;
use super::core::Handle;
use super::entropy;
use super::reply::{ApiError, MAX_BODY_BYTES, authenticate, read_body};
use super::restart::RestartRequest;
use super::socket;
use super::task::{Priority, Submission, Task};
use super::validate::{Field, Kind, may, must};

/// What every route sees.
pub struct App {
    /// The way to the core.
    pub core: Handle,
    /// Where we listen: the address for those who sent no `Host`.
    pub listen: String,
    /// `policy.silence_timeout_ms`.
    pub silence: Duration,
    /// Ends every socket.
    pub stop: CancellationToken,
    /// Every socket's task.
    pub sockets: TaskTracker,
    /// Names connections.
    pub next_conn: AtomicU64,
}

type Shared = State<Arc<App>>;
type Reply = Result<(StatusCode, Json<Value>), ApiError>;
type Body = Result<Bytes, BytesRejection>;
type Id = Result<Path<String>, PathRejection>;

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/ws", get(websocket))
        .route("/health", get(health))
        .route("/api/agents", get(agents))
        .route("/api/onboard/register", post(register))
        .route("/api/tasks", get(list_tasks).post(submit_task))
        .route("/api/tasks/{id}", get(one_task))
        .route("/api/tasks/{id}/cancel", post(cancel_task))
        .route("/api/tasks/{id}/retry", post(retry_task))
        .route("/api/admin/agents/{id}/restart", post(restart_agent))
        .route("/api/admin/agents/{id}/restarts", get(list_restarts))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
}

async fn unknown_path(method: Method, uri: Uri) -> ApiError {
    let hint = format!("there is no {method} {}; the routes are in docs/hub.md", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "not_found", &hint)
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let hint = format!("{} does not take {method}; the routes are in docs/hub.md", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &hint)
}

async fn websocket(
    State(app): Shared,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade
        .map_err(|rejection| ApiError::new(StatusCode::UPGRADE_REQUIRED, "websocket_only", &rejection.body_text()))?;
    let conn = app.next_conn.fetch_add(1, Ordering::Relaxed);
    let upgrade = upgrade
        .read_buffer_size(socket::BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(socket::MAX_MESSAGE_BYTES * 2)
        .max_message_size(socket::MAX_MESSAGE_BYTES)
        .max_frame_size(socket::MAX_MESSAGE_BYTES);
    let sockets = app.sockets.clone();
    Ok(upgrade.on_upgrade(move |socket| {
        sockets.track_future(async move {
            socket::serve(socket, conn, app.core.clone(), app.silence, app.stop.clone()).await;
        })
    }))
}

async fn health(State(app): Shared) -> Reply {
    let connected = app.core.ask(|state, _| state.desk.connected_count()).await?;
    ok(json!({
        "status": "ok",
        "service": "agent_com",
        "implementation": "agentcom-hub",
        "version": env!("CARGO_PKG_VERSION"),
        "agents_connected": connected,
    }))
}

async fn agents(State(app): Shared) -> Reply {
    let agents = app.core.ask(|state, _| state.desk.agents_json()).await?;
    ok(json!({"agents": agents}))
}

async fn register(State(app): Shared, headers: HeaderMap, body: Body) -> Reply {
    let body = read_body(&headers, body, &[must("agent_id", Kind::Text)])?;
    let agent_id = text(&body, "agent_id").unwrap_or_default().to_owned();
    if agent_id.trim().is_empty() || agent_id.chars().any(char::is_control) {
        let detail = "must hold a visible character and no control characters".to_owned();
        return Err(ApiError::invalid_field("agent_id", "invalid", detail));
    }
    let secret = entropy::secret()?;
    let name = agent_id.clone();
    let issued = app.core.ask(move |state, now_ms| {
        state.tokens.issue(secret, Principal { name, admin: false, created_at: now_ms }, true)
    });
    let token = issued.await?.map_err(|_| {
        let hint = "use the token it got then, or make another with agentcom-hub token NAME on the hub's machine";
        ApiError::new(StatusCode::CONFLICT, "agent_id already registered", hint).with("agent_id", agent_id.as_str())
    })?;
    let (tls, host) = reached_as(&headers, &app.listen);
    let (ws, http) = if tls { ("wss", "https") } else { ("ws", "http") };
    let answer = json!({
        "agent_id": agent_id,
        "token": token,
        "hub_ws_url": format!("{ws}://{host}/ws"),
        "hub_api_url": format!("{http}://{host}"),
        "default_repo": null,
    });
    Ok((StatusCode::CREATED, Json(answer)))
}

/// How the caller reached us: by its `Host`, and whether a proxy before us speaks TLS.
fn reached_as(headers: &HeaderMap, listen: &str) -> (bool, String) {
    let said = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let plain = |host: &&str| {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'))
    };
    let host = said(header::HOST.as_str()).filter(plain).unwrap_or(listen).to_owned();
    (said("x-forwarded-proto") == Some("https"), host)
}

const TASK_FIELDS: &[Field] = &[
    must("description", Kind::Text),
    may("priority", Kind::Text),
    may("metadata", Kind::Object),
    may("max_retries", Kind::Count),
    may("needed_capabilities", Kind::Texts),
    may("repo", Kind::Text),
    may("branch", Kind::Text),
    may("file_hints", Kind::Objects),
    may("success_criteria", Kind::Texts),
    may("verification_steps", Kind::Objects),
    may("complexity_tier", Kind::Text),
    may("skip_verification", Kind::Flag),
    may("verification_timeout_ms", Kind::Integer),
    may("max_verification_retries", Kind::Integer),
    may("goal_id", Kind::Text),
];

async fn submit_task(State(app): Shared, headers: HeaderMap, body: Body) -> Reply {
    let who = authenticate(&app.core, &headers).await?;
    let submission = submission_of(read_body(&headers, body, TASK_FIELDS)?, who)?;
    let task_id = format!("task-{}", entropy::id()?);
    let priority = submission.priority.number();
    let id = task_id.clone();
    let created_at = app.core.ask(move |state, now_ms| {
        state.desk.submit(id, submission, now_ms);
        now_ms
    });
    let created_at = created_at.await?;
    let answer = json!({"status": "queued", "task_id": task_id, "priority": priority, "created_at": created_at});
    Ok((StatusCode::CREATED, Json(answer)))
}

fn submission_of(mut body: Map<String, Value>, who: Principal) -> Result<Submission, ApiError> {
    for (field, detail) in [
        ("depends_on", "this hub does not order tasks by dependencies: submit the task when the others are done"),
        ("complete_by", "this hub keeps no completion times: leave it out"),
    ] {
        // Taken silently, either would promise what nobody keeps.
        if body.get(field).is_some_and(|value| !value.is_null() && *value != json!([])) {
            return Err(ApiError::invalid_field(field, "unsupported", detail.to_owned()));
        }
    }
    let priority = match text(&body, "priority") {
        None => Priority::Normal,
        Some(named) => named.parse().map_err(|_| {
            let detail = format!("expected urgent, high, normal or low, got {named:?}");
            ApiError::invalid_field("priority", "invalid", detail)
        })?,
    };
    let texts = |value: &Value| {
        value.as_array().map(|items| items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    };
    let needed_capabilities = body.get("needed_capabilities").and_then(texts).unwrap_or_default();
    let metadata = body.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    // Three failures make a dead letter, as at the original hub.
    let max_retries = body.get("max_retries").and_then(Value::as_u64).unwrap_or(3);
    let description = text(&body, "description").unwrap_or_default().to_owned();
    const OWN: [&str; 5] = ["description", "priority", "metadata", "max_retries", "needed_capabilities"];
    let known = |key: &str| TASK_FIELDS.iter().any(|field| field.is(key)) && !OWN.contains(&key);
    body.retain(|key, value| known(key) && !value.is_null());
    Ok(Submission {
        description,
        metadata,
        priority,
        max_retries,
        needed_capabilities,
        extra: body,
        submitted_by: who.name,
    })
}

async fn list_tasks(
    State(app): Shared,
    headers: HeaderMap,
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
) -> Reply {
    authenticate(&app.core, &headers).await?;
    let Query(query) =
        query.map_err(|rejection| ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", &rejection.body_text()))?;
    const STATUSES: [&str; 5] = ["queued", "assigned", "completed", "dead_letter", "cancelled"];
    if let Some(status) = query.get("status").filter(|status| !STATUSES.contains(&status.as_str())) {
        let detail = format!("expected one of {}, got {status:?}", STATUSES.join(", "));
        return Err(ApiError::invalid_field("status", "invalid", detail));
    }
    let tasks = app.core.ask(move |state, _| {
        let wanted = |task: &&Task| {
            query.get("status").is_none_or(|status| *status == task.status.name())
                && query.get("assigned_to").is_none_or(|agent_id| task.holder() == Some(agent_id.as_str()))
        };
        state.desk.tasks().list().into_iter().filter(wanted).cloned().collect::<Vec<Task>>()
    });
    // Written as JSON out here: the core has better things to do.
    let tasks: Vec<Value> = tasks.await?.iter().map(Task::to_json).collect();
    ok(json!({"count": tasks.len(), "tasks": tasks}))
}

async fn one_task(State(app): Shared, headers: HeaderMap, id: Id) -> Reply {
    authenticate(&app.core, &headers).await?;
    let id = path_id(id)?;
    let wanted = id.clone();
    let task = app.core.ask(move |state, _| state.desk.tasks().get(&wanted).map(Task::to_json)).await?;
    ok(task.ok_or_else(|| ApiError::task_not_found(&id))?)
}

async fn cancel_task(State(app): Shared, headers: HeaderMap, id: Id) -> Reply {
    let (who, id) = submitter(&app, &headers, id, "cancel another's task").await?;
    let wanted = id.clone();
    let done = app.core.ask(move |state, now_ms| state.desk.cancel(&wanted, &who.name, now_ms)).await?;
    done.map_err(|status| conflict(&id, status, "it has ended already"))?;
    ok(json!({"status": "cancelled", "task_id": id}))
}

async fn retry_task(State(app): Shared, headers: HeaderMap, id: Id) -> Reply {
    let (_, id) = submitter(&app, &headers, id, "retry another's task").await?;
    let wanted = id.clone();
    let done = app.core.ask(move |state, now_ms| state.desk.revive(&wanted, now_ms)).await?;
    done.map_err(|status| conflict(&id, status, "only a dead letter can be retried"))?;
    ok(json!({"status": "requeued", "task_id": id}))
}

/// The caller, who must be an admin or the one who submitted the task.
async fn submitter(app: &App, headers: &HeaderMap, id: Id, what: &str) -> Result<(Principal, String), ApiError> {
    let who = authenticate(&app.core, headers).await?;
    let id = path_id(id)?;
    let wanted = id.clone();
    let owner =
        app.core.ask(move |state, _| state.desk.tasks().get(&wanted).map(|task| task.submission.submitted_by.clone()));
    let owner = owner.await?.ok_or_else(|| ApiError::task_not_found(&id))?;
    if who.admin || who.name == owner { Ok((who, id)) } else { Err(ApiError::forbidden(&who.name, what)) }
}

fn conflict(task_id: &str, status: &str, hint: &str) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "invalid_state", hint).with("task_id", task_id).with("status", status)
}

async fn restart_agent(State(app): Shared, headers: HeaderMap, id: Id, body: Body) -> Reply {
    let who = authenticate(&app.core, &headers).await?;
    let agent_id = path_id(id)?;
    if !who.admin && who.name != agent_id {
        return Err(ApiError::forbidden(&who.name, "restart another agent"));
    }
    let fields = [may("reason", Kind::Text), may("deadline_ms", Kind::Count), may("force", Kind::Flag)];
    let body = read_body(&headers, body, &fields)?;
    let request = RestartRequest {
        reason: text(&body, "reason").unwrap_or("admin_commanded").to_owned(),
        deadline_ms: body.get("deadline_ms").and_then(Value::as_u64),
        force: body.get("force").and_then(Value::as_bool).unwrap_or(false),
        by: who.name,
    };
    let command_id = format!("restart-{}", entropy::id()?);
    let target = agent_id.clone();
    let commanded =
        app.core.ask(move |state, now_ms| state.desk.command_restart(command_id, &target, request, now_ms)).await?;
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
    let who = authenticate(&app.core, &headers).await?;
    let agent_id = path_id(id)?;
    if !who.admin && who.name != agent_id {
        return Err(ApiError::forbidden(&who.name, "read another agent's restarts"));
    }
    let wanted = agent_id.clone();
    let restarts = app.core.ask(move |state, _| {
        state.desk.restarts().of_agent(&wanted).into_iter().map(|restart| restart.to_json()).collect::<Vec<Value>>()
    });
    ok(json!({"agent_id": agent_id, "restarts": restarts.await?}))
}

fn path_id(id: Id) -> Result<String, ApiError> {
    let refused =
        |rejection: PathRejection| ApiError::new(StatusCode::BAD_REQUEST, "invalid_path", &rejection.body_text());
    id.map(|Path(id)| id).map_err(refused)
}

fn text<'a>(body: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    body.get(key).and_then(Value::as_str)
}

fn ok(body: Value) -> Reply {
    Ok((StatusCode::OK, Json(body)))
}
