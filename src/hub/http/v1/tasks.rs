//! The task routes of `/api/v1`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::hub::acts::Acts;
use crate::hub::api_error::ApiError;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::lists::{self, TaskPage, page_limit};
use crate::hub::http::reply::{caller_of, require};
use crate::hub::http::request::{App, Body, Id, QueryParameters, Shared, ok, path_id, read_query};
use crate::hub::http::tasks::{
    TASK_FIELDS, check_room, check_submitter, conflict, parse_submission, readable_task, task_list,
};
use crate::hub::http::v1::body::{Checked, bytes_of, read_strict};
use crate::hub::http::v1::once::{Asked, act_once};
use crate::hub::http::v1::parameters::{OnceHeader, PageSize, named, one_of};
use crate::hub::hub_state::HubState;
use crate::hub::problem::Problem;
use crate::hub::random;
use crate::hub::scheduler::task::{Priority, ShownTask, StatusName};
use crate::hub::state::roles::Permission;
use crate::protocol::JsonText;

/// A task to submit.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "it describes the body, which is read by its fields")]
#[serde(deny_unknown_fields)]
pub(super) struct NewTask {
    /// What is to be done, for the agent to read.
    #[schema(max_length = 10_000)]
    description: String,
    /// The lane; `normal` by default.
    priority: Option<Priority>,
    /// Whatever the agent needs beside the description.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// The number of failures that make a dead letter; 3 by default.
    #[schema(minimum = 0)]
    max_retries: Option<u64>,
    /// The capabilities that the agent must have, all of them.
    #[schema(max_items = 128)]
    needed_capabilities: Option<Vec<String>>,
    /// The repository.
    #[schema(max_length = 512)]
    repo: Option<String>,
    /// The branch.
    branch: Option<String>,
    /// Hints for the agent, each an object.
    #[schema(value_type = Option<Vec<Object>>)]
    file_hints: Option<Vec<Value>>,
    /// What must hold when the task is done.
    success_criteria: Option<Vec<String>>,
    /// How that is checked, each an object.
    #[schema(value_type = Option<Vec<Object>>)]
    verification_steps: Option<Vec<Value>>,
    /// The complexity, as the legacy hub names it.
    complexity_tier: Option<String>,
    /// Whether the result is not verified.
    skip_verification: Option<bool>,
    /// The time limit of the verification, in ms.
    verification_timeout_ms: Option<i64>,
    /// The number of further tries of a verification that failed.
    max_verification_retries: Option<i64>,
    /// The goal that the task belongs to, as a filter of lists.
    goal_id: Option<String>,
    /// The one agent that is to do it.
    assign_to: Option<String>,
    /// The time by which it must be done, in ms since the epoch.
    #[schema(minimum = 0)]
    complete_by: Option<u64>,
    /// The time that its agent may take, in ms; then it has failed. 0 for none.
    #[schema(minimum = 0)]
    timeout_ms: Option<u64>,
    /// Not offered: the list must be empty.
    #[schema(max_items = 0, value_type = Option<Vec<String>>)]
    depends_on: Option<Vec<Value>>,
}

