//! Formats the sidecar's state for a terminal: first what is wrong and what to do about it, then the rest. It shows
//! only what the status document holds.

pub(super) mod hub;

use std::fmt::Write as _;

use crate::common::text::{count_of, on_one_line};
use crate::sidecar::admin::identity_conflict::REMEDY;
use crate::sidecar::admin::socket::OfflineView;
use crate::sidecar::admin::status::{IdentityConflictPart, PreviousRunPart, RejectedPart, Status, TaskPart};

/// Something that is wrong, and what to do about it.
struct Trouble {
    /// What is wrong.
    problem: String,
    /// What the operator can do.
    remedy: String,
}

/// Returns the page of a running sidecar. `now_ms` is the time since the Unix epoch, ms.
pub(super) fn running(status: &Status, now_ms: u64) -> String {
    let mut page = Page::new(format!("{} {}: {}", status.agent_id, status.phase, status.why));
    page.troubles(&troubles(status));
    page.row("task", &task(status));
    page.row("hub", &hub::row(status));
    if let Some(other) = status.identity_conflict.as_ref().filter(|other| !other.recent) {
        page.row("identity", &another_sidecar(other, "used"));
    }
    page.row("journal", &journal(status));
    if let Some(rejected) = status.rejected.as_ref().filter(|rejected| rejected.count > 0) {
        page.row("rejected", &rejected_results(rejected));
    }
    page.row("supervisor", &supervisor(status));
    let mut restarts = status.restarts.iter().take(5).map(|restart| {
        let when =
            restart.left_at_ms.map(|at| format!("{} ago, ", duration(now_ms.saturating_sub(at)))).unwrap_or_default();
        let left = if restart.forced { ", with a task left under way" } else { "" };
        let gap = match restart.gap_ms {
            Some(gap) => format!("back after {}", duration(gap)),
            None => "the hub has not known us since".to_owned(),
        };
        format!("{when}{}: {gap}{left}", quoted(&restart.reason))
    });
    page.row("restarts", &restarts.next().unwrap_or_else(|| "none".to_owned()));
    restarts.for_each(|restart| page.row("", &restart));
    let counts = &status.counts;
    page.row(
        "since start",
        &format!(
            "{} taken, {} completed, {} failed, {} refused",
            count_of(counts.taken, "task"),
            counts.completed,
            counts.failed,
            counts.refused
        ),
    );
    let process = &status.process;
    let memory = process.memory_bytes.map(|bytes| format!(", {:.1} MB", bytes as f64 / 1e6)).unwrap_or_default();
    page.row(
        "process",
        &format!("pid {}, up {}{memory}, version {}", process.pid, duration(process.uptime_ms), status.version),
    );
    if let Some(before) = &process.previous_run {
        page.row("run before", &run_before(before, now_ms));
    }
    page.row("config", &process.config);
    if !status.hub.overridden.is_empty() {
        page.row("overridden", &hub::overridden(status));
    }
    page.text
}

/// Returns how the run before ended.
fn run_before(before: &PreviousRunPart, now_ms: u64) -> String {
    let end = match before.end.as_str() {
        "restart" => "restarted",
        "stop" => "stopped",
        other => &other.replace('_', " "),
    };
    let seen = duration(now_ms.saturating_sub(before.last_seen_at_ms));
    format!("{end}: {}; last seen {seen} ago", before.why)
}

/// Returns the state of a running sidecar on one line.
pub(super) fn running_short(status: &Status) -> String {
    let mut line = format!("{} {}: {}", status.agent_id, status.phase, status.why);
    if let Some(task) = &status.task {
        let _ = write!(line, "; task {} {}", task.task_id, task.stage);
    }
    let dialing = status.hub.dialing.as_ref().map(|dialing| dialing.what.as_str());
    let _ = write!(line, "; hub {}", dialing.unwrap_or(&status.hub.link));
    if status.identity_conflict.as_ref().is_some_and(|other| other.recent) {
        line.push_str("; another sidecar uses this identity");
    }
    if !status.journal.outbox.is_empty() {
        let _ = write!(line, "; {} for the hub", verdicts_waiting(status.journal.outbox.len()));
    }
    if !status.journal.writable {
        line.push_str("; the journal cannot be written");
    }
    on_one_line(&line)
}

