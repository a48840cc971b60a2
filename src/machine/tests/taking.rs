//! A task is taken, taken back, or was never ours: what is kept of it, what is cleaned up, and what a full disk changes.

use super::waking::{NOW, after, connected, id, looked, stage, waking};
use crate::machine::*;

fn task(name: &str, generation: u64) -> Task {
    Task { id: TaskId::new(name).unwrap(), generation, payload: "{}".into() }
}

fn assigned(name: &str, generation: u64) -> Event {
    Event::HubSaid(FromHub::Assigned { task: task(name, generation), assigned_at: None, timeout_ms: None })
}

/// The hub's notice that it has reclaimed the task.
fn reassigned(name: &str, generation: u64) -> Event {
    Event::HubSaid(FromHub::TaskReassigned { task_id: name.into(), generation: Some(generation) })
}

fn closed() -> Event {
    Event::HubClosed { retry_after_ms: None, jitter: Jitter(0), refusal: None }
}

fn online() -> Machine {
    after(Machine::recover(Journal::default(), NOW, &Policy::default()).0, connected())
}

/// One event, and nothing said of the write that it may order.
fn step(machine: Machine, event: Event) -> (Machine, Vec<Effect>) {
    transition(machine, event, NOW, &Policy::default())
}

fn cleans_up(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::CleanUp { task_id, .. } if *task_id == id()))
}

/// What becomes of a job of a process before this one, in that stage, when the hub has given it to somebody else.
fn given_away(stage: Stage) -> (Machine, Vec<Effect>) {
    let job = Some(PersistedJob {
        task: task("t", 1),
        stage,
        woken: None,
        machine_boot: String::new(),
        assigned_at: None,
        limit: None,
    });
    let recovered = Machine::recover(Journal { job, ..Journal::default() }, NOW, &Policy::default()).0;
    step(
        after(recovered, connected()),
        Event::HubSaid(FromHub::TaskReassigned { task_id: "t".into(), generation: None }),
    )
}

#[test]
fn only_work_that_somebody_may_be_at_is_kept_for_its_next_hand_out() {
    for idle in [Stage::Accepted, Stage::RetryingWake { at: NOW, attempt: 1 }] {
        let (machine, effects) = given_away(idle);
        assert_eq!((machine.state.phase(), machine.parked.items().len()), (Phase::Idle, 0));
        assert!(cleans_up(&effects), "{effects:?}");
    }
    let (machine, effects) = given_away(Stage::Running);
    assert_eq!((machine.state.phase(), machine.parked.items().len()), (Phase::Idle, 1));
    assert!(!cleans_up(&effects), "{effects:?}");
}

/// A machine that asks about a job of its journal, which runs under generation 7.
fn recovering_at_seven() -> Machine {
    let job = PersistedJob {
        task: task("t", 7),
        stage: Stage::Running,
        woken: Some(7),
        machine_boot: String::new(),
        assigned_at: None,
        limit: None,
    };
    let recovered = Machine::recover(Journal { job: Some(job), ..Journal::default() }, NOW, &Policy::default()).0;
    after(recovered, connected())
}

/// A hub whose store was put back from a copy knows a lower generation than the agent's journal.
#[test]
fn a_recovering_job_is_parked_whatever_generation_the_hub_names_and_one_in_hand_is_not() {
    let recovering = recovering_at_seven();
    let parked = step(recovering.clone(), reassigned("t", 5)).0;
    assert_eq!((parked.state.phase(), parked.parked.items().len()), (Phase::Idle, 1));
    let goes_on = FromHub::TaskContinue { task_id: "t".into(), generation: Some(7) };
    let ours = step(recovering, Event::HubSaid(goes_on)).0;
    assert_eq!(step(ours.clone(), reassigned("t", 6)).0.state.phase(), Phase::Working);
    assert_eq!(step(ours.clone(), reassigned("u", 7)).0.state.phase(), Phase::Working);
    let parked = step(ours, reassigned("t", 7)).0;
    assert_eq!((parked.state.phase(), parked.parked.items().len()), (Phase::Idle, 1));
}

