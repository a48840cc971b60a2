//! The hub's timeouts and limits, in one place.

/// The timeouts and limits of a hub. Times are in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The time after which an assignment that was not accepted is reclaimed (the legacy hub: 60 s).
    pub accept_timeout_ms: u64,
    /// The time after which a task without a sign of life is reclaimed (the legacy hub: 10 min).
    pub stale_timeout_ms: u64,
    /// The time that a returned agent has to mention a task that it never accepted, before the assignment is sent
    /// again.
    pub reconcile_ms: u64,
    /// The time for which a sidecar whose connection broke keeps its task. (Simulated: after an outage of 5 s, 0.3 % of
    /// the sidecars are back later than 30 s, and 7 % later than 15 s.)
    pub reconnect_grace_ms: u64,
    /// The least time after the start for which an absent holder keeps its task: longer than it may listen to the hub that led
    /// before. 0 where no other hub can have led.
    pub takeover_wait_ms: u64,
    /// The time after which a sidecar that is refused, because another one has its identity, may try again.
    pub identity_retry_ms: u64,
    /// The time for which an agent that rejected a task as busy gets none, unless its state changes sooner.
    pub reject_retry_ms: u64,
    /// The time for which a running task may delay a restart, if the command does not set it.
    pub restart_deadline_ms: u64,
    /// The time that a sidecar has to send its final messages.
    pub drain_deadline_ms: u64,
    /// The time beyond both that a restart may take before it is overdue.
    pub restart_margin_ms: u64,
    /// The time after which an agent that is away is called stale.
    pub stale_after_ms: u64,
    /// The number of times that agents may lose a task, by leaving unannounced or by showing no sign of life, before
    /// it is a dead letter.
    pub max_losses: u64,
    /// The time after which a silent socket is closed (the legacy hub: 60 s).
    pub silence_timeout_ms: u64,
    /// The time that a connection has to identify.
    pub identify_timeout_ms: u64,
    /// The time that the head of a request, its answer, or the pause before the next request may take.
    pub request_timeout_ms: u64,
    /// The largest number of connections on which no agent has identified.
    pub max_unidentified: usize,
    /// The number of unfinished tasks from which on no new one is accepted.
    pub max_unfinished: usize,
    /// The total size of the unfinished tasks from which on no new one is accepted, in bytes of JSON.
    pub max_unfinished_bytes: u64,
    /// The number of finished tasks that are kept; the oldest are dropped first.
    pub keep_finished: usize,
    /// The total size of the finished tasks that are kept, in bytes of JSON; the oldest are dropped first, the newest
    /// always stays.
    pub keep_finished_bytes: u64,
    /// The number of restarts that are kept for each agent; the oldest are dropped first.
    pub keep_restarts: usize,
    /// The number of ended restarts that are kept for all agents together; the oldest are dropped first.
    pub keep_restarts_in_all: usize,
    /// Their total size, in bytes of JSON; the oldest are dropped first, the newest always stays.
    pub keep_restart_bytes: u64,
}

impl Policy {
    /// Returns the time that a restart may take once its agent's task no longer delays it, in ms.
    pub(crate) const fn exit_ms(&self) -> u64 {
        self.drain_deadline_ms + self.restart_margin_ms
    }

    /// Returns the policy of a command that changes a store in place of its hub: nothing is dropped for its size.
    #[cfg(feature = "hub")]
    pub(crate) fn keeping_all() -> Self {
        Self {
            keep_finished: usize::MAX,
            keep_finished_bytes: u64::MAX,
            keep_restarts: usize::MAX,
            keep_restarts_in_all: usize::MAX,
            keep_restart_bytes: u64::MAX,
            ..Self::default()
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            accept_timeout_ms: 60_000,
            stale_timeout_ms: 600_000,
            reconcile_ms: 2_000,
            reconnect_grace_ms: 30_000,
            takeover_wait_ms: 0,
            identity_retry_ms: 60_000,
            reject_retry_ms: 10_000,
            restart_deadline_ms: 120_000,
            drain_deadline_ms: 5_000,
            restart_margin_ms: 15_000,
            stale_after_ms: 7 * 86_400_000,
            max_losses: 10,
            silence_timeout_ms: 60_000,
            identify_timeout_ms: 10_000,
            request_timeout_ms: 30_000,
            max_unidentified: 512,
            max_unfinished: 100_000,
            max_unfinished_bytes: 1 << 30,
            keep_finished: 10_000,
            keep_finished_bytes: 256 << 20,
            keep_restarts: 100,
            keep_restarts_in_all: 20_000,
            keep_restart_bytes: 32 << 20,
        }
    }
}
