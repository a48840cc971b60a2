//! The state that the actor owns, and the copy of it that readers get.

use std::collections::HashMap;
use std::mem::take;
use std::sync::Arc;

use crate::hub::clock::{Clock, ClockMove};
use crate::hub::news::News;
use crate::hub::scheduler::agents::ConnId;
use crate::hub::scheduler::arrival::IdentityConflict;
use crate::hub::scheduler::healing::shown::HealingStatus;
use crate::hub::scheduler::healing::{AUTHOR_PREFIX, HealingNews};
use crate::hub::scheduler::inventory::close::Closing;
use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::view::View;
use crate::hub::scheduler::{Outgoing, Scheduler};
use crate::hub::state::audit::{Action, Audit, Author, Entry};
use crate::hub::state::idempotency::Answers;
use crate::hub::state::invitations::{InvitationTable, Invitations};
use crate::hub::state::roles::Permission;
use crate::hub::state::settings::{Settings, SettingsTable};
use crate::hub::state::store::{StateChanges, Stored, UnreadRecord};
use crate::hub::state::tokens::{
    NotIssued, Principal, SECRET_BYTES, TokenHash, TokenSelector, TokenTable, Tokens, hash_of, hex,
};
use crate::protocol::Identify;

/// The number of unclaimed tokens that are dropped in one step.
const DROPPED_AT_ONCE: usize = 256;

/// The reason why an identify was refused. The names are those of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum IdentifyRefused {
    /// The hub does not know the token, or it has expired.
    InvalidToken,
    /// The token belongs to another agent, or its role is none that connects as an agent.
    TokenAgentMismatch,
}

/// The state that the actor owns.
#[derive(Debug)]
pub struct HubState {
    /// The scheduler, which makes all decisions.
    pub scheduler: Scheduler,
    /// All tokens.
    pub tokens: Tokens,
    /// All invitations.
    pub invitations: Invitations,
    /// The settings that an operator made.
    pub settings: Settings,
    /// The answers to requests with an `Idempotency-Key`.
    pub answers: Answers,
    /// What was done and is not stored yet.
    pub audit: Audit,
    /// The hub's clock.
    pub clock: Clock,
    /// The records of the store that could not be read at the start.
    unread: Arc<[UnreadRecord]>,
    /// The agent's name and the token that each connection identified with.
    identities: HashMap<ConnId, (Arc<str>, TokenHash)>,
    /// The connections that identified as each agent: one, and those that it has replaced and that are not closed yet.
    conns: HashMap<Arc<str>, Vec<ConnId>>,
    /// Connections whose token is worth nothing any more, to be closed, each with the reason.
    expelled: Vec<(ConnId, String)>,
    /// What was revoked or has expired, to be logged.
    revocations: Vec<Revocation>,
    /// The agents that came or went, to be told.
    presence: Vec<(Arc<str>, bool)>,
    /// What healing rules did, to be told.
    healing_news: Vec<HealingNews>,
}

/// Why tokens are worth nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyWorthless {
    /// Somebody revoked them.
    Revoked,
    /// Their time is over.
    Expired,
    /// Their agent registered openly, and never used them.
    Unclaimed,
}

/// Tokens of one name that were revoked, have expired, or were dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The name.
    pub name: String,
    /// Why they are worth nothing.
    pub why: WhyWorthless,
    /// The number of tokens.
    pub tokens: usize,
    /// The number of connections that are closed for it.
    pub connections: usize,
}

/// The hub's state as of one commit, for readers. It shares everything with the state, so it costs nothing to make, and
/// no reader holds the actor up.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Agents, tasks and restarts.
    pub view: View,
    /// The tokens that were not revoked.
    pub tokens: TokenTable,
    /// All invitations.
    pub invitations: InvitationTable,
    /// The settings that an operator made.
    pub settings: SettingsTable,
    /// The healing rules, and what they found.
    pub healing: Arc<HealingStatus>,
    /// The records of the store that could not be read at the start.
    pub unread: Arc<[UnreadRecord]>,
    /// The hub's clock, by which all times in this copy are measured.
    pub clock: Clock,
}

impl Snapshot {
    /// Returns the hub's time, in ms since the epoch.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}

impl HubState {
    /// Creates the state from what was stored, with no agent connected and without invitations.
    pub fn new(scheduler: Scheduler, tokens: Tokens, settings: Settings, unread: Vec<UnreadRecord>) -> Self {
        let unread = unread.into();
        let (identities, conns) = (HashMap::new(), HashMap::new());
        let (invitations, audit) = (Invitations::default(), Audit::default());
        let (answers, presence) = (Answers::default(), Vec::new());
        let (expelled, revocations, healing_news) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            scheduler,
            tokens,
            invitations,
            settings,
            answers,
            audit,
            clock: Clock::default(),
            unread,
            identities,
            conns,
            expelled,
            revocations,
            presence,
            healing_news,
        }
    }

