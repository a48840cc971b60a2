//! The routes about single agents on the legacy hub's paths: their state, and a task for a connected agent. Each reads
//! the request, asks the actor and writes JSON; it decides nothing.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::json;

use crate::hub::api_error::ApiError;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::lists::{AgentForm, AgentList, stream};
use crate::hub::http::reply::{caller_of, read_body, require};
use crate::hub::http::request::{Body, Id, Reply, Shared, body_bytes, ok, path_id, required_text};
use crate::hub::http::tasks::{addressed_by, check_room};
use crate::hub::random;
use crate::hub::scheduler::task::{Priority, Submission};
use crate::hub::state::roles::Permission;
use crate::protocol::schema::{Kind, may, must};
use crate::protocol::{JsonFields, JsonText};

/// Returns every agent that is connected or due back, as on the legacy hub without a token.
pub(crate) async fn list(State(app): Shared) -> Response {
    stream(&app, "agents", AgentList::new(AgentForm::Summary, None), None)
}

/// Returns the state of every agent.
pub(crate) async fn list_states(State(app): Shared, who: Credentials) -> Result<Response, ApiError> {
    require(&app.snapshot(), &who, Permission::ReadFleet, "read agents")?;
    Ok(stream(&app, "agents", AgentList::new(AgentForm::State, None), None))
}

/// Returns the state of one agent.
pub(crate) async fn get_state(State(app): Shared, who: Credentials, id: Id) -> Reply {
    let snapshot = app.snapshot();
    let caller = caller_of(&snapshot, &who)?;
    let agent_id = path_id(id)?;
    caller.require_for(&agent_id, Permission::ReadFleet, Permission::ReadItself, "read other agents")?;
    ok(snapshot.view.agent_state(&agent_id, snapshot.now_ms()).ok_or_else(|| {
        let hint = "GET /api/agents lists who is here or due back";
        ApiError::new(StatusCode::NOT_FOUND, "agent_not_found", hint).with("agent_id", agent_id.as_str())
    })?)
}

/// Submits a task for one connected agent. Unlike on the legacy hub it is a task like any other: it waits while the
/// agent has another one, and its verdict counts.
pub(crate) async fn push_task(State(app): Shared, who: Credentials, headers: HeaderMap, body: Body) -> Reply {
    let caller = require(&app.snapshot(), &who, Permission::SubmitToItself, "push tasks")?;
    let weight = body_bytes(&body);
    let fields = [must("agent_id", Kind::Text), must("description", Kind::Text), may("metadata", Kind::Object)];
    let body = read_body(&headers, body, &fields)?;
    let agent_id = required_text(&body, "agent_id");
    let submission = Submission {
        description: required_text(&body, "description"),
        metadata: body.read("metadata").unwrap_or_else(JsonText::empty_object),
        priority: Priority::Normal,
        max_retries: 3,
        needed_capabilities: Vec::new(),
        extra: JsonFields::from_iter([("assign_to", JsonText::of(&agent_id))]),
        submitted_by: caller.name.clone(),
        submitter_since: caller.owned_since,
    };
    let submission = addressed_by(&caller, submission)?;
    let task_id = format!("task-{}", random::id()?);
    let (id, wanted, sender) = (task_id.clone(), agent_id.clone(), caller.clone());
    let pushed = app.act(&caller, move |state, now_ms| {
        if !state.scheduler.is_connected(&wanted) {
            return Err(None);
        }
        check_room(state, &sender, weight).map_err(Some)?;
        state.scheduler.submit(id, submission, now_ms);
        Ok(())
    });
    pushed.await?.map_err(|why| {
        why.unwrap_or_else(|| {
            let hint = "POST /api/tasks with `assign_to` waits for an agent that is away";
            ApiError::new(StatusCode::NOT_FOUND, "agent_not_connected", hint).with("agent_id", agent_id.as_str())
        })
    })?;
    ok(json!({"status": "pushed", "task_id": task_id, "agent_id": agent_id}))
}
