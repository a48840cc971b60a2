//! The waiting room: every connection that no agent has proved its own yet, HTTP and WebSocket alike. It bounds how many
//! there are and shows the oldest out when it is full; it reads no bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a connection may stay in a full room: a mass join is through in less, so only who dawdles is shown out.
const GRACE: Duration = Duration::from_secs(2);

/// The room.
pub struct ConnectionLimit {
    places: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// In the order of arrival.
    all: BTreeMap<u64, (Instant, CancellationToken)>,
}

/// A place in the room. Dropping it frees it: the connection ended, or an agent identified on it.
pub struct Slot {
    /// Cancelled when the connection is shown out.
    pub evicted: CancellationToken,
    number: u64,
    connection_limit: Arc<ConnectionLimit>,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionLimit {
    /// An empty room.
    pub fn new(places: usize) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)));
        Arc::new(Self { places, waiting: Mutex::default() })
    }

    /// A place for a new connection. Where there is none, the oldest goes as soon as it has had its grace.
    pub async fn enter(self: &Arc<Self>) -> Slot {
        loop {
            let oldest = self.waiting().all.values().next().cloned();
            let acquire = Arc::clone(&self.places).acquire_owned();
            let seated = match oldest.filter(|_| self.places.available_permits() == 0) {
                // Somebody leaves where nobody is the oldest.
                None => acquire.await,
                Some((since, evicted)) => tokio::select! {
                    seated = acquire => seated,
                    () = tokio::time::sleep_until(since + GRACE) => {
                        tracing::debug!("too many connections that are not identified: the oldest is closed");
                        evicted.cancel();
                        self.waiting().all.pop_first();
                        // Its own place is the one to wait for: nobody else has to go.
                        Arc::clone(&self.places).acquire_owned().await
                    }
                },
            };
            // The room is never closed.
            if let Ok(permit) = seated {
                return self.seat(permit);
            }
        }
    }

    /// No connection can be taken for want of something that one in here may hold: the oldest goes, if it had its grace.
    pub fn make_room(&self) {
        let mut waiting = self.waiting();
        let dawdles = |(since, _): &(Instant, CancellationToken)| since.elapsed() >= GRACE;
        if let Some(oldest) = waiting.all.first_entry()
            && dawdles(oldest.get())
        {
            oldest.remove().1.cancel();
        }
    }

    /// How many there are.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.waiting().all.len()
    }

    fn seat(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Slot {
        let evicted = CancellationToken::new();
        let mut waiting = self.waiting();
        let number = waiting.next;
        waiting.next += 1;
        waiting.all.insert(number, (Instant::now(), evicted.clone()));
        Slot { evicted, number, connection_limit: Arc::clone(self), _permit: permit }
    }

    /// Nothing in here can panic half-way.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connection_limit.waiting().all.remove(&self.number);
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
