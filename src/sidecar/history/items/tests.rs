use super::*;

fn entry(at_ms: u64, boot_id: &str, what: HistoryEvent) -> Entry {
    Entry { at_ms, uptime_ms: None, boot_id: boot_id.into(), what }
}

fn started(at_ms: u64, boot_id: &str, pid: u32) -> Entry {
    entry(at_ms, boot_id, HistoryEvent::RunStarted { version: "1".into(), pid, machine_boot: None, oom_kills: None })
}

fn accepted(at_ms: u64, boot_id: &str) -> Entry {
    let by = Some("operator".into());
    entry(at_ms, boot_id, HistoryEvent::RestartAccepted { reason: "upgrade".into(), command_id: None, by })
}

fn ended(at_ms: u64, boot_id: &str, cause: EndCause) -> Entry {
    entry(at_ms, boot_id, HistoryEvent::RunEnded { cause, why: "why".into(), by: None, in_place: false })
}

/// Every item in a word or two, newest first.
fn told(entries: &[Entry], running: Option<u32>) -> Vec<String> {
    let word = |item: &Item| match &item.what {
        What::Run { end, .. } => format!("run {end}"),
        What::Task { task_id, outcome, duration_ms, .. } => {
            format!("{task_id} {outcome:?} {duration_ms:?}")
        }
        What::Restart { planned, outcome, gap_ms, .. } => {
            format!("{} {outcome} {gap_ms:?}", if *planned { "restart" } else { "unplanned" })
        }
        What::Drain {} => format!("drain {:?}", item.ended_at_ms),
    };
    items_of(entries, running).iter().map(word).collect()
}

#[test]
fn a_restart_joins_two_runs() {
    let returned = HistoryEvent::Returned { reason: "upgrade".into(), command_id: None, gap_ms: Some(36) };
    let entries = [
        started(1, "a", 7),
        accepted(2, "a"),
        ended(3, "a", EndCause::Restart),
        started(4, "b", 8),
        entry(5, "b", returned),
    ];
    assert_eq!(told(&entries, Some(8)), ["run running", "restart back Some(36)", "run restart"]);
    assert_eq!(told(&entries[..4], None), ["run lost", "restart back None", "run restart"]);
    assert_eq!(told(&entries[..2], Some(7)), ["restart open None", "run running"]);
}

#[test]
fn a_run_that_did_not_say_that_it_ends_was_lost() {
    let entries = [started(1, "a", 7), started(9, "b", 8), ended(10, "b", EndCause::Stop)];
    assert_eq!(told(&entries, None), ["run stop", "unplanned back None", "run lost"]);
    // Another process has its number now: it is the state folder's holder that counts.
    assert_eq!(told(&entries[..1], Some(8)), ["run lost"]);
}

#[test]
fn what_the_next_run_finds_of_an_end_is_told_of_the_run_and_of_the_restart() {
    let found = |at_ms, end| entry(at_ms, "b", HistoryEvent::RunBefore { end, why: "SIGKILL".into() });
    let entries = [started(1, "a", 7), started(9, "b", 8), found(9, RunEnd::Killed)];
    assert_eq!(told(&entries, Some(8)), ["run running", "unplanned back None", "run killed"]);
    let items = items_of(&entries, Some(8));
    let What::Restart { detail: Some(detail), .. } = &items[1].what else { panic!("{items:?}") };
    assert_eq!(detail, "the run before ended as killed: SIGKILL");
    // A run that said how it ends is believed.
    let entries = [started(1, "a", 7), ended(2, "a", EndCause::Stop), started(9, "b", 8), found(9, RunEnd::Lost)];
    assert_eq!(told(&entries, Some(8)), ["run running", "run stop"]);
}

#[test]
fn a_start_that_failed_is_a_run_that_crashed_and_leaves_a_restart_open() {
    let failed = HistoryEvent::StartFailed { exit_code: 74, why: "no disk".into() };
    let entries = [started(1, "a", 7), accepted(2, "a"), ended(3, "a", EndCause::Restart), entry(4, "b", failed)];
    assert_eq!(told(&entries, None), ["run crashed", "restart open None", "run restart"]);
    let What::Run { why, exit_code, .. } = &items_of(&entries, None)[0].what else { panic!() };
    assert_eq!((why.as_deref(), *exit_code), (Some("no disk"), Some(74)));
}

#[test]
fn a_restart_that_is_cancelled_or_met_by_a_stop_led_to_no_run() {
    let cancelled = entry(3, "a", HistoryEvent::RestartCancelled { reason: "upgrade".into() });
    let entries = [started(1, "a", 7), accepted(2, "a"), cancelled, accepted(4, "a"), ended(5, "a", EndCause::Stop)];
    assert_eq!(told(&entries, None), ["restart stopped None", "restart cancelled None", "run stop"]);
}

#[test]
fn a_task_lasts_across_runs() {
    let taken = HistoryEvent::TaskTaken { task_id: "t".into(), generation: 1 };
    let done =
        HistoryEvent::TaskEnded { task_id: "t".into(), generation: 2, outcome: TaskOutcome::Completed, why: None };
    let entries = [
        started(1, "a", 7),
        entry(2, "a", taken),
        ended(3, "a", EndCause::Stop),
        started(4, "b", 8),
        entry(9, "b", done),
    ];
    assert_eq!(told(&entries, Some(8)), ["run running", "t Some(Completed) Some(7)", "run stop"]);
    // What began before the oldest line that is kept.
    assert_eq!(told(&entries[3..], Some(8)), ["t Some(Completed) None", "run running"]);
}

#[test]
fn a_drain_lasts_until_resume() {
    let draining = |at_ms, on| entry(at_ms, "a", HistoryEvent::Draining { on });
    assert_eq!(told(&[draining(2, true), draining(5, false)], None), ["drain Some(5)", "run lost"]);
}
