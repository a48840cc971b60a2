//! The lease of a leader, as its own process counts it: by the clock that goes on while the machine is suspended, from before a
//! renewal was sent. So it ends here before it ends in the database.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::common::steady_clock;
use crate::hub::state::store::database_error::DatabaseError;

/// The length of a lease, in ms.
pub const LEASE_MS: u64 = 10_000;

/// The lease of one term.
#[derive(Debug)]
pub struct Lease {
    /// When it ends, in ms by [`steady_clock::with_suspend_ms`].
    ends_at_ms: AtomicU64,
    ended: watch::Sender<Option<DatabaseError>>,
    /// The database, for messages.
    place: String,
}

impl Lease {
    /// Creates the lease of a term that was asked for at this time.
    pub(super) fn new(sent_at_ms: u64, place: &str) -> Self {
        let ends_at_ms = AtomicU64::new(sent_at_ms.saturating_add(LEASE_MS));
        Self { ends_at_ms, ended: watch::Sender::new(None), place: place.to_owned() }
    }

    /// Records that the database confirmed the term, asked at this time.
    pub fn renewed(&self, sent_at_ms: u64) {
        self.ends_at_ms.fetch_max(sent_at_ms.saturating_add(LEASE_MS), Ordering::SeqCst);
    }

    /// Ends it for good. The first reason counts.
    pub fn end(&self, why: DatabaseError) {
        self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            ended.get_or_insert(why);
            is_first
        });
    }

    /// Returns how much of it is left, in ms; 0 if it has ended.
    pub fn left_ms(&self) -> u64 {
        match &*self.ended.borrow() {
            Some(_) => 0,
            None => self.ends_at_ms.load(Ordering::SeqCst).saturating_sub(steady_clock::with_suspend_ms()),
        }
    }

    /// Checks that it has not ended.
    ///
    /// # Errors
    /// Why it has.
    pub fn check(&self) -> Result<(), DatabaseError> {
        if self.left_ms() > 0 {
            return Ok(());
        }
        self.end(self.over("no answer"));
        Err(self.why().unwrap_or_else(|| self.over("no answer")))
    }

    /// Returns the error of a lease that was not renewed; `detail` is the last that was heard of the database.
    pub fn over(&self, detail: &str) -> DatabaseError {
        DatabaseError::LeaseEnded { place: self.place.clone(), lease_s: LEASE_MS / 1_000, detail: detail.to_owned() }
    }

    /// Returns once it has ended, and why.
    pub async fn ended(&self) -> DatabaseError {
        let mut ended = self.ended.subscribe();
        loop {
            if let Some(why) = ended.borrow_and_update().clone() {
                return why;
            }
            // The sender is `self`.
            if ended.changed().await.is_err() {
                return self.over("no answer");
            }
        }
    }

    fn why(&self) -> Option<DatabaseError> {
        self.ended.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_counted_from_before_the_renewal_was_sent_and_ends_once() {
        let now = steady_clock::with_suspend_ms();
        let lease = Lease::new(now.saturating_sub(LEASE_MS), "db");
        assert!(matches!(lease.check(), Err(DatabaseError::LeaseEnded { .. })));
        // One that was seen to have ended is not taken up again.
        lease.renewed(now);
        assert_eq!(lease.left_ms(), 0);
        let lease = Lease::new(now.saturating_sub(LEASE_MS / 2), "db");
        assert!((1..=LEASE_MS / 2).contains(&lease.left_ms()));
        lease.renewed(now.saturating_sub(LEASE_MS));
        assert!(lease.left_ms() > 0, "a late answer shortens nothing");
        lease.end(DatabaseError::Deposed { epoch: 2, node: "b".to_owned() });
        assert!(matches!(lease.check(), Err(DatabaseError::Deposed { epoch: 2, .. })));
    }
}
