//! The explorations: what may go wrong in each, what is wanted of the cluster, and which rule is left out.

use agentcom::hub::scheduler::policy::Policy as HubPolicy;
use agentcom::machine::{Intensity, Policy};

use crate::model::rebase::NEVER_MS;

/// What keeps two hubs from contradicting each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A commit lands only if its hub is the leader.
    FencedCommits,
    /// A commit lands only if it is the one that the database expects next: one whose answer was lost, and which was made
    /// again, does not land later.
    CountedCommits,
    /// Records are read after the epoch is raised, not before.
    LoadsAfterTheEpoch,
    /// Nothing is said unless a commit of that batch was fenced.
    FencedWords,
    /// An agent believes only its current connection.
    CurrentConnection,
    /// A reclaim after a takeover waits for longer than an agent may still hear the leader before.
    LongReclaim,
}

/// What may still happen that need not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    /// A hub becomes the leader.
    pub takeovers: u8,
    /// The leader's process stands still, at any point of a batch or between two; it goes on at any time, or never.
    pub hub_stops: u8,
    /// Kill -9 of the leader, at any point of a batch or between two.
    pub hub_deaths: u8,
    /// A commit whose answer is lost: it has landed, lands later, or never does.
    pub lost_commits: u8,
    /// A gateway stands still, with what it carries.
    pub gateway_stops: u8,
    /// Kill -9 of a gateway: the links through it break.
    pub gateway_deaths: u8,
    /// Kill -9 of a sidecar.
    pub agent_deaths: u8,
}

pub const NOTHING: Budget = Budget {
    takeovers: 0,
    hub_stops: 0,
    hub_deaths: 0,
    lost_commits: 0,
    gateway_stops: 0,
    gateway_deaths: 0,
    agent_deaths: 0,
};

