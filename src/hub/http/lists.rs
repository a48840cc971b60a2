//! Lists of the hub's state: as pages, or streamed whole. A stream takes each part from the newest snapshot, so a slow
//! reader keeps no old state in memory; what changes meanwhile may be in it or not.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use serde_json::json;

use crate::hub::api_error::ApiError;
use crate::hub::fleet::is_own_task;
use crate::hub::http::request::App;
use crate::hub::hub_state::Snapshot;
use crate::hub::scheduler::inventory::entry::{AgentEntry, Detail};
use crate::hub::scheduler::queue::{Turn, turn};
use crate::hub::scheduler::restart::{Restart, RestartPhase, ShownRestart};
use crate::hub::scheduler::selector::Selector;
use crate::hub::scheduler::task::{Priority, ShownTask, StatusName, Task};
use crate::hub::state::invitations::InvitationSummary;
use crate::hub::state::store::CLOCK_STEP_MS;
use crate::hub::state::tokens::{TokenPlace, TokenSummary, TokenTable, id_of, last_hash_of};

/// The number of items on a page, if the request does not say.
const PAGE_ITEMS: usize = 100;
/// The largest number of items on a page.
const MAX_PAGE_ITEMS: usize = 1_000;
/// The size from which on a page ends early, in bytes.
pub(super) const PAGE_BYTES: usize = 1 << 20;
/// The size of one part of a stream, in bytes; its last item may exceed it.
const PART_BYTES: usize = 32 << 10;
/// The size up to which a list is sent at once, with its length, in bytes.
const WHOLE_BYTES: usize = 128 << 10;
/// The number of items that are looked at for one part, whether or not they are listed.
const PART_EXAMINED: usize = 1_000;

/// The items of a page or of a part of a stream, as JSON with commas between them.
pub(super) struct Items {
    json: Vec<u8>,
    count: usize,
    examined: usize,
    max_count: usize,
    max_bytes: usize,
    max_examined: usize,
}

impl Items {
    fn new(max_count: usize, max_bytes: usize, max_examined: usize) -> Self {
        Self { json: Vec::new(), count: 0, examined: 0, max_count, max_bytes, max_examined }
    }

    pub(super) fn push(&mut self, item: &impl Serialize) {
        if self.count > 0 {
            self.json.push(b',');
        }
        // Maps with string keys and plain values, into memory: this cannot fail.
        let _ = serde_json::to_writer(&mut self.json, item);
        self.count += 1;
    }

    pub(super) fn is_full(&self) -> bool {
        self.count >= self.max_count || self.json.len() >= self.max_bytes || self.examined >= self.max_examined
    }
}

/// A list in the order of its key, which remembers the last item that it has passed.
pub(super) trait List: Send + 'static {
    /// Passes on until the items are full. Returns whether it stopped before the end.
    fn fill(&mut self, snapshot: &Snapshot, items: &mut Items) -> bool;

    /// Returns the cursor from which another list goes on after this one; `None` for a list without pages.
    fn cursor(&self) -> Option<String> {
        None
    }

    /// Returns what ends a stream of `count` items beside the list itself, each field with a comma before it; `more` says
    /// whether others follow.
    fn tail(&self, _count: usize, _more: bool) -> String {
        String::new()
    }
}

/// What a list shows of each agent.
#[derive(Clone, Copy)]
pub(super) enum AgentForm {
    /// What `GET /api/agents` shows.
    Summary,
    /// Its state, as the legacy hub shows it.
    State,
}

/// The agents that are connected or due back, by id.
pub(super) struct AgentList {
    form: AgentForm,
    /// The last one that was passed.
    after: Option<String>,
}

impl AgentList {
    /// Creates the list of the agents after this one.
    pub(super) fn new(form: AgentForm, after: Option<String>) -> Self {
        Self { form, after }
    }
}

