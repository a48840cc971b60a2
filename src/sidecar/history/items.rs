//! Joins the lines of the history: what began and how it ended, as one item. It reads no file.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use crate::sidecar::exit_code::ExitCode;
use crate::sidecar::history::{EndCause, Entry, HistoryEvent, RunEnd, TaskOutcome};

/// A run, task, restart or drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// When it began, or the first that is kept of it, ms since the epoch.
    pub at_ms: u64,
    /// When it ended; absent while it has not, and where that is not known.
    pub ended_at_ms: Option<u64>,
    /// What it is.
    #[serde(flatten)]
    pub what: What,
}

/// What an item is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A run of the process.
    Run {
        /// Its id.
        boot_id: String,
        /// The sidecar's version; absent where the run's first line is not kept any more.
        version: Option<String>,
        /// The process id; absent likewise.
        pid: Option<u32>,
        /// Whether it goes on, or how it ended.
        end: RunState,
        /// The restart's reason, the signal, or what the next run found of its end.
        why: Option<String>,
        /// The exit code; absent where the process replaced itself, runs, or was lost.
        exit_code: Option<u8>,
        /// Whether the process replaced itself by the next run.
        in_place: bool,
        /// The time of its last line: a lost run ended later than that.
        last_seen_at_ms: u64,
    },
    /// A task.
    Task {
        /// Its id.
        task_id: String,
        /// The generation of its last assignment.
        generation: u64,
        /// How it ended; absent while it is in hand.
        outcome: Option<TaskOutcome>,
        /// The reason of a failure.
        why: Option<String>,
        /// How long it took; absent while it is in hand, and where its beginning is not kept.
        duration_ms: Option<u64>,
    },
    /// A restart.
    Restart {
        /// Whether it was commanded. The other kind is a start after a run that was lost.
        planned: bool,
        /// What came of it.
        outcome: RestartOutcome,
        /// The command's reason.
        reason: Option<String>,
        /// Who commanded it, if the command said so.
        by: Option<String>,
        /// The command's id, if the hub sent one.
        command_id: Option<String>,
        /// How long the hub was without this agent; absent where that is not known (yet).
        gap_ms: Option<u64>,
        /// Why it was refused, or how the run before an unplanned one ended.
        detail: Option<String>,
    },
    /// A time without new tasks, from `drain` to `resume`.
    Drain {},
}

/// Whether a run goes on, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// It goes on.
    Running,
    /// It ended.
    Ended(RunEnd),
}

impl std::fmt::Display for RunState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Ended(end) => end.fmt(f),
        }
    }
}

impl Serialize for RunState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What came of a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum RestartOutcome {
    /// The next run has not begun.
    Open,
    /// The next run began.
    Back,
    /// It was refused.
    Refused,
    /// It was cancelled before it began.
    Cancelled,
    /// The process was told to stop meanwhile.
    Stopped,
}

/// Returns the items, newest first; `running` is the process that serves the state folder now, if any.
pub fn items_of(entries: &[Entry], running: Option<u32>) -> Vec<Item> {
    let mut joining = Joining::default();
    entries.iter().for_each(|entry| joining.add(entry));
    joining.close_run(running);
    let mut items = joining.items;
    // What began later stands first; a restart before the run that it led to.
    items.reverse();
    items
}

/// The items so far, and which of them a further line may be about.
#[derive(Default)]
struct Joining {
    items: Vec<Item>,
    run: Option<usize>,
    /// The run before, and the unplanned restart after it, if that run did not say that it ends.
    lost: Option<(usize, usize)>,
    restart: Option<usize>,
    drain: Option<usize>,
    tasks: HashMap<String, usize>,
}

