//! Concludes how the run before ended from its last lines in the history, what the journal says, what the machine says now
//! and what pm2 saw. Pure.

use crate::machine::PreviousEnd;
use crate::sidecar::history::{EndCause, Entry, HistoryEvent, RunEnd};
use crate::sidecar::previous_run::PreviousRun;
use crate::sidecar::previous_run::facts::Facts;
use crate::sidecar::previous_run::pm2_log::Pm2End;

/// Two clocks of one machine that differ by less than this were not set, in ms.
const CLOCK_TOLERANCE_MS: i64 = 1_000;
/// The signals by which the kernel ends a program for an error of its own (signal(7)).
const FAULTS: [&str; 8] = ["SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP", "SIGXCPU"];

/// The run before, as its lines in the history have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LastRun {
    /// Its id.
    pub(super) boot_id: String,
    /// Its process id.
    pub(super) pid: Option<u32>,
    /// The machine's boot in which it began.
    machine_boot: Option<String>,
    /// The last count of processes that were killed for memory, while it ran.
    oom_kills: Option<u64>,
    /// How it ended, if it ended by itself: why, and at whose wish.
    said: Option<(EndCause, String, Option<String>)>,
    /// The error that it ended with, if it noted one.
    error: Option<String>,
    /// The wall clock and the machine's uptime at its last line, in ms.
    last_seen: (u64, Option<u64>),
}

impl LastRun {
    /// Returns the last run that these lines, oldest first, speak of.
    pub(super) fn of(entries: &[Entry]) -> Option<Self> {
        let boot_id = entries.last()?.boot_id.clone();
        let mut run = Self { boot_id, ..Self::default() };
        for entry in entries.iter().filter(|entry| entry.boot_id == run.boot_id) {
            run.last_seen = (entry.at_ms, entry.uptime_ms);
            match &entry.what {
                HistoryEvent::RunStarted { pid, machine_boot, oom_kills, version: _ } => {
                    run.pid = Some(*pid);
                    (run.machine_boot, run.oom_kills) = (machine_boot.clone(), *oom_kills);
                }
                HistoryEvent::RunEnded { cause, why, by, in_place: _ } => {
                    run.said = Some((*cause, why.clone(), by.clone()));
                }
                HistoryEvent::Panicked { why, in_background: false } => run.error = Some(why.clone()),
                HistoryEvent::StartFailed { why, exit_code } => run.error = Some(format!("exit {exit_code}: {why}")),
                HistoryEvent::KilledForMemory { count } => run.oom_kills = Some(*count),
                HistoryEvent::Panicked { in_background: true, .. }
                | HistoryEvent::RunBefore { .. }
                | HistoryEvent::TaskTaken { .. }
                | HistoryEvent::TaskEnded { .. }
                | HistoryEvent::RestartAccepted { .. }
                | HistoryEvent::RestartRefused { .. }
                | HistoryEvent::RestartCancelled { .. }
                | HistoryEvent::Returned { .. }
                | HistoryEvent::Draining { .. } => {}
            }
        }
        Some(run)
    }

    /// Returns how far its clock was behind the present one, in ms: what the wall clock shows beyond the time that has
    /// passed since. 0 for what nobody set a clock by, and after a reboot, across which nothing tells.
    fn clock_step_ms(&self, now: &Facts) -> i64 {
        let (at, uptime) = self.last_seen;
        let (Some(then_up), Some(now_up)) = (uptime, now.uptime_ms) else { return 0 };
        if self.machine_boot.is_none() || self.machine_boot != now.machine_boot {
            return 0;
        }
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let step = signed(now.now_ms).saturating_sub(signed(at)) - signed(now_up).saturating_sub(signed(then_up));
        if step.abs() < CLOCK_TOLERANCE_MS { 0 } else { step }
    }
}

/// Concludes how the run ended.
pub(super) fn decide(last: &LastRun, journal: PreviousEnd, now: &Facts, pm2: Option<&Pm2End>) -> PreviousRun {
    let (end, why) = end_of(last, journal, now, pm2);
    let clock_step_ms = last.clock_step_ms(now);
    PreviousRun {
        boot_id: last.boot_id.clone(),
        end,
        why,
        last_seen_at_ms: last.last_seen.0.saturating_add_signed(clock_step_ms),
        clock_step_ms,
    }
}

