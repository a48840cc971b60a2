//! What one commit writes, as rows.

use std::collections::BTreeMap;

use redb::TableHandle as _;
use serde::Serialize;

use crate::hub::scheduler::Changes;
use crate::hub::state::clock_mark::ClockMark;
use crate::hub::state::store::error::StoreError;
use crate::hub::state::store::records::{StateChanges, encode};
use crate::hub::state::store::tables::{
    AGENTS, ANSWERS, AUDIT_NAME, CLOCKS, HEALING, INVITATIONS, META_NAME, MOMENT, RESTARTS, ROLLOUTS, SETTINGS,
    TARGETS, TASKS, TOKENS,
};

/// The rows of one commit. Each key is there once: of two changes of one record the later counts.
#[derive(Debug, Default)]
pub(super) struct Batch {
    rows: BTreeMap<(&'static str, Vec<u8>), Option<Vec<u8>>>,
    /// New entries of the audit, in order.
    pub(super) audit: Vec<Vec<u8>>,
}

/// The columns of the rows to write, and those of the rows to delete.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) put: (Vec<&'static str>, Vec<Vec<u8>>, Vec<Vec<u8>>),
    pub(super) deleted: (Vec<&'static str>, Vec<Vec<u8>>),
}

impl Batch {
    /// Returns the rows of these changes.
    ///
    /// # Errors
    /// [`StoreError::Record`]: a bug.
    pub(super) fn of(changes: &Changes<'_>, aside: &StateChanges) -> Result<Self, StoreError> {
        let StateChanges { tokens, invitations, settings, answers, audit, clock, speaks: _ } = aside;
        let mut batch = Self::default();
        // The clocks are stored with whatever there is to store.
        if changes.is_empty() && aside.is_empty() {
            return Ok(batch);
        }
        batch.add(TASKS.name(), &changes.tasks)?;
        batch.add(RESTARTS.name(), &changes.restarts)?;
        batch.add(ROLLOUTS.name(), &changes.rollouts)?;
        batch.add(TARGETS.name(), &changes.targets)?;
        batch.add(HEALING.name(), &changes.healing)?;
        batch.add(AGENTS.name(), &changes.agents)?;
        for (key, answer) in answers {
            batch.add(ANSWERS.name(), &[(key.clone(), answer.as_deref())])?;
        }
        for (id, invitation) in invitations {
            batch.add(INVITATIONS.name(), &[(id.clone(), invitation.as_ref())])?;
        }
        for (hash, principal) in tokens {
            let record = principal.as_ref().map(|it| encode(TOKENS.name(), &it.name, it)).transpose()?;
            batch.put(TOKENS.name(), hash, record);
        }
        for (name, value) in settings {
            batch.put(SETTINGS.name(), name.as_bytes(), Some(value.as_bytes().to_vec()));
        }
        if let Some(moment) = changes.moment {
            batch.put_number(MOMENT, moment);
        }
        if let Some(ClockMark { at_ms, steady_ms, boot }) = *clock {
            CLOCKS.into_iter().zip([at_ms, steady_ms, boot]).for_each(|(key, value)| batch.put_number(key, value));
        }
        batch.audit = audit.iter().map(|entry| encode(AUDIT_NAME, "new", entry)).collect::<Result<_, _>>()?;
        Ok(batch)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.audit.is_empty()
    }

    pub(super) fn columns(&self) -> Columns {
        let mut columns = Columns::default();
        for ((kind, key), record) in &self.rows {
            match record {
                Some(record) => {
                    columns.put.0.push(kind);
                    columns.put.1.push(key.clone());
                    columns.put.2.push(record.clone());
                }
                None => {
                    columns.deleted.0.push(kind);
                    columns.deleted.1.push(key.clone());
                }
            }
        }
        columns
    }

    fn add<T: Serialize>(&mut self, kind: &'static str, changes: &[(String, Option<&T>)]) -> Result<(), StoreError> {
        for (id, record) in changes {
            let record = record.map(|record| encode(kind, id, record)).transpose()?;
            self.put(kind, id.as_bytes(), record);
        }
        Ok(())
    }

    fn put(&mut self, kind: &'static str, key: &[u8], record: Option<Vec<u8>>) {
        self.rows.insert((kind, key.to_vec()), record);
    }

    fn put_number(&mut self, key: &str, value: u64) {
        self.put(META_NAME, key.as_bytes(), Some(value.to_le_bytes().to_vec()));
    }
}