impl List for AgentList {
    fn fill(&mut self, snapshot: &Snapshot, items: &mut Items) -> bool {
        let (from, now_ms) = (self.after.clone(), snapshot.now_ms());
        for agent_id in snapshot.view.agents_after(from.as_deref()) {
            if items.is_full() {
                return true;
            }
            match self.form {
                AgentForm::Summary => items.push(&snapshot.view.agent(agent_id, now_ms)),
                AgentForm::State => items.push(&snapshot.view.agent_state(agent_id, now_ms)),
            }
            self.after = Some(agent_id.to_owned());
        }
        false
    }

    fn cursor(&self) -> Option<String> {
        self.after.clone()
    }
}

/// All agents that are known and that a selector means, by name.
pub(super) struct FleetList {
    selector: Selector,
    /// The last one that was passed, whether or not it matched.
    after: Option<String>,
}

impl FleetList {
    /// Creates the list of the agents after this one.
    pub(super) fn new(selector: Selector, after: Option<String>) -> Self {
        Self { selector, after }
    }
}

impl List for FleetList {
    fn fill(&mut self, snapshot: &Snapshot, items: &mut Items) -> bool {
        let (from, now_ms) = (self.after.clone(), snapshot.now_ms());
        for agent_id in snapshot.agents_after(from.as_deref()) {
            if items.is_full() {
                return true;
            }
            if snapshot.is_selected(&self.selector, agent_id, now_ms)
                && let Some(entry) = snapshot.agent_entry(agent_id, Detail::Page, now_ms)
            {
                items.push(&entry);
            }
            items.examined += 1;
            self.after = Some(agent_id.to_owned());
        }
        false
    }

    fn cursor(&self) -> Option<String> {
        self.after.clone()
    }
}

/// The tasks that match a filter, by lane and order of submission.
pub(super) struct TaskList {
    pub(super) status: Option<StatusName>,
    pub(super) assigned_to: Option<String>,
    pub(super) goal_id: Option<String>,
    pub(super) priority: Option<Priority>,
    /// The only agent whose tasks are listed: those that it submitted or holds.
    pub(super) of: Option<String>,
    /// The turn of the last task that was passed, whether or not it matched.
    pub(super) after: Option<Turn>,
}

impl TaskList {
    fn matches(&self, task: &Task, tokens: &TokenTable) -> bool {
        let goal_id = || task.submission.extra.string("goal_id");
        self.status.is_none_or(|status| status == StatusName::from(&task.status))
            && self.assigned_to.as_deref().is_none_or(|agent_id| task.holder() == Some(agent_id))
            && self.goal_id.as_deref().is_none_or(|wanted| goal_id().as_deref() == Some(wanted))
            && self.priority.is_none_or(|priority| priority == task.submission.priority)
            && self.of.as_deref().is_none_or(|name| is_own_task(tokens, name, task))
    }
}

impl List for TaskList {
    fn fill(&mut self, snapshot: &Snapshot, items: &mut Items) -> bool {
        let now_ms = snapshot.now_ms();
        for task in snapshot.view.tasks().list_after(self.after) {
            if items.is_full() {
                return true;
            }
            if self.matches(task, &snapshot.tokens) {
                items.push(&task.shown(snapshot.waiting_for(task, now_ms)));
            }
            items.examined += 1;
            self.after = Some(turn(task));
        }
        false
    }

    fn cursor(&self) -> Option<String> {
        self.after.map(|(lane, seq)| format!("{}-{seq}", lane.number()))
    }

    fn tail(&self, count: usize, more: bool) -> String {
        format!(r#","count":{count},"cursor":{}"#, json!(self.cursor().filter(|_| more)))
    }
}

/// All tokens, by name and age.
#[derive(Default)]
pub(super) struct TokenList {
    after: Option<TokenPlace>,
}

impl TokenList {
    /// Creates the list of the tokens after a cursor of it; `None` if the text is no cursor.
    pub(super) fn after(cursor: &str) -> Option<Self> {
        let mut parts = cursor.splitn(3, '-');
        let (created_at, id, name) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        Some(Self { after: Some((name.into(), created_at, last_hash_of(id)?)) })
    }
}

impl List for TokenList {
    fn fill(&mut self, snapshot: &Snapshot, items: &mut Items) -> bool {
        let from = self.after.clone();
        for (place, summary) in snapshot.tokens.list_after(from.as_ref()) {
            if items.is_full() {
                return true;
            }
            items.push(&summary);
            self.after = Some(place.clone());
        }
        false
    }

