//! How much of the audit is kept.

/// The largest number of entries that are kept.
pub const MAX_ENTRIES: u64 = 100_000;
/// The largest size of all entries together, in bytes.
pub const MAX_BYTES: u64 = 64 << 20;
/// The time by which a clock may have been set back between two entries, in ms: an hour.
pub const CLOCK_STEP_MS: u64 = 3_600_000;

/// The bounds of the table.
#[derive(Debug, Clone, Copy)]
pub(in crate::hub::state::store) struct AuditBounds {
    pub(in crate::hub::state::store) entries: u64,
    pub(in crate::hub::state::store) bytes: u64,
}

impl Default for AuditBounds {
    fn default() -> Self {
        Self { entries: MAX_ENTRIES, bytes: MAX_BYTES }
    }
}
