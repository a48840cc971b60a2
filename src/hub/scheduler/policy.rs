//! The hub's timings, in one place. It decides nothing; the folds read it.

/// How long the hub waits for what. All in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// An assignment that nobody accepted for this long is taken back (the original hub: 60 s).
    pub accept_timeout_ms: u64,
    /// A task without a sign of life for this long is taken back (the original hub: 10 min).
    pub stale_timeout_ms: u64,
    /// After a return, how long the agent may take to mention a task it never accepted before it is said again.
    pub reconcile_ms: u64,
    /// After it identified, how long an original sidecar gets no task unless it speaks of one before: it reports what it
    /// has in hand at once, and takes it for new work when the same task comes first.
    pub report_ms: u64,
    /// How long an agent that rejected a task as busy gets none, unless its state changes sooner.
    pub reject_retry_ms: u64,
    /// How long a running task may hold a restart up, where the command does not say.
    pub restart_deadline_ms: u64,
    /// How long a sidecar may take to say its last words.
    pub drain_deadline_ms: u64,
    /// What a restart may take beyond both before it is called overdue.
    pub restart_margin_ms: u64,
    /// How often agents may break off a task, by going away unannounced or by showing no life, before it is a dead letter.
    pub max_losses: u64,
    /// A socket that is silent for this long is dropped (the original hub: 60 s).
    pub silence_timeout_ms: u64,
    /// How long a connection may take to identify.
    pub identify_timeout_ms: u64,
    /// How long the head of a request, its answer, or the pause before the next may take.
    pub request_timeout_ms: u64,
    /// How many connections there may be that no agent has identified on.
    pub max_unidentified: usize,
    /// How many tasks that have not ended there may be before none is taken any more.
    pub max_unfinished: usize,
    /// What they may weigh together, bytes of JSON.
    pub max_unfinished_bytes: u64,
    /// How many finished tasks are kept; the oldest go first.
    pub keep_finished: usize,
    /// What the finished tasks may weigh together, bytes of JSON; the oldest go first, the newest always stays.
    pub keep_finished_bytes: u64,
    /// How many finished restarts are kept for each agent; the oldest go first.
    pub keep_restarts: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            accept_timeout_ms: 60_000,
            stale_timeout_ms: 600_000,
            reconcile_ms: 2_000,
            report_ms: 500,
            reject_retry_ms: 10_000,
            restart_deadline_ms: 120_000,
            drain_deadline_ms: 5_000,
            restart_margin_ms: 15_000,
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
        }
    }
}
