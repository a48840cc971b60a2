//! The figures that the machine decides by. They come from the config or from facts about the process; none changes
//! during a transition.

use alloc::string::String;
use alloc::vec::Vec;

use crate::machine::model::time::Timestamp;

/// What starts the next run after an exit; checked before a restart is promised (see `docs/operating.md`, "Who starts
/// the next run").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum RestartMethod {
    /// The supervisor starts the process again after exit 0.
    Supervisor,
    /// No supervisor would start it again: the process replaces itself (`exec`, same pid).
    InPlace,
}

/// Restart intensity, as in OTP supervisors: at most `max` commanded restarts in any `window_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Intensity {
    /// The greatest number of restarts.
    pub max: u32,
    /// The window in ms.
    pub window_ms: u64,
}

/// The figures that the machine decides by. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    /// The time that a running task may delay a commanded restart, if the command names none.
    pub restart_deadline_ms: u64,
    /// The time limit for the drain of a restart.
    pub drain_deadline_ms: u64,
    /// The time limit for the drain after a stop signal; must fit well inside the supervisor's kill timeout.
    pub stop_budget_ms: u64,
    /// The end of the drain that is reserved for the closing handshake.
    pub close_budget_ms: u64,
    /// The limit on commanded restarts.
    pub restart_intensity: Intensity,
    /// The time limit for the restart check; after it the restart is refused. Longer than the caller's own limits for
    /// the questions of the check.
    pub next_run_check_ms: u64,
    /// The time limit for the result hook; `None` if there is no hook. Longer than the caller's own limit for it.
    pub result_hook_ms: Option<u64>,
    /// The time limit for a last look into the results folder.
    pub last_look_ms: u64,
    /// The delays before the second, third, ... wake.
    pub wake_retry_delays_ms: Vec<u64>,
    /// The time limit from a successful wake to the agent's confirmation.
    pub confirmation_timeout_ms: u64,
    /// The time limit for a task, from the moment it is taken; `None` if there is none. A task may ask for a shorter one.
    pub task_timeout_ms: Option<u64>,
    /// The time within which files that are already in the results folder are reported when a job is adopted.
    pub look_ms: u64,
    /// The interval of `task_progress` (the hub reclaims tasks without it).
    pub progress_interval_ms: u64,
    /// The time until a message without an answer is sent again.
    pub answer_timeout_ms: u64,
    /// The time until a failed journal write is tried again.
    pub persist_retry_ms: u64,
    /// The interval of pings.
    pub ping_interval_ms: u64,
    /// The time limit for a pong; after it the connection counts as dead.
    pub pong_timeout_ms: u64,
    /// The time limit for the TCP, TLS and WebSocket handshakes together.
    pub connect_timeout_ms: u64,
    /// The time limit from `identify` to `identified`.
    pub identify_timeout_ms: u64,
    /// The time limit for the closing handshake of a connection that is not wanted any more.
    pub close_timeout_ms: u64,
    /// The upper bound of the first reconnect's full jitter; doubles with every failure.
    pub reconnect_min_ms: u64,
    /// The greatest upper bound of the full jitter.
    pub reconnect_max_ms: u64,
    /// The id of the machine's boot; work that was under way in another boot has ended.
    pub machine_boot: String,
}

impl Policy {
    /// Returns the longest wait in ms after `failed` failed dials in a row: it doubles from the first to the greatest.
    pub fn backoff_ms(&self, failed: u32) -> u64 {
        self.reconnect_min_ms.saturating_mul(1 << failed.min(16)).min(self.reconnect_max_ms)
    }

    /// Returns the time at which the goodbye is sent even with answers outstanding: the closing handshake needs the
    /// rest of a drain that ends at `deadline`.
    pub(in crate::machine) fn flush_deadline(&self, deadline: Timestamp) -> Timestamp {
        deadline.minus(self.close_budget_ms)
    }

    /// Returns the time limit in ms for a task that asks for `asked_ms`: the shorter one of the two.
    pub(in crate::machine) fn task_limit_ms(&self, asked_ms: Option<u64>) -> Option<u64> {
        [self.task_timeout_ms, asked_ms].into_iter().flatten().min()
    }

    /// Returns the delay in ms after the `failed`th wake (counted from 1); `None` after the last one.
    pub fn wake_retry_delay_ms(&self, failed: u8) -> Option<u64> {
        self.wake_retry_delays_ms.get(usize::from(failed).saturating_sub(1)).copied()
    }
}

impl Default for Policy {
    /// Returns the defaults of `docs/configuration.md`.
    fn default() -> Self {
        Self {
            restart_deadline_ms: 120_000,
            drain_deadline_ms: 5_000,
            stop_budget_ms: 1_000,
            close_budget_ms: 400,
            restart_intensity: Intensity { max: 3, window_ms: 60_000 },
            next_run_check_ms: 6_000,
            result_hook_ms: None,
            last_look_ms: 5_000,
            wake_retry_delays_ms: alloc::vec![5_000, 15_000, 30_000],
            confirmation_timeout_ms: 30_000,
            task_timeout_ms: None,
            look_ms: 2_000,
            progress_interval_ms: 45_000,
            answer_timeout_ms: 15_000,
            persist_retry_ms: 1_000,
            ping_interval_ms: 30_000,
            pong_timeout_ms: 10_000,
            connect_timeout_ms: 10_000,
            identify_timeout_ms: 10_000,
            close_timeout_ms: 2_000,
            reconnect_min_ms: 1_000,
            reconnect_max_ms: 60_000,
            machine_boot: String::new(),
        }
    }
}