#[test]
fn a_deferred_assignment_that_the_hub_reclaims_is_dropped_unless_a_later_one_came() {
    let deferred = step(recovering_at_seven(), assigned("u", 3)).0;
    let is_deferred = |machine: &Machine| machine.deferred.is_some();
    assert!(is_deferred(&deferred));
    assert!(is_deferred(&step(deferred.clone(), reassigned("u", 2)).0));
    assert!(!is_deferred(&step(deferred, reassigned("u", 3)).0));
}

#[test]
fn a_wake_that_was_never_ordered_leaves_no_work_to_keep() {
    // The disk has not yet confirmed the stage `waking`: nothing runs.
    let accepted = step(step(online(), assigned("t", 1)).0, Event::Persisted).0;
    assert_eq!(stage(&accepted), Some(Stage::Waking { attempt: 1 }));
    let back = [closed(), Event::DeadlineReached].into_iter().chain(connected());
    let planned = back.fold(accepted, |machine, event| step(machine, event).0);
    let no = FromHub::ReportAnswered { task_id: "t".into(), go_on: false };
    let (machine, effects) = step(planned, Event::HubSaid(no));
    assert_eq!((machine.state.phase(), machine.parked.items().len()), (Phase::Idle, 0));
    assert!(cleans_up(&effects), "{effects:?}");
}

#[test]
fn a_failed_write_drops_no_task_that_the_disk_holds_already() {
    let (writing, _) = step(online(), assigned("t", 1));
    let offline = step(step(writing, closed()).0, Event::Persisted).0;
    assert_eq!(stage(&offline), Some(Stage::Accepted));
    let (writing, _) = step(offline, Event::CordonRequested { on: true, to: None });
    assert!(matches!(writing.disk, Disk::Writing { .. }));
    assert_eq!(stage(&step(writing, Event::PersistFailed).0), Some(Stage::Accepted));
}

#[test]
fn a_task_that_a_failed_write_kept_off_the_disk_is_refused_though_another_is_there() {
    let confirmed = Event::Confirmed { task_id: id() };
    let outcome = Outcome::failed("no luck");
    let running = after(waking(), [confirmed]);
    let (writing, _) = step(running, Event::ResultFound { task_id: id(), outcome });
    let (both, _) = step(writing, assigned("u", 1));
    assert_eq!(stage(&both), Some(Stage::Accepted));
    assert_eq!(both.durable.job.as_ref().map(|persisted| &persisted.task.id), Some(&id()));
    let refused = step(both, Event::PersistFailed).0;
    assert_eq!(refused.state.phase(), Phase::Idle);
}

fn verdict(generation: u64, outcome: Outcome) -> Verdict {
    Verdict {
        task_id: id(),
        generation,
        outcome,
        accept_first: false,
        no_session_came: false,
        result_read: false,
        refusals: 0,
    }
}

/// Online, with this verdict on its way, and then the task is handed out anew.
fn handed_out_anew(outcome: Outcome) -> Machine {
    let outbox = vec![verdict(1, outcome)];
    let recovered = Machine::recover(Journal { outbox, ..Journal::default() }, NOW, &Policy::default()).0;
    step(after(recovered, connected()), assigned("t", 2)).0
}

