//! Tidies the results that were not taken in the background, and publishes how many there are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::machine::Machine;
use crate::sidecar::admin::snapshot::Snapshot;
use crate::sidecar::agent::results::kept::{Folders, KeptResults};

/// The delay before the first look, which must not fall into a restart.
const FIRST_AFTER: Duration = Duration::from_secs(1);

/// How often the folders are looked at when nothing is known to have changed.
const EVERY: Duration = Duration::from_secs(10 * 60);

/// The shortest time between two looks.
const MIN_GAP: Duration = Duration::from_millis(200);

/// Starts the background task, which publishes to `kept` until the sidecar ends. `changed` tells it that a result may have
/// been kept.
pub(super) fn start(
    folders: Folders,
    snapshots: watch::Receiver<Snapshot>,
    kept: watch::Sender<Option<KeptResults>>,
    changed: Arc<Notify>,
) {
    tokio::spawn(async move {
        sleep(FIRST_AFTER).await;
        // An error means that the sidecar has ended.
        while snapshots.has_changed().is_ok() {
            let (folders, known) = (folders.clone(), known_tasks(&snapshots.borrow().machine));
            // On a blocking thread: a disk that hangs must not block the event loop.
            match tokio::task::spawn_blocking(move || folders.tidy(&known, SystemTime::now())).await {
                Ok(found) => {
                    kept.send_replace(Some(found));
                }
                Err(error) => tracing::error!(%error, "tidying the results that were not taken failed"),
            }
            sleep(MIN_GAP).await;
            // Either end of the wait leads to the next look.
            let _ = timeout(EVERY, changed.notified()).await;
        }
    });
}

/// Returns the tasks whose files may still be needed.
fn known_tasks(machine: &Machine) -> BTreeSet<String> {
    let in_hand = machine.state.persisted().map(|persisted| &persisted.task.id);
    let deferred = machine.deferred.as_ref().map(|deferred| &deferred.task.id);
    let parked = machine.parked.items().iter().map(|item| item.task_id());
    let late = machine.late_sessions.items().iter().map(|late| &late.task_id);
    let said = machine.outbox.iter().map(|verdict| &verdict.task_id);
    in_hand.into_iter().chain(deferred).chain(parked).chain(late).chain(said).map(ToString::to_string).collect()
}