    /// Restores the state of a hub that starts.
    pub fn load(mut stored: Stored, policy: Policy, clock: Clock) -> Self {
        let now_ms = clock.now_ms();
        let (tasks, restarts) = (take(&mut stored.tasks), take(&mut stored.restarts));
        let scheduler = Scheduler::load(tasks, restarts, policy, now_ms);
        let scheduler = scheduler.with_agents(take(&mut stored.agents), stored.moment);
        let scheduler = scheduler.with_rollouts(take(&mut stored.rollouts), take(&mut stored.targets), Some(now_ms));
        let scheduler = scheduler.with_healing(take(&mut stored.healing), now_ms);
        Self::with_scheduler(scheduler, stored, clock)
    }

    /// Restores the state for changes while no hub runs: no task or restart is dropped.
    pub fn load_to_edit(mut stored: Stored, clock: Clock) -> Self {
        let now_ms = clock.now_ms();
        let (tasks, restarts) = (take(&mut stored.tasks), take(&mut stored.restarts));
        let scheduler = Scheduler::load_to_edit(tasks, restarts, Policy::keeping_all(), now_ms);
        let scheduler = scheduler.with_agents(take(&mut stored.agents), stored.moment);
        let scheduler = scheduler.with_rollouts(take(&mut stored.rollouts), take(&mut stored.targets), None);
        let scheduler = scheduler.with_healing(take(&mut stored.healing), now_ms);
        Self::with_scheduler(scheduler, stored, clock)
    }

    fn with_scheduler(scheduler: Scheduler, stored: Stored, clock: Clock) -> Self {
        let (tokens, settings) = (Tokens::load(stored.tokens), Settings::load(stored.settings));
        let (invitations, answers) = (Invitations::load(stored.invitations), Answers::load(stored.answers));
        Self { invitations, answers, clock, ..Self::new(scheduler, tokens, settings, stored.unread) }
    }

