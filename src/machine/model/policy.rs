//! The figures the machine decides by. All of them come from the config or from facts about the process; none changes
//! while the machine runs a transition.

use alloc::string::String;
use alloc::vec::Vec;

/// Who would undo an exit: found out before a restart is promised (see `docs/operating.md`, "Who brings it back").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum RestartMethod {
    /// The supervisor starts us again after exit 0.
    Supervisor,
    /// Nobody would: the process replaces itself (`exec`, same pid).
    InPlace,
}

/// Restart intensity, as in OTP supervisors: at most `max` commanded restarts in any `window_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Intensity {
    /// How many.
    pub max: u32,
    /// In how long, ms.
    pub window_ms: u64,
}

/// What the machine decides by. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    /// How long a running task may hold a commanded restart up, where the command does not say.
    pub restart_deadline_ms: u64,
    /// How long the last words may take after that.
    pub drain_deadline_ms: u64,
    /// The same for a stop signal: must fit well inside the supervisor's kill timeout.
    pub stop_budget_ms: u64,
    /// The tail of the drain that is kept for the closing handshake.
    pub close_budget_ms: u64,
    /// Bounds commanded restarts.
    pub restart_intensity: Intensity,
    /// How long it may take to find out what would follow this process, before a restart is refused for it. Longer than
    /// the shell's own bounds for asking.
    pub next_run_check_ms: u64,
    /// How long the hook that looks at a result may take, where there is one. Longer than the shell's own bound for it.
    pub result_hook_ms: Option<u64>,
    /// How long a last look into the results folder may take.
    pub last_look_ms: u64,
    /// The waits before the second, third, ... wake.
    pub wake_retry_delays_ms: Vec<u64>,
    /// From a successful wake to the agent's sign that it started.
    pub confirmation_timeout_ms: u64,
    /// How long the results folder gets to show what was already there when a job is adopted.
    pub look_ms: u64,
    /// Between signs of life of a task (the hub takes silent tasks back).
    pub progress_interval_ms: u64,
    /// Until something said and not answered is said again.
    pub answer_timeout_ms: u64,
    /// Until a failed write of the journal is tried again.
    pub persist_retry_ms: u64,
    /// Between pings.
    pub ping_interval_ms: u64,
    /// Until a missing pong means the link is dead.
    pub pong_timeout_ms: u64,
    /// For the TCP, TLS and WebSocket handshakes together.
    pub connect_timeout_ms: u64,
    /// From `identify` to `identified`.
    pub identify_timeout_ms: u64,
    /// For the closing handshake of a link that is not wanted any more.
    pub close_timeout_ms: u64,
    /// The cap of the first reconnect's full-jitter draw; doubles with every failure.
    pub reconnect_min_ms: u64,
    /// Where the doubling ends.
    pub reconnect_max_ms: u64,
    /// Names the machine's boot: work that was under way in another boot is gone.
    pub machine_boot: String,
}

impl Policy {
    /// The longest wait after `failed` tries in a row to reach the hub, ms: doubles from the first to the longest.
    pub fn backoff_ms(&self, failed: u32) -> u64 {
        self.reconnect_min_ms.saturating_mul(1 << failed.min(16)).min(self.reconnect_max_ms)
    }

    /// How long to wait after the `failed`th wake (counted from 1), ms; `None` when it was the last.
    pub fn wake_retry_delay_ms(&self, failed: u8) -> Option<u64> {
        self.wake_retry_delays_ms.get(usize::from(failed).saturating_sub(1)).copied()
    }
}

impl Default for Policy {
    /// The defaults of `docs/configuration.md`.
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