impl Joining {
    fn add(&mut self, entry: &Entry) {
        self.see_run(entry);
        let at_ms = entry.at_ms;
        match &entry.what {
            HistoryEvent::RunStarted { version: of, pid: is, machine_boot: _, oom_kills: _ } => {
                if let Some(What::Run { version, pid, .. }) = self.at(self.run) {
                    (*version, *pid) = (Some(of.clone()), Some(*is));
                }
            }
            HistoryEvent::RunBefore { end, why } => self.run_before(*end, why),
            HistoryEvent::RunEnded { cause, why, in_place, by: _ } => self.run_ended(at_ms, *cause, why, *in_place),
            HistoryEvent::StartFailed { exit_code, why } => self.start_failed(at_ms, *exit_code, why),
            // The next run finds what ended this one.
            HistoryEvent::Panicked { .. } | HistoryEvent::KilledForMemory { .. } => {}
            HistoryEvent::TaskTaken { task_id, generation } => {
                let task = What::Task {
                    task_id: task_id.clone(),
                    generation: *generation,
                    outcome: None,
                    why: None,
                    duration_ms: None,
                };
                let at = self.push(at_ms, None, task);
                self.tasks.insert(task_id.clone(), at);
            }
            HistoryEvent::TaskEnded { task_id, generation, outcome, why } => {
                self.task_ended(at_ms, (task_id, *generation), *outcome, why.as_deref());
            }
            HistoryEvent::RestartAccepted { reason, command_id, by } => {
                let restart = restart(true, RestartOutcome::Open, Some(reason), command_id.as_ref(), by.as_ref());
                self.restart = Some(self.push(at_ms, None, restart));
            }
            HistoryEvent::RestartRefused { reason, detail: why } => {
                let mut refused = restart(true, RestartOutcome::Refused, Some(reason), None, None);
                if let What::Restart { detail, .. } = &mut refused {
                    *detail = Some(why.clone());
                }
                self.push(at_ms, Some(at_ms), refused);
            }
            HistoryEvent::RestartCancelled { .. } => self.restart_ended(at_ms, RestartOutcome::Cancelled),
            HistoryEvent::Returned { reason, command_id, gap_ms } => {
                self.returned(at_ms, reason, command_id.as_ref(), *gap_ms);
            }
            HistoryEvent::Draining { on: true } => self.drain = Some(self.push(at_ms, None, What::Drain {})),
            HistoryEvent::Draining { on: false } => {
                let drain = self.drain.take();
                if let Some(item) = drain.and_then(|at| self.items.get_mut(at)) {
                    item.ended_at_ms = Some(at_ms);
                }
            }
        }
    }

    fn push(&mut self, at_ms: u64, ended_at_ms: Option<u64>, what: What) -> usize {
        self.items.push(Item { at_ms, ended_at_ms, what });
        self.items.len() - 1
    }

    fn at(&mut self, index: Option<usize>) -> Option<&mut What> {
        index.and_then(|at| self.items.get_mut(at)).map(|item| &mut item.what)
    }

    /// Begins another run where the line is not of the last one.
    fn see_run(&mut self, entry: &Entry) {
        if let Some(What::Run { boot_id, last_seen_at_ms, .. }) = self.at(self.run)
            && *boot_id == entry.boot_id
        {
            *last_seen_at_ms = entry.at_ms;
            return;
        }
        self.lost = None;
        if let (Some(RunState::Ended(end)), Some(before)) = (self.close_run(None), self.run)
            && end.is_unplanned()
        {
            let unplanned = restart(false, RestartOutcome::Back, None, None, None);
            self.lost = Some((before, self.push(entry.at_ms, Some(entry.at_ms), unplanned)));
        }
        if !matches!(entry.what, HistoryEvent::StartFailed { .. }) {
            self.restart_ended(entry.at_ms, RestartOutcome::Back);
        }
        let run = What::Run {
            boot_id: entry.boot_id.clone(),
            version: None,
            pid: None,
            end: RunState::Running,
            why: None,
            exit_code: None,
            in_place: false,
            last_seen_at_ms: entry.at_ms,
        };
        self.run = Some(self.push(entry.at_ms, None, run));
    }

    /// Returns how the last run ended: one that did not say so is lost, unless it is the process that runs now.
    fn close_run(&mut self, running: Option<u32>) -> Option<RunState> {
        let What::Run { end, pid, .. } = self.at(self.run)? else { return None };
        if *end == RunState::Running && (running.is_none() || running != *pid) {
            *end = RunState::Ended(RunEnd::Lost);
        }
        Some(*end)
    }

