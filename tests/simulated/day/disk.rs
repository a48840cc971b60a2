//! The hub's store in memory: what was committed, as the bytes that the shipped store would write, and nothing else. A
//! batch is there as a whole or not at all.

use std::collections::HashMap;

use agentcom::hub::hub_state::HubState;
use agentcom::hub::scheduler::policy::Policy;
use agentcom::hub::scheduler::{Changes, Scheduler};
use agentcom::hub::state::settings::Settings;
use agentcom::hub::state::tokens::{Change as TokenChange, Principal, TokenHash, Tokens};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One table: records by key.
type Table = HashMap<String, Box<[u8]>>;

/// What to write of one table; `None` deletes.
type Writes = Vec<(String, Option<Box<[u8]>>)>;

const TABLES: usize = 5;

/// What one commit writes.
#[derive(Default)]
pub struct Batch {
    tables: [Writes; TABLES],
    tokens: Vec<TokenChange>,
    moment: Option<u64>,
}

impl Batch {
    /// Encodes what changed, as the store does.
    pub fn of(changes: &Changes<'_>, tokens: Vec<TokenChange>) -> Self {
        let Changes { tasks, restarts, rollouts, targets, healing: _, agents, moment } = changes;
        let tables = [writes(tasks), writes(restarts), writes(rollouts), writes(targets), writes(agents)];
        Self { tables, tokens, moment: *moment }
    }

    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(Vec::is_empty) && self.tokens.is_empty() && self.moment.is_none()
    }

    pub fn records(&self) -> u64 {
        self.tables.iter().map(|table| table.len() as u64).sum()
    }

    /// Feeds all of it to a digest.
    pub fn digest(&self, digest: &mut u64) {
        for (key, record) in self.tables.iter().flatten() {
            mix(digest, key.as_bytes());
            mix(digest, record.as_deref().unwrap_or_default());
        }
    }
}

/// Feeds bytes to a digest, eight at a time.
fn mix(digest: &mut u64, bytes: &[u8]) {
    let mut feed = |word: u64| *digest = (digest.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        feed(u64::from_le_bytes(word));
    }
    feed(bytes.len() as u64);
}

fn writes<T: Serialize>(changes: &[(String, Option<&T>)]) -> Writes {
    let encode = |record: &T| serde_json::to_vec(record).expect("a record is JSON").into_boxed_slice();
    changes.iter().map(|(key, record)| (key.clone(), record.map(encode))).collect()
}

/// The store.
#[derive(Default)]
pub struct Disk {
    tables: [Table; TABLES],
    tokens: HashMap<TokenHash, Principal>,
    moment: u64,
}

impl Disk {
    pub fn commit(&mut self, batch: Batch) {
        for (table, writes) in self.tables.iter_mut().zip(batch.tables) {
            for (key, record) in writes {
                match record {
                    Some(record) => table.insert(key, record),
                    None => table.remove(&key),
                };
            }
        }
        for (hash, principal) in batch.tokens {
            match principal {
                Some(principal) => self.tokens.insert(hash, principal),
                None => self.tokens.remove(&hash),
            };
        }
        self.moment = batch.moment.unwrap_or(self.moment);
    }

    /// Does what a starting hub does (`HubState::load`), with the virtual time.
    pub fn load(&self, policy: Policy, now_ms: u64) -> HubState {
        let [tasks, restarts, rollouts, targets, agents] = &self.tables;
        let scheduler = Scheduler::load(read(tasks), read(restarts), policy, now_ms);
        let scheduler = scheduler.with_agents(read(agents), self.moment);
        let scheduler = scheduler.with_rollouts(read(rollouts), read(targets), Some(now_ms));
        let scheduler = scheduler.with_healing(Vec::new(), now_ms);
        let mut tokens: Vec<_> = self.tokens.iter().map(|(hash, principal)| (*hash, principal.clone())).collect();
        tokens.sort_by_key(|(hash, _)| *hash);
        HubState::new(scheduler, Tokens::load(tokens), Settings::default(), Vec::new())
    }

    /// The number of records and their bytes.
    pub fn size(&self) -> (usize, usize) {
        let records = self.tables.iter().flat_map(HashMap::values);
        records.fold((0, 0), |(records, bytes), record| (records + 1, bytes + record.len()))
    }
}

/// All records of a table, by key, as the shipped store has them.
fn read<T: DeserializeOwned>(table: &Table) -> Vec<T> {
    let mut records: Vec<_> = table.iter().collect();
    records.sort_by_key(|(key, _)| *key);
    records.into_iter().map(|(_, bytes)| serde_json::from_slice(bytes).expect("what was written is read")).collect()
}