/// Returns the page of a sidecar that does not answer.
pub(super) fn offline(agent_id: &str, queue_file: &str, offline: &OfflineView) -> String {
    let mut page = Page::new(match &offline.holder {
        Some(holder) => format!("{agent_id}: does not answer, but {holder} holds its state folder"),
        None => format!("{agent_id}: not running"),
    });
    page.troubles(&[match &offline.holder {
        Some(_) => Trouble {
            problem: "it is just starting or ending, hangs, or is a version without a local socket".to_owned(),
            remedy: "ask again in a moment; then look at its log (`log_file`)".to_owned(),
        },
        None => Trouble {
            problem: "no sidecar is running for this agent".to_owned(),
            remedy: "start it: pm2 start, or agentcom-sidecar run".to_owned(),
        },
    }]);
    match (&offline.journal, &offline.journal_error) {
        (_, Some(why)) => page.row("journal", why),
        (None, None) => page.row("journal", &format!("there is none yet ({queue_file})")),
        (Some(_), None) => page.row("journal", queue_file),
    }
    if let Some(kept) = &offline.journal {
        let task = kept.task.as_ref().map_or_else(
            || "none".to_owned(),
            |task| {
                format!("{} generation {} was {}; the next run takes it up", task.task_id, task.generation, task.stage)
            },
        );
        page.row("task", &task);
        let mut verdicts =
            kept.outbox.iter().map(|one| format!("{} {}: the hub has not answered", one.task_id, one.verdict));
        page.row("verdicts", &verdicts.next().unwrap_or_else(|| "none waits".to_owned()));
        verdicts.for_each(|verdict| page.row("", &verdict));
        if kept.draining {
            page.row("draining", "yes: the next run takes no task before `agentcom-sidecar resume`");
        }
    }
    if offline.rejected.count > 0 {
        page.row("rejected", &rejected_results(&offline.rejected));
    }
    page.text
}

fn troubles(status: &Status) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    let mut add = |problem: String, remedy: String| troubles.push(Trouble { problem, remedy });
    if let Some(why) = &status.journal.folder_lost {
        add(
            format!("the state folder is not ours any more, and the journal is not written: {why}"),
            "let one copy run, from this folder; it is tried again every second".to_owned(),
        );
    } else if !status.journal.writable {
        add(
            "the journal cannot be written: no task is taken, no verdict said".to_owned(),
            format!("look at the disk and the permissions of {}; it is tried again every second", status.journal.file),
        );
    }
    if let Some(place) = &status.journal.folder_moved_to {
        add(
            format!("the state folder was moved to {place} while it ran; it goes on in a new one"),
            format!("start no sidecar from there: {} is the one that counts", status.journal.file),
        );
    }
    if let Some(task) = status.task.as_ref().filter(|task| task.is_past_half()) {
        add(format!("task {}: half of its time is over{}", task.task_id, silence(task)), SILENCE_REMEDY.to_owned());
    }
    let is_down = hub::is_away(status);
    let conflict = status.identity_conflict.as_ref().filter(|other| other.recent);
    if let Some(other) = conflict {
        let then = match is_down && other.in_our_place {
            true => format!("; the hub has it in our place: {}", status.hub.detail),
            false => String::new(),
        };
        add(another_sidecar(other, "uses") + &then, REMEDY.to_owned());
    }
    if is_down && !conflict.is_some_and(|other| other.in_our_place) {
        let (problem, remedy) = hub::trouble(status);
        add(problem, remedy);
    }
    if let Some(why) = &status.hub.token_trouble {
        add(why.clone(), "make it readable: it is read again for each dial".to_owned());
    }
    if let Some(leaving) = &status.leaving {
        let left = leaving.deadline_in_ms.map(|ms| format!(", at most {} more", duration(ms))).unwrap_or_default();
        let by = leaving.by.as_ref().map(|by| format!(", asked by {by}")).unwrap_or_default();
        if status.phase == "RestartPending" {
            add(
                format!("a restart waits for the task{left}: {}{by}", quoted(&leaving.reason)),
                "agentcom-sidecar restart --force does not wait; cancel-restart takes it back".to_owned(),
            );
        } else {
            add(
                format!("it is leaving ({}){left}: {}{by}", leaving.kind, quoted(&leaving.reason)),
                "nothing: wait".to_owned(),
            );
        }
    }
    if status.draining {
        add("draining: no new task is taken".to_owned(), "agentcom-sidecar resume takes tasks again".to_owned());
    }
    troubles
}

