//! The task routes: each reads the request, asks the actor for a change or reads the last snapshot, and writes JSON. They
//! decide nothing about tasks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use strum::VariantNames as _;

use crate::hub::api_error::ApiError;
use crate::hub::fleet::{has_submitted, is_own_task};
use crate::hub::http::credentials::Credentials;
use crate::hub::http::lists::{TaskList, limit_in, stream};
use crate::hub::http::reply::{Caller, caller_of, read_body, require};
use crate::hub::http::request::{
    App, Body, Id, QueryParameters, Reply, Shared, body_bytes, created, ok, path_id, read_query, required_text,
};
use crate::hub::hub_state::{HubState, Snapshot};
use crate::hub::random;
use crate::hub::scheduler::queue::Turn;
use crate::hub::scheduler::task::{Priority, Status, StatusName, Submission, Task};
use crate::hub::scheduler::task_table::TaskTable;
use crate::hub::state::roles::Permission;
use crate::hub::state::tokens::TokenTable;
use crate::protocol::schema::{Field, Kind, may, must};
use crate::protocol::{JsonFields, JsonText};

pub(crate) const TASK_FIELDS: &[Field] = &[
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
    may("assign_to", Kind::Text),
    may("complete_by", Kind::Count),
    may("timeout_ms", Kind::Count),
    may("depends_on", Kind::List),
];

pub(crate) async fn submit(State(app): Shared, who: Credentials, headers: HeaderMap, body: Body) -> Reply {
    let caller = require(&app.snapshot(), &who, Permission::SubmitToItself, "submit tasks")?;
    let weight = body_bytes(&body);
    let submission = parse_submission(read_body(&headers, body, TASK_FIELDS)?, &caller)?;
    let task_id = format!("task-{}", random::id()?);
    let priority = submission.priority.number();
    let (id, sender) = (task_id.clone(), caller.clone());
    let created_at = app.act(&caller, move |state, now_ms| {
        check_room(state, &sender, weight)?;
        state.scheduler.submit(id, submission, now_ms);
        Ok::<_, ApiError>(now_ms)
    });
    let created_at = created_at.await??;
    let answer = json!({"status": "queued", "task_id": task_id, "priority": priority, "created_at": created_at});
    created(answer)
}

/// The number of tasks that may wait for an agent that registered openly, of those that it submits.
const MOST_OF_ITS_OWN: usize = 16;

/// Checks that the caller may submit another task of so many bytes. One that registered openly gets half of the room, and a
/// few places for itself.
///
/// # Errors
/// 503 if there is no room for it.
pub(crate) fn check_room(state: &HubState, caller: &Caller, bytes: u64) -> Result<(), ApiError> {
    let tasks = state.scheduler.tasks();
    if caller.may(Permission::SubmitTasks) {
        return if tasks.has_room(bytes) { Ok(()) } else { Err(queue_full()) };
    }
    if !tasks.is_half_empty(bytes) {
        return Err(queue_full());
    }
    if tasks.queued_for(&caller.name).len() >= MOST_OF_ITS_OWN {
        let hint = format!(
            "{MOST_OF_ITS_OWN} tasks wait for {}, which registered openly: start its sidecar, or try again when some have ended",
            caller.name
        );
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "queue_full", &hint));
    }
    Ok(())
}

/// Returns the 503 error for a full queue.
fn queue_full() -> ApiError {
    let hint = "too many tasks wait or are under way: try again when some have ended, or cancel some";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "queue_full", hint)
}

/// Reads what the caller submits from checked fields.
///
/// # Errors
/// 422 for a value that cannot be; 403 as [`addressed_by`].
pub(crate) fn parse_submission(mut body: JsonFields, caller: &Caller) -> Result<Submission, ApiError> {
    // Accepted silently, it would promise an order that the scheduler does not keep.
    if body.get("depends_on").is_some_and(|value| !value.is_null() && value.as_str() != "[]") {
        let detail = "this hub does not order tasks by dependencies: submit the task when the others are done";
        return Err(ApiError::invalid_field("depends_on", "unsupported", detail.to_owned()));
    }
    let priority = body.string("priority").map_or(Ok(Priority::Normal), |named| parse_priority(&named))?;
    let needed_capabilities = body.read("needed_capabilities").unwrap_or_default();
    let metadata = body.read("metadata").unwrap_or_else(JsonText::empty_object);
    // Three failures make a dead letter, as on the legacy hub.
    let max_retries = body.read("max_retries").unwrap_or(3);
    let description = required_text(&body, "description");
    const OWN_FIELDS: [&str; 6] =
        ["description", "priority", "metadata", "max_retries", "needed_capabilities", "depends_on"];
    let is_extra = |key: &str| TASK_FIELDS.iter().any(|field| field.is(key)) && !OWN_FIELDS.contains(&key);
    body.retain(|key, value| is_extra(key) && !value.is_null());
    let submission = Submission {
        description,
        metadata,
        priority,
        max_retries,
        needed_capabilities,
        extra: body,
        submitted_by: caller.name.clone(),
        submitter_since: caller.owned_since,
    };
    addressed_by(caller, submission)
}

