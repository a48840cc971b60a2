//! A verdict that the hub will not take: its result is kept for the task's next assignment, unless there is newer work on it.

use crate::machine::*;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn verdict(id: &str, generation: u64) -> Verdict {
    let outcome = Outcome::Completed { result: "{}".into() };
    Verdict {
        task_id: TaskId::new(id).unwrap(),
        generation,
        outcome,
        accept_first: false,
        no_session_came: false,
        result_read: false,
        refusals: 0,
    }
}

fn job(id: &str) -> Option<PersistedJob> {
    let task = Task { id: TaskId::new(id).unwrap(), generation: 2, payload: "{}".into() };
    Some(PersistedJob {
        task,
        stage: Stage::Running,
        woken: None,
        machine_boot: String::new(),
        assigned_at: None,
        limit: None,
    })
}

/// What becomes of a result that the hub refuses.
#[derive(Debug, PartialEq)]
enum Fate {
    Parked,
    PutAside,
    Gone,
}

/// What becomes of the result of "t" when the hub refuses its first verdict, and these things are there besides.
fn fate(job: Option<PersistedJob>, others: &[Verdict]) -> Fate {
    let outbox = [&[verdict("t", 1)], others].concat();
    let policy = Policy::default();
    let (machine, _) = Machine::recover(Journal { job, outbox, ..Journal::default() }, NOW, &policy);
    let events = [
        Event::HubOpened,
        Event::HubSaid(FromHub::Identified { features: Features::default() }),
        Event::HubSaid(FromHub::VerdictRefused { complete: true, why: VerdictRefusal::NotNow, of: None }),
    ];
    let machine = events.into_iter().fold(machine, |machine, event| transition(machine, event, NOW, &policy).0);
    let here = |pending: &&PendingVerdict| pending.verdict.task_id.as_str() == "t" && pending.verdict.generation == 1;
    match machine.outbox.pending().find(here).map(|pending| &pending.delivery) {
        Some(Delivery::GivenUp { fails: false, .. }) => Fate::PutAside,
        Some(other) => panic!("it was answered, and is {other:?}"),
        None if machine.parked.items().is_empty() => Fate::Gone,
        None => Fate::Parked,
    }
}

#[test]
fn a_refused_result_is_kept_for_the_next_assignment() {
    assert_eq!(fate(None, &[]), Fate::Parked);
    assert_eq!(fate(job("u"), &[]), Fate::Parked);
    assert_eq!(fate(None, &[verdict("u", 1)]), Fate::Parked);
}

#[test]
fn a_refused_result_is_put_aside_beside_newer_work_unless_it_is_its_result_too() {
    let failed = Verdict { outcome: Outcome::failed("no luck"), ..verdict("t", 2) };
    assert_eq!(fate(job("t"), &[]), Fate::PutAside);
    assert_eq!(fate(None, &[failed]), Fate::PutAside);
    assert_eq!(fate(None, &[verdict("t", 2)]), Fate::Gone);
    assert_eq!(fate(job("t"), &[verdict("t", 2)]), Fate::Gone);
}

#[test]
fn a_result_that_is_parked_no_longer_is_put_aside_and_stays_in_the_journal_until_it_is_written() {
    let policy = Policy::default();
    let parked = |n: usize| ParkedTask::Finished {
        task_id: TaskId::new(&alloc::format!("t{n}")).unwrap(),
        generation: 7,
        result: "{}".into(),
    };
    let parked: Vec<_> = (0..PARKED_WORK_CAP).map(parked).collect();
    let journal = Journal { parked, outbox: vec![verdict("t", 1)], ..Journal::default() };
    let (machine, _) = Machine::recover(journal, NOW, &policy);
    let events = [
        Event::HubOpened,
        Event::HubSaid(FromHub::Identified { features: Features::default() }),
        Event::HubSaid(FromHub::VerdictRefused { complete: true, why: VerdictRefusal::NotNow, of: None }),
        Event::Persisted,
    ];
    let mut effects = Vec::new();
    let machine = events.into_iter().fold(machine, |machine, event| {
        let (machine, ordered) = transition(machine, event, NOW, &policy);
        effects.extend(ordered);
        machine
    });
    let t0 = TaskId::new("t0").unwrap();
    let kept = Effect::KeepRefused { task_id: t0.clone(), generation: 7, result: "{}".into() };
    assert!(effects.contains(&kept), "{effects:?}");
    assert!(machine.durable.outbox.iter().any(|verdict| verdict.task_id == t0));
    let written = Event::RefusedResultWritten { task_id: t0.clone(), generation: 7, path: Some("there".into()) };
    let (machine, _) = transition(machine, written, NOW, &policy);
    assert!(machine.outbox.is_empty(), "{:?}", machine.outbox);
    assert_eq!(machine.parked.items().len(), PARKED_WORK_CAP);
}

