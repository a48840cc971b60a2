//! The acts of agents and operators: each changes the state and enters itself into the audit, in one step and so in one
//! commit. Whether its author may do it is for the caller to check.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hub::hub_state::HubState;
use crate::hub::scheduler::drains::{DrainRequest, Drained};
use crate::hub::scheduler::inventory::hub_drain::HubDrain;
use crate::hub::scheduler::inventory::{LabelChange, LabelsRefused};
use crate::hub::scheduler::restart::RestartRequest;
use crate::hub::scheduler::restart_ledger::Commanded;
use crate::hub::scheduler::rollouts::plan::Plan;
use crate::hub::scheduler::rollouts::refused::{Refused, StartRefused};
use crate::hub::scheduler::rollouts::start::RolloutRequest;
use crate::hub::scheduler::selector::Selector;
use crate::hub::state::audit::{Action, Author, Entry, without_credentials};
use crate::hub::state::backup::{Checksum, Contents};
use crate::hub::state::invitations::{InvitationRequest, InvitationSummary, NotInvited, TooManyInvitations};
use crate::hub::state::roles::Role;
use crate::hub::state::tokens::{NotIssued, Principal, SECRET_BYTES, TokenSelector, hash_of, hex, id_of};

/// What a new token is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The name of the agent or operator.
    pub name: String,
    /// The role.
    pub role: Role,
    /// The time for which it is valid, in ms; `None` if it does not expire.
    pub expires_in_ms: Option<u64>,
}

impl NewToken {
    /// Returns a token of an agent that does not expire.
    pub fn of_agent(name: &str) -> Self {
        Self { name: name.to_owned(), role: Role::Agent, expires_in_ms: None }
    }
}

/// What is done with a rollout after its start.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    serde::Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantNames,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum RolloutAct {
    /// Let the waves after the canary begin.
    Promote,
    /// Command nothing more for now.
    Pause,
    /// Go on.
    Resume,
    /// Command nothing more at all.
    Cancel,
    /// Withdraw the commands that have not reached their agents.
    Recall,
    /// Try the failed targets again.
    RetryFailed,
}

/// The reason why an agent was not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRegistered {
    /// It has no invitation that is good for it.
    NotInvited(NotInvited),
    /// There is no token for it.
    NotIssued(NotIssued),
}

/// What lets an agent register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Nothing: registration is open.
    Openly,
    /// The author, who may make tokens.
    ByAdmin,
    /// The invitation with this code.
    ByInvitation(String),
}

/// The state, for the acts of one author at one time.
pub struct Acts<'a> {
    state: &'a mut HubState,
    author: &'a Author,
    now_ms: u64,
}

impl HubState {
    /// Returns the state for what this author does at this time, in ms since the epoch.
    pub fn acts<'a>(&'a mut self, author: &'a Author, now_ms: u64) -> Acts<'a> {
        Acts { state: self, author, now_ms }
    }
}