/// Submits a task.
#[utoipa::path(
    post, path = "/api/v1/tasks", tag = "tasks", operation_id = "submit_task", request_body = NewTask, security(("token" = [])),
    params(OnceHeader),
    responses(
        (status = 201, description = "the task, queued or assigned", body = ShownTask<'static>),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "too many tasks wait", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn submit(
    State(app): Shared,
    uri: Uri,
    who: Credentials,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = require(&app.snapshot(), &who, Permission::SubmitToItself, "submit tasks")?;
    let asked = Asked::of("POST", &uri, &headers, bytes_of(&body))?;
    let Checked { fields, bytes } = read_strict(&headers, body, TASK_FIELDS)?;
    if let Some(priority) = fields.string("priority") {
        one_of::<Priority>("priority", &priority)?;
    }
    let submission = parse_submission(fields, &caller)?;
    let sender = caller.clone();
    let id = format!("task-{}", random::id()?);
    act_once(&app, &caller, asked, StatusCode::CREATED, move |state, now_ms| {
        check_room(state, &sender, bytes)?;
        state.scheduler.submit(id.clone(), submission, now_ms);
        shown(state, &id, now_ms)
    })
    .await
}

/// Returns the task as it is after a step.
fn shown(state: &HubState, id: &str, now_ms: u64) -> Result<JsonText, Problem> {
    let task = state.scheduler.tasks().get(id).ok_or_else(|| ApiError::task_not_found(id))?;
    Ok(JsonText::of(&task.shown(state.snapshot().waiting_for(task, now_ms))))
}

/// Lists tasks, by priority and order of submission.
#[utoipa::path(
    get, path = "/api/v1/tasks", tag = "tasks", operation_id = "list_tasks", security(("token" = [])),
    params(
        ("status" = inline(Option<StatusName>), Query, description = "queued, assigned, completed, dead_letter or cancelled"),
        ("assigned_to" = Option<String>, Query, description = "the agent that holds them, or did them"),
        ("goal_id" = Option<String>, Query, description = "the goal that they belong to"),
        ("priority" = inline(Option<Priority>), Query, description = "urgent, high, normal or low"),
        PageSize,
        ("cursor" = Option<String>, Query, pattern = "^[0-3]-[0-9]{1,15}$", description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "a page of tasks", body = TaskPage),
        (status = "4XX", description = "the request is not understood", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(app): Shared, who: Credentials, query: QueryParameters) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    let caller = require(&snapshot, &who, Permission::ReadItself, "read tasks")?;
    let query = read_query(query)?;
    // The names only, without the numbers and the other name that the legacy hub's clients use.
    named::<Priority>(&query, "priority")?;
    Ok(lists::page(&snapshot, task_list(&caller, &query)?, page_limit(&query)?))
}

/// Returns one task.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}", tag = "tasks", operation_id = "get_task", security(("token" = [])),
    params(("id" = String, Path, description = "the task's id")),
    responses(
        (status = 200, description = "the task", body = ShownTask<'static>),
        (status = "4XX", description = "there is no such task, or no token", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(State(app): Shared, who: Credentials, id: Id) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    let caller = caller_of(&snapshot, &who)?;
    let id = path_id(id)?;
    let task = readable_task(&snapshot, &caller, &id)?;
    Ok(ok(task.shown(snapshot.waiting_for(task, snapshot.now_ms())))?)
}

/// Cancels a task that has not ended.
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/cancel", tag = "tasks", operation_id = "cancel_task", security(("token" = [])),
    params(
        ("id" = String, Path, description = "the task's id"),
        OnceHeader,
    ),
    responses(
        (status = 200, description = "the task, cancelled", body = ShownTask<'static>),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(
    State(app): Shared,
    uri: Uri,
    who: Credentials,
    headers: HeaderMap,
    id: Id,
    body: Body,
) -> Result<Response, Problem> {
    change(&app, &who, (&uri, &headers, body), id, "cancel another's task", |acts, id| {
        acts.cancel_task(id).map(drop).map_err(|status| conflict(id, status, "it has ended already"))
    })
    .await
}

/// Queues a dead letter again, with all its tries.
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/retry", tag = "tasks", operation_id = "retry_task", security(("token" = [])),
    params(
        ("id" = String, Path, description = "the task's id"),
        OnceHeader,
    ),
    responses(
        (status = 200, description = "the task, queued or assigned", body = ShownTask<'static>),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn retry(
    State(app): Shared,
    uri: Uri,
    who: Credentials,
    headers: HeaderMap,
    id: Id,
    body: Body,
) -> Result<Response, Problem> {
    change(&app, &who, (&uri, &headers, body), id, "retry another's task", |acts, id| {
        acts.retry_task(id).map(drop).map_err(|status| conflict(id, status, "only a dead letter can be retried"))
    })
    .await
}

/// Changes a task by `act`, for a caller who may act on every task or has submitted this one; `what` names the act for people.
async fn change(
    app: &App,
    who: &Credentials,
    (uri, headers, body): (&Uri, &HeaderMap, Body),
    id: Id,
    what: &'static str,
    act: impl FnOnce(Acts<'_>, &str) -> Result<(), ApiError> + Send + 'static,
) -> Result<Response, Problem> {
    let caller = caller_of(&app.snapshot(), who)?;
    let id = path_id(id)?;
    let asked = Asked::of("POST", uri, headers, bytes_of(&body))?;
    read_strict(headers, body, &[])?;
    let (author, sender) = (caller.author(), caller.clone());
    act_once(app, &caller, asked, StatusCode::OK, move |state, now_ms| {
        check_submitter(&sender, state.scheduler.tasks().get(&id), state.tokens.valid(), &id, what)?;
        act(state.acts(&author, now_ms), &id)?;
        shown(state, &id, now_ms)
    })
    .await
}
