//! The rollout routes of `/api/v1`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::hub::acts::RolloutAct;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::lists::{self, Items, List, page_limit};
use crate::hub::http::reply::require;
use crate::hub::http::request::{Body, Id, QueryParameters, Shared, ok, path_id, read_query};
use crate::hub::http::v1::body::{bytes_of, read_strict};
use crate::hub::http::v1::once::{Asked, act_once};
use crate::hub::http::v1::parameters::{OnceHeader, PageSize, bad_cursor, named, one_of};

use crate::hub::http::v1::selected::{SelectorForm, Skipped, read_selector};
use crate::hub::hub_state::{HubState, Snapshot};
use crate::hub::problem::Problem;
use crate::hub::random;
use crate::hub::scheduler::amount::AmountForm;
use crate::hub::scheduler::rollouts::plan::{OfflinePolicy, Plan};
use crate::hub::scheduler::rollouts::refused::{Refused, StartRefused};
use crate::hub::scheduler::rollouts::rollout::{Rollout, RolloutPhase};
use crate::hub::scheduler::rollouts::shown::{DryRun, ShownRollout, ShownTarget};
use crate::hub::scheduler::rollouts::start::RolloutRequest;
use crate::hub::scheduler::rollouts::target::TargetPhase;
use crate::hub::state::roles::Permission;
use crate::protocol::schema::{Field, Kind, may};
use crate::protocol::{JsonFields, JsonText};

/// A rollout to start. What is absent is as the description of a plan says.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "it describes the body, which is read by its fields")]
#[serde(deny_unknown_fields)]
pub(super) struct NewRollout {
    /// The agents. They are found once, at the start.
    selector: SelectorForm,
    /// The reason, for people.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
    /// Whether nothing is done, and only told who would be restarted, in which wave, and who would not.
    dry_run: Option<bool>,
    /// The number of targets that may be away or unproven at once; 1 by default.
    max_unavailable: Option<AmountForm>,
    /// The number of targets that go first, and alone.
    canary: Option<AmountForm>,
    /// The time within which they must be through, in ms; 30 minutes by default.
    #[schema(maximum = 604_800_000)]
    canary_deadline_ms: Option<u64>,
    /// Whether the others follow by themselves once the canary is through.
    auto_promote: Option<bool>,
    /// How many targets may be restarted by the end of each wave after the canary.
    #[schema(max_items = 20)]
    steps: Option<Vec<AmountForm>>,
    /// The time for which a target must be back before it has succeeded, in ms; 10 s by default.
    #[schema(maximum = 604_800_000)]
    soak_ms: Option<u64>,
    /// The number of failures that the rollout bears once its canary is through; none by default.
    max_failures: Option<AmountForm>,
    /// The time without any progress after which it halts, in ms.
    #[schema(maximum = 604_800_000)]
    progress_deadline_ms: Option<u64>,
    /// What becomes of targets that are not connected.
    offline: Option<OfflinePolicy>,
    /// The time after the start for which they are waited for, in ms; an hour by default.
    #[schema(maximum = 604_800_000)]
    wait_for_ms: Option<u64>,
    /// The version that each target must have once it is back.
    #[schema(min_length = 1, max_length = 256)]
    expect_version: Option<String>,
    /// The time for which a running task may delay each restart, in ms.
    #[schema(maximum = 86_400_000)]
    deadline_ms: Option<u64>,
    /// Whether the restarts do not wait for tasks.
    force: Option<bool>,
}

pub(super) const FIELDS: &[Field] = &[
    may("selector", Kind::Any),
    may("reason", Kind::Text),
    may("dry_run", Kind::Flag),
    may("max_unavailable", Kind::Any),
    may("canary", Kind::Any),
    may("canary_deadline_ms", Kind::Count),
    may("auto_promote", Kind::Flag),
    may("steps", Kind::Any),
    may("soak_ms", Kind::Count),
    may("max_failures", Kind::Any),
    may("progress_deadline_ms", Kind::Count),
    may("offline", Kind::Any),
    may("wait_for_ms", Kind::Count),
    may("expect_version", Kind::Text),
    may("deadline_ms", Kind::Count),
    may("force", Kind::Flag),
];

