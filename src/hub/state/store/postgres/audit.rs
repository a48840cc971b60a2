//! The audit in the database: which entries are kept, and reading them without the actor.

use std::collections::VecDeque;

use tokio_postgres::types::Type;

use crate::hub::state::store::audit_bounds::AuditBounds;
use crate::hub::state::store::database_error::DatabaseError;
use crate::hub::state::store::error::StoreError;
use crate::hub::state::store::postgres::connection::Database;

/// The number of entries that are read at once.
const AT_ONCE: i64 = 256;

/// The audit of a store in a database.
#[derive(Clone)]
pub struct PostgresAudit {
    pub(super) database: Database,
}

impl PostgresAudit {
    /// Calls `look` with the number and the record of each entry before this one, the newest first, until it returns false.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(in crate::hub::state::store) fn look_back(
        &self,
        before: Option<u64>,
        mut look: impl FnMut(u64, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let mut before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
        loop {
            let database = self.database.clone();
            let entries = self.database.wait(async move { part(&database, before).await })?;
            for (seq, record) in &entries {
                if !look(seq.cast_unsigned(), record) {
                    return Ok(());
                }
            }
            let Some((last, _)) = entries.last() else { return Ok(()) };
            before = *last;
        }
    }
}

async fn part(database: &Database, before: i64) -> Result<Vec<(i64, Vec<u8>)>, DatabaseError> {
    let client = database.connect().await?;
    let asked = "select seq, record from agentcom.audit where seq < $1 order by seq desc limit $2";
    let rows = client.query_typed(asked, &[(&before, Type::INT8), (&AT_ONCE, Type::INT8)]).await;
    let rows = rows.map_err(|error| database.error(&error))?;
    Ok(rows.into_iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The sizes of the entries that are kept, by which the leader knows which to drop: it alone adds any.
#[derive(Debug, Default)]
pub(super) struct HeldEntries {
    /// The number and the size of each entry, the oldest first.
    entries: VecDeque<(i64, u64)>,
    bytes: u64,
}

impl HeldEntries {
    /// Creates it for these entries, by their numbers.
    pub(super) fn new(entries: impl IntoIterator<Item = (i64, u64)>) -> Self {
        let entries: VecDeque<(i64, u64)> = entries.into_iter().collect();
        let bytes = entries.iter().map(|(_, bytes)| bytes).sum();
        Self { entries, bytes }
    }

    /// Adds entries of these sizes. Returns their numbers, and the lowest number that is kept.
    pub(super) fn add(&mut self, sizes: impl IntoIterator<Item = u64>, bounds: AuditBounds) -> (Vec<i64>, i64) {
        let mut numbers = Vec::new();
        for size in sizes {
            let seq = self.entries.back().map_or(0, |(last, _)| *last) + 1;
            self.entries.push_back((seq, size));
            self.bytes += size;
            numbers.push(seq);
        }
        // The newest always stays.
        while (self.entries.len() as u64 > bounds.entries || self.bytes > bounds.bytes) && self.entries.len() > 1 {
            let dropped = self.entries.pop_front().map_or(0, |(_, bytes)| bytes);
            self.bytes = self.bytes.saturating_sub(dropped);
        }
        (numbers, self.entries.front().map_or(0, |(first, _)| *first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_no_number_comes_again() {
        let mut kept = HeldEntries::new([(4, 10), (5, 10)]);
        assert_eq!(kept.add([10, 10], AuditBounds { entries: 3, bytes: u64::MAX }), (vec![6, 7], 5));
        assert_eq!(kept.add([10], AuditBounds { entries: 9, bytes: 20 }), (vec![8], 7));
        assert_eq!(kept.add([10], AuditBounds { entries: 9, bytes: 0 }), (vec![9], 9), "the newest stays");
        assert_eq!(kept.add([], AuditBounds { entries: 9, bytes: 0 }), (vec![], 9));
    }
}
