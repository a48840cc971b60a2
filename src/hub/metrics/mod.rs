//! The hub's metrics for Prometheus: their names, and the text. Nothing here asks the actor: it records what happens
//! ([`recorder`]), and a scrape adds what the last snapshot and the system tell. No label names an agent. Names, units and
//! meanings are documented in `docs/hub.md`.

pub mod process;
pub mod recorder;
mod runs;
mod task_counts;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::hub::metrics::process::ProcessFigures;
use crate::hub::metrics::task_counts::TaskCounts;

/// The media type of the text.
pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// The upper bounds of the buckets for what a machine does, in seconds: from half a millisecond to 10 s.
const FAST_BUCKETS: [f64; 13] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// The upper bounds of the buckets for how long an agent is away for a restart, in seconds: from 10 ms to 10 minutes.
const GAP_BUCKETS: [f64; 13] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0, 600.0];

/// Label names with values.
type Labels<const N: usize> = [(&'static str, &'static str); N];
/// Whole numbers by one label; without a measurement there is no sample.
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    ready: Gauge,
    agents: Gauges<1>,
    tasks: Gauges<1>,
    oldest_queued: Gauge<f64, AtomicU64>,
    /// The time since which the task that waits for the longest time is queued, in ms since the epoch; 0 if none is.
    oldest_queued_since: AtomicU64,
    rollout_targets: Gauges<1>,
    restarts: Family<Labels<2>, Counter>,
    gap: Histogram,
    commit: Histogram,
    lag: Histogram,
    connections: Gauges<1>,
    store_bytes: Gauges<0>,
    disk_free: Gauges<0>,
    certificate_expires: Gauges<0>,
    memory: Gauges<0>,
    open_files: Gauges<0>,
    max_files: Gauges<0>,
}

