//! How much may go wrong in one exploration, and by which figures both ends decide. Every scope is finite by its budget
//! of faults and commands and by the hub's count of assignments; time itself is not bounded.

use agentcom::machine::{Intensity, Policy};

use super::rebase::NEVER_MS;

pub const RESTART_DEADLINE_MS: u64 = 14_000;
pub const DRAIN_DEADLINE_MS: u64 = 6_000;
pub const RESTART_WINDOW_MS: u64 = 100_000;
/// The supervisor's patience after a stop signal is longer than this.
pub const STOP_BUDGET_MS: u64 = 4_000;
pub const NEXT_RUN_CHECK_MS: u64 = 3_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubKind {
    Ours,
    Legacy,
}

/// What may still happen that need not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Kill -9 of the sidecar, between any two effects.
    pub crashes: u8,
    /// A connection lost at either end, or not made.
    pub breaks: u8,
    /// Times that something is due before what is on its way (a frame, a file's notice, a handshake) has arrived.
    pub delays: u8,
    /// Restart commands.
    pub commands: u8,
    /// Commands that do not wait for the task.
    pub forced: u8,
    /// Tasks cancelled.
    pub cancels: u8,
    /// Stop signals (pm2 restart).
    pub stops: u8,
    /// Reboots of the machine.
    pub reboots: u8,
    /// The disk turns bad.
    pub disk_faults: u8,
    /// It writes and says that it did not.
    pub misreports: u8,
    /// Kill -9 of the hub.
    pub hub_crashes: u8,
    /// Wake commands that fail.
    pub failed_wakes: u8,
    /// Wake commands that succeed and start nobody.
    pub no_shows: u8,
    /// Sessions that write a failure.
    pub failed_sessions: u8,
    /// Times the supervisor does not bring the sidecar back.
    pub given_up: u8,
    /// Tasks handed in later.
    pub submits: u8,
    /// Frames dropped for their rate.
    pub rate_limits: u8,
    /// An operator's `drain`; the `resume` is free.
    pub cordons: u8,
    /// An operator on the machine takes a restart back.
    pub take_backs: u8,
    /// Nobody would start the next run, or it cannot start.
    pub bad_checks: u8,
}

#[derive(Debug, Clone)]
pub struct Scope {
    pub name: &'static str,
    pub hub: HubKind,
    pub budget: Budget,
    /// Hand-outs and take-backs of one task beyond which a life is not followed further.
    pub generations: u64,
    /// Commanded restarts within the window before one is refused.
    pub intensity: u32,
    /// Whether a hook looks at results.
    pub hook: bool,
    /// The time limit for tasks.
    pub task_timeout_ms: Option<u64>,
}

impl Scope {
    pub const fn new(name: &'static str, hub: HubKind, budget: Budget) -> Self {
        Self { name, hub, budget, generations: 4, intensity: 2, hook: false, task_timeout_ms: None }
    }

    /// The sidecar's figures; `reboots` names the boot of the machine.
    pub fn policy(&self, reboots: u8) -> Policy {
        Policy {
            restart_deadline_ms: RESTART_DEADLINE_MS,
            drain_deadline_ms: DRAIN_DEADLINE_MS,
            stop_budget_ms: STOP_BUDGET_MS,
            close_budget_ms: 2_000,
            restart_intensity: Intensity { max: self.intensity, window_ms: RESTART_WINDOW_MS },
            next_run_check_ms: NEXT_RUN_CHECK_MS,
            result_hook_ms: self.hook.then_some(7_000),
            last_look_ms: 1_500,
            wake_retry_delays_ms: vec![5_000],
            confirmation_timeout_ms: 10_000,
            task_timeout_ms: self.task_timeout_ms,
            look_ms: 1_000,
            progress_interval_ms: NEVER_MS,
            answer_timeout_ms: if self.budget.rate_limits > 0 { 25_000 } else { NEVER_MS },
            persist_retry_ms: 9_000,
            ping_interval_ms: NEVER_MS,
            pong_timeout_ms: NEVER_MS,
            connect_timeout_ms: NEVER_MS,
            identify_timeout_ms: NEVER_MS,
            close_timeout_ms: NEVER_MS,
            reconnect_min_ms: 1_000,
            reconnect_max_ms: 1_000,
            machine_boot: format!("m{reboots}"),
        }
    }
}
