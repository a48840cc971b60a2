//! What is stored, as a hub has it in memory, and how each record is written and read.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::common::text::first_chars;
use crate::hub::scheduler::healing::record::HealingRecord;
use crate::hub::scheduler::inventory::record::AgentRecord;
use crate::hub::scheduler::restart::Restart;
use crate::hub::scheduler::rollouts::rollout::Rollout;
use crate::hub::scheduler::rollouts::target::Target;
use crate::hub::scheduler::task::Task;
use crate::hub::state::audit::Entry;
use crate::hub::state::clock_mark::ClockMark;
use crate::hub::state::idempotency::{self, KeptAnswer};
use crate::hub::state::invitations::{self, Invitation};
use crate::hub::state::store::error::StoreError;
use crate::hub::state::tokens::{self, Principal, TokenHash, hex};
use crate::protocol::read_stored;

/// Everything that was stored.
#[derive(Debug, Default)]
pub struct Stored {
    /// All tasks.
    pub tasks: Vec<Task>,
    /// All commanded restarts.
    pub restarts: Vec<Restart>,
    /// All rollouts.
    pub rollouts: Vec<Rollout>,
    /// Their targets.
    pub targets: Vec<Target>,
    /// What healing rules did.
    pub healing: Vec<HealingRecord>,
    /// What is known of agents.
    pub agents: Vec<AgentRecord>,
    /// The time up to which that is complete, in ms since the epoch; 0 if no agent was connected yet.
    pub moment: u64,
    /// Both clocks at the last commit; `None` in a store of a hub that did not keep them.
    pub clock: Option<ClockMark>,
    /// All tokens, by hash.
    pub tokens: Vec<(TokenHash, Principal)>,
    /// All invitations.
    pub invitations: Vec<Invitation>,
    /// All settings, by name.
    pub settings: Vec<(String, String)>,
    /// The answers to requests with an `Idempotency-Key`.
    pub answers: Vec<KeptAnswer>,
    /// The records that could not be read.
    pub unread: Vec<UnreadRecord>,
}

/// A record that cannot be read. It stays in its table unchanged and is otherwise ignored: no new record gets its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UnreadRecord {
    /// The record's table.
    pub table: String,
    /// The record's key; for a token, the id that `token list` prints.
    pub key: String,
    /// The record's length, in bytes.
    pub bytes: usize,
    /// The error, and its place in the record.
    pub why: String,
}

/// The changes to store beside those of tasks and restarts.
#[derive(Debug, Default)]
pub struct StateChanges {
    /// Tokens by hash; `None` means deleted.
    pub tokens: Vec<tokens::Change>,
    /// Invitations by id; `None` means deleted.
    pub invitations: Vec<invitations::Change>,
    /// Settings by name.
    pub settings: Vec<(String, String)>,
    /// Answers by key; `None` means deleted.
    pub answers: Vec<idempotency::Change>,
    /// New entries of the audit.
    pub audit: Vec<Entry>,
    /// Both clocks at this commit. They are stored with whatever there is to store.
    pub clock: Option<ClockMark>,
    /// Whether a frame is sent or a request is answered once this is stored. By itself it is nothing to store.
    pub speaks: bool,
}

impl StateChanges {
    /// Returns whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        let Self { tokens, invitations, settings, answers, audit, clock: _, speaks: _ } = self;
        tokens.is_empty() && invitations.is_empty() && settings.is_empty() && answers.is_empty() && audit.is_empty()
    }
}

/// Writes a record.
///
/// # Errors
/// [`StoreError::Record`]: a bug.
pub(in crate::hub::state::store) fn encode<T: Serialize>(
    table: &str,
    key: &str,
    value: &T,
) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|e| StoreError::Record { key: format!("{table}/{key}"), detail: e.to_string() })
}

/// Decodes a record; if that fails, adds it to `unread` and returns `None`.
pub(in crate::hub::state::store) fn decode<T: DeserializeOwned>(
    table: &str,
    key: &str,
    bytes: &[u8],
    unread: &mut Vec<UnreadRecord>,
) -> Option<T> {
    let record = |why| UnreadRecord { table: table.to_owned(), key: key.to_owned(), bytes: bytes.len(), why };
    read_stored(bytes).map_err(|why| unread.push(record(why))).ok()
}

/// Reads a token and what it proves; if that fails, adds it to `unread` and returns `None`.
pub(in crate::hub::state::store) fn read_token(
    key: &[u8],
    value: &[u8],
    unread: &mut Vec<UnreadRecord>,
) -> Option<(TokenHash, Principal)> {
    // The part of a hash that may be shown.
    let id = first_chars(&hex(key), 12).to_owned();
    match TokenHash::try_from(key) {
        Ok(hash) => decode("tokens", &id, value, unread).map(|principal| (hash, principal)),
        Err(_) => {
            let why = format!("its key is no SHA-256: it has {} bytes", key.len());
            unread.push(UnreadRecord { table: "tokens".to_owned(), key: id, bytes: value.len(), why });
            None
        }
    }
}
