//! The explorations: what may go wrong in each, and how many states that makes. The figures are pinned in
//! `states.txt` so that nobody makes the check smaller, or the system's behaviour different, without noticing. A change in
//! one is fine when what caused it was meant: `MODEL_REPIN=1 cargo test --test model_check` writes the file anew.

use std::collections::BTreeMap;

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
    misreports: 0,
    hub_crashes: 0,
    failed_wakes: 0,
    no_shows: 0,
    failed_sessions: 0,
    given_up: 0,
    submits: 0,
    rate_limits: 0,
    cordons: 0,
    take_backs: 0,
    bad_checks: 0,
};

const fn ours(name: &'static str, budget: Budget) -> Scope {
    Scope::new(name, HubKind::Ours, budget)
}

const fn legacy(name: &'static str, budget: Budget) -> Scope {
    Scope::new(name, HubKind::Legacy, budget)
}

/// In every CI run: at least a million states together.
pub const CI: &[Scope] = &[
    ours("a restart and a broken link", Budget { commands: 1, breaks: 1, ..NOTHING }),
    ours("a restart, and frames that come late", Budget { commands: 1, delays: 1, ..NOTHING }),
    ours("a restart and a bad disk", Budget { commands: 1, disk_faults: 1, ..NOTHING }),
    ours("a restart and a disk that denies what it wrote", Budget { commands: 1, misreports: 1, ..NOTHING }),
    ours("a crash and a disk that denies what it wrote", Budget { crashes: 1, misreports: 1, ..NOTHING }),
    ours("a restart and a stop signal", Budget { commands: 1, stops: 1, ..NOTHING }),
    ours("a restart and a cancelled task", Budget { commands: 1, cancels: 1, ..NOTHING }),
    Scope { intensity: 1, ..ours("two restarts where one is allowed", Budget { commands: 2, ..NOTHING }) },
    ours("two broken links", Budget { breaks: 2, ..NOTHING }),
    ours("a crash and a broken link", Budget { crashes: 1, breaks: 1, ..NOTHING }),
    ours("nobody comes in time, and a crash", Budget { no_shows: 1, crashes: 1, ..NOTHING }),
    ours("nobody comes in time, and a bad disk", Budget { no_shows: 1, disk_faults: 1, ..NOTHING }),
    ours(
        "a reboot, and wakes that fail or start nobody",
        Budget { reboots: 1, failed_wakes: 1, no_shows: 1, ..NOTHING },
    ),
    ours("a restart, and a supervisor that gives up", Budget { commands: 1, given_up: 1, ..NOTHING }),
    ours("a second task and a broken link", Budget { submits: 1, breaks: 1, ..NOTHING }),
    ours("a restart that is taken back", Budget { commands: 1, take_backs: 1, ..NOTHING }),
    Scope { hook: true, ..ours("a hook that is late or never answers", Budget { cancels: 1, delays: 1, ..NOTHING }) },
    Scope { task_timeout_ms: Some(12_000), ..ours("a time limit and a crash", Budget { crashes: 1, ..NOTHING }) },
    Scope {
        task_timeout_ms: Some(12_000),
        ..ours("a time limit, and a broken link", Budget { breaks: 1, no_shows: 1, ..NOTHING })
    },
    Scope {
        task_timeout_ms: Some(12_000),
        ..legacy("existing hub: a time limit and a restart", Budget { commands: 1, ..NOTHING })
    },
    ours("a cordon and a second task", Budget { cordons: 1, submits: 1, ..NOTHING }),
    ours("a cordon and a restart", Budget { cordons: 1, commands: 1, ..NOTHING }),
    ours("a cordon and a crash", Budget { cordons: 1, crashes: 1, ..NOTHING }),
    ours("a cordon and a broken link", Budget { cordons: 1, breaks: 1, ..NOTHING }),
    legacy("existing hub: a cordon and a second task", Budget { cordons: 1, submits: 1, ..NOTHING }),
    legacy("existing hub: a restart that is taken back", Budget { commands: 1, take_backs: 1, ..NOTHING }),
    legacy("existing hub: a restart and a bad check", Budget { commands: 1, bad_checks: 1, ..NOTHING }),
    legacy("existing hub: two restarts", Budget { commands: 2, ..NOTHING }),
    legacy("existing hub: a crash", Budget { crashes: 1, ..NOTHING }),
    legacy("existing hub: a broken link", Budget { breaks: 1, ..NOTHING }),
    legacy(
        "existing hub: a restart, and frames dropped for their rate",
        Budget { commands: 1, rate_limits: 1, ..NOTHING },
    ),
    Scope {
        generations: 2,
        ..legacy(
            "existing hub: a second task, one cancelled, and a stop",
            Budget { submits: 1, cancels: 1, stops: 1, ..NOTHING },
        )
    },
    Scope {
        generations: 2,
        ..legacy(
            "existing hub: a second task, one cancelled, and a restart",
            Budget { submits: 1, cancels: 1, commands: 1, ..NOTHING },
        )
    },
    legacy("existing hub: a crash of it", Budget { hub_crashes: 1, ..NOTHING }),
    legacy("existing hub: a restart and a crash of it", Budget { commands: 1, hub_crashes: 1, ..NOTHING }),
];