impl Acts<'_> {
    /// Issues one more token of a name. The same bytes for the same give the same token, which is there once and is
    /// recorded once.
    ///
    /// # Errors
    /// Returns [`NotIssued::Full`], [`NotIssued::SecretInUse`] where the bytes are another token's, or
    /// [`NotIssued::HeldOpenly`] where an agent that registered openly uses the name.
    pub fn issue_token(self, secret: [u8; SECRET_BYTES], new: &NewToken) -> Result<String, NotIssued> {
        let principal = self.principal(new);
        if let Some(token) = self.state.tokens.issued_before(&secret, &principal) {
            return Ok(token);
        }
        let taken = self.state.take_unclaimed(&new.name, &secret, self.now_ms)?;
        let token = self.state.issue_token(secret, principal, false)?;
        let entry = self.entry(Action::TokenIssued, &new.name).change(listed(&taken), Some(shown(new, &token)));
        self.state.audit.record(entry);
        Ok(token)
    }

    /// Issues a token in place of those that are selected.
    ///
    /// # Errors
    /// Returns [`NotIssued::Full`] if there was nothing to replace, and [`NotIssued::SecretInUse`] where the bytes are
    /// another token's; nothing is revoked then.
    pub fn replace_tokens(
        self,
        secret: [u8; SECRET_BYTES],
        new: &NewToken,
        which: &TokenSelector,
    ) -> Result<String, NotIssued> {
        let (principal, now_ms) = (self.principal(new), self.now_ms);
        if let Some(token) = self.state.tokens.issued_before(&secret, &principal) {
            return Ok(token);
        }
        let (token, replaced) = self.state.replace_tokens(secret, principal, which, now_ms)?;
        let entry = self.entry(Action::TokenReplaced, &new.name).count(replaced.len());
        self.state.audit.record(entry.change(Some(replaced.join(", ")), Some(shown(new, &token))));
        Ok(token)
    }

    /// Revokes tokens of a name and returns how many.
    pub fn revoke_tokens(self, name: &str, which: &TokenSelector) -> usize {
        let revoked = self.state.revoke(name, which, self.now_ms);
        if !revoked.is_empty() {
            let entry = self.entry(Action::TokenRevoked, name).count(revoked.len());
            self.state.audit.record(entry.change(Some(revoked.join(", ")), None));
        }
        revoked.len()
    }

    /// Registers an agent: issues the first token of its name, or, where somebody vouches for it, the first that is not
    /// [unclaimed](Principal::is_unclaimed). One with an invitation is recorded as the invitation.
    ///
    /// # Errors
    /// Returns [`NotRegistered`]; the invitation is not used then.
    pub fn register(
        self,
        secret: [u8; SECRET_BYTES],
        name: &str,
        admission: &Admission,
    ) -> Result<String, NotRegistered> {
        let Self { state, author, now_ms } = self;
        let check = |code| state.invitations.check(code, name, now_ms).map_err(NotRegistered::NotInvited);
        let invited = match admission {
            Admission::Openly | Admission::ByAdmin => None,
            Admission::ByInvitation(code) => Some(check(code)?),
        };
        let author = invited.as_deref().map_or_else(|| author.clone(), Author::invited);
        let acts = Acts { state, author: &author, now_ms };
        let new = NewToken::of_agent(name);
        let (principal, mut taken) = (acts.principal(&new), Vec::new());
        let issued = match admission {
            Admission::Openly => acts.state.issue_openly(secret, principal, now_ms),
            Admission::ByAdmin | Admission::ByInvitation(_) => acts
                .state
                .take_unclaimed(name, &secret, now_ms)
                .map(|revoked| taken = revoked)
                .and_then(|()| acts.state.issue_token(secret, principal, true)),
        };
        let token = issued.map_err(NotRegistered::NotIssued)?;
        let entry = acts.entry(Action::AgentRegistered, name).change(listed(&taken), Some(shown(&new, &token)));
        acts.state.audit.record(entry);
        if let Some(id) = invited {
            let left = acts.state.invitations.use_once(&id);
            let entry = acts.entry(Action::InvitationRedeemed, &id);
            let new = format!("{name} registered, {left} uses left");
            acts.state.audit.record(entry.change(None, Some(new)));
        }
        Ok(token)
    }

    /// Makes an invitation and returns its code with what is shown of it.
    ///
    /// # Errors
    /// Returns [`TooManyInvitations`].
    pub fn make_invitation(
        self,
        secret: [u8; SECRET_BYTES],
        request: InvitationRequest,
    ) -> Result<(String, InvitationSummary), TooManyInvitations> {
        let (code, made) = self.state.invitations.make(secret, request, &self.author.who, self.now_ms)?;
        let entry = self.entry(Action::InvitationMade, &made.id);
        self.state.audit.record(entry.change(None, Some(shown_invitation(&made))));
        Ok((code, made))
    }

    /// Withdraws an invitation. Returns whether there was one.
    pub fn revoke_invitation(self, id: &str) -> bool {
        let Some(revoked) = self.state.invitations.revoke(id) else { return false };
        let entry = self.entry(Action::InvitationRevoked, id);
        self.state.audit.record(entry.change(Some(shown_invitation(&revoked.summary())), None));
        true
    }

    /// Commands a restart, as [`crate::hub::scheduler::Scheduler::command_restart`] does. A repeat that changes nothing is
    /// not recorded.
    pub fn command_restart(
        self,
        command_id: String,
        agent_id: &str,
        request: RestartRequest,
        selector: Option<&Selector>,
    ) -> Option<Commanded> {
        let (reason, forced) = (request.reason.clone(), request.force);
        let commanded = self.state.scheduler.command_restart(command_id, agent_id, request, self.now_ms)?;
        if !commanded.repeated || commanded.send {
            let force = if forced { ", forced" } else { "" };
            let entry = self.entry(Action::RestartCommanded, agent_id).because(&reason).selected_by(selector);
            self.state.audit.record(entry.change(None, Some(format!("{}{force}", commanded.command_id))));
        }
        Some(commanded)
    }

    /// Starts a rollout over these agents, which the selector meant.
    ///
    /// # Errors
    /// [`StartRefused`].
    pub fn start_rollout(
        self,
        id: &str,
        reason: &str,
        plan: Plan,
        selector: &Selector,
        agents: &[String],
    ) -> Result<(), StartRefused> {
        let (by, reason) = (self.author.who.clone(), reason.to_owned());
        let request = RolloutRequest { reason: reason.clone(), by, selector: selector.to_string(), plan };
        self.state.scheduler.start_rollout(id, request, agents, self.now_ms)?;
        let entry = self.entry(Action::RolloutStarted, id).because(&reason).selected_by(Some(selector));
        self.state.audit.record(entry.count(agents.len()));
        Ok(())
    }

    /// Does something with a rollout, and returns the number of targets that it concerns, where those are counted.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn act_on_rollout(self, id: &str, act: RolloutAct, reason: Option<&str>) -> Result<Option<usize>, Refused> {
        let state = |acts: &Self| acts.state.scheduler.rollouts().get(id).map(|rollout| rollout.state.to_string());
        let before = state(&self);
        let (scheduler, now_ms) = (&mut self.state.scheduler, self.now_ms);
        let (action, count) = match act {
            RolloutAct::Promote => (Action::RolloutPromoted, scheduler.promote_rollout(id, now_ms).map(|()| None)?),
            RolloutAct::Pause => (Action::RolloutPaused, scheduler.pause_rollout(id, now_ms).map(|()| None)?),
            RolloutAct::Resume => (Action::RolloutResumed, scheduler.resume_rollout(id, now_ms).map(|()| None)?),
            RolloutAct::Cancel => (Action::RolloutCancelled, scheduler.cancel_rollout(id, now_ms).map(|()| None)?),
            RolloutAct::Recall => (Action::RolloutRecalled, Some(scheduler.recall_rollout(id, now_ms)?)),
            RolloutAct::RetryFailed => (Action::RolloutRetried, Some(scheduler.retry_failed(id, now_ms)?)),
        };
        let entry = reason.into_iter().fold(self.entry(action, id), Entry::because);
        let entry = count.into_iter().fold(entry, Entry::count).change(before, state(&self));
        self.state.audit.record(entry);
        Ok(count)
    }

    /// Sets or (`None`) removes labels of an agent and returns what changed. What changes nothing is not recorded.
    ///
    /// # Errors
    /// Those of [`crate::hub::scheduler::Scheduler::set_labels`].
    pub fn set_labels(
        self,
        agent_id: &str,
        labels: &BTreeMap<String, Option<String>>,
        reason: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<LabelChange>, LabelsRefused> {
        let changes = self.state.scheduler.set_labels(agent_id, labels, &self.author.who, self.now_ms)?;
        if !changes.is_empty() {
            let entry = self.entry(Action::LabelsChanged, agent_id).selected_by(Some(selector));
            let entry = reason.into_iter().fold(entry, Entry::because);
            let shown = |value: fn(&LabelChange) -> Option<&String>| {
                let pairs = changes.iter().filter_map(|it| Some(format!("{}={}", it.key, value(it)?)));
                Some(pairs.collect::<Vec<_>>().join(", ")).filter(|pairs| !pairs.is_empty())
            };
            self.state.audit.record(entry.change(shown(|it| it.old.as_ref()), shown(|it| it.new.as_ref())));
        }
        Ok(changes)
    }

    /// Drains an agent, or changes how it is drained, as [`crate::hub::scheduler::Scheduler::drain`] does. What changes nothing
    /// is not recorded.
    pub fn drain(self, agent_id: &str, request: DrainRequest, selector: &Selector) -> Option<Drained> {
        let reason = request.reason.clone();
        let drained = self.state.scheduler.drain(agent_id, request, self.now_ms)?;
        self.record_drain(Action::AgentDrained, agent_id, reason.as_deref(), selector, &drained);
        Some(drained)
    }

    /// Ends the drain of an agent, as [`crate::hub::scheduler::Scheduler::resume`] does. What changes nothing is not recorded.
    pub fn resume(self, agent_id: &str, reason: Option<&str>, selector: &Selector) -> Option<Drained> {
        let drained = self.state.scheduler.resume(agent_id, self.now_ms)?;
        self.record_drain(Action::AgentResumed, agent_id, reason, selector, &drained);
        Some(drained)
    }

    fn record_drain(
        self,
        action: Action,
        agent_id: &str,
        reason: Option<&str>,
        selector: &Selector,
        drained: &Drained,
    ) {
        if drained.is_change() {
            let entry = self.entry(action, agent_id).selected_by(Some(selector));
            let entry = reason.into_iter().fold(entry, Entry::because);
            let shown = |drain: &Option<Arc<HubDrain>>| drain.as_deref().map(shown_drain);
            self.state.audit.record(entry.change(shown(&drained.old), shown(&drained.new)));
        }
    }

    /// Cancels a task and returns its status before.
    ///
    /// # Errors
    /// Those of [`crate::hub::scheduler::Scheduler::cancel`].
    pub fn cancel_task(self, task_id: &str) -> Result<&'static str, &'static str> {
        let before = self.state.scheduler.tasks().get(task_id).map_or("not_found", |task| task.status.name());
        self.state.scheduler.cancel(task_id, &self.author.who, self.now_ms)?;
        let entry = self.entry(Action::TaskCancelled, task_id);
        self.state.audit.record(entry.change(Some(before.to_owned()), Some("cancelled".to_owned())));
        Ok(before)
    }

    /// Queues a dead letter again and returns the number of its priority.
    ///
    /// # Errors
    /// Those of [`crate::hub::scheduler::Scheduler::revive`].
    pub fn retry_task(self, task_id: &str) -> Result<Option<u8>, &'static str> {
        self.state.scheduler.revive(task_id, self.now_ms)?;
        let entry = self.entry(Action::TaskRetried, task_id);
        self.state.audit.record(entry.change(Some("dead_letter".to_owned()), Some("queued".to_owned())));
        Ok(self.state.scheduler.tasks().get(task_id).map(|task| task.submission.priority.number()))
    }

    /// Sets a setting whose value is an address. What is recorded of it holds no password.
    pub fn set_address(self, name: &str, value: &str) {
        let old = self.state.settings.all().get(name).map(|old| without_credentials(old));
        self.state.settings.set(name, value);
        let entry = self.entry(Action::SettingChanged, name).change(old, Some(without_credentials(value)));
        self.state.audit.record(entry);
    }

    /// Records that a copy of the store is handed over.
    pub fn record_backup(self, contents: &Contents, checksum: &Checksum) {
        let Checksum { bytes, sha256 } = checksum;
        let shown = format!("schema {}, {bytes} bytes, SHA-256 {}", contents.schema, hex(sha256));
        let entry = self.entry(Action::BackupMade, "store").change(None, Some(shown));
        self.state.audit.record(entry);
    }

    fn principal(&self, new: &NewToken) -> Principal {
        Principal {
            expires_at: new.expires_in_ms.map(|after| self.now_ms.saturating_add(after)),
            created_by: Some(self.author.who.clone()),
            ..Principal::new(&new.name, new.role, self.now_ms)
        }
    }

    fn entry(&self, action: Action, target: &str) -> Entry {
        Entry::new(self.author, action, target, self.now_ms)
    }
}

