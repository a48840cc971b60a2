//! The explorations: what may go wrong in each, and how many states that makes. The figures are pinned so that nobody
//! makes the check smaller, or the system's behaviour different, without noticing. A change in one is fine when what
//! caused it was meant: then the new figure is written down here.

use super::scope::{Budget, HubKind, Scope};

/// Nothing happens that need not.
pub const NOTHING: Budget = Budget {
    crashes: 0,
    breaks: 0,
    delays: 0,
    commands: 0,
    forced: 0,
    cancels: 0,
    stops: 0,
    reboots: 0,
    disk_faults: 0,
    hub_crashes: 0,
    failed_wakes: 0,
    no_shows: 0,
    failed_sessions: 0,
    given_up: 0,
    submits: 0,
    rate_limits: 0,
};

const fn ours(name: &'static str, budget: Budget) -> Scope {
    Scope::new(name, HubKind::Ours, budget)
}

const fn legacy(name: &'static str, budget: Budget) -> Scope {
    Scope::new(name, HubKind::Legacy, budget)
}

/// In every CI run: at least a million states together.
pub const CI: &[(Scope, usize)] = &[
    (ours("a restart and a crash", Budget { commands: 1, crashes: 1, ..NOTHING }), 0),
    (ours("a restart and a broken link", Budget { commands: 1, breaks: 1, ..NOTHING }), 0),
    (ours("a restart, then force", Budget { commands: 1, forced: 1, ..NOTHING }), 0),
    (ours("a restart, and frames that come late", Budget { commands: 1, delays: 1, ..NOTHING }), 0),
    (ours("a restart and a bad disk", Budget { commands: 1, disk_faults: 1, ..NOTHING }), 0),
    (ours("a restart and a stop signal", Budget { commands: 1, stops: 1, ..NOTHING }), 0),
    (ours("a restart and a cancelled task", Budget { commands: 1, cancels: 1, ..NOTHING }), 0),
    (ours("a restart and a crash of the hub", Budget { commands: 1, hub_crashes: 1, ..NOTHING }), 0),
    (Scope { intensity: 1, ..ours("two restarts where one is allowed", Budget { commands: 2, ..NOTHING }) }, 0),
    (ours("a second task and a crash", Budget { submits: 1, crashes: 1, ..NOTHING }), 0),
    (
        ours(
            "wakes that fail or start nobody, sessions that fail",
            Budget { commands: 1, failed_wakes: 2, no_shows: 1, failed_sessions: 1, ..NOTHING },
        ),
        0,
    ),
    (
        ours(
            "a reboot, a crash, and a supervisor that gives up",
            Budget { reboots: 1, crashes: 1, given_up: 1, ..NOTHING },
        ),
        0,
    ),
    (legacy("existing hub: two restarts", Budget { commands: 2, ..NOTHING }), 0),
    (legacy("existing hub: a crash", Budget { crashes: 1, ..NOTHING }), 0),
    (legacy("existing hub: a broken link", Budget { breaks: 1, ..NOTHING }), 0),
    (legacy("existing hub: a restart and a stop", Budget { commands: 1, stops: 1, ..NOTHING }), 0),
    (
        legacy(
            "existing hub: a restart, and frames dropped for their rate",
            Budget { commands: 1, rate_limits: 1, ..NOTHING },
        ),
        0,
    ),
    (legacy("existing hub: a second task and a restart", Budget { submits: 1, commands: 1, ..NOTHING }), 0),
];

/// Larger ones, for the night.
pub const NIGHTLY: &[(Scope, usize)] = &[
    (ours("two tasks, a crash, and one cancelled", Budget { submits: 1, crashes: 1, cancels: 1, ..NOTHING }), 0),
    (legacy("existing hub: dropped and late frames", Budget { commands: 1, rate_limits: 1, delays: 1, ..NOTHING }), 0),
    (legacy("existing hub: a restart and a crash", Budget { commands: 1, crashes: 1, ..NOTHING }), 0),
    (legacy("existing hub: a restart and a broken link", Budget { commands: 1, breaks: 1, ..NOTHING }), 0),
    (ours("two broken links", Budget { breaks: 2, ..NOTHING }), 0),
    (ours("two crashes", Budget { crashes: 2, ..NOTHING }), 0),
    (ours("a second task and a restart", Budget { submits: 1, commands: 1, ..NOTHING }), 0),
];
