//! The task routes: each reads the request, asks the actor and writes JSON. They decide nothing about tasks.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use crate::hub::api_error::ApiError;
use crate::hub::http::reply::{authenticate, read_body};
use crate::hub::http::request::{
    App, Body, Id, QueryParameters, Reply, Shared, body_bytes, ok, path_id, read_query, required_text, text,
};
use crate::hub::random;
use crate::hub::scheduler::queue::{Turn, turn};
use crate::hub::scheduler::task::{Priority, Status, Submission, Task};
use crate::hub::scheduler::tasks::Tasks;
use crate::hub::state::tokens::Principal;
use crate::protocol::schema::{Field, Kind, may, must};

/// The maximum number of tasks in one answer.
const MAX_LISTED: usize = 10_000;
/// The maximum size of the tasks in one answer, in bytes; the last task may exceed it.
const MAX_LISTED_BYTES: u64 = 16 << 20;
/// The limits of one request to the actor: tasks returned, bytes returned, and tasks examined.
const CHUNK_TASKS: usize = 250;
const CHUNK_BYTES: u64 = 1 << 20;
const CHUNK_EXAMINED: usize = 5_000;

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
];

pub(crate) async fn submit(State(app): Shared, headers: HeaderMap, body: Body) -> Reply {
    let caller = authenticate(&app.actor, &headers).await?;
    let weight = body_bytes(&body);
    let submission = parse_submission(read_body(&headers, body, TASK_FIELDS)?, caller)?;
    let task_id = format!("task-{}", random::id()?);
    let priority = submission.priority.number();
    let id = task_id.clone();
    let created_at = app.actor.ask(move |state, now_ms| {
        state.scheduler.tasks().has_room(weight).then(|| {
            state.scheduler.submit(id, submission, now_ms);
            now_ms
        })
    });
    let created_at = created_at.await?.ok_or_else(queue_full)?;
    let answer = json!({"status": "queued", "task_id": task_id, "priority": priority, "created_at": created_at});
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Returns the 503 error for a full queue.
pub(crate) fn queue_full() -> ApiError {
    let hint = "too many tasks wait or are under way: try again when some have ended, or cancel some";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "queue_full", hint)
}