/// What a scrape sees beside what was recorded.
#[derive(Debug, Default)]
pub struct Seen {
    /// Whether `/ready` answers 200.
    pub ready: bool,
    /// The number of agents by status. Whatever names stand here become the values of the label `status`.
    pub agents: Vec<(&'static str, usize)>,
    /// The number of connections by state.
    pub connections: Vec<(&'static str, usize)>,
    /// The number of targets of the rollouts that have not ended, by state.
    pub rollout_targets: Vec<(&'static str, u64)>,
    /// The figures of this process.
    pub process: ProcessFigures,
    /// The number of bytes that are free for the hub on the disk of the data dir.
    pub disk_free: Option<u64>,
    /// When the port's certificate expires, in ms since the epoch.
    pub certificate_expires_at_ms: Option<u64>,
    /// The current time, in ms since the epoch.
    pub now_ms: u64,
}

impl Metrics {
    /// Creates all metrics, at 0. `started_at_ms` is when the process started, in ms since the epoch.
    pub fn new(started_at_ms: u64) -> Self {
        let mut registry = Registry::default();
        build_info(&mut registry, started_at_ms);
        let ready = Gauge::default();
        registry.register("agentcom_hub_ready", "1 where the hub does its work, as /ready says", Gauge::clone(&ready));
        let (agents, tasks, oldest_queued, rollout_targets, restarts) = work(&mut registry);
        let histogram = |registry: &mut Registry, name: &str, help: &str, buckets: [f64; 13]| {
            let histogram = Histogram::new(buckets);
            registry.register(name, help, histogram.clone());
            histogram
        };
        let gap = "From the announcement of a commanded restart, or the end of the connection, to the agent's return";
        let gap = histogram(&mut registry, "agentcom_hub_restart_gap_seconds", gap, GAP_BUCKETS);
        let commit = "How long each commit to the disk took";
        let commit = histogram(&mut registry, "agentcom_hub_commit_seconds", commit, FAST_BUCKETS);
        let lag = "From sending a request to the actor to its handling";
        let lag = histogram(&mut registry, "agentcom_hub_actor_lag_seconds", lag, FAST_BUCKETS);
        let mut gauges = |name: &str, help: &str| {
            let gauges = Gauges::<0>::default();
            registry.register(name, help, gauges.clone());
            gauges
        };
        let store_bytes = gauges("agentcom_hub_store_bytes", "Size of hub.redb");
        let disk_free = gauges("agentcom_hub_disk_free_bytes", "Free for the hub on the disk of the data dir");
        let help = "When the certificate of the port expires, in seconds since the epoch; absent without TLS";
        let certificate_expires = gauges("agentcom_hub_tls_certificate_expires_timestamp_seconds", help);
        let memory = gauges("process_resident_memory_bytes", "Resident set");
        let open_files = gauges("process_open_fds", "Open file descriptors");
        let max_files = gauges("process_max_fds", "How many may be open; an agent costs one");
        let connections = Gauges::<1>::default();
        let help = "Connections by state: identified (agents), unidentified (all other open ones without a valid token), waiting (not served yet)";
        registry.register("agentcom_hub_connections", help, connections.clone());
        let oldest_queued_since = AtomicU64::new(0);
        Self {
            registry,
            ready,
            agents,
            tasks,
            oldest_queued,
            oldest_queued_since,
            rollout_targets,
            restarts,
            gap,
            commit,
            lag,
            connections,
            store_bytes,
            disk_free,
            certificate_expires,
            memory,
            open_files,
            max_files,
        }
    }

    /// Returns all metrics in Prometheus' text format, version 0.0.4. One scrape at a time.
    pub fn text(&self, seen: &Seen) -> String {
        self.ready.set(i64::from(seen.ready));
        set_all(&self.agents, "status", &seen.agents);
        set_all(&self.connections, "state", &seen.connections);
        for (state, count) in &seen.rollout_targets {
            self.rollout_targets.get_or_create(&[("state", *state)]).set(signed(*count));
        }
        let since = match self.oldest_queued_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(Duration::from_millis(seen.now_ms.saturating_sub(since))),
        };
        self.oldest_queued.set(since.unwrap_or_default().as_secs_f64());
        set(&self.disk_free, seen.disk_free);
        set(&self.certificate_expires, seen.certificate_expires_at_ms.map(|at_ms| at_ms / 1_000));
        set(&self.memory, seen.process.memory_bytes);
        set(&self.open_files, seen.process.open_files);
        set(&self.max_files, seen.process.max_files);
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }

    /// Records how long a commit took, and the size of the store's file after it.
    fn committed(&self, took: Duration, store_bytes: Option<u64>) {
        self.commit.observe(took.as_secs_f64());
        set(&self.store_bytes, store_bytes);
    }

    /// Records how long a request waited for the actor.
    fn handled_after(&self, waited: Duration) {
        self.lag.observe(waited.as_secs_f64());
    }

    /// Records the end of a restart.
    fn restarted(&self, outcome: &'static str, cause: &'static str, gap_ms: Option<u64>) {
        self.restarts.get_or_create(&[("outcome", outcome), ("cause", cause)]).inc();
        if let Some(gap_ms) = gap_ms {
            self.gap.observe(Duration::from_millis(gap_ms).as_secs_f64());
        }
    }

    /// Takes over the present numbers of tasks.
    fn set_tasks(&self, counts: &TaskCounts) {
        for (status, count) in counts.by_status() {
            self.tasks.get_or_create(&[("status", status)]).set(signed(count));
        }
        self.oldest_queued_since.store(counts.oldest_queued_since().unwrap_or_default(), Ordering::Relaxed);
    }
}

fn build_info(registry: &mut Registry, started_at_ms: u64) {
    let build = Gauges::<1>::default();
    build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
    registry.register("agentcom_hub_build_info", "Always 1; the label tells the version", build);
    let started = Gauge::<f64, AtomicU64>::default();
    started.set(Duration::from_millis(started_at_ms).as_secs_f64());
    registry.register("process_start_time_seconds", "When the hub started, since the epoch", started);
}

type Work = (Gauges<1>, Gauges<1>, Gauge<f64, AtomicU64>, Gauges<1>, Family<Labels<2>, Counter>);

/// Creates the metrics of what the hub is there for.
fn work(registry: &mut Registry) -> Work {
    let (agents, tasks) = (Gauges::<1>::default(), Gauges::<1>::default());
    let (oldest_queued, restarts) = (Gauge::<f64, AtomicU64>::default(), Family::<Labels<2>, Counter>::default());
    for (outcome, cause) in recorder::RESTARTS {
        // A counter that appears with its first event has no increase that an alert could see.
        let _at_0 = restarts.get_or_create_owned(&[("outcome", outcome), ("cause", cause)]);
    }
    registry.register("agentcom_hub_agents", "Agents by status", agents.clone());
    registry.register("agentcom_hub_tasks", "Tasks that are kept, by status", tasks.clone());
    let help = "How long the task that waits for the longest time has been queued; 0 if none is";
    registry.register("agentcom_hub_oldest_queued_seconds", help, oldest_queued.clone());
    let rollout_targets = Gauges::<1>::default();
    let help = "Targets of the rollouts that have not ended, by state";
    registry.register("agentcom_hub_rollout_targets", help, rollout_targets.clone());
    let help = "Restarts of agents that ended since this hub started, by outcome and cause";
    registry.register("agentcom_hub_restarts", help, restarts.clone());
    (agents, tasks, oldest_queued, rollout_targets, restarts)
}

/// Sets one sample for each name; those of other names go.
fn set_all(gauges: &Gauges<1>, label: &'static str, counts: &[(&'static str, usize)]) {
    gauges.clear();
    for (name, count) in counts {
        gauges.get_or_create(&[(label, *name)]).set(i64::try_from(*count).unwrap_or(i64::MAX));
    }
}

/// Sets the one sample, or removes it where there is no measurement.
fn set(gauge: &Gauges<0>, value: Option<u64>) {
    match value {
        Some(value) => _ = gauge.get_or_create(&[]).set(signed(value)),
        None => gauge.clear(),
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