/// Returns what the audit says of tokens that a new one takes the place of, if there are any.
fn listed(ids: &[String]) -> Option<String> {
    (!ids.is_empty()).then(|| ids.join(", "))
}

/// Returns what the audit says of a new token.
fn shown(new: &NewToken, token: &str) -> String {
    let expiry = new.expires_in_ms.map(|after| format!(", expires after {after} ms")).unwrap_or_default();
    format!("{} with the role {}{expiry}", id_of(&hash_of(token)), new.role)
}

/// Returns what the audit says of an invitation.
fn shown_invitation(invitation: &InvitationSummary) -> String {
    let whom = invitation.agent_id.as_ref().map_or_else(|| "any agent".to_owned(), |only| format!("agent {only}"));
    format!("for {whom}, {} uses left, expires at {}", invitation.uses_left, invitation.expires_at)
}

/// Returns what the audit says of a drain.
fn shown_drain(drain: &HubDrain) -> String {
    let until = drain.until.map_or_else(|| "until it is resumed".to_owned(), |until| format!("until {until}"));
    let deadline = drain.deadline.map(|deadline| format!(", deadline {deadline}")).unwrap_or_default();
    let reason = drain.reason.as_ref().map(|reason| format!(", because {reason}")).unwrap_or_default();
    format!("drained by {} {until}{deadline}{reason}", drain.by)
}
