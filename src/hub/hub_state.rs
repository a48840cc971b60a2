//! The state that the actor owns, and the copy of it that readers get.

use std::collections::HashMap;
use std::sync::Arc;

use crate::hub::scheduler::agents::ConnId;
use crate::hub::scheduler::arrival::IdentityConflict;
use crate::hub::scheduler::inventory::close::Closing;
use crate::hub::scheduler::view::View;
use crate::hub::scheduler::{Outgoing, Scheduler};
use crate::hub::state::settings::{Settings, SettingsTable};
use crate::hub::state::store::UnreadRecord;
use crate::hub::state::tokens::{NotIssued, Principal, SECRET_BYTES, TokenHash, TokenSelector, TokenTable, Tokens};
use crate::protocol::Identify;

/// The reason why an identify was refused. The names are those of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum IdentifyRefused {
    /// The hub does not know the token.
    InvalidToken,
    /// The token belongs to another agent.
    TokenAgentMismatch,
}

/// The state that the actor owns.
#[derive(Debug)]
pub struct HubState {
    /// The scheduler, which makes all decisions.
    pub scheduler: Scheduler,
    /// All tokens.
    pub tokens: Tokens,
    /// The settings that an operator made.
    pub settings: Settings,
    /// The records of the store that could not be read at the start.
    unread: Arc<[UnreadRecord]>,
    /// The agent's name and the token that each connection identified with.
    identities: HashMap<ConnId, (Arc<str>, TokenHash)>,
    /// The connections that identified as each agent: one, and those that it has replaced and that are not closed yet.
    conns: HashMap<Arc<str>, Vec<ConnId>>,
    /// Connections whose token was revoked, to be closed.
    revoked_conns: Vec<ConnId>,
    /// What was revoked, to be logged.
    revocations: Vec<Revocation>,
}

/// Tokens of one name that were revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The name.
    pub name: String,
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
    /// The valid tokens.
    pub tokens: TokenTable,
    /// The settings that an operator made.
    pub settings: SettingsTable,
    /// The records of the store that could not be read at the start.
    pub unread: Arc<[UnreadRecord]>,
}

impl HubState {
    /// Creates the state from what was stored, with no agent connected.
    pub fn new(scheduler: Scheduler, tokens: Tokens, settings: Settings, unread: Vec<UnreadRecord>) -> Self {
        let unread = unread.into();
        let (identities, conns) = (HashMap::new(), HashMap::new());
        let (revoked_conns, revocations) = (Vec::new(), Vec::new());
        Self { scheduler, tokens, settings, unread, identities, conns, revoked_conns, revocations }
    }

    /// Returns the present state for reading.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            view: self.scheduler.view(),
            tokens: self.tokens.valid().clone(),
            settings: self.settings.all().clone(),
            unread: self.unread.clone(),
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
        if principal.name != identify.agent_id {
            return Err(IdentifyRefused::TokenAgentMismatch);
        }
        let name: Arc<str> = identify.agent_id.as_str().into();
        self.conns.entry(name.clone()).or_default().push(conn);
        self.identities.insert(conn, (name, hash));
        Ok(self.scheduler.identified(conn, identify, address, now_ms))
    }

    /// Records that a connection is closed, and how.
    pub fn gone(&mut self, conn: ConnId, closing: &Closing, now_ms: u64) {
        self.forget(conn);
        self.scheduler.closed(conn, closing, now_ms);
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

    /// Issues a token in place of those that are selected, in one step: the owner stays.
    ///
    /// # Errors
    /// Those of [`Tokens::issue`], if there was nothing to replace.
    pub fn replace_tokens(
        &mut self,
        secret: [u8; SECRET_BYTES],
        mut principal: Principal,
        which: &TokenSelector,
        now_ms: u64,
    ) -> Result<String, NotIssued> {
        let Some(owned_since) = self.tokens.valid().owned_since(&principal.name) else {
            return self.issue_token(secret, principal, false);
        };
        principal.owned_since = owned_since;
        self.revoke_only(&principal.name, which, now_ms);
        self.tokens.issue(secret, principal, false)
    }

    /// Revokes tokens of the name and returns how many. Connections that identified with one of them count as closed
    /// from this step on: no later frame of theirs is applied, and the agent loses its task, also while it is away. With
    /// the name's last token, its owner leaves.
    pub fn revoke(&mut self, name: &str, which: &TokenSelector, now_ms: u64) -> usize {
        let revoked = self.revoke_only(name, which, now_ms);
        if revoked > 0 && !self.tokens.valid().holds(name) {
            self.scheduler.owner_left(name, now_ms);
        }
        revoked
    }

    fn revoke_only(&mut self, name: &str, which: &TokenSelector, now_ms: u64) -> usize {
        let revoked = self.tokens.revoke(name, which);
        let valid = self.tokens.valid();
        let is_revoked = |conn: &&ConnId| self.identities.get(conn).is_some_and(|(_, hash)| valid.get(hash).is_none());
        let conns: Vec<ConnId> = self.conns.get(name).into_iter().flatten().filter(is_revoked).copied().collect();
        for conn in &conns {
            self.forget(*conn);
            self.scheduler.expel(*conn, now_ms);
        }
        if !self.tokens.valid().holds(name) {
            self.scheduler.expel_absent(name, now_ms);
        }
        if revoked > 0 {
            let revocation = Revocation { name: name.to_owned(), tokens: revoked, connections: conns.len() };
            self.revocations.push(revocation);
        }
        self.revoked_conns.extend(conns);
        revoked
    }

    /// Returns what was revoked since the last call.
    pub fn take_revocations(&mut self) -> Vec<Revocation> {
        std::mem::take(&mut self.revocations)
    }

    /// Returns the orders to sockets since the last call: those of the scheduler, then the ends of connections whose
    /// token was revoked.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        let mut outgoing = self.scheduler.take_outgoing();
        let close = |conn| Outgoing::Close { conn, code: 1008, reason: "the token was revoked".to_owned() };
        outgoing.extend(self.revoked_conns.drain(..).map(close));
        outgoing
    }

    fn forget(&mut self, conn: ConnId) {
        let Some((name, _)) = self.identities.remove(&conn) else { return };
        if let Some(conns) = self.conns.get_mut(&name) {
            conns.retain(|other| *other != conn);
            if conns.is_empty() {
                self.conns.remove(&name);
            }
        }
    }
}
