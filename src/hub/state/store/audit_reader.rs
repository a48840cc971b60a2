//! Reading the audit, in whatever it is stored.

use crate::hub::state::audit::{Entry, Filter, Numbered, Page};
use crate::hub::state::store::audit_bounds::CLOCK_STEP_MS;
use crate::hub::state::store::error::StoreError;
use crate::hub::state::store::file::FileAudit;
#[cfg(feature = "postgres")]
use crate::hub::state::store::postgres::PostgresAudit;
use crate::hub::state::store::records::{UnreadRecord, decode};
use crate::hub::state::store::tables::AUDIT_NAME;

/// Reads the audit as of the last commit. It holds nobody up and is held up by nobody, but it waits for a disk or a database:
/// call it where that may take a moment.
#[derive(Clone)]
pub enum AuditReader {
    /// In a file.
    #[doc(hidden)]
    File(FileAudit),
    /// In a database.
    #[cfg(feature = "postgres")]
    #[doc(hidden)]
    Postgres(PostgresAudit),
}

impl AuditReader {
    /// Returns a page of at most `limit` entries that are asked for, the newest first; with `before`, of those with a
    /// lower number. A page ends early after `max_bytes` of records. An entry that cannot be read is left out.
    ///
    /// # Errors
    /// Returns [`StoreError`] if the store cannot be read.
    pub fn page(
        &self,
        filter: &Filter,
        before: Option<u64>,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Page, StoreError> {
        let oldest_ms = filter.since.map_or(0, |since| since.saturating_sub(CLOCK_STEP_MS));
        let (mut page, mut bytes) = (Page::default(), 0);
        self.look_back(before, |seq, record| {
            let Some(entry) = decode::<Entry>(AUDIT_NAME, &seq.to_string(), record, &mut Vec::new()) else {
                return true;
            };
            if entry.at_ms < oldest_ms {
                return false;
            }
            if !filter.matches(&entry) {
                return true;
            }
            if page.items.len() >= limit || bytes >= max_bytes {
                page.next_cursor = page.items.last().map(|last: &Numbered| last.seq);
                return false;
            }
            bytes += record.len();
            page.items.push(Numbered { seq, entry });
            true
        })?;
        Ok(page)
    }

    /// Returns the entries that cannot be read.
    ///
    /// # Errors
    /// Returns [`StoreError`] if the store cannot be read.
    pub fn unread(&self) -> Result<Vec<UnreadRecord>, StoreError> {
        let mut unread = Vec::new();
        self.look_back(None, |seq, record| {
            decode::<Entry>(AUDIT_NAME, &seq.to_string(), record, &mut unread);
            true
        })?;
        unread.reverse();
        Ok(unread)
    }

    /// Calls `look` with the number and the record of each entry, the newest first, until it returns false.
    fn look_back(&self, before: Option<u64>, look: impl FnMut(u64, &[u8]) -> bool) -> Result<(), StoreError> {
        match self {
            Self::File(audit) => audit.look_back(before, look),
            #[cfg(feature = "postgres")]
            Self::Postgres(audit) => audit.look_back(before, look),
        }
    }
}
