//! The snapshot of the sidecar that the event loop publishes for the admin interfaces: the machine's state, and
//! counters beside it. No decision depends on it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::common::logging::Redactor;
use crate::machine::{
    Effect, Event, Heartbeat, Machine, News, Notice, OpenRestart, ReturnedFrom, TaskId, Timestamp, Wait,
};
use crate::protocol::Rival;
use crate::sidecar::admin::identity_conflict::IdentityConflict;
use crate::sidecar::agent::results::kept::KeptResults;
use crate::sidecar::clock::Clock;
use crate::sidecar::hub_connection::dial::progress::DialState;
use crate::sidecar::journal::state_folder::FolderTrouble;
use crate::sidecar::previous_run::PreviousRun;

/// The number of past restarts that are kept beside the journal, for operators.
pub(crate) const MAX_PAST_RESTARTS: usize = 20;

/// The facts that do not change while the process runs.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// The agent's id.
    pub(crate) agent_id: String,
    /// The hub's URL.
    pub(crate) hub_url: String,
    /// The id of this run of the process.
    pub(crate) boot_id: String,
    /// How the run before ended, if there was one.
    pub(crate) previous: Option<PreviousRun>,
    /// The path of the configuration file.
    pub(crate) config: String,
    /// The path of the journal.
    pub(crate) queue_file: String,
    /// The folder in which the agent leaves its files.
    pub(crate) results_dir: String,
    /// The start of the process, by its clock.
    pub(crate) started_at: Timestamp,
    /// Removes the token from texts of the hub's and of operators.
    pub(crate) redactor: Redactor,
    /// The results that were not taken; `None` until they are counted.
    pub(crate) kept: watch::Receiver<Option<KeptResults>>,
    /// What is wrong with the state folder, for operators.
    pub(crate) folder_trouble: watch::Receiver<Option<FolderTrouble>>,
    /// What the dial is doing; `None` before the first one.
    pub(crate) dial: watch::Receiver<Option<DialState>>,
    /// The file that the token is read from for each dial.
    pub(crate) token_file: Option<String>,
    /// The keys of the file that a variable or flag overrides, of those that decide about the connection.
    pub(crate) overrides: Vec<(&'static str, &'static str)>,
}

/// The counters since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Connections on which the hub identified us.
    pub(crate) connections: u64,
    /// Assignments accepted.
    pub(crate) taken: u64,
    /// Tasks completed.
    pub(crate) completed: u64,
    /// Tasks failed.
    pub(crate) failed: u64,
    /// Assignments refused.
    pub(crate) refused: u64,
    /// Wake commands started.
    pub(crate) wakes: u64,
    /// Failed writes of the journal.
    pub(crate) failed_writes: u64,
}

/// A past commanded restart. Kept in the journal file for operators; no decision depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PastRestart {
    /// The command's id, if the hub gave one.
    #[serde(default)]
    pub(crate) command_id: Option<String>,
    /// The command's reason.
    pub(crate) reason: String,
    /// Whether a task was left unfinished.
    #[serde(default)]
    pub(crate) forced: bool,
    /// The start of the drain, in ms since the epoch.
    #[serde(default)]
    pub(crate) left_at_ms: Option<u64>,
    /// The time from there to the hub's `identified`, in ms; absent until then.
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

    fn is_record_of(&self, restart: &OpenRestart) -> bool {
        self.command_id == restart.command_id && self.left_at_ms == restart.leaving_at.map(Timestamp::as_millis)
    }
}

/// The reason why there is no connection to the hub, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HubTrouble {
    /// The hub's text, or the error of the attempt that failed.
    pub(crate) why: String,
    /// Whether the hub refused to identify us.
    pub(crate) refused: bool,
    /// Whether the hub has another sidecar with our identity in our place.
    pub(crate) by_rival: bool,
    /// The time of it, by the process's clock.
    pub(crate) at: Timestamp,
    /// Whether it belongs to the current connection, whose end is less informative.
    fresh: bool,
}