pub(crate) fn parse_submission(mut body: Map<String, Value>, caller: Principal) -> Result<Submission, ApiError> {
    // Accepted silently, it would promise an order that the scheduler does not keep.
    if body.get("depends_on").is_some_and(|value| !value.is_null() && *value != json!([])) {
        let detail = "this hub does not order tasks by dependencies: submit the task when the others are done";
        return Err(ApiError::invalid_field("depends_on", "unsupported", detail.to_owned()));
    }
    let priority = text(&body, "priority").map_or(Ok(Priority::Normal), parse_priority)?;
    let texts = |value: &Value| {
        value.as_array().map(|items| items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    };
    let needed_capabilities = body.get("needed_capabilities").and_then(texts).unwrap_or_default();
    let metadata = body.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    // Three failures make a dead letter, as on the legacy hub.
    let max_retries = body.get("max_retries").and_then(Value::as_u64).unwrap_or(3);
    let description = required_text(&body, "description");
    const TYPED_FIELDS: [&str; 5] = ["description", "priority", "metadata", "max_retries", "needed_capabilities"];
    let is_extra = |key: &str| TASK_FIELDS.iter().any(|field| field.is(key)) && !TYPED_FIELDS.contains(&key);
    body.retain(|key, value| is_extra(key) && !value.is_null());
    Ok(Submission {
        description,
        metadata,
        priority,
        max_retries,
        needed_capabilities,
        extra: body,
        submitted_by: caller.name,
    })
}

/// The filter of a task list.
#[derive(Clone, Default)]
struct Filter {
    status: Option<String>,
    assigned_to: Option<String>,
    goal_id: Option<String>,
    priority: Option<Priority>,
}

impl Filter {
    fn matches(&self, task: &Task) -> bool {
        self.status.as_deref().is_none_or(|status| status == task.status.name())
            && self.assigned_to.as_deref().is_none_or(|agent_id| task.holder() == Some(agent_id))
            && self
                .goal_id
                .as_deref()
                .is_none_or(|goal_id| task.submission.extra.get("goal_id").and_then(Value::as_str) == Some(goal_id))
            && self.priority.is_none_or(|priority| priority == task.submission.priority)
    }
}

pub(crate) async fn list(State(app): Shared, headers: HeaderMap, query: QueryParameters) -> Reply {
    authenticate(&app.actor, &headers).await?;
    let query = read_query(query)?;
    const STATUSES: [&str; 5] = ["queued", "assigned", "completed", "dead_letter", "cancelled"];
    if let Some(status) = query.get("status").filter(|status| !STATUSES.contains(&status.as_str())) {
        let detail = format!("expected one of {}, got {status:?}", STATUSES.join(", "));
        return Err(ApiError::invalid_field("status", "invalid", detail));
    }
    let priority = query.get("priority").map(|named| parse_priority(named)).transpose()?;
    let filter = Filter {
        status: query.get("status").cloned(),
        assigned_to: query.get("assigned_to").cloned(),
        goal_id: query.get("goal_id").cloned(),
        priority,
    };
    let limit = match query.get("limit").map(|limit| limit.parse::<usize>()) {
        None => MAX_LISTED,
        Some(Ok(limit @ 1..)) => limit.min(MAX_LISTED),
        Some(_) => return Err(ApiError::invalid_field("limit", "invalid", format!("expected 1 to {MAX_LISTED}"))),
    };
    let after = query.get("cursor").map(|cursor| parse_cursor(cursor)).transpose()?;
    list_page(&app, filter, limit, after).await
}

/// Lists dead letters: [`list`] with `status=dead_letter`, whatever status the query names.
pub(crate) async fn dead_letters(app: Shared, headers: HeaderMap, query: QueryParameters) -> Reply {
    let query = query.map(|Query(mut query)| {
        query.insert("status".to_owned(), Status::DeadLetter.name().to_owned());
        Query(query)
    });
    list(app, headers, query).await
}

/// Lists tasks by lane and order of submission, with a cursor for the next page. Tasks are copied from the actor in
/// chunks, because copying all of them in one step would block it for too long.
async fn list_page(app: &App, filter: Filter, limit: usize, mut after: Option<Turn>) -> Reply {
    let mut listed: Vec<Value> = Vec::new();
    let mut bytes = 0;
    let more = loop {
        let filter = filter.clone();
        let chunk_limit = CHUNK_TASKS.min(limit - listed.len());
        let from = after;
        let chunk =
            app.actor.ask(move |state, _| read_chunk(state.scheduler.tasks(), &filter, from, chunk_limit)).await?;
        bytes += chunk.bytes;
        listed.extend(chunk.tasks.iter().map(Task::to_json));
        after = chunk.reached.or(after);
        if !chunk.more || listed.len() >= limit || bytes >= MAX_LISTED_BYTES {
            break chunk.more;
        }
    };
    let cursor = after.filter(|_| more).map(|(lane, seq)| format!("{}-{seq}", lane.number()));
    ok(json!({"count": listed.len(), "tasks": listed, "cursor": cursor}))
}

/// One chunk of a task list, in order.
struct Chunk {
    tasks: Vec<Task>,
    bytes: u64,
    /// The turn of the last task examined, whether or not it matched.
    reached: Option<Turn>,
    /// Whether there are tasks after that one.
    more: bool,
}

fn read_chunk(tasks: &Tasks, filter: &Filter, after: Option<Turn>, limit: usize) -> Chunk {
    let mut chunk = Chunk { tasks: Vec::new(), bytes: 0, reached: None, more: false };
    for (examined, task) in tasks.list_after(after).enumerate() {
        if examined >= CHUNK_EXAMINED || chunk.tasks.len() >= limit || chunk.bytes >= CHUNK_BYTES {
            chunk.more = true;
            break;
        }
        chunk.reached = Some(turn(task));
        if filter.matches(task) {
            chunk.bytes += task.weight();
            chunk.tasks.push(task.clone());
        }
    }
    chunk
}

pub(crate) async fn stats(State(app): Shared, headers: HeaderMap) -> Reply {
    authenticate(&app.actor, &headers).await?;
    ok(app.actor.ask(|state, _| count_tasks(state.scheduler.tasks())).await?)
}

/// Counts tasks as the legacy hub does: dead letters separately, and only queued tasks by priority.
fn count_tasks(tasks: &Tasks) -> Value {
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

pub(crate) async fn get_task(State(app): Shared, headers: HeaderMap, id: Id) -> Reply {
    authenticate(&app.actor, &headers).await?;
    let id = path_id(id)?;
    let wanted = id.clone();
    let task = app.actor.ask(move |state, _| state.scheduler.tasks().get(&wanted).map(Task::to_json)).await?;
    ok(task.ok_or_else(|| ApiError::task_not_found(&id))?)
}

pub(crate) async fn cancel(State(app): Shared, headers: HeaderMap, id: Id) -> Reply {
    let (caller, id) = require_submitter(&app, &headers, id, "cancel another's task").await?;
    let wanted = id.clone();
    let done = app.actor.ask(move |state, now_ms| {
        let before = state.scheduler.tasks().get(&wanted).map(|task| task.status.name());
        state.scheduler.cancel(&wanted, &caller.name, now_ms).map(|()| before)
    });
    let before = done.await?.map_err(|status| conflict(&id, status, "it has ended already"))?;
    ok(json!({"status": "cancelled", "task_id": id, "previous_status": before}))
}

pub(crate) async fn retry(State(app): Shared, headers: HeaderMap, id: Id) -> Reply {
    let (_, id) = require_submitter(&app, &headers, id, "retry another's task").await?;
    let wanted = id.clone();
    let done = app.actor.ask(move |state, now_ms| {
        state.scheduler.revive(&wanted, now_ms)?;
        Ok(state.scheduler.tasks().get(&wanted).map(|task| task.submission.priority.number()))
    });
    let priority = done.await?.map_err(|status| conflict(&id, status, "only a dead letter can be retried"))?;
    ok(json!({"status": "requeued", "task_id": id, "priority": priority}))
}

/// Returns the caller's principal and the task's id. The caller must be an admin or the task's submitter.
async fn require_submitter(
    app: &App,
    headers: &HeaderMap,
    id: Id,
    what: &str,
) -> Result<(Principal, String), ApiError> {
    let caller = authenticate(&app.actor, headers).await?;
    let id = path_id(id)?;
    let wanted = id.clone();
    let owner = app
        .actor
        .ask(move |state, _| state.scheduler.tasks().get(&wanted).map(|task| task.submission.submitted_by.clone()));
    let owner = owner.await?.ok_or_else(|| ApiError::task_not_found(&id))?;
    if caller.admin || caller.name == owner { Ok((caller, id)) } else { Err(ApiError::forbidden(&caller.name, what)) }
}

fn conflict(task_id: &str, status: &str, hint: &str) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "invalid_state", hint).with("task_id", task_id).with("status", status)
}
