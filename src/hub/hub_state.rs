//! The state that the actor owns, and the copy of it that readers get.

use std::collections::HashMap;
use std::sync::Arc;

use crate::hub::scheduler::agents::ConnId;
use crate::hub::scheduler::arrival::IdentityConflict;
use crate::hub::scheduler::view::View;
use crate::hub::scheduler::{Outgoing, Scheduler};
use crate::hub::state::settings::{Settings, SettingsTable};
use crate::hub::state::store::UnreadRecord;
use crate::hub::state::tokens::{TokenHash, TokenSelector, TokenTable, Tokens};
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
        Self { scheduler, tokens, settings, unread, identities, conns, revoked_conns: Vec::new() }
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

    /// Records that a connection is closed.
    pub fn gone(&mut self, conn: ConnId, now_ms: u64) {
        self.forget(conn);
        self.scheduler.disconnected(conn, now_ms);
    }

    /// Revokes tokens of the name and returns how many. Connections that identified with one of them count as closed
    /// from this step on: no later frame of theirs is applied, and the agent loses its task, also while it is away.
    pub fn revoke(&mut self, name: &str, which: &TokenSelector, now_ms: u64) -> usize {
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
        tracing::info!(name, revoked, connections = conns.len(), "tokens are revoked");
        self.revoked_conns.extend(conns);
        revoked
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