/// Returns the submission as the caller may address it: one that registered openly submits to itself, and the task says so.
///
/// # Errors
/// 403 if it names another agent.
pub(crate) fn addressed_by(caller: &Caller, mut submission: Submission) -> Result<Submission, ApiError> {
    if caller.may(Permission::SubmitTasks) {
        return Ok(submission);
    }
    if submission.assign_to().is_some_and(|named| named != caller.name) {
        return Err(caller.forbidden(Permission::SubmitTasks, "submit tasks for another agent"));
    }
    submission.extra.set("assign_to", &caller.name);
    Ok(submission)
}

/// Lists all tasks that the query asks for, by lane and order of submission.
pub(crate) async fn list(State(app): Shared, who: Credentials, query: QueryParameters) -> Result<Response, ApiError> {
    let caller = require(&app.snapshot(), &who, Permission::ReadItself, "read tasks")?;
    stream_tasks(&app, &caller, &read_query(query)?)
}

/// Lists dead letters: [`list`] with `status=dead_letter`, whatever status the query names.
pub(crate) async fn dead_letters(
    State(app): Shared,
    who: Credentials,
    query: QueryParameters,
) -> Result<Response, ApiError> {
    let caller = require(&app.snapshot(), &who, Permission::ReadItself, "read tasks")?;
    let mut query = read_query(query)?;
    query.insert("status".to_owned(), Status::DeadLetter.name().to_owned());
    stream_tasks(&app, &caller, &query)
}

fn stream_tasks(app: &Arc<App>, caller: &Caller, query: &HashMap<String, String>) -> Result<Response, ApiError> {
    Ok(stream(app, "tasks", task_list(caller, query)?, limit_in(query, usize::MAX)?))
}

/// Reads the filter and the cursor of a task list, of which the caller sees what it may.
pub(super) fn task_list(caller: &Caller, query: &HashMap<String, String>) -> Result<TaskList, ApiError> {
    let parse_status = |named: &String| {
        let detail = format!("expected one of {}, got {named:?}", StatusName::VARIANTS.join(", "));
        named.parse().map_err(|_| ApiError::invalid_field("status", "invalid", detail))
    };
    Ok(TaskList {
        status: query.get("status").map(parse_status).transpose()?,
        assigned_to: query.get("assigned_to").cloned(),
        goal_id: query.get("goal_id").cloned(),
        priority: query.get("priority").map(|named| parse_priority(named)).transpose()?,
        of: (!caller.may(Permission::ReadFleet)).then(|| caller.name.clone()),
        after: query.get("cursor").map(|cursor| parse_cursor(cursor)).transpose()?,
    })
}

pub(crate) async fn stats(State(app): Shared, who: Credentials) -> Reply {
    let snapshot = app.snapshot();
    require(&snapshot, &who, Permission::ReadFleet, "count all tasks")?;
    ok(count_tasks(snapshot.view.tasks()))
}

/// Counts tasks as the legacy hub does: dead letters separately, and only queued tasks by priority.
fn count_tasks(tasks: &TaskTable) -> Value {
    let mut by_status: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut by_priority: BTreeMap<u8, u64> = BTreeMap::new();
    let mut dead_letter = 0_u64;
    for task in tasks.list_after(None) {
        if task.status == Status::DeadLetter {
            dead_letter += 1;
        } else {
            *by_status.entry(task.status.name()).or_default() += 1;
        }
        if task.status == Status::Queued {
            *by_priority.entry(task.submission.priority.number()).or_default() += 1;
        }
    }
    let queued = by_status.get(Status::Queued.name()).copied().unwrap_or_default();
    json!({
        "by_status": by_status,
        "by_priority": by_priority,
        "dead_letter": dead_letter,
        "queued_index_size": queued,
    })
}