/// Returns that another sidecar `uses` (or used) this identity, where it is and when it was last seen.
pub(super) fn another_sidecar(other: &IdentityConflictPart, uses: &str) -> String {
    let at = other.address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
    format!("another sidecar{at} {uses} this identity, last seen {} ago", duration(other.age_ms))
}

fn task(status: &Status) -> String {
    let Some(task) = &status.task else { return "none".to_owned() };
    let recovering = if task.recovering { ", from a process before" } else { "" };
    format!(
        "{} generation {}, {} for {}{recovering}{}; waits for {}",
        task.task_id,
        task.generation,
        task.stage,
        duration(task.age_ms),
        silence(task),
        task.waits_for
    )
}

/// Returns how long the task's session has been silent, and how much of its time is left.
pub(super) fn silence(task: &TaskPart) -> String {
    let left = task
        .timeout_ms
        .zip(task.timeout_in_ms)
        .map(|(limit, left)| format!(", {} of its {} left", duration(left), duration(limit)));
    format!(", silent for {}{}", duration(task.silent_ms), left.unwrap_or_default())
}

/// What to do about a session that is silent for long.
pub(super) const SILENCE_REMEDY: &str =
    "look at its session; at the end of its time it fails (`task_timeout_ms`, or the task's own)";

fn rejected_results(rejected: &RejectedPart) -> String {
    let newest = rejected.newest.as_ref().map(|path| format!(", the newest {path}")).unwrap_or_default();
    let kilobytes = rejected.bytes as f64 / 1e3;
    format!("{} not taken, {kilobytes:.1} kB{newest}", count_of(rejected.count, "result"))
}

fn journal(status: &Status) -> String {
    let journal = &status.journal;
    let state = if journal.writable { "written" } else { "CANNOT BE WRITTEN" };
    let waiting = match journal.outbox.len() {
        0 => "no verdict waits".to_owned(),
        count => format!("{} for the hub", verdicts_waiting(count)),
    };
    let parked = match journal.parked.len() {
        0 => String::new(),
        count => format!(", {} parked", count_of(count as u64, "task")),
    };
    format!("{state}, {waiting}{parked}; {}", journal.file)
}

fn supervisor(status: &Status) -> String {
    let us = &status.supervisor;
    let name = us.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let id = us.pm_id.map(|id| format!(" (id {id})")).unwrap_or_default();
    let because = us.because.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}{name}{id}, restarts by {}{because}", us.kind, us.restart_by)
}

/// A page under construction: a headline, troubles, and rows of a name and a value.
struct Page {
    text: String,
}

impl Page {
    fn new(headline: String) -> Self {
        Self { text: on_one_line(&headline) + "\n" }
    }

    fn troubles(&mut self, troubles: &[Trouble]) {
        for Trouble { problem, remedy } in troubles {
            let _ = writeln!(self.text, "  ! {}\n    -> {}", on_one_line(problem), on_one_line(remedy));
        }
    }

    fn row(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.text, "  {name:<12} {}", on_one_line(value));
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", on_one_line(text))
}

/// Returns that so many verdicts wait.
pub(super) fn verdicts_waiting(verdicts: usize) -> String {
    if verdicts == 1 { "1 verdict waits".to_owned() } else { format!("{verdicts} verdicts wait") }
}

/// Formats a duration in its two largest units.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    if ms < 1_000 {
        format!("{ms} ms")
    } else if seconds < 10 {
        format!("{:.1} s", ms as f64 / 1_000.0)
    } else if minutes < 1 {
        format!("{seconds} s")
    } else if hours < 1 {
        format!("{minutes} min {} s", seconds % 60)
    } else if days < 1 {
        format!("{hours} h {} min", minutes % 60)
    } else {
        format!("{days} d {} h", hours % 24)
    }
}

#[cfg(test)]
mod tests;
