//! What the loop lets others see of itself: the machine as it stands, and what is counted beside it. Whoever looks gets a
//! copy; nothing here is asked for a decision.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::common::logging::Redactor;
use crate::machine::{Effect, Event, Heartbeat, Machine, Notice, OpenRestart, ReturnedFrom, TaskId, Timestamp, Wait};
use crate::sidecar::clock::Clock;

/// Restarts remembered beside the journal, for people.
pub(crate) const PAST_CAP: usize = 20;

/// What never changes while the process runs.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// Who we are.
    pub(crate) agent_id: String,
    /// Where the hub is.
    pub(crate) hub_url: String,
    /// Names this run.
    pub(crate) boot_id: String,
    /// The configuration file.
    pub(crate) config: String,
    /// The journal.
    pub(crate) queue_file: String,
    /// Where the agent leaves its files.
    pub(crate) results_dir: String,
    /// When the process began, by its clock.
    pub(crate) started_at: Timestamp,
    /// Takes the token out of what others have said.
    pub(crate) redactor: Redactor,
}

/// What has been counted since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Connections on which the hub knew us.
    pub(crate) connections: u64,
    /// Tasks taken.
    pub(crate) taken: u64,
    /// Verdicts reached: completed.
    pub(crate) completed: u64,
    /// Verdicts reached: failed.
    pub(crate) failed: u64,
    /// Assignments not taken.
    pub(crate) refused: u64,
    /// Wake commands started.
    pub(crate) wakes: u64,
    /// Writes of the journal that failed.
    pub(crate) failed_writes: u64,
}

/// A commanded restart that has happened. Kept in the journal file for people; nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PastRestart {
    /// The command, where the hub named one.
    #[serde(default)]
    pub(crate) command_id: Option<String>,
    /// The command's reason.
    pub(crate) reason: String,
    /// Whether work was left under way.
    #[serde(default)]
    pub(crate) forced: bool,
    /// When the drain began, ms since the epoch.
    #[serde(default)]
    pub(crate) left_at_ms: Option<u64>,
    /// From there to the hub's `identified`, ms; absent until then.
    #[serde(default)]
    pub(crate) gap_ms: Option<u64>,
}

impl PastRestart {
    fn of(restart: &OpenRestart) -> Self {
        Self {
            command_id: restart.command_id.clone(),
            reason: restart.reason.clone(),
            forced: restart.forced,
            left_at_ms: restart.leaving_at.map(Timestamp::as_millis),
            gap_ms: None,
        }
    }

    fn is(&self, restart: &OpenRestart) -> bool {
        self.command_id == restart.command_id && self.left_at_ms == restart.leaving_at.map(Timestamp::as_millis)
    }
}

/// Why the hub is not there, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HubTrouble {
    /// In the words of the hub, or of the attempt that failed.
    pub(crate) why: String,
    /// The hub said that it does not know us.
    pub(crate) refused: bool,
    /// It was said on the connection of now: its end says less.
    fresh: bool,
}

/// The sidecar at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// What never changes.
    pub(crate) about: Arc<About>,
    /// The process's clock.
    pub(crate) clock: Clock,
    /// Where it stands.
    pub(crate) machine: Machine,
    /// What it waits for.
    pub(crate) next: Option<(Timestamp, Wait)>,
    /// What has been counted.
    pub(crate) counts: Counts,
    /// Why the last attempt to reach the hub, or the last connection, came to nothing.
    pub(crate) hub_trouble: Option<HubTrouble>,
    /// From the last ping to the hub's next word, ms.
    pub(crate) latency_ms: Option<u64>,
    /// The task in hand and since when, by this process.
    pub(crate) in_hand: Option<(TaskId, Timestamp)>,
    /// Commanded restarts, oldest first.
    pub(crate) past: VecDeque<PastRestart>,
}

