//! The limit on connections that no agent has identified on yet, HTTP and WebSocket alike. When the limit is reached,
//! the oldest is closed; it reads no bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The time that a connection has to identify before it may be closed for another. A mass join needs less, so only slow
/// or idle connections are closed.
const GRACE: Duration = Duration::from_secs(2);

/// The set of connections that count towards the limit.
pub struct ConnectionLimit {
    places: Arc<Semaphore>,
    unidentified: Mutex<Unidentified>,
}

#[derive(Default)]
struct Unidentified {
    next: u64,
    /// Each connection's time of arrival and eviction token, in order of arrival.
    all: BTreeMap<u64, (Instant, CancellationToken)>,
}

/// One connection's slot. Its place is freed when the slot is dropped or released.
pub struct Slot {
    /// The token that is cancelled when the connection must close.
    pub evicted: CancellationToken,
    place: Mutex<Option<Place>>,
}

/// A place among the connections that count.
struct Place {
    number: u64,
    connection_limit: Arc<ConnectionLimit>,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    /// Returns whether the connection counts towards the limit.
    pub fn counts(&self) -> bool {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Frees the place: its peer has shown a valid token, so it does not count any more.
    pub fn release(&self) {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(place);
    }
}

impl ConnectionLimit {
    /// Creates a limit of `places` connections (at least 1).
    pub fn new(places: usize) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)));
        Arc::new(Self { places, unidentified: Mutex::default() })
    }

    /// Waits for a slot for a new connection. If all are in use, the oldest connection is closed once its grace has
    /// passed.
    pub async fn enter(self: &Arc<Self>) -> Slot {
        loop {
            let oldest = self.lock().all.values().next().cloned();
            let acquire = Arc::clone(&self.places).acquire_owned();
            let acquired = match oldest.filter(|_| self.places.available_permits() == 0) {
                // There is a free place, or a connection is just leaving.
                None => acquire.await,
                Some((since, evicted)) => tokio::select! {
                    acquired = acquire => acquired,
                    () = tokio::time::sleep_until(since + GRACE) => {
                        tracing::debug!("too many connections that are not identified: the oldest is closed");
                        evicted.cancel();
                        self.lock().all.pop_first();
                        // Its place becomes free, so no other connection has to be closed.
                        Arc::clone(&self.places).acquire_owned().await
                    }
                },
            };
            // The semaphore is never closed.
            if let Ok(permit) = acquired {
                return self.assign_slot(permit);
            }
        }
    }

    /// Closes the oldest connection if its grace has passed. Called when no connection can be accepted for lack of a
    /// resource that it may hold.
    pub fn make_room(&self) {
        let mut unidentified = self.lock();
        let past_grace = |(since, _): &(Instant, CancellationToken)| since.elapsed() >= GRACE;
        if let Some(oldest) = unidentified.all.first_entry()
            && past_grace(oldest.get())
        {
            oldest.remove().1.cancel();
        }
    }

    /// Returns the number of connections that count towards the limit.
    pub fn count(&self) -> usize {
        self.lock().all.len()
    }

    fn assign_slot(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Slot {
        let evicted = CancellationToken::new();
        let mut unidentified = self.lock();
        let number = unidentified.next;
        unidentified.next += 1;
        unidentified.all.insert(number, (Instant::now(), evicted.clone()));
        let place = Place { number, connection_limit: Arc::clone(self), _permit: permit };
        Slot { evicted, place: Mutex::new(Some(place)) }
    }

    /// Locks the list. A poisoned lock is usable: no step can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Unidentified> {
        self.unidentified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connection_limit.lock().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_into_a_full_room_gets_the_place_of_the_oldest() {
        let connection_limit = ConnectionLimit::new(2);
        let (first, second) = (connection_limit.enter().await, connection_limit.enter().await);
        let evicted = first.evicted.clone();
        let held = tokio::spawn(async move {
            first.evicted.cancelled().await;
            drop(first);
        });
        let third = connection_limit.enter().await;
        held.await.unwrap();
        assert!(evicted.is_cancelled() && !second.evicted.is_cancelled() && !third.evicted.is_cancelled());
        assert_eq!(connection_limit.count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_shown_a_token_is_not_closed_for_another() {
        let connection_limit = ConnectionLimit::new(1);
        let first = connection_limit.enter().await;
        first.release();
        let _second = connection_limit.enter().await;
        tokio::time::sleep(2 * GRACE).await;
        connection_limit.make_room();
        assert!(!first.evicted.is_cancelled() && !first.counts());
        assert_eq!(connection_limit.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_shown_out_while_others_leave_in_time() {
        let connection_limit = ConnectionLimit::new(1);
        let first = connection_limit.enter().await;
        let evicted = first.evicted.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GRACE / 2).await;
            drop(first);
        });
        let _second = connection_limit.enter().await;
        assert!(!evicted.is_cancelled());
        assert_eq!(connection_limit.count(), 1);
    }
}