    /// Returns the present state for reading.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            view: self.scheduler.view(),
            tokens: self.tokens.valid().clone(),
            invitations: self.invitations.all().clone(),
            settings: self.settings.all().clone(),
            healing: self.scheduler.healing_status().clone(),
            unread: self.unread.clone(),
            clock: self.clock.clone(),
        }
    }

    /// Returns when [`Self::tick`] will next have something to do, in ms since the epoch.
    pub fn deadline(&self) -> Option<u64> {
        [self.scheduler.deadline(), self.tokens.next_expiry()].into_iter().flatten().min()
    }

    /// Moves the hub's time to the wall clock, if that was set, and with it everything that is measured.
    pub fn follow_clock(&mut self) -> Option<ClockMove> {
        let moved = self.clock.follow()?;
        self.scheduler.clock_moved(moved.ms(), moved.to_ms);
        self.answers.move_by(moved.ms());
        self.tokens.move_by(moved.ms());
        Some(moved)
    }

    /// Does everything that is due by now.
    pub fn tick(&mut self, now_ms: u64) {
        if self.scheduler.deadline().is_some_and(|at| at <= now_ms) {
            self.scheduler.tick(now_ms);
            self.record_healing(now_ms);
        }
        for (name, hash) in self.tokens.take_expired(now_ms) {
            let has_it = |conn: &&ConnId| self.identities.get(conn).is_some_and(|(_, other)| *other == hash);
            let conns: Vec<ConnId> =
                self.conns.get(name.as_str()).into_iter().flatten().filter(has_it).copied().collect();
            let may_return = self.tokens.valid().holds_valid(&name, now_ms);
            let connections = self.expel(&name, &conns, &Closing::expired(), may_return, now_ms);
            // At the start of a hub, those that expired long ago come by too.
            if connections > 0 {
                self.revocations.push(Revocation { name, why: WhyWorthless::Expired, tokens: 1, connections });
            }
        }
        for name in self.tokens.overdue_unclaimed(DROPPED_AT_ONCE, now_ms) {
            self.drop_unclaimed(&name, now_ms);
        }
    }

    /// Drops the token of a name that was never used. Its owner has left nothing, so what waits for the name waits on, as it
    /// does for one that has no owner.
    fn drop_unclaimed(&mut self, name: &str, now_ms: u64) {
        self.end_only(name, &TokenSelector::All, WhyWorthless::Unclaimed, now_ms);
    }

    /// Enters what healing rules did into the audit, each under the rule's name.
    fn record_healing(&mut self, now_ms: u64) {
        for news in self.scheduler.take_healing_news() {
            if let HealingNews::Acted { rule, agent_id, why, command_id } = &news {
                let action = if command_id.is_some() { Action::RestartCommanded } else { Action::AgentDrained };
                let author = Author::rule(&format!("{AUTHOR_PREFIX}{}", rule.name));
                let entry =
                    Entry::new(&author, action, agent_id, now_ms).because(why).selected_by(Some(&rule.selector));
                self.audit.record(entry.change(None, command_id.as_deref().map(str::to_owned)));
            }
            self.healing_news.push(news);
        }
    }

    /// Returns what is to be told of drains and healing rules since the last call.
    pub fn take_news(&mut self) -> News {
        News { drains: self.scheduler.take_drain_news(), healing: take(&mut self.healing_news) }
    }

    /// Returns what is to be stored beside the scheduler's changes since the last call.
    pub fn take_aside(&mut self) -> StateChanges {
        StateChanges {
            tokens: self.tokens.take_dirty(),
            invitations: self.invitations.take_dirty(),
            settings: self.settings.take_dirty(),
            answers: self.answers.take_dirty(),
            audit: self.audit.take_dirty(),
            clock: Some(self.clock.mark()),
            speaks: false,
        }
    }

    /// Registers a connection, if its token proves the agent.
    ///
    /// # Errors
    /// Returns [`IdentifyRefused`], and changes nothing, if it does not.
    pub fn identify(
        &mut self,
        conn: ConnId,
        identify: &Identify,
        address: &str,
        now_ms: u64,
    ) -> Result<Option<IdentityConflict>, IdentifyRefused> {
        let (hash, principal) = self.tokens.valid().find(&identify.token).ok_or(IdentifyRefused::InvalidToken)?;
        if principal.has_expired(now_ms) {
            return Err(IdentifyRefused::InvalidToken);
        }
        if principal.name != identify.agent_id || !principal.may(Permission::Identify) {
            return Err(IdentifyRefused::TokenAgentMismatch);
        }
        self.tokens.note_use(&hash, now_ms);
        let name: Arc<str> = identify.agent_id.as_str().into();
        self.conns.entry(name.clone()).or_default().push(conn);
        self.identities.insert(conn, (name.clone(), hash));
        let conflict = self.scheduler.identified(conn, identify, address, now_ms);
        if self.scheduler.is_connected(&name) {
            self.presence.push((name, true));
        }
        Ok(conflict)
    }

    /// Records that a connection is closed, and how.
    pub fn gone(&mut self, conn: ConnId, closing: &Closing, now_ms: u64) {
        let name = self.forget(conn);
        self.scheduler.closed(conn, closing, now_ms);
        self.presence.extend(name.filter(|name| !self.scheduler.is_connected(name)).map(|name| (name, false)));
    }

    /// Returns the agents that came (true) or went since the last call, in this order.
    pub fn take_presence(&mut self) -> Vec<(Arc<str>, bool)> {
        std::mem::take(&mut self.presence)
    }

    /// Issues a token. If it is the name's only one, the name has a new owner, who inherits nothing.
    ///
    /// # Errors
    /// Those of [`Tokens::issue`].
    pub fn issue_token(
        &mut self,
        secret: [u8; SECRET_BYTES],
        principal: Principal,
        only_if_new: bool,
    ) -> Result<String, NotIssued> {
        let name = principal.name.clone();
        let is_first = !self.tokens.valid().holds(&name);
        let token = self.tokens.issue(secret, principal, only_if_new)?;
        if is_first {
            self.scheduler.owner_came(&name);
        }
        Ok(token)
    }

    /// Issues the token of an agent that registers openly. Where there is no room, it takes that of the one that has waited
    /// longest to be used.
    ///
    /// # Errors
    /// Those of [`Tokens::issue`].
    pub fn issue_openly(
        &mut self,
        secret: [u8; SECRET_BYTES],
        principal: Principal,
        now_ms: u64,
    ) -> Result<String, NotIssued> {
        if self.tokens.valid().holds(&principal.name) {
            return Err(NotIssued::NameTaken);
        }
        if let Some(oldest) = self.tokens.makes_room() {
            self.drop_unclaimed(&oldest, now_ms);
        }
        self.issue_token(secret, Principal { registered_openly: true, ..principal }, true)
    }

    /// Takes a name from an agent that registered openly and has not used its token, for somebody who was vouched for and
    /// gets a token of these bytes. Returns the ids of the tokens that are revoked.
    ///
    /// # Errors
    /// Returns [`NotIssued::HeldOpenly`] if it has used it, and those of [`Tokens::check_room`]; nothing is revoked then.
    pub fn take_unclaimed(
        &mut self,
        name: &str,
        secret: &[u8; SECRET_BYTES],
        now_ms: u64,
    ) -> Result<Vec<String>, NotIssued> {
        match self.tokens.valid().held_openly(name) {
            None => Ok(Vec::new()),
            Some(true) => Err(NotIssued::HeldOpenly),
            Some(false) => {
                self.tokens.check_room(secret, false)?;
                Ok(self.end_only(name, &TokenSelector::All, WhyWorthless::Revoked, now_ms))
            }
        }
    }

    /// Issues a token in place of those that are selected, in one step: the owner stays, unless it registered openly. Nobody
    /// knows who that is, so the name has a new owner then. Returns the token with the ids of those that it replaces.
    ///
    /// # Errors
    /// [`NotIssued::SecretInUse`], and nothing is revoked; all those of [`Tokens::issue`], if there was nothing to replace.
    pub fn replace_tokens(
        &mut self,
        secret: [u8; SECRET_BYTES],
        mut principal: Principal,
        which: &TokenSelector,
        now_ms: u64,
    ) -> Result<(String, Vec<String>), NotIssued> {
        let Some(owned_since) = self.tokens.valid().owned_since(&principal.name) else {
            return Ok((self.issue_token(secret, principal, false)?, Vec::new()));
        };
        if let Some(was_used) = self.tokens.valid().held_openly(&principal.name) {
            self.tokens.check_room(&secret, false)?;
            if was_used {
                let replaced = self.revoke(&principal.name, &TokenSelector::All, now_ms);
                return Ok((self.issue_token(secret, principal, false)?, replaced));
            }
        }
        if self.tokens.valid().get(&hash_of(&hex(&secret))).is_some() {
            return Err(NotIssued::SecretInUse);
        }
        principal.owned_since = owned_since;
        let replaced = self.end_only(&principal.name, which, WhyWorthless::Revoked, now_ms);
        Ok((self.tokens.issue(secret, principal, false)?, replaced))
    }

    /// Revokes tokens of the name and returns their ids. Connections that identified with one of them count as closed
    /// from this step on: no later frame of theirs is applied, and the agent loses its task, also while it is away. With
    /// the name's last token, its owner leaves.
    pub fn revoke(&mut self, name: &str, which: &TokenSelector, now_ms: u64) -> Vec<String> {
        let revoked = self.end_only(name, which, WhyWorthless::Revoked, now_ms);
        if !revoked.is_empty() && !self.tokens.valid().holds(name) {
            self.scheduler.owner_left(name, now_ms);
        }
        revoked
    }

    fn end_only(&mut self, name: &str, which: &TokenSelector, why: WhyWorthless, now_ms: u64) -> Vec<String> {
        let revoked = self.tokens.revoke(name, which);
        let valid = self.tokens.valid();
        let is_revoked = |conn: &&ConnId| self.identities.get(conn).is_some_and(|(_, hash)| valid.get(hash).is_none());
        let conns: Vec<ConnId> = self.conns.get(name).into_iter().flatten().filter(is_revoked).copied().collect();
        let may_return = valid.holds(name);
        let connections = self.expel(name, &conns, &Closing::revoked(), may_return, now_ms);
        if !revoked.is_empty() {
            let name = name.to_owned();
            self.revocations.push(Revocation { name, why, tokens: revoked.len(), connections });
        }
        revoked
    }

    /// Closes connections of the name whose token is worth nothing any more, and returns how many. Unless the agent may
    /// return with another token, it loses its task also while it is away.
    fn expel(&mut self, name: &str, conns: &[ConnId], closing: &Closing, may_return: bool, now_ms: u64) -> usize {
        for conn in conns {
            let gone = self.forget(*conn);
            self.scheduler.expel(*conn, closing, now_ms);
            self.presence.extend(gone.filter(|name| !self.scheduler.is_connected(name)).map(|name| (name, false)));
            self.expelled.push((*conn, closing.reason().to_owned()));
        }
        if !may_return {
            self.scheduler.expel_absent(name, now_ms);
        }
        conns.len()
    }

    /// Returns what was revoked or has expired since the last call.
    pub fn take_revocations(&mut self) -> Vec<Revocation> {
        std::mem::take(&mut self.revocations)
    }

    /// Returns the orders to sockets since the last call: those of the scheduler, then the ends of connections whose
    /// token is worth nothing any more.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        let mut outgoing = self.scheduler.take_outgoing();
        let close = |(conn, reason): (ConnId, String)| Outgoing::Close { conn, code: 1008, reason };
        outgoing.extend(self.expelled.drain(..).map(close));
        outgoing
    }

    /// Forgets a connection and returns the name that it identified as.
    fn forget(&mut self, conn: ConnId) -> Option<Arc<str>> {
        let (name, _) = self.identities.remove(&conn)?;
        if let Some(conns) = self.conns.get_mut(&name) {
            conns.retain(|other| *other != conn);
            if conns.is_empty() {
                self.conns.remove(&name);
            }
        }
        Some(name)
    }
}
