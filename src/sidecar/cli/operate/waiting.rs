//! `restart --wait` and `drain --wait`: they ask, then look at the sidecar until it is done, or until `--timeout`. The end of
//! a wait takes nothing back.

use std::time::{Duration, Instant};

use crate::sidecar::admin::socket::{CallError, SocketRequest};
use crate::sidecar::admin::status::Status;
use crate::sidecar::cli::operate::deadline::Deadline;
use crate::sidecar::cli::operate::{DrainArgs, Operator, RestartArgs, report_of};
use crate::sidecar::cli::report::{Details, Report};
use crate::sidecar::cli::show;
use crate::sidecar::exit_code::ExitCode;

/// The interval between requests to a sidecar that is waited for.
const POLL: Duration = Duration::from_millis(100);
/// The interval while the sidecar is away, which is short during a restart.
const POLL_AWAY: Duration = Duration::from_millis(20);
/// How long the sidecar may be away before the wait is given up.
const AWAY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the hub may take to know the new run before the wait ends without the length of the gap.
const GAP_TIMEOUT: Duration = Duration::from_secs(30);

impl Operator {
    /// Requests a restart, and with `wait` waits until the next run is there.
    pub(super) fn restart(&self, args: RestartArgs) -> Report {
        let RestartArgs { force, reason, wait, timeout, output } = args;
        let deadline = Deadline::after_ms(timeout);
        // Before the request, so that the run that is to end is known by its boot id.
        let before = match deadline.limit(&self.client).status() {
            Ok(status) => status,
            Err(error) => return unasked(&error, deadline),
        };
        let asked = match self.ask(&SocketRequest::Restart { reason, force }, deadline) {
            Ok(asked) => asked,
            Err(error) => return unanswered(&error, deadline, "the restart"),
        };
        if !wait || asked.code() != ExitCode::Done {
            return asked;
        }
        let answer = tell(asked, output.json);
        let mut report = self.wait_for_next_run(&before.process.boot_id, deadline);
        report.details.answer = answer;
        report
    }

    fn wait_for_next_run(&self, before: &str, deadline: Deadline) -> Report {
        let mut away_since: Option<Instant> = None;
        let mut back_since: Option<Instant> = None;
        let mut last = None;
        loop {
            let seen = deadline.limit(&self.client).status();
            let over = deadline.over();
            match &seen {
                Ok(status) if status.process.boot_id != before => {
                    let since = *back_since.get_or_insert_with(Instant::now);
                    let overdue = over.is_some() || since.elapsed() > GAP_TIMEOUT;
                    if let Some(report) = next_run(status, overdue) {
                        return report;
                    }
                }
                Ok(status) if status.leaving.is_none() => {
                    let mut report = Report::new(ExitCode::Refused, "the restart was cancelled: the sidecar goes on");
                    report.details = details_of(status);
                    return report;
                }
                Ok(_) => away_since = None,
                Err(
                    CallError::NotRunning { .. }
                    | CallError::Silent { .. }
                    | CallError::Broken(_)
                    | CallError::Unanswered(_),
                ) => {
                    if is_overdue(&mut away_since) {
                        let after = AWAY_TIMEOUT.as_secs();
                        let message = format!("it left and has not come back for {after} s: see its log and pm2's");
                        return Report::new(ExitCode::Unavailable, message);
                    }
                }
                Err(error @ CallError::NotAllowed { .. }) => return report_of(error),
            }
            last = latest(seen, last);
            if let Some(after) = over {
                let leaving = last.filter(|status: &Status| status.process.boot_id == before);
                return restart_timed_out(after, leaving.as_ref());
            }
            deadline.pause(if away_since.is_some() || back_since.is_some() { POLL_AWAY } else { POLL });
        }
    }

    /// Requests a drain, and with `wait` waits until no task is left.
    pub(super) fn drain(&self, args: &DrainArgs) -> Report {
        let deadline = Deadline::after_ms(args.timeout);
        let asked = match self.ask(&SocketRequest::Drain {}, deadline) {
            Ok(asked) => asked,
            Err(error) => return unanswered(&error, deadline, "the drain"),
        };
        // A drain that is not on disk is in force, and may be on disk by the time the task has ended.
        if !args.wait || !matches!(asked.code(), ExitCode::Done | ExitCode::NotOnDisk) {
            return asked;
        }
        let answer = tell(asked, args.output.json);
        let mut report = self.wait_until_drained(deadline);
        report.details.answer = answer;
        report
    }

    fn wait_until_drained(&self, deadline: Deadline) -> Report {
        let mut away_since: Option<Instant> = None;
        let mut last = None;
        loop {
            let seen = deadline.limit(&self.client).status();
            match &seen {
                Ok(status) if !status.draining => {
                    return Report::new(ExitCode::Refused, "it was resumed meanwhile");
                }
                Ok(status) if status.task.is_none() && status.journal.outbox.is_empty() => return drained(status),
                Ok(_) => away_since = None,
                // A drain outlasts a restart.
                Err(
                    CallError::NotRunning { .. }
                    | CallError::Silent { .. }
                    | CallError::Broken(_)
                    | CallError::Unanswered(_),
                ) => {
                    if is_overdue(&mut away_since) {
                        let message = "it has left with a task under way, and not come back";
                        return Report::new(ExitCode::Unavailable, message);
                    }
                }
                Err(error @ CallError::NotAllowed { .. }) => return report_of(error),
            }
            last = latest(seen, last);
            if let Some(after) = deadline.over() {
                return drain_timed_out(after, last.as_ref());
            }
            deadline.pause(POLL);
        }
    }
}