fn end_of(last: &LastRun, journal: PreviousEnd, now: &Facts, pm2: Option<&Pm2End>) -> (RunEnd, String) {
    match (&last.said, &last.error, journal) {
        (Some((EndCause::Restart, reason, by)), _, _) => {
            let by = by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
            return (RunEnd::Restart, format!("\"{reason}\"{by}"));
        }
        (Some((EndCause::Stop, signal, _)), _, _) => return (RunEnd::Stop, format!("{signal}{}", asked(pm2))),
        (None, Some(error), _) => return (RunEnd::Crashed, error.clone()),
        // The history's disk did not take its last line.
        (None, None, PreviousEnd::Restarted) => return (RunEnd::Restart, "as the journal has it".to_owned()),
        (None, None, PreviousEnd::Stopped) => return (RunEnd::Stop, format!("as the journal has it{}", asked(pm2))),
        (None, None, PreviousEnd::Unknown) => {}
    }
    if let (Some(then), Some(now)) = (&last.machine_boot, &now.machine_boot)
        && then != now
    {
        return (RunEnd::Rebooted, "the machine was rebooted, or its container started anew".to_owned());
    }
    if let (Some(then), Some(now)) = (last.oom_kills, now.oom_kills)
        && now > then
    {
        let why = format!(
            "the kernel killed it, or a process beside it, for memory ({then} so far in its cgroup, now {now})"
        );
        return (RunEnd::OutOfMemory, why);
    }
    if let Some(pm2) = pm2 {
        return seen_by(pm2);
    }
    match &last.machine_boot {
        // Every end of its own is noted.
        Some(_) => (RunEnd::Killed, "by a signal that cannot be answered, such as SIGKILL".to_owned()),
        None => (RunEnd::Lost, "killed, or crashed".to_owned()),
    }
}

/// Returns pm2's part in a stop.
fn asked(pm2: Option<&Pm2End>) -> &'static str {
    match pm2 {
        Some(pm2) if pm2.used_too_much => " from pm2: it used more than max_memory_restart",
        Some(pm2) if pm2.was_asked => " from pm2, which was told to stop or restart it",
        Some(_) | None => "",
    }
}