/// The sidecar's state at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The facts that do not change.
    pub(crate) about: Arc<About>,
    /// The process's clock.
    pub(crate) clock: Clock,
    /// The machine's state.
    pub(crate) machine: Machine,
    /// The next deadline and what it is for.
    pub(crate) next: Option<(Timestamp, Wait)>,
    /// The counters.
    pub(crate) counts: Counts,
    /// Why `token_file` could not be read for the last dial.
    pub(crate) token_trouble: Option<String>,
    /// Why the last attempt to connect failed, or the last connection ended.
    pub(crate) hub_trouble: Option<HubTrouble>,
    /// The other sidecar with this identity, if there was one since the process began.
    pub(crate) identity_conflict: Option<IdentityConflict>,
    /// The time from the last ping to the hub's next frame, in ms.
    pub(crate) latency_ms: Option<u64>,
    /// The current task, and since when this process has it.
    pub(crate) current_task: Option<(TaskId, Timestamp)>,
    /// When the session of the current task showed itself or printed something last, or when this process got the task.
    pub(crate) session_heard_at: Option<Timestamp>,
    /// The past restarts, oldest first.
    pub(crate) past: VecDeque<PastRestart>,
}

impl Snapshot {
    /// Creates the snapshot of a process at its start.
    pub(crate) fn new(about: About, clock: Clock, machine: Machine, past: VecDeque<PastRestart>) -> Self {
        let mut snapshot = Self {
            about: Arc::new(about),
            clock,
            machine,
            next: None,
            counts: Counts::default(),
            token_trouble: None,
            hub_trouble: None,
            identity_conflict: None,
            latency_ms: None,
            current_task: None,
            session_heard_at: None,
            past,
        };
        if let Some(returned) = snapshot.machine.restarts.returned.clone()
            && !snapshot.past.iter().any(|past| past.is_record_of(&returned.restart))
        {
            snapshot.past.push_back(PastRestart::of(&returned.restart));
            while snapshot.past.len() > MAX_PAST_RESTARTS {
                snapshot.past.pop_front();
            }
        }
        snapshot.update_current_task(clock.now());
        snapshot
    }

    /// Updates the snapshot after a step of the machine.
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
            if let Effect::Wake { .. } = effect {
                self.counts.wakes += 1;
            } else if let Effect::Notify(notice) = effect {
                self.record_notice(notice, now);
            } else if let (Effect::Dial, Some(trouble)) = (effect, &mut self.hub_trouble) {
                trouble.fresh = false;
            }
        }
        self.update_current_task(now);
        if let Event::Confirmed { task_id } | Event::NewsOffered(News::Output { task_id }) = event
            && self.current_task.as_ref().is_some_and(|(id, _)| id == task_id)
        {
            self.session_heard_at = Some(now);
        }
    }

    fn record_notice(&mut self, notice: &Notice, now: Timestamp) {
        match notice {
            Notice::Connected { returned } => {
                self.counts.connections += 1;
                self.hub_trouble = None;
                if let Some(ReturnedFrom { restart, gap_ms }) = returned
                    && let Some(past) = self.past.iter_mut().find(|past| past.is_record_of(restart))
                {
                    past.gap_ms = restart.leaving_at.map(|_| *gap_ms);
                }
            }
            Notice::IdentifyRefused { error } => {
                let why = error.clone();
                self.hub_trouble = Some(HubTrouble { why, refused: true, by_rival: false, at: now, fresh: true });
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
            | Notice::TaskTakenBack { .. }
            | Notice::HalfOfTimeout { .. } => {}
        }
    }

    /// Records why an attempt to connect or a connection ended, and the other sidecar that the hub named for it. A
    /// refusal on the same connection is kept, since it says more.
    pub(crate) fn connection_ended(&mut self, why: String, rival: Option<&Rival>, now: Timestamp) {
        if let Some(rival) = rival {
            self.identity_conflict = Some(IdentityConflict::after(self.identity_conflict.take(), rival, now));
        }
        if !self.hub_trouble.as_ref().is_some_and(|trouble| trouble.refused && trouble.fresh) {
            let by_rival = rival.is_some();
            self.hub_trouble = Some(HubTrouble { why, refused: false, by_rival, at: now, fresh: true });
        }
    }

    fn update_current_task(&mut self, now: Timestamp) {
        let id = self.machine.state.persisted().map(|persisted| &persisted.task.id);
        if id != self.current_task.as_ref().map(|(id, _)| id) {
            self.current_task = id.map(|id| (id.clone(), now));
            self.session_heard_at = self.current_task.as_ref().map(|(_, since)| *since);
        }
    }
}