/// Prints the answer to a command whose outcome is waited for; with `--json` returns it, as a part of the one object.
fn tell(asked: Report, json: bool) -> Option<String> {
    if json {
        return Some(asked.into_message());
    }
    // A stdout that is closed or full says so again at the end of the wait.
    let _ = asked.print(json);
    None
}

/// Returns the state that is known after another request. One that the deadline cut short tells nothing: then what the
/// request before it found still counts.
fn latest<T>(seen: Result<T, CallError>, before: Option<T>) -> Option<T> {
    match seen {
        Ok(status) => Some(status),
        Err(CallError::Silent { .. }) => before,
        Err(
            CallError::NotRunning { .. }
            | CallError::NotAllowed { .. }
            | CallError::Broken(_)
            | CallError::Unanswered(_),
        ) => None,
    }
}

/// Returns whether a sidecar that does not answer, since `away_since` or now, has been away for too long.
fn is_overdue(away_since: &mut Option<Instant>) -> bool {
    away_since.get_or_insert_with(Instant::now).elapsed() > AWAY_TIMEOUT
}

/// Returns the report on the next run, or `None` while the length of the gap is not known and not `overdue`.
fn next_run(status: &Status, overdue: bool) -> Option<Report> {
    let pid = status.process.pid;
    let gap_ms = status.restarts.first().and_then(|restart| restart.gap_ms);
    let message = match gap_ms {
        Some(gap) => format!("back: process {pid}; the hub was without it for {}", show::duration(gap)),
        None if overdue => format!("back: process {pid}; the hub does not know it yet ({})", status.hub.detail),
        None => return None,
    };
    let mut report = Report::new(ExitCode::Done, message);
    let boot_id = Some(status.process.boot_id.clone());
    report.details = Details { pid: Some(pid), boot_id, gap_ms, ..details_of(status) };
    Some(report)
}

fn drained(status: &Status) -> Report {
    let mut report = if status.journal.writable {
        Report::new(ExitCode::Done, "drained: no task is left, and no verdict")
    } else {
        let file = &status.journal.file;
        let message =
            format!("drained, but {file} cannot be written: a crash would forget that no task is to be taken");
        Report::new(ExitCode::NotOnDisk, message)
    };
    report.details = details_of(status);
    report
}

fn details_of(status: &Status) -> Details {
    let task_id = status.task.as_ref().map(|task| task.task_id.clone());
    Details { phase: Some(status.phase.clone()), task_id, ..Details::default() }
}

/// Returns the report of a command that was not sent.
fn unasked(error: &CallError, deadline: Deadline) -> Report {
    match (error, deadline.over()) {
        (CallError::Silent { .. }, Some(after)) => {
            timed_out(after, "the sidecar does not answer", "nothing was asked of it")
        }
        (_, Some(_) | None) => report_of(error),
    }
}

/// Returns the report of a command that was sent, and not answered.
fn unanswered(error: &CallError, deadline: Deadline, what: &str) -> Report {
    match (error, deadline.over()) {
        (CallError::Silent { .. }, Some(after)) => timed_out(
            after,
            &format!("the sidecar has not answered to {what}"),
            "nothing was taken back: `status` says more",
        ),
        (_, Some(_) | None) => report_of(error),
    }
}

fn restart_timed_out(after: Duration, seen: Option<&Status>) -> Report {
    let Some(status) = seen else {
        return timed_out(after, "it has left, and is not back yet", "nothing was taken back: see its log and pm2's");
    };
    let left = status.leaving.as_ref().and_then(|leaving| leaving.deadline_in_ms);
    let left = left.map(|ms| format!(", at most {} more", show::duration(ms))).unwrap_or_default();
    let mut report = match &status.task {
        Some(task) if status.phase == "RestartPending" => timed_out(
            after,
            &format!("the restart still waits for task {}{left}", task.task_id),
            "nothing was taken back: `cancel-restart` does that, `restart --force` does not wait",
        ),
        Some(_) | None => timed_out(after, &format!("it is leaving{left}"), "nothing was taken back"),
    };
    report.details = details_of(status);
    report
}

fn drain_timed_out(after: Duration, seen: Option<&Status>) -> Report {
    let remedy = "nothing was taken back: it takes no task before `resume`";
    let Some(status) = seen else {
        return timed_out(after, "it has left with a task under way, and is not back yet", remedy);
    };
    let known = match &status.task {
        Some(task) => format!("task {} is still {}", task.task_id, task.stage),
        None => format!("{} for the hub", show::verdicts_waiting(status.journal.outbox.len())),
    };
    let mut report = timed_out(after, &known, remedy);
    report.details = details_of(status);
    report
}

fn timed_out(after: Duration, known: &str, then: &str) -> Report {
    let after = show::duration(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    Report::new(ExitCode::TimedOut, format!("timed out after {after}: {known}; {then}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_cut_short_leaves_what_was_seen_before() {
        let silent = || Err(CallError::Silent { after: Duration::from_millis(1) });
        assert_eq!(latest(silent(), Some("working")), Some("working"));
        assert_eq!(latest(silent(), None::<&str>), None);
        assert_eq!(latest(Ok("idle"), Some("working")), Some("idle"));
        let gone = Err(CallError::NotRunning { socket: "queue.json.sock".into() });
        assert_eq!(latest(gone, Some("working")), None);
    }
}
