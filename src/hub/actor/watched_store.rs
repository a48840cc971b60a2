//! The store as the actor uses it: each commit is timed and counted for the metrics, and shows while it is in progress.

use std::sync::Arc;
use std::time::Instant;

use crate::common::steady_clock;
use crate::hub::actor::pulse::Pulse;
use crate::hub::metrics::recorder::Recorder;
use crate::hub::scheduler::Changes;
use crate::hub::scheduler::view::View;
use crate::hub::state::store::{StateChanges, Store, StoreError};

/// The store, with those who watch its commits.
pub(super) struct WatchedStore {
    /// The store.
    pub(super) store: Arc<Store>,
    /// Counts and times each commit.
    pub(super) recorder: Recorder,
    /// Shows that one is in progress.
    pub(super) pulse: Arc<Pulse>,
}

impl WatchedStore {
    /// Stores the changes; `before` is the state as of the last commit.
    ///
    /// # Errors
    /// Those of [`Store::commit`].
    pub(super) fn commit(
        &mut self,
        before: &View,
        changes: &Changes<'_>,
        aside: &StateChanges,
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        self.pulse.commit_begins(steady_clock::now_ms());
        if self.store.commit(changes, aside)? {
            self.recorder.committed(before, changes, began.elapsed(), self.store.bytes());
        }
        self.pulse.commit_ended();
        Ok(())
    }
}