    fn cursor(&self) -> Option<String> {
        self.after.as_ref().map(|(name, created_at, hash)| format!("{created_at}-{}-{name}", id_of(hash)))
    }
}

/// All invitations, by id.
#[derive(Default)]
pub(super) struct InvitationList {
    /// The last one that was passed.
    pub(super) after: Option<String>,
}

impl List for InvitationList {
    fn fill(&mut self, snapshot: &Snapshot, items: &mut Items) -> bool {
        let from = self.after.clone().map_or(Unbounded, Excluded);
        for (id, invitation) in snapshot.invitations.range::<_, String>((from, Unbounded)) {
            if items.is_full() {
                return true;
            }
            items.push(&invitation.summary());
            self.after = Some(id.clone());
        }
        false
    }

    fn cursor(&self) -> Option<String> {
        self.after.clone()
    }
}

/// All restarts that match a filter, newest first.
pub(super) struct RestartList {
    pub(super) agent_id: Option<String>,
    pub(super) state: Option<RestartPhase>,
    pub(super) open: Option<bool>,
    /// The time from which on they were commanded, in ms since the epoch.
    pub(super) since: Option<u64>,
    /// The number of the last restart that was passed, whether or not it matched.
    pub(super) after: Option<u64>,
}

impl RestartList {
    fn matches(&self, restart: &Restart) -> bool {
        self.agent_id.as_deref().is_none_or(|agent_id| agent_id == restart.agent_id)
            && self.state.is_none_or(|state| state == restart.phase)
            && self.open.is_none_or(|open| open == restart.phase.is_open())
            && self.since.is_none_or(|since| since <= restart.commanded_at)
    }
}

impl List for RestartList {
    fn fill(&mut self, snapshot: &Snapshot, items: &mut Items) -> bool {
        for restart in snapshot.view.restarts().before(self.after) {
            // The clock may have been set back meanwhile.
            if self.since.is_some_and(|since| restart.commanded_at.saturating_add(CLOCK_STEP_MS) < since) {
                return false;
            }
            if items.is_full() {
                return true;
            }
            if self.matches(restart) {
                items.push(&restart.shown());
            }
            items.examined += 1;
            self.after = Some(restart.seq);
        }
        false
    }

