//! The table of the audit: written within the commit of the acts, read without the actor. No entry is kept in memory.

use std::path::PathBuf;
use std::sync::Arc;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};

use crate::hub::state::audit::Entry;
use crate::hub::state::store::audit_bounds::AuditBounds;
use crate::hub::state::store::error::StoreError;
use crate::hub::state::store::file::catch_panic;
use crate::hub::state::store::records::encode;
use crate::hub::state::store::tables::{AUDIT, AUDIT_BYTES, META};

/// The reason why entries were not written.
pub(super) enum NotWritten {
    File(String),
    Record(StoreError),
}

impl<E: std::error::Error> From<E> for NotWritten {
    fn from(error: E) -> Self {
        Self::File(error.to_string())
    }
}

/// Adds the entries, each under the next number, and drops the oldest beyond the bounds. The newest always stays.
pub(super) fn append(write: &WriteTransaction, entries: &[Entry], bounds: AuditBounds) -> Result<(), NotWritten> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut table = write.open_table(AUDIT)?;
    let mut meta = write.open_table(META)?;
    let mut bytes = meta.get(AUDIT_BYTES)?.map_or(0, |bytes| bytes.value());
    let mut seq = table.last()?.map_or(0, |(last, _)| last.value());
    for entry in entries {
        seq += 1;
        let record = encode("audit", &seq.to_string(), entry).map_err(NotWritten::Record)?;
        bytes += length(&record);
        table.insert(seq, record.as_slice())?;
    }
    while (table.len()? > bounds.entries || bytes > bounds.bytes) && table.len()? > 1 {
        let Some((_, oldest)) = table.pop_first()? else { break };
        bytes = bytes.saturating_sub(length(oldest.value()));
    }
    meta.insert(AUDIT_BYTES, bytes)?;
    Ok(())
}

fn length(record: &[u8]) -> u64 {
    u64::try_from(record.len()).unwrap_or(u64::MAX)
}

/// The audit of a store in a file.
#[derive(Clone)]
pub struct FileAudit {
    pub(super) db: Arc<Database>,
    pub(super) path: PathBuf,
}

impl FileAudit {
    /// Calls `look` with the number and the record of each entry before this one, the newest first, until it returns false.
    ///
    /// # Errors
    /// Returns [`StoreError::File`] if the file cannot be read.
    pub(in crate::hub::state::store) fn look_back(
        &self,
        before: Option<u64>,
        mut look: impl FnMut(u64, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let failed =
            |error: &dyn std::error::Error| StoreError::File { path: self.path.clone(), detail: error.to_string() };
        catch_panic(&self.path, || {
            let read = self.db.begin_read().map_err(|error| failed(&error))?;
            let table = read.open_table(AUDIT).map_err(|error| failed(&error))?;
            let range = table.range(..before.unwrap_or(u64::MAX)).map_err(|error| failed(&error))?;
            for entry in range.rev() {
                let (seq, record) = entry.map_err(|error| failed(&error))?;
                if !look(seq.value(), record.value()) {
                    break;
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::scheduler::Changes;
    use crate::hub::state::audit::{Action, Author};
    use crate::hub::state::audit::{Filter, Page};
    use crate::hub::state::store::audit_bounds::MAX_ENTRIES;
    use crate::hub::state::store::{AuditReader, FileStore, StateChanges, WithoutStore};

    fn entry(n: u64) -> Entry {
        Entry::new(&Author::stranger(), Action::TaskCancelled, &format!("task-{n}"), n)
    }

    fn store(entries: u64) -> (tempfile::TempDir, FileStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::open(folder.path(), WithoutStore::Make).unwrap();
        let audit = (1..=entries).map(entry).collect();
        store.commit(&Changes::default(), &StateChanges { audit, ..StateChanges::default() }).unwrap();
        (folder, store)
    }

    fn numbers(page: &Page) -> Vec<u64> {
        page.items.iter().map(|one| one.seq).collect()
    }

    #[test]
    fn it_is_read_in_pages_from_the_newest_and_each_entry_comes_once() {
        let (_folder, store) = store(7);
        let reader = AuditReader::File(store.audit());
        let mut seen = Vec::new();
        let mut before = None;
        loop {
            let page = reader.page(&Filter::default(), before, 3, usize::MAX).unwrap();
            seen.extend(numbers(&page));
            before = page.next_cursor;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
        let filter = Filter { target: Some("task-4".into()), ..Filter::default() };
        let page = reader.page(&filter, None, 3, usize::MAX).unwrap();
        assert_eq!((numbers(&page), page.next_cursor), (vec![4], None));
        let page = reader.page(&Filter::default(), None, 3, 1).unwrap();
        assert_eq!((numbers(&page), page.next_cursor), (vec![7], Some(7)), "it ends after so many bytes");
    }

    #[test]
    fn the_oldest_go_first_and_no_number_comes_again() {
        let (folder, store) = store(5);
        let append_within = |bounds| {
            let write = store.db.begin_write().unwrap();
            assert!(append(&write, &[entry(9)], bounds).is_ok());
            write.commit().unwrap();
            numbers(&AuditReader::File(store.audit()).page(&Filter::default(), None, 100, usize::MAX).unwrap())
        };
        assert_eq!(append_within(AuditBounds { entries: 3, bytes: u64::MAX }), [6, 5, 4]);
        let one = length(&encode("audit", "", &entry(9)).unwrap());
        assert_eq!(append_within(AuditBounds { entries: 9, bytes: 2 * one }), [7, 6]);
        assert_eq!(append_within(AuditBounds { entries: 9, bytes: 0 }), [8], "the newest stays");
        drop(store);
        let store = FileStore::open(folder.path(), WithoutStore::Make).unwrap();
        store.commit(&Changes::default(), &StateChanges { audit: vec![entry(1)], ..StateChanges::default() }).unwrap();
        assert_eq!(
            numbers(&AuditReader::File(store.audit()).page(&Filter::default(), None, 9, usize::MAX).unwrap()),
            [9, 8]
        );
    }

    #[test]
    fn a_full_table_keeps_the_newest_and_is_looked_through_to_its_end() {
        let (_folder, store) = store(MAX_ENTRIES + 1);
        let oldest = |n| Filter { target: Some(format!("task-{n}")), ..Filter::default() };
        assert_eq!(numbers(&AuditReader::File(store.audit()).page(&oldest(2), None, 9, usize::MAX).unwrap()), [2]);
        assert_eq!(AuditReader::File(store.audit()).page(&oldest(1), None, 9, usize::MAX).unwrap(), Page::default());
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_named_and_costs_nothing_else() {
        let (_folder, store) = store(2);
        let write = store.db.begin_write().unwrap();
        write.open_table(AUDIT).unwrap().insert(3, &b"{\"at_ms\":1}"[..]).unwrap();
        write.commit().unwrap();
        assert_eq!(
            numbers(&AuditReader::File(store.audit()).page(&Filter::default(), None, 9, usize::MAX).unwrap()),
            [2, 1]
        );
        let unread = AuditReader::File(store.audit()).unread().unwrap();
        assert_eq!((unread.len(), unread[0].table.as_str(), unread[0].key.as_str()), (1, "audit", "3"));
    }
}