/// What is asked of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ask {
    /// A task for any agent.
    Task(&'static str),
    /// A restart of the first agent.
    Restart(&'static str),
}

impl Ask {
    pub const fn id(self) -> &'static str {
        match self {
            Self::Task(id) | Self::Restart(id) => id,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Scope {
    pub name: &'static str,
    pub budget: Budget,
    pub asks: &'static [Ask],
    pub without: Option<Rule>,
}

const fn scope(name: &'static str, asks: &'static [Ask], budget: Budget) -> Scope {
    Scope { name, budget, asks, without: None }
}

const TASK: &[Ask] = &[Ask::Task("t1")];
const TASKS: &[Ask] = &[Ask::Task("t1"), Ask::Task("t2")];
const RESTART: &[Ask] = &[Ask::Task("t1"), Ask::Restart("c1")];

/// In every CI run.
pub const CLUSTERS: &[Scope] = &[
    scope("cluster: a task, and a dead leader", TASK, Budget { takeovers: 1, hub_deaths: 1, ..NOTHING }),
    scope("cluster: a task, and a lost commit", TASK, Budget { takeovers: 1, lost_commits: 1, ..NOTHING }),
    scope("cluster: a task, and a stopped gateway", TASK, Budget { takeovers: 1, gateway_stops: 1, ..NOTHING }),
    scope("cluster: a task, and a dead gateway", TASK, Budget { takeovers: 1, gateway_deaths: 1, ..NOTHING }),
    scope("cluster: a task, and a dead agent", TASK, Budget { takeovers: 1, agent_deaths: 1, ..NOTHING }),
];

/// Larger ones, for the night.
pub const CLUSTERS_NIGHTLY: &[Scope] = &[
    scope("cluster: a task, and a stopped leader", TASK, Budget { takeovers: 1, hub_stops: 1, ..NOTHING }),
    scope("cluster: a restart, and a takeover", RESTART, Budget { takeovers: 1, ..NOTHING }),
    scope("cluster: two tasks, and a stopped leader", TASKS, Budget { takeovers: 1, hub_stops: 1, ..NOTHING }),
    scope("cluster: a restart, and a stopped leader", RESTART, Budget { takeovers: 1, hub_stops: 1, ..NOTHING }),
    scope("cluster: a restart, and a dead leader", RESTART, Budget { takeovers: 1, hub_deaths: 1, ..NOTHING }),
    scope("cluster: two takeovers, and two stops", TASK, Budget { takeovers: 2, hub_stops: 2, ..NOTHING }),
    scope(
        "cluster: a stopped leader behind a stopped gateway",
        TASK,
        Budget { takeovers: 1, hub_stops: 1, gateway_stops: 1, ..NOTHING },
    ),
    scope(
        "cluster: a stopped leader, and a lost commit",
        TASK,
        Budget { takeovers: 1, hub_stops: 1, lost_commits: 1, ..NOTHING },
    ),
    scope("cluster: a gateway that stops twice", TASK, Budget { takeovers: 1, gateway_stops: 2, ..NOTHING }),
];

/// Each rule left out, in a scope in which that shows: the property that it breaks, and the length of the shortest way.
pub const WITHOUT: &[(Scope, &str, usize)] = &[
    (
        without(
            Rule::FencedCommits,
            scope("cluster without: fenced commits", TASK, Budget { takeovers: 1, hub_stops: 1, ..NOTHING }),
        ),
        "goes_back",
        3,
    ),
    (
        without(
            Rule::CountedCommits,
            scope("cluster without: counted commits", TASK, Budget { lost_commits: 1, ..NOTHING }),
        ),
        "goes_back",
        8,
    ),
    (
        without(
            Rule::LoadsAfterTheEpoch,
            scope("cluster without: loading after the epoch", TASK, Budget { takeovers: 1, ..NOTHING }),
        ),
        "stale_word",
        24,
    ),
    (
        without(
            Rule::FencedWords,
            scope("cluster without: fenced words", TASK, Budget { takeovers: 1, gateway_deaths: 1, ..NOTHING }),
        ),
        "doubled",
        19,
    ),
    (
        without(
            Rule::CurrentConnection,
            scope(
                "cluster without: the current connection",
                TASK,
                Budget { takeovers: 1, gateway_stops: 1, ..NOTHING },
            ),
        ),
        "stale_word",
        21,
    ),
    (
        without(
            Rule::LongReclaim,
            scope("cluster without: a long reclaim", TASK, Budget { takeovers: 1, hub_stops: 1, ..NOTHING }),
        ),
        "stale_word",
        8,
    ),
];

const fn without(rule: Rule, scope: Scope) -> Scope {
    Scope { without: Some(rule), ..scope }
}

/// Everybody's times are multiples of this, ms, so that few states differ only in small differences of time.
const STEP_MS: u64 = 10_000;

impl Scope {
    pub fn lacks(&self, rule: Rule) -> bool {
        self.without == Some(rule)
    }

    /// The hub's figures: those that count are its defaults.
    pub fn hub_policy(&self) -> HubPolicy {
        let defaults = HubPolicy::default();
        // An agent hears a leader for as long as its heartbeat bound: ping and pong, 40 s.
        let short_ms = if self.lacks(Rule::LongReclaim) { 30_000 } else { defaults.accept_timeout_ms };
        HubPolicy {
            accept_timeout_ms: short_ms,
            stale_timeout_ms: NEVER_MS,
            silence_timeout_ms: NEVER_MS,
            reconcile_ms: STEP_MS,
            restart_deadline_ms: 6 * STEP_MS,
            drain_deadline_ms: STEP_MS,
            restart_margin_ms: 2 * STEP_MS,
            keep_finished: 10,
            keep_restarts: 10,
            keep_restarts_in_all: 100,
            keep_restart_bytes: 1 << 20,
            ..defaults
        }
    }

    /// The sidecar's figures: its heartbeat is the default one.
    pub fn machine_policy(&self) -> Policy {
        let defaults = Policy::default();
        Policy {
            restart_deadline_ms: 6 * STEP_MS,
            drain_deadline_ms: STEP_MS,
            stop_budget_ms: STEP_MS,
            close_budget_ms: 0,
            restart_intensity: Intensity { max: 3, window_ms: 6 * STEP_MS },
            next_run_check_ms: STEP_MS,
            last_look_ms: STEP_MS,
            look_ms: STEP_MS,
            wake_retry_delays_ms: vec![STEP_MS],
            progress_interval_ms: NEVER_MS,
            answer_timeout_ms: 2 * STEP_MS,
            persist_retry_ms: STEP_MS,
            close_timeout_ms: STEP_MS,
            // Half of it is waited after a dial that failed, nothing after a connection that ended.
            reconnect_min_ms: 2 * STEP_MS,
            reconnect_max_ms: 2 * STEP_MS,
            machine_boot: "m".into(),
            ..defaults
        }
    }
}
