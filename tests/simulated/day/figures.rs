//! What a day came to, in figures.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use agentcom::hub::scheduler::restart::RestartPhase;
use agentcom::hub::scheduler::rollouts::target::Counts;
use agentcom::hub::scheduler::task::StatusName;

use super::Options;
use super::books::Moved;

/// The figures.
pub struct Figures {
    began: Instant,
    real_s: f64,
    virtual_s: f64,
    seed: u64,
    agents: u32,
    /// Of everything that was committed, in order: two runs with the same are the same.
    pub digest: u64,
    pub events: u64,
    pub steps: u64,
    pub checked: u64,
    pub journals: u64,
    pub frames_up: u64,
    pub frames_down: u64,
    pub rounds: u64,
    pub commits: u64,
    pub records: u64,
    pub connections: u64,
    pub link_faults: u64,
    pub storms: u64,
    pub deaths: u64,
    pub reboots: u64,
    pub hub_deaths: u64,
    pub overlaps: u64,
    pub submitted_again: u64,
    pub refused_submissions: u64,
    pub reclaimed: u64,
    pub retried: u64,
    pub outcomes: BTreeMap<&'static str, u64>,
    pub restarts: BTreeMap<&'static str, u64>,
    pub commands: usize,
    /// From the submission to the first assignment, in ms: how many up to each power of two.
    waits: [u64; 40],
    pub most_queued: usize,
    pub most_kept: usize,
    pub rollout_began: Option<u64>,
    pub rollout_ended: Option<u64>,
    pub resumed: u64,
    pub in_flight: u32,
    pub unavailable: u32,
    pub targets: Option<Counts>,
    pub disk: (usize, usize),
    peak_bytes: u64,
}

impl Figures {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            real_s: 0.0,
            virtual_s: 0.0,
            seed: 0,
            agents: 0,
            digest: 0,
            events: 0,
            steps: 0,
            checked: 0,
            journals: 0,
            frames_up: 0,
            frames_down: 0,
            rounds: 0,
            commits: 0,
            records: 0,
            connections: 0,
            link_faults: 0,
            storms: 0,
            deaths: 0,
            reboots: 0,
            hub_deaths: 0,
            overlaps: 0,
            submitted_again: 0,
            refused_submissions: 0,
            reclaimed: 0,
            retried: 0,
            outcomes: BTreeMap::new(),
            restarts: BTreeMap::new(),
            commands: 0,
            waits: [0; 40],
            most_queued: 0,
            most_kept: 0,
            rollout_began: None,
            rollout_ended: None,
            resumed: 0,
            in_flight: 0,
            unavailable: 0,
            targets: None,
            disk: (0, 0),
            peak_bytes: 0,
        }
    }

    pub fn moved(&mut self, moved: Moved) {
        match moved {
            Moved::Nothing => {}
            Moved::Assigned { first_after_ms: ms } => self.waits[(64 - ms.leading_zeros()).min(39) as usize] += 1,
            Moved::Reclaimed => self.reclaimed += 1,
            Moved::Retried => self.retried += 1,
            Moved::Ended(status) => {
                let name = match status {
                    StatusName::Completed => "completed",
                    StatusName::DeadLetter => "dead letters",
                    StatusName::Cancelled => "cancelled",
                    StatusName::Queued | StatusName::Assigned => "open",
                };
                *self.outcomes.entry(name).or_default() += 1;
            }
        }
    }

    pub fn ended(&mut self, phase: RestartPhase) {
        *self.restarts.entry(phase.name()).or_default() += 1;
    }

    pub fn measure(&mut self, options: &Options, virtual_ms: u64) {
        (self.seed, self.agents) = (options.seed, options.agents);
        self.virtual_s = virtual_ms as f64 / 1e3;
        self.real_s = self.began.elapsed().as_secs_f64();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<u64>().ok());
        self.peak_bytes = kib.unwrap_or_default() << 10;
    }

    pub const fn peak_mb(&self) -> u64 {
        self.peak_bytes >> 20
    }

    /// Returns the time, a power of two in ms, within which so many of a hundred tasks had an agent.
    fn wait_ms(&self, percent: u64) -> u64 {
        let all: u64 = self.waits.iter().sum();
        let mut seen = 0;
        let within = self.waits.iter().position(|count| {
            seen += count;
            seen * 100 >= all * percent
        });
        1 << within.unwrap_or_default()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (real, day) = (self.real_s.max(1e-3), self.virtual_s);
        writeln!(
            f,
            "{} agents, seed {}: {:.1} h in {real:.1} s, {:.0} times as fast",
            self.agents,
            self.seed,
            day / 3_600.0,
            day / real
        )?;
        writeln!(
            f,
            "events      {} ({:.0} a second), {} steps of sidecars ({} checked), {} journals",
            self.events,
            self.events as f64 / real,
            self.steps,
            self.checked,
            self.journals
        )?;
        writeln!(
            f,
            "hub         {} frames in, {} out, {} rounds, {} commits of {} records",
            self.frames_up, self.frames_down, self.rounds, self.commits, self.records
        )?;
        writeln!(
            f,
            "tasks       {:?}; {} retried, {} reclaimed, {} submitted again, {} refused; {} sessions beside another's",
            self.outcomes, self.retried, self.reclaimed, self.submitted_again, self.refused_submissions, self.overlaps
        )?;
        writeln!(
            f,
            "            an agent within {} ms (50 %), {} ms (99 %); at most {} queued, {} kept",
            self.wait_ms(50),
            self.wait_ms(99),
            self.most_queued,
            self.most_kept
        )?;
        writeln!(
            f,
            "faults      {} storms, {} links, {} processes ({} hosts), {} hubs; {} connections",
            self.storms, self.link_faults, self.deaths, self.reboots, self.hub_deaths, self.connections
        )?;
        writeln!(f, "restarts    {} commands: {:?}", self.commands, self.restarts)?;
        let took = self.rollout_began.zip(self.rollout_ended).map_or(0, |(began, ended)| (ended - began) / 1_000);
        writeln!(
            f,
            "rollout     {took} s, at most {} in flight and {} unavailable at a command, resumed {} times; {:?}",
            self.in_flight, self.unavailable, self.resumed, self.targets
        )?;
        writeln!(
            f,
            "memory      {} MB at most; on the hub's disk {} records, {} MB",
            self.peak_mb(),
            self.disk.0,
            self.disk.1 >> 20
        )?;
        write!(f, "digest      {:016x}", self.digest)
    }
}