/// A rollout that was started, or would be.
#[derive(Serialize, ToSchema)]
pub(super) struct StartedRollout {
    /// Whether nothing was done.
    dry_run: bool,
    /// The number of agents that are meant.
    matched: usize,
    /// The names in the selector that no agent has.
    skipped: Vec<Skipped>,
    /// The rollout; null in a dry run.
    #[schema(value_type = Option<ShownRollout<'static>>)]
    rollout: JsonText,
    /// What it would do; null if it was started.
    would: Option<DryRun>,
}

/// Starts a rollout: restarts of a selection of agents, a few at a time.
#[utoipa::path(
    post, path = "/api/v1/rollouts", tag = "rollouts", operation_id = "start_rollout", request_body = NewRollout, security(("token" = [])),
    params(OnceHeader),
    responses(
        (status = 201, description = "the rollout, or what it would do", body = StartedRollout),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn start(
    State(app): Shared,
    uri: Uri,
    who: Credentials,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = require(&app.snapshot(), &who, Permission::RestartAnyAgent, "restart agents")?;
    let asked = Asked::of("POST", &uri, &headers, bytes_of(&body))?;
    let body = read_strict(&headers, body, FIELDS)?.fields;
    let (selector, plan) = (read_selector(&body)?, read_plan(&body)?);
    let reason = body.string("reason").unwrap_or_else(|| "rollout".to_owned());
    let dry_run = body.read("dry_run").unwrap_or(false);
    let (id, author) = (format!("rollout-{}", random::id()?), caller.author());
    act_once(&app, &caller, asked, StatusCode::CREATED, move |state, now_ms| {
        let selected = state.snapshot().selected(&selector, now_ms);
        let (matched, skipped) = (selected.agents.len(), selected.unknown.into_iter().map(Skipped::unknown).collect());
        let (rollout, would) = match dry_run {
            true => {
                let request = RolloutRequest { reason, by: author.who, selector: selector.to_string(), plan };
                let would = state.scheduler.dry_run(request, &selected.agents, now_ms).map_err(not_started)?;
                (JsonText::null(), Some(would))
            }
            false => {
                let acts = state.acts(&author, now_ms);
                acts.start_rollout(&id, &reason, plan, &selector, &selected.agents).map_err(not_started)?;
                (shown(state, &id)?, None)
            }
        };
        Ok(StartedRollout { dry_run, matched, skipped, rollout, would })
    })
    .await
}

/// Promotes, pauses, resumes, cancels or recalls a rollout, or tries its failed targets again.
#[utoipa::path(
    post, path = "/api/v1/rollouts/{id}/{act}", tag = "rollouts", operation_id = "act_on_rollout", request_body = Option<ActReason>, security(("token" = [])),
    params(
        ("id" = String, Path, description = "the rollout's id"),
        ("act" = inline(RolloutAct), Path, description = "what is done"),
        OnceHeader,
    ),
    responses(
        (status = 200, description = "the rollout after it", body = ShownRollout<'static>),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn act(
    State(app): Shared,
    uri: Uri,
    who: Credentials,
    headers: HeaderMap,
    path: Result<Path<(String, String)>, PathRejection>,
    body: Body,
) -> Result<Response, Problem> {
    let caller = require(&app.snapshot(), &who, Permission::RestartAnyAgent, "restart agents")?;
    let bad_path = |why: PathRejection| Problem::new(StatusCode::BAD_REQUEST, "invalid_path", why.body_text());
    let Path((id, act)) = path.map_err(bad_path)?;
    let act: RolloutAct = one_of("act", &act)?;
    let asked = Asked::of("POST", &uri, &headers, bytes_of(&body))?;
    let body = read_strict(&headers, body, ACT_FIELDS)?.fields;
    let (reason, author) = (body.string("reason"), caller.author());
    act_once(&app, &caller, asked, StatusCode::OK, move |state, now_ms| {
        state.acts(&author, now_ms).act_on_rollout(&id, act, reason.as_deref()).map_err(not_done)?;
        shown(state, &id)
    })
    .await
}

/// The fields of an [`ActReason`].
pub(super) const ACT_FIELDS: &[Field] = &[may("reason", Kind::Text)];

/// Why an act is done.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "it describes the body, which is read by its fields")]
#[serde(deny_unknown_fields)]
pub(super) struct ActReason {
    /// The reason, for people.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

/// Lists rollouts, newest first. Of those that have ended, the latest 100 are kept.
#[utoipa::path(
    get, path = "/api/v1/rollouts", tag = "rollouts", operation_id = "list_rollouts", security(("token" = [])),
    params(
        ("state" = inline(Option<RolloutPhase>), Query, description = "those in this state"),
        PageSize,
        ("cursor" = Option<String>, Query, pattern = "^[0-9]{1,15}$", description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "a page of rollouts", body = RolloutPage),
        (status = "4XX", description = "the request is not understood", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(app): Shared, who: Credentials, query: QueryParameters) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    require(&snapshot, &who, Permission::ReadAnyRestarts, "read rollouts")?;
    let query = read_query(query)?;
    let before = query.get("cursor").map(|cursor| cursor.parse().map_err(|_| bad_cursor())).transpose()?;
    let list = RolloutList { state: named(&query, "state")?, before };
    Ok(lists::page(&snapshot, list, page_limit(&query)?))
}

/// Returns one rollout.
#[utoipa::path(
    get, path = "/api/v1/rollouts/{id}", tag = "rollouts", operation_id = "get_rollout", security(("token" = [])),
    params(("id" = String, Path, description = "the rollout's id")),
    responses(
        (status = 200, description = "the rollout", body = ShownRollout<'static>),
        (status = "4XX", description = "there is no such rollout, or no token", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(State(app): Shared, who: Credentials, id: Id) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    require(&snapshot, &who, Permission::ReadAnyRestarts, "read rollouts")?;
    let id = path_id(id)?;
    let rollout = snapshot.view.rollouts().get(&id).ok_or_else(|| not_done(Refused::Unknown(id.clone())))?;
    Ok(ok(rollout.shown())?)
}

/// Lists the targets of a rollout, in the order of their turns.
#[utoipa::path(
    get, path = "/api/v1/rollouts/{id}/targets", tag = "rollouts", operation_id = "list_rollout_targets", security(("token" = [])),
    params(
        ("id" = String, Path, description = "the rollout's id"),
        ("state" = inline(Option<TargetPhase>), Query, description = "those in this state"),
        PageSize,
        ("cursor" = Option<String>, Query, pattern = "^[0-9]{1,9}$", description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "a page of targets", body = TargetPage),
        (status = "4XX", description = "the request is not understood", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn targets(
    State(app): Shared,
    who: Credentials,
    id: Id,
    query: QueryParameters,
) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    require(&snapshot, &who, Permission::ReadAnyRestarts, "read rollouts")?;
    let rollout_id = path_id(id)?;
    if snapshot.view.rollouts().get(&rollout_id).is_none() {
        return Err(not_done(Refused::Unknown(rollout_id)));
    }
    let query = read_query(query)?;
    let after = query.get("cursor").map(|cursor| cursor.parse().map_err(|_| bad_cursor())).transpose()?;
    let list = TargetList { rollout_id, state: named(&query, "state")?, after };
    Ok(lists::page(&snapshot, list, page_limit(&query)?))
}

/// A page of rollouts.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes what `page` writes")]
pub(super) struct RolloutPage {
    /// The rollouts.
    items: Vec<ShownRollout<'static>>,
    /// The cursor of the next page; null if nothing follows.
    next_cursor: Option<String>,
}

/// A page of targets.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes what `page` writes")]
pub(super) struct TargetPage {
    /// The targets.
    items: Vec<ShownTarget<'static>>,
    /// The cursor of the next page; null if nothing follows.
    next_cursor: Option<String>,
}

/// Rollouts, newest first.
struct RolloutList {
    state: Option<RolloutPhase>,
    /// The number of the last one that was passed.
    before: Option<u64>,
}

impl List for RolloutList {
    fn fill(&mut self, snapshot: &Snapshot, items: &mut Items) -> bool {
        for rollout in snapshot.view.rollouts().before(self.before) {
            if items.is_full() {
                return true;
            }
            if self.state.is_none_or(|state| state == rollout.state.phase()) {
                items.push(&rollout.shown());
            }
            self.before = Some(rollout.seq);
        }
        false
    }

    fn cursor(&self) -> Option<String> {
        self.before.map(|seq| seq.to_string())
    }
}

/// The targets of a rollout.
struct TargetList {
    rollout_id: String,
    state: Option<TargetPhase>,
    /// The number of the last one that was passed.
    after: Option<u32>,
}

impl List for TargetList {
    fn fill(&mut self, snapshot: &Snapshot, items: &mut Items) -> bool {
        let (after, state) = (self.after, self.state);
        let rollout: Option<&Rollout> = snapshot.view.rollouts().get(&self.rollout_id);
        for target in rollout.into_iter().flat_map(|rollout| rollout.targets_after(after, state)) {
            if items.is_full() {
                return true;
            }
            items.push(&target.shown());
            self.after = Some(target.number);
        }
        false
    }

    fn cursor(&self) -> Option<String> {
        self.after.map(|number| number.to_string())
    }
}

/// Returns the rollout as it is after a step.
fn shown(state: &HubState, id: &str) -> Result<JsonText, Problem> {
    let rollout = state.scheduler.rollouts().get(id).ok_or_else(|| not_done(Refused::Unknown(id.to_owned())))?;
    Ok(JsonText::of(&rollout.shown()))
}

/// Reads the plan in a body.
fn read_plan(body: &JsonFields) -> Result<Plan, Problem> {
    let default = Plan::default();
    Ok(Plan {
        max_unavailable: field(body, "max_unavailable", default.max_unavailable)?,
        canary: field(body, "canary", default.canary)?,
        canary_deadline_ms: field(body, "canary_deadline_ms", default.canary_deadline_ms)?,
        auto_promote: field(body, "auto_promote", default.auto_promote)?,
        steps: field(body, "steps", default.steps)?,
        soak_ms: field(body, "soak_ms", default.soak_ms)?,
        max_failures: field(body, "max_failures", default.max_failures)?,
        progress_deadline_ms: field(body, "progress_deadline_ms", default.progress_deadline_ms)?,
        offline: field(body, "offline", default.offline)?,
        wait_for_ms: field(body, "wait_for_ms", default.wait_for_ms)?,
        expect_version: field(body, "expect_version", default.expect_version)?,
        deadline_ms: field(body, "deadline_ms", default.deadline_ms)?,
        force: field(body, "force", default.force)?,
    })
}

/// Reads one field; what is absent or null has the default.
fn field<T: DeserializeOwned>(body: &JsonFields, name: &'static str, default: T) -> Result<T, Problem> {
    let Some(given) = body.get(name) else { return Ok(default) };
    let read = given.read::<Option<T>>().map_err(|why| Problem::invalid_field(name, "invalid", &why.to_string()))?;
    Ok(read.unwrap_or(default))
}

/// Returns the problem of a rollout that was not started.
fn not_started(why: StartRefused) -> Problem {
    let detail = why.to_string();
    match why {
        StartRefused::BadPlan(bad) => Problem::invalid_field(bad.field, "invalid", &detail),
        StartRefused::Empty | StartRefused::TooMany(_) => Problem::invalid_field("selector", "invalid", &detail),
        StartRefused::Known(_) => Problem::new(StatusCode::CONFLICT, "rollout_exists", detail),
        StartRefused::Shared(_) => Problem::new(StatusCode::CONFLICT, "agents_in_rollout", detail),
    }
}

/// Returns the problem of an act that was not done.
fn not_done(why: Refused) -> Problem {
    let detail = why.to_string();
    match why {
        Refused::Unknown(_) => Problem::new(StatusCode::NOT_FOUND, "rollout_not_found", detail),
        Refused::State { .. } => Problem::new(StatusCode::CONFLICT, "rollout_state", detail),
        Refused::Shared(_) => Problem::new(StatusCode::CONFLICT, "agents_in_rollout", detail),
    }
}
