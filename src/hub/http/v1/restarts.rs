//! The restart routes of `/api/v1`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::hub::http::credentials::Credentials;
use crate::hub::http::lists::{self, RestartList, RestartPage, page_limit};
use crate::hub::http::reply::caller_of;
use crate::hub::http::request::{Body, Id, QueryParameters, Shared, ok, path_id, read_query};
use crate::hub::http::v1::body::{bytes_of, read_strict};
use crate::hub::http::v1::once::{Asked, act_once};
use crate::hub::http::v1::parameters::{OnceHeader, PageSize, bad_cursor, flag, named, number};
use crate::hub::http::v1::selected::{SelectorForm, Skipped, read_selector};
use crate::hub::http::{RESTART_FIELDS, not_connected, restart_request};
use crate::hub::problem::Problem;
use crate::hub::random;
use crate::hub::scheduler::restart::{RestartPhase, ShownRestart};
use crate::hub::state::roles::Permission;
use crate::protocol::JsonText;
use crate::protocol::schema::{Field, Kind, may};

/// A restart to command.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "it describes the body, which is read by its fields")]
#[serde(deny_unknown_fields)]
pub(super) struct NewRestart {
    /// The reason, for people.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
    /// The time for which a running task may delay it, in ms.
    #[schema(minimum = 0, maximum = 86_400_000)]
    deadline_ms: Option<u64>,
    /// Whether it does not wait for the task.
    force: Option<bool>,
}

