//! The task routes: reads requests, asks the core, writes JSON. It decides nothing about tasks.

use std::collections::HashMap;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::auth::Principal;
use super::entropy;
use super::http::{App, Body, Id, Reply, Shared, ok, path_id, text};
use super::reply::{ApiError, authenticate, read_body};
use super::task::{Priority, Submission, Task};
use super::validate::{Field, Kind, may, must};

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
    may("complete_by", Kind::Count),
];

pub(super) async fn submit(State(app): Shared, headers: HeaderMap, body: Body) -> Reply {
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
    // Taken silently, it would promise an order that nobody keeps.
    if body.get("depends_on").is_some_and(|value| !value.is_null() && *value != json!([])) {
        let detail = "this hub does not order tasks by dependencies: submit the task when the others are done";
        return Err(ApiError::invalid_field("depends_on", "unsupported", detail.to_owned()));
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

pub(super) async fn list(
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

pub(super) async fn one(State(app): Shared, headers: HeaderMap, id: Id) -> Reply {
    authenticate(&app.core, &headers).await?;
    let id = path_id(id)?;
    let wanted = id.clone();
    let task = app.core.ask(move |state, _| state.desk.tasks().get(&wanted).map(Task::to_json)).await?;
    ok(task.ok_or_else(|| ApiError::task_not_found(&id))?)
}

pub(super) async fn cancel(State(app): Shared, headers: HeaderMap, id: Id) -> Reply {
    let (who, id) = submitter(&app, &headers, id, "cancel another's task").await?;
    let wanted = id.clone();
    let done = app.core.ask(move |state, now_ms| state.desk.cancel(&wanted, &who.name, now_ms)).await?;
    done.map_err(|status| conflict(&id, status, "it has ended already"))?;
    ok(json!({"status": "cancelled", "task_id": id}))
}

pub(super) async fn retry(State(app): Shared, headers: HeaderMap, id: Id) -> Reply {
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