/// Larger ones, for the night.
pub const NIGHTLY: &[Scope] = &[
    ours("a restart and a crash", Budget { commands: 1, crashes: 1, ..NOTHING }),
    ours("a restart and a crash of the hub", Budget { commands: 1, hub_crashes: 1, ..NOTHING }),
    ours("two crashes", Budget { crashes: 2, ..NOTHING }),
    ours(
        "wakes that fail or start nobody, sessions that fail",
        Budget { commands: 1, failed_wakes: 2, no_shows: 1, failed_sessions: 1, ..NOTHING },
    ),
    ours(
        "a reboot, a crash, and a supervisor that gives up",
        Budget { reboots: 1, crashes: 1, given_up: 1, ..NOTHING },
    ),
    legacy("existing hub: a broken link that is noticed late", Budget { breaks: 1, delays: 1, ..NOTHING }),
    legacy("existing hub: a restart and a stop", Budget { commands: 1, stops: 1, ..NOTHING }),
    ours("a restart, then force", Budget { commands: 1, forced: 1, ..NOTHING }),
    ours("a second task and a crash", Budget { submits: 1, crashes: 1, ..NOTHING }),
    ours("a second task and a restart", Budget { submits: 1, commands: 1, ..NOTHING }),
    ours(
        "a restart with a check that is bad, late or never answered",
        Budget { commands: 1, bad_checks: 1, delays: 1, ..NOTHING },
    ),
    Scope { hook: true, ..ours("a hook, a restart and a crash", Budget { commands: 1, crashes: 1, ..NOTHING }) },
    legacy("existing hub: a crash and a broken link", Budget { crashes: 1, breaks: 1, ..NOTHING }),
    legacy("existing hub: a restart and a crash", Budget { commands: 1, crashes: 1, ..NOTHING }),
    legacy("existing hub: a restart and a broken link", Budget { commands: 1, breaks: 1, ..NOTHING }),
    legacy("existing hub: a second task and a restart", Budget { submits: 1, commands: 1, ..NOTHING }),
    ours("two commands, and answers that come late", Budget { commands: 2, delays: 1, ..NOTHING }),
    ours("two commands and a bad check", Budget { commands: 2, bad_checks: 1, ..NOTHING }),
    ours("a second task, a restart and a bad check", Budget { submits: 1, commands: 1, bad_checks: 1, ..NOTHING }),
    ours("two tasks, a crash, and one cancelled", Budget { submits: 1, crashes: 1, cancels: 1, ..NOTHING }),
    legacy("existing hub: dropped and late frames", Budget { commands: 1, rate_limits: 1, delays: 1, ..NOTHING }),
    ours("a restart, a crash and a broken link", Budget { commands: 1, crashes: 1, breaks: 1, ..NOTHING }),
    ours("a restart and two crashes", Budget { commands: 1, crashes: 2, ..NOTHING }),
    ours("a restart and two broken links", Budget { commands: 1, breaks: 2, ..NOTHING }),
    legacy(
        "existing hub: a restart, a crash and a broken link",
        Budget { commands: 1, crashes: 1, breaks: 1, ..NOTHING },
    ),
    ours("a restart, a crash, and a crash of the hub", Budget { commands: 1, crashes: 1, hub_crashes: 1, ..NOTHING }),
];

/// Where the pinned figures stand.
pub const PINS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/states.txt");

/// The pinned number of states of each scope, by its name.
pub fn pins() -> BTreeMap<String, usize> {
    let pin = |line: &str| {
        let (states, name) = line.trim().split_once(' ').expect("a figure and a name");
        (name.to_owned(), states.parse().expect("a figure"))
    };
    std::fs::read_to_string(PINS).expect("the pinned figures").lines().map(pin).collect()
}

impl Scope {
    /// Whether it has no more states than that, as pinned.
    pub fn is_within(&self, states: usize) -> bool {
        pins().get(self.name).is_some_and(|pinned| *pinned <= states)
    }
}