/// Commands a restart of one agent. While one goes on, the same is answered again.
#[utoipa::path(
    post, path = "/api/v1/agents/{id}/restart", tag = "restarts", operation_id = "restart_agent", request_body = Option<NewRestart>, security(("token" = [])),
    params(
        ("id" = String, Path, description = "the agent"),
        OnceHeader,
    ),
    responses(
        (status = 202, description = "the restart", body = ShownRestart<'static>),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn command(
    State(app): Shared,
    uri: Uri,
    who: Credentials,
    headers: HeaderMap,
    id: Id,
    body: Body,
) -> Result<Response, Problem> {
    let caller = caller_of(&app.snapshot(), &who)?;
    let agent_id = path_id(id)?;
    caller.require_for(&agent_id, Permission::RestartAnyAgent, Permission::RestartItself, "restart this agent")?;
    let asked = Asked::of("POST", &uri, &headers, bytes_of(&body))?;
    let request = restart_request(&read_strict(&headers, body, RESTART_FIELDS)?.fields, &caller)?;
    let command_id = format!("restart-{}", random::id()?);
    let author = caller.author();
    act_once(&app, &caller, asked, StatusCode::ACCEPTED, move |state, now_ms| {
        let commanded = state.acts(&author, now_ms).command_restart(command_id, &agent_id, request, None);
        let commanded = commanded.ok_or_else(|| not_connected(&agent_id))?;
        let restart = state.scheduler.restarts().get(&commanded.command_id);
        Ok(restart.map_or_else(JsonText::null, |restart| JsonText::of(&restart.shown())))
    })
    .await
}

/// Restarts to command.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "it describes the body, which is read by its fields")]
#[serde(deny_unknown_fields)]
pub(super) struct NewRestarts {
    /// The agents.
    selector: SelectorForm,
    /// The reason, for people.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
    /// The time for which a running task may delay each, in ms.
    #[schema(minimum = 0, maximum = 86_400_000)]
    deadline_ms: Option<u64>,
    /// Whether they do not wait for their tasks.
    force: Option<bool>,
    /// Whether nothing is done, and only told who is meant.
    dry_run: Option<bool>,
}

/// What became of a request to restart a selection of agents.
#[derive(Serialize, ToSchema)]
pub(super) struct CommandedRestarts {
    /// Whether nothing was done.
    dry_run: bool,
    /// The number of agents that are meant.
    matched: usize,
    /// The restarts, by agent.
    restarts: Vec<CommandedRestart>,
    /// The agents that were passed over.
    skipped: Vec<Skipped>,
}

/// One restart of a selection.
#[derive(Serialize, ToSchema)]
struct CommandedRestart {
    /// The agent.
    agent_id: String,
    /// The command's id; null in a dry run.
    command_id: Option<String>,
    /// Whether a command was open already, which this repeats.
    repeated: bool,
}

pub(super) const SELECTION_FIELDS: &[Field] = &[
    may("selector", Kind::Any),
    may("reason", Kind::Text),
    may("deadline_ms", Kind::Count),
    may("force", Kind::Flag),
    may("dry_run", Kind::Flag),
];

/// Commands a restart of each agent of a selection, all at once. An agent that is away is passed over.
#[utoipa::path(
    post, path = "/api/v1/restarts", tag = "restarts", operation_id = "restart_agents", request_body = NewRestarts, security(("token" = [])),
    params(OnceHeader),
    responses(
        (status = 202, description = "the restarts", body = CommandedRestarts),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn command_selection(
    State(app): Shared,
    uri: Uri,
    who: Credentials,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = caller_of(&app.snapshot(), &who)?;
    // What a selection names is known once it is read; who may restart nobody learns nothing of it.
    caller.require_for(&caller.name, Permission::RestartAnyAgent, Permission::RestartItself, "restart agents")?;
    let asked = Asked::of("POST", &uri, &headers, bytes_of(&body))?;
    let body = read_strict(&headers, body, SELECTION_FIELDS)?.fields;
    let (selector, request) = (read_selector(&body)?, restart_request(&body, &caller)?);
    let is_own = selector.ids().is_some_and(|ids| ids.iter().eq([&caller.name]));
    let whom = if is_own { caller.name.as_str() } else { "" };
    caller.require_for(whom, Permission::RestartAnyAgent, Permission::RestartItself, "restart other agents")?;
    let dry_run = body.read("dry_run").unwrap_or(false);
    let (id, author) = (random::id()?, caller.author());
    act_once(&app, &caller, asked, StatusCode::ACCEPTED, move |state, now_ms| {
        let selected = state.snapshot().selected(&selector, now_ms);
        let matched = selected.agents.len();
        let mut skipped: Vec<Skipped> = selected.unknown.into_iter().map(Skipped::unknown).collect();
        let mut restarts = Vec::new();
        for (number, agent_id) in selected.agents.into_iter().enumerate() {
            let open = state.scheduler.restarts().open_for(&agent_id).is_some();
            let commanded = match dry_run {
                true => (open || state.scheduler.is_connected(&agent_id)).then_some((None, open)),
                false => {
                    let command_id = format!("restart-{id}-{}", number + 1);
                    let acts = state.acts(&author, now_ms);
                    let commanded = acts.command_restart(command_id, &agent_id, request.clone(), Some(&selector));
                    commanded.map(|it| (Some(it.command_id), it.repeated))
                }
            };
            match commanded {
                Some((command_id, repeated)) => restarts.push(CommandedRestart { agent_id, command_id, repeated }),
                None => skipped.push(Skipped::not_connected(agent_id)),
            }
        }
        Ok(CommandedRestarts { dry_run, matched, restarts, skipped })
    })
    .await
}

/// Lists restarts, newest first.
#[utoipa::path(
    get, path = "/api/v1/restarts", tag = "restarts", operation_id = "list_restarts", security(("token" = [])),
    params(
        ("agent_id" = Option<String>, Query, description = "those of one agent"),
        ("state" = inline(Option<RestartPhase>), Query, description = "those in this phase"),
        ("open" = Option<bool>, Query, description = "those that go on, or those that have ended"),
        ("since" = Option<u64>, Query, minimum = 0, maximum = 9007199254740991u64, description = "those that were commanded since this time, in ms since the epoch"),
        PageSize,
        ("cursor" = Option<String>, Query, pattern = "^[0-9]{1,15}$", description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "a page of restarts", body = RestartPage),
        (status = "4XX", description = "the request is not understood", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(app): Shared, who: Credentials, query: QueryParameters) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    let caller = caller_of(&snapshot, &who)?;
    let query = read_query(query)?;
    let agent_id = query.get("agent_id").cloned();
    let of = agent_id.as_deref().unwrap_or_default();
    caller.require_for(
        of,
        Permission::ReadAnyRestarts,
        Permission::ReadOwnRestarts,
        "read another agent's restarts",
    )?;
    let (state, open, since) = (named(&query, "state")?, flag(&query, "open")?, number(&query, "since")?);
    let after = query.get("cursor").map(|cursor| cursor.parse().map_err(|_| bad_cursor())).transpose()?;
    let list = RestartList { agent_id, state, open, since, after };
    Ok(lists::page(&snapshot, list, page_limit(&query)?))
}

/// Returns one restart.
#[utoipa::path(
    get, path = "/api/v1/restarts/{id}", tag = "restarts", operation_id = "get_restart", security(("token" = [])),
    params(("id" = String, Path, description = "the command's id")),
    responses(
        (status = 200, description = "the restart", body = ShownRestart<'static>),
        (status = "4XX", description = "there is no such restart, or no token", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(State(app): Shared, who: Credentials, id: Id) -> Result<Response, Problem> {
    let snapshot = app.snapshot();
    let caller = caller_of(&snapshot, &who)?;
    let id = path_id(id)?;
    let restart = snapshot.view.restarts().get(&id).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "restart_not_found",
            "GET /api/v1/restarts lists the restarts that are kept",
        )
    })?;
    let what = "read another agent's restarts";
    caller.require_for(&restart.agent_id, Permission::ReadAnyRestarts, Permission::ReadOwnRestarts, what)?;
    Ok(ok(restart.shown())?)
}