    /// Adds what a run found of the end of the one before.
    fn run_before(&mut self, found: RunEnd, words: &str) {
        let Some((run, unplanned)) = self.lost else { return };
        if let Some(What::Run { end, why, .. }) = self.at(Some(run)) {
            (*end, *why) = (RunState::Ended(found), Some(words.to_owned()));
        }
        if let Some(What::Restart { detail, .. }) = self.at(Some(unplanned)) {
            *detail = Some(format!("the run before ended as {found}: {words}"));
        }
    }

    fn start_failed(&mut self, at_ms: u64, code: u8, error: &str) {
        let Some(item) = self.run.and_then(|at| self.items.get_mut(at)) else { return };
        item.ended_at_ms = Some(at_ms);
        if let What::Run { end, why, exit_code, .. } = &mut item.what {
            (*end, *why, *exit_code) = (RunState::Ended(RunEnd::Crashed), Some(error.to_owned()), Some(code));
        }
    }

    fn run_ended(&mut self, at_ms: u64, cause: EndCause, reason: &str, replaces_itself: bool) {
        if cause == EndCause::Stop {
            self.restart_ended(at_ms, RestartOutcome::Stopped);
        }
        let Some(item) = self.run.and_then(|at| self.items.get_mut(at)) else { return };
        item.ended_at_ms = Some(at_ms);
        if let What::Run { end, why, exit_code, in_place, .. } = &mut item.what {
            *end = RunState::Ended(match cause {
                EndCause::Restart => RunEnd::Restart,
                EndCause::Stop => RunEnd::Stop,
            });
            *why = Some(reason.to_owned());
            *exit_code = (!replaces_itself).then_some(ExitCode::Done as u8);
            *in_place = replaces_itself;
        }
    }

    fn task_ended(&mut self, at_ms: u64, (id, number): (&str, u64), ended: TaskOutcome, reason: Option<&str>) {
        let known = self.tasks.remove(id);
        let at = known.unwrap_or_else(|| {
            let task =
                What::Task { task_id: id.to_owned(), generation: number, outcome: None, why: None, duration_ms: None };
            self.push(at_ms, None, task)
        });
        let Some(item) = self.items.get_mut(at) else { return };
        item.ended_at_ms = Some(at_ms);
        if let What::Task { generation, outcome, why, duration_ms, .. } = &mut item.what {
            (*generation, *outcome) = (number, Some(ended));
            *why = reason.map(str::to_owned);
            *duration_ms = known.map(|_| at_ms.saturating_sub(item.at_ms));
        }
    }

    fn restart_ended(&mut self, at_ms: u64, how: RestartOutcome) {
        let Some(item) = self.restart.and_then(|at| self.items.get_mut(at)) else { return };
        if let What::Restart { outcome: outcome @ RestartOutcome::Open, .. } = &mut item.what {
            *outcome = how;
            item.ended_at_ms = Some(at_ms);
        }
    }

    fn returned(&mut self, at_ms: u64, why: &str, id: Option<&String>, gap: Option<u64>) {
        if !matches!(self.at(self.restart), Some(What::Restart { outcome: RestartOutcome::Back, .. })) {
            // Its first line is not kept any more.
            let unknown = restart(true, RestartOutcome::Back, Some(&why.to_owned()), id, None);
            self.restart = Some(self.push(at_ms, Some(at_ms), unknown));
        }
        if let Some(What::Restart { gap_ms, .. }) = self.at(self.restart) {
            *gap_ms = gap;
        }
        self.restart = None;
    }
}

fn restart(
    planned: bool,
    outcome: RestartOutcome,
    reason: Option<&String>,
    command_id: Option<&String>,
    by: Option<&String>,
) -> What {
    What::Restart {
        planned,
        outcome,
        reason: reason.cloned(),
        by: by.cloned(),
        command_id: command_id.cloned(),
        gap_ms: None,
        detail: None,
    }
}

#[cfg(test)]
mod tests;