impl Snapshot {
    /// The process at its beginning.
    pub(crate) fn new(about: About, clock: Clock, machine: Machine, past: VecDeque<PastRestart>) -> Self {
        let mut snapshot = Self {
            about: Arc::new(about),
            clock,
            machine,
            next: None,
            counts: Counts::default(),
            hub_trouble: None,
            latency_ms: None,
            in_hand: None,
            past,
        };
        if let Some(returned) = snapshot.machine.restarts.returned.clone()
            && !snapshot.past.iter().any(|past| past.is(&returned.restart))
        {
            snapshot.past.push_back(PastRestart::of(&returned.restart));
            while snapshot.past.len() > PAST_CAP {
                snapshot.past.pop_front();
            }
        }
        snapshot.look_at_job(clock.now());
        snapshot
    }

    /// Takes one step in.
    pub(crate) fn step(&mut self, event: &Event, after: &Machine, effects: &[Effect], now: Timestamp) {
        let before = std::mem::replace(&mut self.machine, after.clone());
        if let (Some(was), Some(is)) = (before.connection.online(), self.machine.connection.online())
            && let (Heartbeat::Sent { at, .. }, Heartbeat::Due { .. }) = (was.heartbeat, is.heartbeat)
        {
            self.latency_ms = Some(now.since(at));
        }
        if let Event::PersistFailed = event {
            self.counts.failed_writes += 1;
        }
        for effect in effects {
            match effect {
                Effect::Wake { .. } => self.counts.wakes += 1,
                Effect::Notify(notice) => self.notice(notice),
                Effect::Dial => {
                    if let Some(trouble) = &mut self.hub_trouble {
                        trouble.fresh = false;
                    }
                }
                Effect::Persist(_)
                | Effect::Send(_)
                | Effect::CloseLink(_)
                | Effect::CleanUp { .. }
                | Effect::WithdrawWake { .. }
                | Effect::DropSign { .. }
                | Effect::CheckNextRun { .. }
                | Effect::RunResultHook { .. }
                | Effect::LookForResults { .. }
                | Effect::PassOn(_)
                | Effect::Reply { .. }
                | Effect::Exit { .. }
                | Effect::KeepRefused { .. } => {}
            }
        }
        self.look_at_job(now);
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Connected { returned } => {
                self.counts.connections += 1;
                self.hub_trouble = None;
                if let Some(ReturnedFrom { restart, gap_ms }) = returned
                    && let Some(past) = self.past.iter_mut().find(|past| past.is(restart))
                {
                    past.gap_ms = restart.leaving_at.map(|_| *gap_ms);
                }
            }
            Notice::IdentifyRefused { error } => {
                self.hub_trouble = Some(HubTrouble { why: error.clone(), refused: true, fresh: true });
            }
            Notice::TaskTaken { .. } => self.counts.taken += 1,
            Notice::VerdictReached { completed: true, .. } => self.counts.completed += 1,
            Notice::VerdictReached { completed: false, .. } => self.counts.failed += 1,
            Notice::AssignmentRefused { .. } => self.counts.refused += 1,
            Notice::RestartAccepted { .. }
            | Notice::RestartRefused { .. }
            | Notice::RestartCancelled { .. }
            | Notice::GoesOnAsItIs { .. }
            | Notice::JournalFailing
            | Notice::JournalRecovered
            | Notice::VerdictRefused { .. }
            | Notice::VerdictRefusedInOtherWords { .. }
            | Notice::VerdictGivenUp { .. }
            | Notice::Cordoned { .. }
            | Notice::TaskTakenBack { .. } => {}
        }
    }

    /// A dial or a connection ended; why, in words.
    pub(crate) fn link_ended(&mut self, why: String) {
        if !self.hub_trouble.as_ref().is_some_and(|trouble| trouble.refused && trouble.fresh) {
            self.hub_trouble = Some(HubTrouble { why, refused: false, fresh: true });
        }
    }

    fn look_at_job(&mut self, now: Timestamp) {
        let id = self.machine.state.persisted().map(|persisted| &persisted.task.id);
        if id != self.in_hand.as_ref().map(|(id, _)| id) {
            self.in_hand = id.map(|id| (id.clone(), now));
        }
    }
}