    fn cursor(&self) -> Option<String> {
        self.after.map(|seq| seq.to_string())
    }
}

/// A page of agents.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "it describes what `page` writes")]
pub(super) struct AgentPage {
    /// The agents.
    items: Vec<AgentEntry<'static>>,
    /// The cursor of the next page; null if nothing follows.
    next_cursor: Option<String>,
}

/// A page of tokens.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "it describes what `page` writes")]
pub(super) struct TokenPage {
    /// The tokens, without what they are.
    items: Vec<TokenSummary>,
    /// The cursor of the next page; null if nothing follows.
    next_cursor: Option<String>,
}

/// A page of invitations.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "it describes what `page` writes")]
pub(super) struct InvitationPage {
    /// The invitations, without their codes.
    items: Vec<InvitationSummary>,
    /// The cursor of the next page; null if nothing follows.
    next_cursor: Option<String>,
}

/// A page of tasks.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "it describes what `page` writes")]
pub(super) struct TaskPage {
    /// The tasks.
    items: Vec<ShownTask<'static>>,
    /// The cursor of the next page; null if nothing follows.
    next_cursor: Option<String>,
}

/// A page of restarts.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "it describes what `page` writes")]
pub(super) struct RestartPage {
    /// The restarts.
    items: Vec<ShownRestart<'static>>,
    /// The cursor of the next page; null if nothing follows.
    next_cursor: Option<String>,
}

/// Returns one page: `{"items": [...], "next_cursor": ...}`. A page whose items are large ends early; a null cursor means
/// that nothing follows.
pub(super) fn page(snapshot: &Snapshot, mut list: impl List, limit: usize) -> Response {
    let mut items = Items::new(limit, PAGE_BYTES, usize::MAX);
    let more = list.fill(snapshot, &mut items);
    let mut body = br#"{"items":["#.to_vec();
    body.append(&mut items.json);
    body.extend_from_slice(format!(r#"],"next_cursor":{}}}"#, json!(list.cursor().filter(|_| more))).as_bytes());
    json_response(Body::from(body))
}

/// What is left to do of a stream.
struct Rest<L> {
    app: Arc<App>,
    list: L,
    count: usize,
    /// The number of items after which it ends, if the request says.
    limit: Option<usize>,
}

/// Streams the list, or the first `limit` items of it: `{"NAME": [...]}`, with the list's tail. A short list is sent at once.
pub(super) fn stream(app: &Arc<App>, name: &str, list: impl List, limit: Option<usize>) -> Response {
    let mut rest = Rest { app: app.clone(), list, count: 0, limit };
    let mut first = format!(r#"{{"{name}":["#).into_bytes();
    if rest.write_part(&mut first, WHOLE_BYTES, PART_EXAMINED) {
        return json_response(Body::from(first));
    }
    let first = stream::once(async move { Ok::<_, Infallible>(Bytes::from(first)) });
    let parts = stream::unfold(Some(rest), |rest| async move {
        let mut rest = rest?;
        loop {
            // Others have their turn between two parts, also while nothing matches.
            tokio::task::yield_now().await;
            let mut part = Vec::new();
            let ended = rest.write_part(&mut part, PART_BYTES, PART_EXAMINED);
            if !part.is_empty() {
                return Some((Ok(Bytes::from(part)), (!ended).then_some(rest)));
            }
        }
    });
    json_response(Body::from_stream(first.chain(parts)))
}

impl<L: List> Rest<L> {
    /// Writes the next part of the body, which may be empty. Returns whether it is the last.
    fn write_part(&mut self, part: &mut Vec<u8>, max_bytes: usize, max_examined: usize) -> bool {
        let left = self.limit.map_or(usize::MAX, |limit| limit - self.count);
        let mut items = Items::new(left, max_bytes, max_examined);
        let more = self.list.fill(&self.app.snapshot(), &mut items);
        if self.count > 0 && items.count > 0 {
            part.push(b',');
        }
        part.append(&mut items.json);
        self.count += items.count;
        let ended = !more || self.limit.is_some_and(|limit| self.count >= limit);
        if ended {
            part.extend_from_slice(format!("]{}}}", self.list.tail(self.count, more)).as_bytes());
        }
        ended
    }
}

fn json_response(body: Body) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Returns the number of items that the query asks for on a page.
///
/// # Errors
/// 422 if it is not a number between 1 and [`MAX_PAGE_ITEMS`].
pub(super) fn page_limit(query: &HashMap<String, String>) -> Result<usize, ApiError> {
    limit_in(query, MAX_PAGE_ITEMS).map(|limit| limit.unwrap_or(PAGE_ITEMS))
}

/// Returns the query's `limit`, if it has one.
///
/// # Errors
/// 422 if it is not a number between 1 and `most`.
pub(super) fn limit_in(query: &HashMap<String, String>, most: usize) -> Result<Option<usize>, ApiError> {
    let Some(limit) = query.get("limit") else { return Ok(None) };
    match limit.parse::<usize>() {
        Ok(limit) if (1..=most).contains(&limit) => Ok(Some(limit)),
        Ok(_) | Err(_) => {
            let detail = format!("expected 1 to {most}, got {limit:?}");
            Err(ApiError::invalid_field("limit", "invalid", detail))
        }
    }
}