/// Parses a priority's name or number.
fn parse_priority(named: &str) -> Result<Priority, ApiError> {
    // The legacy agentcom-submit offers `critical`, which the legacy hub treats as normal; its users mean urgent.
    let named = if named == "critical" { "urgent" } else { named };
    let by_number = Priority::ALL.into_iter().find(|lane| lane.number().to_string() == named);
    by_number.or_else(|| named.parse().ok()).ok_or_else(|| {
        let detail = format!("expected urgent (or critical), high, normal or low, got {named:?}");
        ApiError::invalid_field("priority", "invalid", detail)
    })
}

/// Parses the cursor of a task list.
fn parse_cursor(cursor: &str) -> Result<Turn, ApiError> {
    let parts = cursor.split_once('-');
    let turn = parts.and_then(|(lane, seq)| {
        let lane = Priority::ALL.into_iter().find(|known| known.number().to_string() == lane)?;
        Some((lane, seq.parse().ok()?))
    });
    turn.ok_or_else(|| {
        let detail = format!("expected the cursor of an answer of this list, got {cursor:?}");
        ApiError::invalid_field("cursor", "invalid", detail)
    })
}

pub(crate) async fn get_task(State(app): Shared, who: Credentials, id: Id) -> Reply {
    let snapshot = app.snapshot();
    let caller = caller_of(&snapshot, &who)?;
    let id = path_id(id)?;
    let task = readable_task(&snapshot, &caller, &id)?;
    ok(task.shown(snapshot.waiting_for(task, snapshot.now_ms())))
}

/// Returns the task, if the caller may read it.
///
/// # Errors
/// 404 if there is no such task, 403 if the caller registered openly and neither submitted nor holds it.
pub(super) fn readable_task<'a>(snapshot: &'a Snapshot, caller: &Caller, id: &str) -> Result<&'a Task, ApiError> {
    let task = snapshot.view.tasks().get(id).ok_or_else(|| ApiError::task_not_found(id))?;
    match caller.may(Permission::ReadFleet) || is_own_task(&snapshot.tokens, &caller.name, task) {
        true => Ok(task),
        false => Err(caller.forbidden(Permission::ReadFleet, "read the tasks of others")),
    }
}

pub(crate) async fn cancel(State(app): Shared, who: Credentials, id: Id) -> Reply {
    let (caller, id) = require_submitter(&app, &who, id, "cancel another's task")?;
    let (wanted, author) = (id.clone(), caller.author());
    let done = app.act(&caller, move |state, now_ms| state.acts(&author, now_ms).cancel_task(&wanted));
    let before = done.await?.map_err(|status| conflict(&id, status, "it has ended already"))?;
    ok(json!({"status": "cancelled", "task_id": id, "previous_status": before}))
}

pub(crate) async fn retry(State(app): Shared, who: Credentials, id: Id) -> Reply {
    let (caller, id) = require_submitter(&app, &who, id, "retry another's task")?;
    let (wanted, author) = (id.clone(), caller.author());
    let done = app.act(&caller, move |state, now_ms| state.acts(&author, now_ms).retry_task(&wanted));
    let priority = done.await?.map_err(|status| conflict(&id, status, "only a dead letter can be retried"))?;
    ok(json!({"status": "requeued", "task_id": id, "priority": priority}))
}

/// Returns the caller and the task's id. The caller must have the right to act on every task, or be the task's submitter.
pub(super) fn require_submitter(
    app: &App,
    who: &Credentials,
    id: Id,
    what: &str,
) -> Result<(Caller, String), ApiError> {
    let snapshot = app.snapshot();
    let caller = caller_of(&snapshot, who)?;
    let id = path_id(id)?;
    check_submitter(&caller, snapshot.view.tasks().get(&id), &snapshot.tokens, &id, what)?;
    Ok((caller, id))
}

/// Checks that the caller has the right to act on every task, or is the submitter of this one.
///
/// # Errors
/// 403 if it is not, 404 if there is no such task.
pub(super) fn check_submitter(
    caller: &Caller,
    task: Option<&Task>,
    tokens: &TokenTable,
    id: &str,
    what: &str,
) -> Result<(), ApiError> {
    let task = task.ok_or_else(|| ApiError::task_not_found(id))?;
    let is_own = || has_submitted(tokens, &caller.name, task);
    if caller.may(Permission::ActOnAnyTask) || (caller.may(Permission::ActOnOwnTasks) && is_own()) {
        return Ok(());
    }
    Err(caller.forbidden(Permission::ActOnAnyTask, what))
}

/// Returns the 409 error for a task in another status than the act needs.
pub(super) fn conflict(task_id: &str, status: &str, hint: &str) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "invalid_state", hint).with("task_id", task_id).with("status", status)
}