#[test]
fn a_result_on_its_way_answers_the_next_hand_out_too() {
    let done = Outcome::Completed { result: r#"{"output":"o"}"#.into() };
    let machine = handed_out_anew(done.clone());
    assert_eq!(machine.state.phase(), Phase::Idle);
    let second = Verdict { accept_first: true, ..verdict(2, done.clone()) };
    assert_eq!(machine.outbox.to_journal(), [verdict(1, done), second]);
}

#[test]
fn a_failure_on_its_way_answers_no_other_hand_out() {
    let machine = handed_out_anew(Outcome::failed("no luck"));
    assert_eq!((machine.state.phase(), machine.outbox.len()), (Phase::Working, 1));
}

#[test]
fn the_files_of_a_task_that_is_in_hand_again_are_left_to_the_work_on_it() {
    let cleans_up_after = |next: &str| {
        let running = after(waking(), [Event::Confirmed { task_id: id() }]);
        let outcome = Outcome::failed("no luck");
        let (writing, _) = step(running, Event::ResultFound { task_id: id(), outcome });
        let (again, _) = step(writing, assigned(next, 2));
        cleans_up(&step(again, Event::Persisted).1)
    };
    assert_eq!((cleans_up_after("u"), cleans_up_after("t")), (true, false));
}

#[test]
fn the_look_for_a_result_from_before_a_reboot_is_as_long_as_promised() {
    let policy = Policy { machine_boot: "after".into(), ..Policy::default() };
    let (woken, machine_boot) = (Some(1), "before".into());
    let job = Some(PersistedJob {
        task: task("t", 1),
        stage: Stage::Running,
        woken,
        machine_boot,
        assigned_at: None,
        limit: None,
    });
    let events = connected()
        .into_iter()
        .chain([Event::HubSaid(FromHub::TaskContinue { task_id: "t".into(), generation: Some(1) })]);
    let recovered = Machine::recover(Journal { job, ..Journal::default() }, NOW, &policy).0;
    let machine = events.fold(recovered, |machine, event| transition(machine, event, NOW, &policy).0);
    let until = NOW.plus(policy.look_ms);
    assert_eq!(stage(&machine), Some(Stage::Interrupted { until }));
    let early = transition(machine.clone(), Event::DeadlineReached, until.minus(1), &policy).0;
    assert_eq!(stage(&early), Some(Stage::Interrupted { until }));
    let due = looked(machine, until, &policy);
    assert_eq!((due.state.phase(), due.outbox.len()), (Phase::Idle, 1));
}

/// Online, after the task was given up since nobody had shown himself, and the hub has heard of it.
fn given_up() -> Machine {
    let policy = Policy::default();
    let awaiting = after(waking(), [woken()]);
    let late = NOW.plus(policy.confirmation_timeout_ms);
    let failed = looked(awaiting, late, &policy);
    let acknowledged = Event::HubSaid(FromHub::VerdictAcknowledged { task_id: "t".into() });
    let machine = after(transition(failed, Event::Persisted, late, &policy).0, [acknowledged]);
    assert_eq!((machine.state.phase(), machine.outbox.len()), (Phase::Idle, 0));
    machine
}

fn woken() -> Event {
    Event::WakeFinished { task_id: id(), generation: 1, attempt: 1, outcome: WakeOutcome::Succeeded }
}

fn drops_sign(effects: &[Effect]) -> bool {
    effects.contains(&Effect::DropSign { task_id: id() })
}

#[test]
fn a_sign_that_nobody_remembers_goes_before_anything_is_promised() {
    let (_, effects) = step(online(), assigned("t", 1));
    let names: Vec<EffectName> = effects.iter().map(EffectName::from).collect();
    assert_eq!(names, [EffectName::DropSign, EffectName::Notify, EffectName::Persist]);
    assert!(drops_sign(&effects));
}

#[test]
fn a_task_that_was_given_up_is_looked_for_before_it_is_woken_again() {
    let (machine, effects) = step(given_up(), assigned("t", 2));
    let until = NOW.plus(Policy::default().look_ms);
    assert_eq!(stage(&machine), Some(Stage::AwaitingConfirmation { until }));
    assert!(!drops_sign(&effects), "{effects:?}");
    let machine = after(machine, [Event::Persisted, Event::Confirmed { task_id: id() }]);
    assert_eq!(stage(&machine), Some(Stage::Running));
}

#[test]
fn a_task_that_is_not_counted_is_woken_anew_after_it_was_given_up() {
    let policy = Policy::default();
    let machine = after(given_up(), [assigned("t", 0)]);
    let machine = looked(machine, NOW.plus(policy.look_ms), &policy);
    assert_eq!(stage(&machine), Some(Stage::Waking { attempt: 1 }));
}

#[test]
fn files_of_a_session_that_may_yet_come_outlast_a_crash_while_a_verdict_is_unanswered() {
    let recovered = |verdicts: &[(u64, &str, bool)]| {
        let verdict = |(generation, reason, no_session_came): &(u64, &str, bool)| {
            let outcome = Outcome::failed(reason);
            Verdict {
                task_id: id(),
                generation: *generation,
                outcome,
                accept_first: false,
                no_session_came: *no_session_came,
                result_read: false,
                refusals: 0,
            }
        };
        let journal = Journal { outbox: verdicts.iter().map(verdict).collect(), ..Journal::default() };
        cleans_up(&Machine::recover(journal, NOW, &Policy::default()).1)
    };
    assert!(!recovered(&[(1, "confirmation_timeout", true)]));
    assert!(recovered(&[(1, "confirmation_timeout", false)]), "an agent may say so of itself");
    assert!(!recovered(&[(1, "no luck", false), (3, "no_executor", true)]), "what was before is cleaned up by then");
    assert!(recovered(&[(1, "no luck", true), (3, "no luck", false)]));
}

#[test]
fn who_is_expected_for_a_cancelled_task_leaves_nothing_behind() {
    let cancelled = Event::HubSaid(FromHub::TaskCancelled { task_id: "t".into() });
    let (machine, effects) = step(given_up(), cancelled.clone());
    assert!(cleans_up(&effects));
    assert!(!cleans_up(&step(after(machine, [Event::Persisted]), cancelled).1), "nobody is expected any more");
}

#[test]
fn after_a_reboot_only_a_result_is_looked_for() {
    let policy = Policy { machine_boot: "after".into(), ..Policy::default() };
    let events = connected().into_iter().chain([assigned("t", 2)]);
    let recovered = Machine::recover(given_up().durable, NOW, &policy).0;
    let machine = events.fold(recovered, |machine, event| transition(machine, event, NOW, &policy).0);
    assert_eq!(stage(&machine), Some(Stage::Interrupted { until: NOW.plus(policy.look_ms) }));
}

#[test]
fn nobody_is_expected_for_a_task_that_was_cancelled_or_done_since() {
    let cancelled = Event::HubSaid(FromHub::TaskCancelled { task_id: "t".into() });
    let done = Event::ResultFound { task_id: id(), outcome: Outcome::Completed { result: "{}".into() } };
    let failed = Event::ResultFound { task_id: id(), outcome: Outcome::failed("no luck") };
    let expected = |events: Vec<Event>| after(given_up(), events).late_sessions.items().len();
    assert_eq!(expected(vec![]), 1);
    assert_eq!(expected(vec![cancelled]), 0);
    assert_eq!(expected(vec![assigned("t", 2), done]), 0);
    assert_eq!(expected(vec![assigned("t", 2), failed]), 1);
}

#[test]
fn a_task_that_was_given_up_is_new_work_behind_a_cordon() {
    let machine = after(given_up(), [Event::CordonRequested { on: true, to: None }]);
    assert_eq!(step(machine, assigned("t", 2)).0.state.phase(), Phase::Idle);
}

#[test]
fn a_failed_write_keeps_work_from_the_shelf_and_refuses_what_was_only_looked_for() {
    let refused = step(step(given_up(), assigned("t", 2)).0, Event::PersistFailed).0;
    assert_eq!((refused.state.phase(), refused.late_sessions.items().len()), (Phase::Idle, 1));
    let (parked, _) = given_away(Stage::Running);
    let kept = step(after(parked, [Event::Persisted]), assigned("t", 2)).0;
    assert_eq!(step(kept, Event::PersistFailed).0.state.phase(), Phase::Working);
}