/// Returns how pm2 saw an end that the run itself did not note.
fn seen_by(pm2: &Pm2End) -> (RunEnd, String) {
    let Pm2End { exit_code, signal, .. } = pm2;
    if pm2.was_killed {
        return (RunEnd::Killed, format!("{signal} from pm2: it had not ended within kill_timeout"));
    }
    if FAULTS.contains(&signal.as_str()) {
        return (RunEnd::Crashed, format!("{signal}, as pm2 saw"));
    }
    match (exit_code, signal.as_str()) {
        // What pm2 writes where there was no signal.
        (0, "SIGINT") => (RunEnd::Lost, "exit 0, as pm2 saw; why is not noted".to_owned()),
        (0, signal) => (RunEnd::Killed, format!("{signal}, as pm2 saw")),
        (code, _) => (RunEnd::Crashed, format!("exit {code}, as pm2 saw")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "m1";

    fn entry(at_ms: u64, what: HistoryEvent) -> Entry {
        Entry { at_ms, uptime_ms: Some(at_ms - 1_000), boot_id: "b".into(), what }
    }

    fn started() -> Entry {
        let (version, machine_boot) = ("1".to_owned(), Some(BOOT.to_owned()));
        entry(10_000, HistoryEvent::RunStarted { version, pid: 7, machine_boot, oom_kills: Some(2) })
    }

    fn now() -> Facts {
        Facts { now_ms: 60_000, machine_boot: Some(BOOT.to_owned()), uptime_ms: Some(59_000), oom_kills: Some(2) }
    }

    fn pm2(exit_code: i32, signal: &str) -> Pm2End {
        Pm2End { exit_code, signal: signal.to_owned(), ..Pm2End::default() }
    }

    fn end(more: Vec<HistoryEvent>, journal: PreviousEnd, now: &Facts, pm2: Option<&Pm2End>) -> (RunEnd, String) {
        let mut entries = vec![started()];
        entries.extend(more.into_iter().map(|what| entry(20_000, what)));
        let run = decide(&LastRun::of(&entries).unwrap(), journal, now, pm2);
        (run.end, run.why)
    }

    fn said(cause: EndCause, why: &str, by: Option<&str>) -> Vec<HistoryEvent> {
        vec![HistoryEvent::RunEnded { cause, why: why.into(), by: by.map(str::to_owned), in_place: false }]
    }

    fn lost(now: &Facts, pm2: Option<&Pm2End>) -> (RunEnd, String) {
        end(vec![], PreviousEnd::Unknown, now, pm2)
    }

    #[test]
    fn an_end_that_the_run_noted_counts_whatever_else_happened_since() {
        let rebooted = Facts { machine_boot: Some("m2".into()), oom_kills: Some(9), ..now() };
        let restart = said(EndCause::Restart, "upgrade", Some("ops"));
        let (end_is, why) = end(restart, PreviousEnd::Restarted, &rebooted, Some(&pm2(0, "SIGKILL")));
        assert_eq!((end_is, why.as_str()), (RunEnd::Restart, "\"upgrade\", by ops"));
        let stop = || said(EndCause::Stop, "SIGINT", None);
        assert_eq!(end(stop(), PreviousEnd::Stopped, &now(), None), (RunEnd::Stop, "SIGINT".to_owned()));
        let asked = Pm2End { was_asked: true, ..pm2(0, "SIGINT") };
        assert!(end(stop(), PreviousEnd::Stopped, &now(), Some(&asked)).1.starts_with("SIGINT from pm2, which"));
        let hungry = Pm2End { used_too_much: true, ..asked };
        assert!(end(stop(), PreviousEnd::Stopped, &now(), Some(&hungry)).1.contains("max_memory_restart"));
        // The journal is written before the history.
        assert_eq!(end(vec![], PreviousEnd::Stopped, &rebooted, None).0, RunEnd::Stop);
        assert_eq!(end(vec![], PreviousEnd::Restarted, &rebooted, None).0, RunEnd::Restart);
    }

    #[test]
    fn what_ended_a_run_that_noted_nothing_is_concluded() {
        let panicked = |in_background| vec![HistoryEvent::Panicked { why: "at a.rs:1: no".into(), in_background }];
        let of_main = end(panicked(false), PreviousEnd::Unknown, &now(), None);
        assert_eq!(of_main, (RunEnd::Crashed, "at a.rs:1: no".to_owned()));
        assert_eq!(end(panicked(true), PreviousEnd::Unknown, &now(), None).0, RunEnd::Killed, "it went on");
        let rebooted = Facts { machine_boot: Some("m2".into()), oom_kills: Some(0), ..now() };
        assert_eq!(lost(&rebooted, Some(&pm2(0, "SIGKILL"))).0, RunEnd::Rebooted);
        let starved = Facts { oom_kills: Some(3), ..now() };
        assert_eq!(lost(&starved, Some(&pm2(0, "SIGKILL"))).0, RunEnd::OutOfMemory);
        // That one was another process's, a while before.
        let seen = vec![HistoryEvent::KilledForMemory { count: 3 }];
        assert_eq!(end(seen, PreviousEnd::Unknown, &starved, None).0, RunEnd::Killed);
        assert_eq!(lost(&now(), Some(&pm2(0, "SIGKILL"))), (RunEnd::Killed, "SIGKILL, as pm2 saw".to_owned()));
        assert_eq!(lost(&now(), Some(&pm2(0, "SIGSEGV"))).0, RunEnd::Crashed);
        assert_eq!(lost(&now(), Some(&pm2(101, "SIGINT"))), (RunEnd::Crashed, "exit 101, as pm2 saw".to_owned()));
        assert_eq!(lost(&now(), Some(&pm2(0, "SIGINT"))).0, RunEnd::Lost);
        let late = Pm2End { was_asked: true, was_killed: true, ..pm2(0, "SIGKILL") };
        assert!(lost(&now(), Some(&late)).1.contains("kill_timeout"));
        assert_eq!(lost(&now(), None).0, RunEnd::Killed);
    }

    #[test]
    fn a_run_of_an_older_version_is_lost_and_no_more_is_claimed() {
        let old = r#"{"at_ms":1,"boot_id":"b","event":"run_started","version":"0.1.0","pid":7}"#;
        let last = LastRun::of(&[serde_json::from_str(old).unwrap()]).unwrap();
        assert_eq!(decide(&last, PreviousEnd::Unknown, &now(), None).end, RunEnd::Lost);
        assert_eq!(LastRun::of(&[]), None);
    }

    #[test]
    fn a_clock_that_was_set_while_the_run_before_went_on_counts_too() {
        // Its own clock does not follow: the machine was up for 8 h more than it knows of.
        let hours = 8 * 3_600_000;
        let line = HistoryEvent::KilledForMemory { count: 2 };
        let suspended = Entry { uptime_ms: Some(19_000 + hours), ..entry(20_000, line.clone()) };
        let step = |last: Entry, now: &Facts| {
            let run = LastRun::of(&[started(), last]).unwrap();
            decide(&run, PreviousEnd::Unknown, now, None).clock_step_ms
        };
        let now = |now_ms, up| Facts { now_ms, uptime_ms: Some(up), ..now() };
        assert_eq!(step(suspended, &now(30_000 + hours, 29_000 + hours)), hours as i64);
        assert_eq!(step(entry(20_000, line.clone()), &now(30_000 + hours, 29_000)), hours as i64, "it was set");
        assert_eq!(step(entry(20_000 + hours, line), &now(30_000, 29_000 + hours)), -(hours as i64), "and set back");
    }

    #[test]
    fn a_clock_that_was_set_is_seen_within_one_boot_of_the_machine() {
        let step = |now: &Facts| {
            let run = decide(&LastRun::of(&[started()]).unwrap(), PreviousEnd::Unknown, now, None);
            (run.clock_step_ms, run.last_seen_at_ms)
        };
        assert_eq!(step(&now()), (0, 10_000));
        assert_eq!(step(&Facts { now_ms: 60_900, ..now() }), (0, 10_000));
        let hours = 8 * 3_600_000;
        assert_eq!(step(&Facts { now_ms: 60_000 + hours, ..now() }), (hours as i64, 10_000 + hours));
        assert_eq!(step(&Facts { now_ms: 51_000, ..now() }), (-9_000, 1_000));
        assert_eq!(step(&Facts { now_ms: 60_000 + hours, machine_boot: Some("m2".into()), ..now() }), (0, 10_000));
        assert_eq!(step(&Facts { now_ms: 0, uptime_ms: None, ..now() }), (0, 10_000));
    }
}
