//! The tables of a store. Both backends keep the same ones, with the same bytes as keys and values: those that redb's types
//! write.

use redb::{Key, TableDefinition, Value};

/// The schema number that this hub writes. A store with a higher number is left alone; one with a lower number gets this
/// one when it is opened, so that an older hub refuses it from then on. Version 0.1.0 wrote 1.
pub const SCHEMA: u64 = 3;

/// A table of JSON records by id.
pub(super) type RecordTable = TableDefinition<'static, &'static str, &'static [u8]>;

pub(super) const TASKS: RecordTable = TableDefinition::new("tasks");
pub(super) const RESTARTS: RecordTable = TableDefinition::new("restarts");
pub(super) const ROLLOUTS: RecordTable = TableDefinition::new("rollouts");
/// The targets of rollouts, each by itself: few change at once.
pub(super) const TARGETS: RecordTable = TableDefinition::new("rollout_targets");
pub(super) const INVITATIONS: RecordTable = TableDefinition::new("invitations");
/// What healing rules did, by rule and agent.
pub(super) const HEALING: RecordTable = TableDefinition::new("healing");
pub(super) const AGENTS: RecordTable = TableDefinition::new("agents");
pub(super) const TOKENS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("tokens");
/// Answers by name and `Idempotency-Key`.
pub(super) const ANSWERS: RecordTable = TableDefinition::new("answers");
pub(super) const SETTINGS: TableDefinition<'static, &str, &str> = TableDefinition::new("settings");
/// The audit's entries by number.
pub(super) const AUDIT: TableDefinition<'static, u64, &[u8]> = TableDefinition::new(AUDIT_NAME);
/// Numbers about the store itself.
pub(in crate::hub::state) const META: TableDefinition<'static, &str, u64> = TableDefinition::new(META_NAME);

/// The name of the audit's table.
pub(in crate::hub::state) const AUDIT_NAME: &str = "audit";
/// The name of the table that holds the schema number.
pub(in crate::hub::state) const META_NAME: &str = "meta";

/// The key, among the numbers about the store, of the schema number.
pub(in crate::hub::state) const SCHEMA_KEY: &str = "schema";
/// The key, beside it, of the time up to which the records of agents are complete, in ms since the epoch.
pub(super) const MOMENT: &str = "agents_as_of";
/// The keys, beside it, of the clocks at the last commit: the hub's time, the monotonic clock, and the boot of the machine.
pub(super) const CLOCKS: [&str; 3] = ["clock_at", "clock_steady", "clock_boot"];
/// The key, beside it, of the size of all entries of the audit, in bytes; only a file has it.
pub(in crate::hub::state) const AUDIT_BYTES: &str = "audit_bytes";

/// Something that is done with each table, whatever its types.
pub(in crate::hub::state) trait TableVisitor {
    /// The reason why it cannot be done.
    type Error;

    /// Does it with this table.
    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), Self::Error>;
}

/// Shows all tables to the visitor. This is the only list of them: they are created, copied and counted by it, and one that is
/// not in it cannot be read from a new store.
pub(in crate::hub::state) fn visit_tables<V: TableVisitor>(visitor: &mut V) -> Result<(), V::Error> {
    visitor.visit(META)?;
    visitor.visit(TASKS)?;
    visitor.visit(RESTARTS)?;
    visitor.visit(ROLLOUTS)?;
    visitor.visit(TARGETS)?;
    visitor.visit(AGENTS)?;
    visitor.visit(TOKENS)?;
    visitor.visit(INVITATIONS)?;
    visitor.visit(SETTINGS)?;
    visitor.visit(ANSWERS)?;
    visitor.visit(HEALING)?;
    visitor.visit(AUDIT)
}