/// The outbox after the verdict on "t" was sent, and the hub refused the one of this name in this way.
fn after_refusal_of(task_id: &str, generation: u64, known: bool) -> Vec<(String, u8)> {
    let policy = Policy::default();
    let journal = Journal { outbox: vec![verdict("t", 1), verdict("u", 1)], ..Journal::default() };
    let of = Some(VerdictName { task_id: task_id.into(), generation });
    let refusal = match known {
        true => FromHub::VerdictRefused { complete: true, why: VerdictRefusal::NotNow, of },
        false => FromHub::RefusedInOtherWords { complete: None, error: "no".into(), of },
    };
    let events = [
        Event::HubOpened,
        Event::HubSaid(FromHub::Identified { features: Features::default() }),
        Event::HubSaid(refusal),
    ];
    let (machine, _) = Machine::recover(journal, NOW, &policy);
    let machine = events.into_iter().fold(machine, |machine, event| transition(machine, event, NOW, &policy).0);
    machine.outbox.iter().map(|verdict| (verdict.task_id.to_string(), verdict.refusals)).collect()
}

#[test]
fn a_refusal_that_names_its_verdict_is_for_that_one_alone() {
    let pending = |list: &[(&str, u8)]| list.iter().map(|(id, times)| ((*id).to_owned(), *times)).collect::<Vec<_>>();
    assert_eq!(after_refusal_of("t", 1, true), pending(&[("u", 0)]));
    assert_eq!(after_refusal_of("t", 1, false), pending(&[("t", 1), ("u", 0)]));
    for (task_id, generation) in [("t", 2), ("v", 1), ("u", 1)] {
        for known in [true, false] {
            assert_eq!(after_refusal_of(task_id, generation, known), pending(&[("t", 0), ("u", 0)]), "{task_id}");
        }
    }
}

#[test]
fn a_second_verdict_on_a_hand_out_is_none() {
    let mut outbox = Outbox::default();
    outbox.push(verdict("t", 1), false);
    outbox.push(Verdict { outcome: Outcome::failed("no luck"), ..verdict("t", 1) }, false);
    outbox.push(verdict("t", 2), false);
    assert_eq!(outbox.to_journal(), [verdict("t", 1), verdict("t", 2)]);
}

#[test]
fn a_verdict_is_found_by_task_and_hand_out_and_answers_every_hand_out_before() {
    let outbox = Outbox::recovered(vec![verdict("u", 1), verdict("t", 2)]);
    let (t, u) = (verdict("t", 2).task_id, verdict("u", 1).task_id);
    assert_eq!(outbox.find(&t, 2), Some(&verdict("t", 2)));
    assert_eq!((outbox.find(&t, 1), outbox.find(&t, 3), outbox.find(&u, 2)), (None, None, None));
    assert_eq!([1, 2, 3].map(|generation| outbox.answers(&t, generation)), [true, true, false]);
    assert!(!outbox.answers(&u, 2));
}

#[test]
fn a_late_answer_is_taken_for_the_verdict_that_was_said_twice_and_only_once() {
    let mut outbox = Outbox::recovered(vec![verdict("t", 1), verdict("u", 1)]);
    let say = |outbox: &mut Outbox, times_sent| {
        let head = outbox.head_mut().unwrap();
        (head.sent, head.times_sent) = (Pending::Sent { again_at: NOW }, times_sent);
    };
    say(&mut outbox, 2);
    assert_eq!(outbox.answered("t"), Some(verdict("t", 1)));
    say(&mut outbox, 1);
    assert_eq!(outbox.refused(true), None);
    assert_eq!(outbox.refused(true), Some(verdict("u", 1)));
}

#[test]
fn a_verdict_that_was_in_flight_when_the_link_was_lost_goes_behind_the_others() {
    let after_loss = |sent: Pending| {
        let mut outbox = Outbox::recovered(vec![verdict("t", 1), verdict("u", 1), verdict("v", 1)]);
        outbox.head_mut().unwrap().sent = sent;
        outbox.connection_lost(NOW, &Policy::default());
        assert!(outbox.pending_mut().all(|pending| pending.sent == Pending::Unsent));
        outbox.iter().map(|verdict| verdict.task_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(after_loss(Pending::Sent { again_at: NOW }), ["u", "v", "t"]);
    assert_eq!(after_loss(Pending::Unsent), ["t", "u", "v"]);
}

#[test]
fn without_an_answer_the_others_go_first_and_its_own_may_still_come() {
    let mut outbox = Outbox::recovered(vec![verdict("t", 1), verdict("u", 1)]);
    let say = |outbox: &mut Outbox| {
        let head = outbox.head_mut().unwrap();
        (head.sent, head.times_sent) = (Pending::Sent { again_at: NOW.plus(10) }, head.times_sent + 1);
    };
    say(&mut outbox);
    outbox.rotate_unanswered(NOW);
    assert_eq!(outbox.head().unwrap().verdict, verdict("t", 1), "it is waited for");
    outbox.rotate_unanswered(NOW.plus(10));
    assert_eq!(outbox.in_flight(), None);
    assert_eq!(outbox.head().unwrap().verdict, verdict("u", 1));
    say(&mut outbox);
    assert_eq!(outbox.refused(true), None, "it may be the answer to the first");
    assert_eq!(outbox.refused(true), Some(verdict("u", 1)));
    say(&mut outbox);
    outbox.rotate_unanswered(NOW.plus(10));
    assert_eq!(outbox.in_flight().map(|pending| &pending.verdict), Some(&verdict("t", 1)), "there are no others");
    assert_eq!(outbox.answered("t"), Some(verdict("t", 1)));
}

#[test]
fn a_lost_link_brings_no_late_answer_to_the_next_one() {
    let mut outbox = Outbox::recovered(vec![verdict("t", 1), verdict("u", 1)]);
    let say = |outbox: &mut Outbox, times_sent| {
        let head = outbox.head_mut().unwrap();
        (head.sent, head.times_sent) = (Pending::Sent { again_at: NOW }, times_sent);
    };
    say(&mut outbox, 2);
    outbox.answered("t");
    outbox.connection_lost(NOW, &Policy::default());
    say(&mut outbox, 1);
    assert_eq!(outbox.refused(true), Some(verdict("u", 1)));
}

#[test]
fn with_as_many_verdicts_as_are_kept_no_task_is_taken() {
    let takes = |count: usize| {
        let outbox = (0..count).map(|n| verdict(&format!("t{n}"), 1)).collect();
        let policy = Policy::default();
        let recovered = Machine::recover(Journal { outbox, ..Journal::default() }, NOW, &policy).0;
        let task = Task { id: TaskId::new("u").unwrap(), generation: 1, payload: "{}".into() };
        let events = [
            Event::HubOpened,
            Event::HubSaid(FromHub::Identified { features: Features::default() }),
            Event::HubSaid(FromHub::Assigned { task, assigned_at: None, timeout_ms: None }),
        ];
        let machine = events.into_iter().fold(recovered, |machine, event| transition(machine, event, NOW, &policy).0);
        machine.state.phase() == Phase::Working
    };
    assert_eq!((takes(OUTBOX_CAP - 1), takes(OUTBOX_CAP)), (true, false));
}

#[test]
fn only_an_answer_to_what_was_said_takes_a_verdict_out() {
    let mut outbox = Outbox::recovered(vec![verdict("t", 1)]);
    assert_eq!((outbox.answered("t"), outbox.refused(true)), (None, None), "it was not said on this connection");
    let head = outbox.head_mut().unwrap();
    (head.sent, head.times_sent) = (Pending::Sent { again_at: NOW }, 1);
    assert_eq!((outbox.answered("u"), outbox.refused(false)), (None, None), "an answer to something else");
    assert_eq!(outbox.answered("t"), Some(verdict("t", 1)));
}

/// A hub that ends the connection over a result hands the task out anew each time.
#[test]
fn a_new_hand_out_does_not_count_refusals_anew() {
    let resting = Delivery::Resting { until: NOW.plus(5) };
    let mut outbox = Outbox::recovered(vec![verdict("t", 1), verdict("u", 1)]);
    let head = outbox.head_mut().unwrap();
    (head.verdict.refusals, head.losses, head.delivery) = (3, 2, resting.clone());
    outbox.push_for_later_assignment(verdict("t", 3));
    assert_eq!(outbox.to_journal(), [verdict("u", 1), Verdict { refusals: 3, ..verdict("t", 3) }]);
    let last = outbox.pending().last().unwrap();
    assert_eq!((last.losses, &last.delivery), (2, &resting));
}

#[test]
fn a_verdict_in_flight_stays_for_its_answer_when_the_task_is_handed_out_anew() {
    let mut outbox = Outbox::recovered(vec![verdict("t", 1)]);
    outbox.head_mut().unwrap().sent = Pending::Sent { again_at: NOW };
    outbox.push_for_later_assignment(verdict("t", 3));
    assert_eq!(outbox.to_journal(), [verdict("t", 1), verdict("t", 3)]);
}

/// Else the work would be done once more for the next assignment, and be refused as before.
#[test]
fn a_refused_result_fails_a_later_hand_out_too() {
    let refused = Outcome::failed("result_refused: the hub refused the result 5 times");
    for (outcome, takes) in [(refused, false), (Outcome::failed("no luck"), true)] {
        let outbox = vec![Verdict { outcome, ..verdict("t", 1) }];
        let policy = Policy::default();
        let recovered = Machine::recover(Journal { outbox, ..Journal::default() }, NOW, &policy).0;
        let task = Task { id: TaskId::new("t").unwrap(), generation: 3, payload: "{}".into() };
        let events = [
            Event::HubOpened,
            Event::HubClosed { retry_after_ms: None, jitter: Jitter(0), refusal: None },
            Event::DeadlineReached,
            Event::HubOpened,
            Event::HubSaid(FromHub::Identified { features: Features::default() }),
            Event::HubSaid(FromHub::Assigned { task, assigned_at: None, timeout_ms: None }),
        ];
        let machine = events.into_iter().fold(recovered, |machine, event| transition(machine, event, NOW, &policy).0);
        assert_eq!(machine.state.phase() == Phase::Working, takes);
        assert_eq!(machine.outbox.find(&verdict("t", 3).task_id, 3).is_some(), !takes);
    }
}

fn given_up(fails: bool, write_at: Option<Timestamp>) -> Delivery {
    Delivery::GivenUp { error: "no".into(), fails, write_at }
}

#[test]
fn a_result_that_is_put_aside_ends_later_hand_outs_where_its_failure_is_to_be_said() {
    for fails in [true, false] {
        let mut outbox = Outbox::recovered(vec![verdict("t", 1)]);
        outbox.head_mut().unwrap().delivery = given_up(fails, None);
        assert_eq!(outbox.head().unwrap().decides_later_assignments(), fails);
        outbox.push_for_later_assignment(verdict("t", 2));
        let courses: Vec<&Delivery> = outbox.pending().map(|pending| &pending.delivery).collect();
        let anew = given_up(true, Some(Timestamp::from_millis(0)));
        let all = if fails { vec![&anew] } else { vec![&outbox.head().unwrap().delivery, &Delivery::Open] };
        assert_eq!(courses, all, "one that is written for the later hand-out is to be written again");
    }
}

#[test]
fn what_is_not_in_flight_steps_not_aside() {
    let mut outbox = Outbox::recovered(vec![verdict("t", 1), verdict("u", 1)]);
    let before = outbox.clone();
    outbox.move_behind_others(Delivery::Refused);
    assert_eq!(outbox, before);
}

#[test]
fn one_result_at_a_time_is_put_aside() {
    let policy = Policy::default();
    let outbox = vec![verdict("t", 1), verdict("u", 1)];
    let (mut machine, _) = Machine::recover(Journal { outbox, ..Journal::default() }, NOW, &policy);
    machine.disk = Disk::Ready;
    machine.outbox.pending_mut().for_each(|pending| pending.delivery = given_up(true, Some(NOW)));
    let writes =
        |effects: &[Effect]| effects.iter().filter(|effect| matches!(effect, Effect::KeepRefused { .. })).count();
    let (machine, effects) = transition(machine, Event::DeadlineReached, NOW, &policy);
    assert_eq!(writes(&effects), 1);
    assert_eq!(writes(&transition(machine, Event::DeadlineReached, NOW, &policy).1), 0);
}
