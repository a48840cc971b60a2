//! What [`check_step`] says of spoiled steps.

use super::*;

#[test]
fn a_violation_says_its_number_its_name_and_what_was_seen() {
    let violation = Violation { property: Property::Edges, detail: "Idle -> Idle".into() };
    assert_eq!(violation.to_string(), "property 2 (edges) does not hold: Idle -> Idle");
}

#[test]
fn once_leaving_never_back() {
    let mut told = Told::truly(draining(), nothing(), NOW);
    told.after.state = State::Idle;
    assert_eq!(told.breaks(), Property::Edges);
}

#[test]
fn a_restart_is_taken_back_by_its_cancellation_only() {
    let mut told = Told::truly(pending(), nothing(), NOW);
    told.after.state = working().state;
    assert_eq!(told.breaks(), Property::Edges);
    told.event = Event::RestartCancelRequested { to: None };
    assert_eq!(check_step(&told.step()), Ok(()));
}

#[test]
fn nothing_moves_a_machine_that_has_exited() {
    let exited = after(draining_in_haste(), [stop(), stop()]);
    assert_eq!(exited.state.phase(), Phase::Exiting);
    let mut told = Told::truly(exited.clone(), nothing(), NOW);
    told.after.cordon = Cordon::On;
    assert_eq!(told.breaks(), Property::Edges);
    let told = Told::truly(exited, nothing(), NOW).with_effects(vec![Effect::Dial]);
    assert_eq!(told.breaks(), Property::Edges);
}

#[test]
fn an_exit_is_ordered_once_and_last_and_when_exiting_only() {
    assert_eq!(Told::truly(idle(), nothing(), NOW).with_effects(vec![exit()]).breaks(), Property::Edges);
    let leaving = || Told::truly(after(draining_in_haste(), [stop()]), stop(), NOW);
    let last = leaving().effects.last().cloned().unwrap();
    assert_eq!(leaving().with_effects(vec![]).breaks(), Property::Edges);
    assert_eq!(leaving().with_effects(vec![last.clone(), last.clone()]).breaks(), Property::Edges);
    assert_eq!(leaving().with_effects(vec![last, Effect::Dial]).breaks(), Property::Edges);
}

#[test]
fn no_wake_while_leaving() {
    let told = Told::truly(draining(), nothing(), NOW).with_effects(vec![wake(1)]);
    assert_eq!(told.breaks(), Property::OneJob);
}

#[test]
fn no_new_work_behind_a_cordon() {
    let cordoned = || after(idle(), [Event::CordonRequested { on: true, to: None }]);
    let mut told = Told::truly(cordoned(), assigned(1), NOW);
    told.after.state = after(idle(), [assigned(1)]).state;
    assert_eq!(told.breaks(), Property::OneJob);
}

#[test]
fn a_cordon_that_was_not_there_before_the_task_does_not_judge_it() {
    let mut told = Told::truly(idle(), assigned(1), NOW);
    told.after.cordon = Cordon::On;
    assert_eq!(check_step(&told.step()), Ok(()));
}

#[test]
fn work_goes_on_behind_a_cordon_in_hand_and_from_the_shelf() {
    let cordoned = after(working(), [Event::CordonRequested { on: true, to: None }]);
    Told::truly(cordoned, nothing(), NOW);
    let back = [closed(), Event::DeadlineReached, Event::HubOpened, identified()];
    let taken_back = Event::HubSaid(FromHub::ReportAnswered { task_id: "t".into(), go_on: false });
    let parked = after(working(), back.into_iter().chain([taken_back, Event::CordonRequested { on: true, to: None }]));
    assert_eq!((parked.state.phase(), parked.parked.items().len()), (Phase::Idle, 1));
    let told = Told::truly(parked, assigned(2), NOW);
    assert_eq!(told.after.state.phase(), Phase::Working);
}

#[test]
fn nothing_is_promised_or_started_before_the_journal_holds_it() {
    let accept = Effect::Send(ToHub::TaskAccepted { task_id: task(1).id, generation: Some(1) });
    let result = "{}".into();
    let complete = Effect::Send(ToHub::TaskComplete { task_id: task(1).id, generation: 1, result });
    for early in [accept, complete, verdict(1, "no luck"), wake(1)] {
        let told = Told::truly(idle(), nothing(), NOW).with_effects(vec![early]);
        assert_eq!(told.breaks(), Property::DurableFirst);
    }
}

#[test]
fn a_verdict_on_another_hand_out_is_none_on_this_one() {
    let judged = after(working(), [failed()]);
    let told = |effect| Told::truly(judged.clone(), nothing(), NOW).with_effects(vec![effect]);
    assert_eq!(check_step(&told(verdict(1, "no luck")).step()), Ok(()));
    assert_eq!(told(verdict(2, "no luck")).breaks(), Property::DurableFirst);
}

#[test]
fn a_result_is_said_of_the_hand_out_that_the_disk_has_it_for() {
    let outcome = Outcome::Completed { result: "{}".into() };
    let done = after(working(), [Event::ResultFound { task_id: task(1).id, outcome }]);
    let told = |id: &str, generation| {
        let task_id = TaskId::new(id).unwrap();
        let sent = ToHub::TaskComplete { task_id, generation, result: "{}".into() };
        Told::truly(done.clone(), nothing(), NOW).with_effects(vec![Effect::Send(sent)])
    };
    assert_eq!(check_step(&told("t", 1).step()), Ok(()));
    assert_eq!(told("t", 2).breaks(), Property::DurableFirst);
    assert_eq!(told("u", 1).breaks(), Property::DurableFirst);
}

#[test]
fn a_wake_is_written_down_as_exactly_that_wake() {
    let accepted = after(idle(), [assigned(1)]);
    let told = |effect| Told::truly(accepted.clone(), nothing(), NOW).with_effects(vec![effect]);
    assert_eq!(check_step(&told(wake(1)).step()), Ok(()));
    assert_eq!(told(wake(2)).breaks(), Property::DurableFirst);
    assert_eq!(told(Effect::Wake { task: task(1), attempt: 2 }).breaks(), Property::DurableFirst);
    let mut forgotten = told(wake(1));
    forgotten.after.durable.job.as_mut().unwrap().woken = None;
    assert_eq!(forgotten.breaks(), Property::DurableFirst);
}

#[test]
fn the_refusal_of_a_task_with_a_bad_name_promises_nothing() {
    let refusal = ToHub::TaskFailed { task_id: "../t".into(), generation: 1, reason: "bad".into() };
    let told = Told::truly(idle(), nothing(), NOW).with_effects(vec![Effect::Send(refusal)]);
    assert_eq!(check_step(&told.step()), Ok(()));
    assert_eq!(History::default().observe(&told.step()), Ok(()));
}

#[test]
fn a_task_vanishes_only_where_the_hub_answers_for_it() {
    let vanishes_on = |event: Event| {
        let mut told = Told::truly(working(), nothing(), NOW);
        told.event = event;
        told.after.state = State::Idle;
        check_step(&told.step()).map_err(|violation| violation.property)
    };
    let id = || String::from("t");
    let answers = [
        FromHub::TaskReassigned { task_id: id(), generation: None },
        FromHub::TaskCancelled { task_id: id() },
        FromHub::VerdictAcknowledged { task_id: id() },
        FromHub::ReportAnswered { task_id: id(), go_on: false },
        FromHub::VerdictRefused { complete: true, why: VerdictRefusal::Never, of: None },
    ];
    for sent in answers {
        assert_eq!(vanishes_on(Event::HubSaid(sent)), Ok(()));
    }
    let others = [
        FromHub::TaskReassigned { task_id: "u".into(), generation: None },
        FromHub::ReportAnswered { task_id: id(), go_on: true },
        FromHub::TaskContinue { task_id: id(), generation: None },
        FromHub::Forgotten,
        FromHub::SignOfLife,
    ];
    for sent in others {
        assert_eq!(vanishes_on(Event::HubSaid(sent)), Err(Property::NoLoss));
    }
    assert_eq!(vanishes_on(Event::Persisted), Err(Property::NoLoss));
}

#[test]
fn a_failed_write_drops_nothing_that_the_disk_holds() {
    let mut told = Told::truly(working(), Event::PersistFailed, NOW);
    told.after.state = State::Idle;
    assert_eq!(told.breaks(), Property::NoLoss);
    told.before.durable.job = None;
    assert_eq!(check_step(&told.step()), Ok(()));
}

#[test]
fn a_repeat_moves_no_deadline() {
    for (machine, earlier_too) in [(pending(), true), (draining(), false), (after(idle(), [stop()]), false)] {
        let spoiled = |by: fn(Timestamp) -> Timestamp| {
            let mut told = Told::truly(machine.clone(), nothing(), NOW);
            if let State::Idle | State::Exiting { .. } = told.after.state {
                told.after = told.before.clone();
            }
            let (State::RestartPending { deadline, .. } | State::Draining { deadline, .. }) = told.before.state else {
                panic!("{:?}", told.before.state)
            };
            set_deadline(&mut told.after.state, by(deadline));
            check_step(&told.step()).map_err(|violation| violation.property)
        };
        assert_eq!(spoiled(|at| at.plus(1)), Err(Property::RepeatsChangeNothing));
        let earlier = if earlier_too { Err(Property::RepeatsChangeNothing) } else { Ok(()) };
        assert_eq!(spoiled(|at| at.minus(1)), earlier);
    }
}

#[test]
fn a_repeat_changes_no_cause() {
    let other = || RestartOrder { reason: "another".into(), ..restart() };
    for machine in [pending(), draining()] {
        let mut told = Told::truly(machine, nothing(), NOW);
        match &mut told.after.state {
            State::RestartPending { order, .. } | State::Draining { cause: Cause::Restart { order, .. }, .. } => {
                *order = other();
            }
            state @ (State::Idle | State::Working { .. } | State::Draining { .. } | State::Exiting { .. }) => {
                panic!("{state:?}")
            }
        }
        assert_eq!(told.breaks(), Property::RepeatsChangeNothing);
    }
}

#[test]
fn the_goodbye_comes_before_the_close_and_after_every_verdict() {
    let draining = draining();
    let State::Draining { deadline, .. } = draining.state else { panic!("{:?}", draining.state) };
    let leave = || Told::truly(draining.clone(), Event::DeadlineReached, deadline.minus(400));
    let effects = leave().effects;
    assert!(effects.iter().any(|e| matches!(e, Effect::Send(ToHub::AgentRestarting { .. }))), "{effects:?}");
    let reversed = effects.iter().rev().cloned().collect();
    assert_eq!(leave().with_effects(reversed).breaks(), Property::AnnouncedOnce);
    let late = effects.iter().cloned().chain([verdict(1, "no luck")]).collect();
    assert_eq!(leave().with_effects(late).breaks(), Property::AnnouncedOnce);
    let unclosed = effects.into_iter().filter(|e| !matches!(e, Effect::CloseLink(_))).collect();
    assert_eq!(leave().with_effects(unclosed).breaks(), Property::AnnouncedOnce);
}

/// `machine` with its task left behind, now.
fn leaves_behind(machine: &Machine, forced: bool) -> State {
    let cause = to_restart(forced, NextRun::Asked { number: 1 });
    let left_behind = machine.state.persisted().cloned();
    State::Draining { cause, deadline: NOW.plus(5_000), step: DrainStep::Flushing, left_behind }
}

#[test]
fn no_work_is_left_behind_without_a_reason() {
    let mut told = Told::truly(working(), nothing(), NOW);
    told.event = well(1);
    told.after.state = leaves_behind(&told.before, false);
    assert_eq!(told.breaks(), Property::NoWorkLeft);
    // A cause that calls itself forced is no reason: somebody must have asked for it, with force.
    told.after.state = leaves_behind(&told.before, true);
    assert_eq!(told.breaks(), Property::NoWorkLeft);
    let asked = |force| {
        let order = RestartOrder { command_id: None, force, ..restart() };
        PendingRestart { order, asked_at: NOW, to: None }
    };
    told.event = well(1);
    let check =
        |force| RestartCheck { number: 1, deadline: NOW.plus(6_000), first: asked(false), joined: vec![asked(force)] };
    told.before.check = Some(check(false));
    assert_eq!(told.breaks(), Property::NoWorkLeft);
    told.before.check = Some(check(true));
    assert_eq!(check_step(&told.step()), Ok(()));
}

#[test]
fn no_work_is_left_behind_before_the_deadline() {
    let pending = pending();
    let State::RestartPending { deadline, .. } = pending.state else { panic!("{:?}", pending.state) };
    let mut told = Told::truly(pending, nothing(), NOW);
    told.after.state = leaves_behind(&told.before, true);
    told.now = deadline.minus(1);
    assert_eq!(told.breaks(), Property::NoWorkLeft);
    told.now = deadline;
    assert_eq!(check_step(&told.step()), Ok(()));
}

#[test]
fn a_stop_leaves_work_behind_when_it_is_asked_for_only() {
    let mut told = Told::truly(working(), stop(), NOW);
    assert!(told.after.state.persisted().is_some());
    told.event = nothing();
    assert_eq!(told.breaks(), Property::NoWorkLeft);
}

#[test]
fn no_exit_before_the_work_left_behind_is_on_disk() {
    let mut told = Told::truly(after(draining_in_haste(), [stop()]), stop(), NOW);
    told.after.durable.job = None;
    assert_eq!(told.breaks(), Property::NoWorkLeft);
    let journal = Box::new(told.after.journal());
    told.effects.insert(0, Effect::Persist(journal));
    assert_eq!(check_step(&told.step()), Ok(()));
}

#[test]
fn a_deadline_that_has_come_is_kept() {
    for machine in [pending(), draining()] {
        let (State::RestartPending { deadline, .. } | State::Draining { deadline, .. }) = machine.state else {
            panic!("{:?}", machine.state)
        };
        let mut told = Told::truly(machine, Event::DeadlineReached, deadline);
        (told.after, told.effects) = (told.before.clone(), vec![]);
        assert_eq!(told.breaks(), Property::Bounded);
    }
}

#[test]
fn a_deadline_that_was_handled_is_not_due_again() {
    let ping_at = NOW.plus(Policy::default().ping_interval_ms);
    let mut told = Told::truly(idle(), Event::DeadlineReached, ping_at);
    told.after = told.before.clone();
    assert_eq!(told.breaks(), Property::NoSpin);
}

#[test]
fn a_restart_begins_on_the_answer_to_a_check_only() {
    for machine in [idle(), working()] {
        let mut told = accepts(machine, restart(), NOW);
        told.event = commanded(restart());
        assert_eq!(told.breaks(), Property::Edges);
    }
}

#[test]
fn no_restart_is_accepted_from_which_nobody_returns() {
    let refused = |event| {
        let mut told = accepts(idle(), restart(), NOW);
        told.event = event;
        told.breaks()
    };
    let cannot_start = Some("no config".into());
    let bad = |number| Event::NextRunChecked {
        number,
        restart_method: RestartMethod::Supervisor,
        cannot_start: cannot_start.clone(),
    };
    assert_eq!((refused(bad(1)), refused(well(2))), (Property::ComesBack, Property::ComesBack));
}

#[test]
fn a_process_ends_as_its_supervisor_was_found_to_answer() {
    let leaves = || Told::truly(after(idle(), [commanded(restart())]), closed(), NOW);
    assert!(
        matches!(leaves().effects.last(), Some(Effect::Exit { ending: Ending::Exit, .. })),
        "{:?}",
        leaves().effects
    );
    for other in [Ending::InPlace, Ending::InPlaceAsIs] {
        let mut told = leaves();
        let Some(Effect::Exit { ending, .. }) = told.effects.last_mut() else { panic!() };
        *ending = other;
        assert_eq!(told.breaks(), Property::ComesBack);
    }
    let spoiled = |found| {
        let mut told = leaves();
        for state in [&mut told.before.state, &mut told.after.state] {
            if let State::Draining { cause: Cause::Restart { next_run, .. }, .. }
            | State::Exiting { cause: Cause::Restart { next_run, .. }, .. } = state
            {
                *next_run = found;
            }
        }
        let Some(Effect::Exit { cause, .. }) = told.effects.last_mut() else { panic!() };
        *cause = to_restart(false, found);
        check_step(&told.step()).map_err(|violation| violation.property)
    };
    assert_eq!(spoiled(NextRun::Found(Ending::Exit)), Ok(()));
    for other in [NextRun::Asked { number: 2 }, NextRun::Found(Ending::InPlace), NextRun::Found(Ending::InPlaceAsIs)] {
        assert_eq!(spoiled(other), Err(Property::ComesBack), "{other:?}");
    }
    let stopped = || Told::truly(after(draining_in_haste(), [stop()]), stop(), NOW);
    assert_eq!(check_step(&stopped().step()), Ok(()));
    let mut told = stopped();
    let Some(Effect::Exit { ending, .. }) = told.effects.last_mut() else { panic!() };
    *ending = Ending::InPlace;
    assert_eq!(told.breaks(), Property::ComesBack);
}

#[test]
fn what_follows_is_known_by_an_answer_only() {
    let asked = checking(idle(), restart());
    let asked = transition(asked, well(1), NOW, &Policy::default()).0;
    let told = |number, restart_method| {
        Told::truly(asked.clone(), Event::NextRunChecked { number, restart_method, cannot_start: None }, NOW)
    };
    assert_eq!(told(1, RestartMethod::Supervisor).after, asked, "the answer to the question before");
    let mut without = told(2, RestartMethod::Supervisor);
    without.event = nothing();
    assert_eq!(without.breaks(), Property::ComesBack);
    let mut otherwise = told(2, RestartMethod::InPlace);
    otherwise.after = told(2, RestartMethod::Supervisor).after;
    assert_eq!(otherwise.breaks(), Property::ComesBack);
    let mut of_another = told(2, RestartMethod::Supervisor);
    of_another.event = well(1);
    assert_eq!(of_another.breaks(), Property::ComesBack);
}

/// Commands that are answered in the step in which they are heard or decided.
fn answered_at_once() -> [Told; 4] {
    let hears = |machine| Told::truly(machine, commanded(restart()), NOW);
    let refused = checking(idle(), restart());
    let due = refused.check.as_ref().unwrap().deadline;
    let refused = Told::truly(refused, Event::DeadlineReached, due);
    [accepts(idle(), restart(), NOW), hears(pending()), hears(draining()), refused]
}

#[test]
fn every_command_gets_one_answer() {
    for index in 0..answered_at_once().len() {
        let told = || answered_at_once()[index].clone();
        let (acks, others): (Vec<_>, Vec<_>) =
            told().effects.into_iter().partition(|e| matches!(e, Effect::Send(ToHub::RestartAck { .. })));
        assert_eq!(acks.len(), 1);
        assert_eq!(told().with_effects(others).breaks(), Property::Answered);
        let twice = [acks.clone(), acks].concat();
        assert_eq!(told().with_effects(twice).breaks(), Property::Answered);
    }
}

#[test]
fn a_command_is_not_answered_before_its_check() {
    let mut told = Told::truly(idle(), commanded(restart()), NOW);
    let answer = RestartAnswer::Duplicate;
    told.effects.push(Effect::Send(ToHub::RestartAck { command_id: "c".into(), answer }));
    assert_eq!(told.breaks(), Property::Answered);
}

#[test]
fn an_operator_gets_one_answer() {
    let drains = || Told::truly(idle(), Event::CordonRequested { on: true, to: Some(Ticket(7)) }, NOW);
    assert_eq!(drains().after.replies.len(), 1, "the disk is waited for");
    let mut forgotten = drains();
    forgotten.after.replies.clear();
    assert_eq!(forgotten.breaks(), Property::Answered);
    let mut twice = drains();
    twice.effects.push(Effect::Reply { to: Ticket(7), answer: Answer::DrainsAlready, not_on_disk: false });
    assert_eq!(twice.breaks(), Property::Answered);
    let unasked = Effect::Reply { to: Ticket(8), answer: Answer::DrainsAlready, not_on_disk: false };
    assert_eq!(Told::truly(idle(), nothing(), NOW).with_effects(vec![unasked]).breaks(), Property::Answered);
}

#[test]
fn nothing_moves_an_open_check() {
    let machine = checking(idle(), restart());
    let spoiled = |by: fn(&mut RestartCheck)| {
        let mut told = Told::truly(machine.clone(), nothing(), NOW);
        by(told.after.check.as_mut().unwrap());
        told.breaks()
    };
    assert_eq!(spoiled(|check| check.deadline = check.deadline.plus(1)), Property::RepeatsChangeNothing);
    assert_eq!(spoiled(|check| check.first.asked_at = NOW.plus(1)), Property::RepeatsChangeNothing);
    assert_eq!(spoiled(|check| check.first.order.deadline_ms = Some(1)), Property::RepeatsChangeNothing);
    assert_eq!(spoiled(|check| check.first.order.command_id = None), Property::Answered);
}

#[test]
fn a_check_takes_no_longer_than_it_may() {
    let mut told = Told::truly(idle(), commanded(restart()), NOW);
    let check = told.after.check.as_mut().unwrap();
    check.deadline = check.deadline.plus(1);
    assert_eq!(told.breaks(), Property::Bounded);
    let machine = checking(idle(), restart());
    let mut told = Told::truly(machine, Event::DeadlineReached, NOW);
    told.now = NOW.plus(Policy::default().next_run_check_ms);
    assert_eq!(told.breaks(), Property::Bounded);
}

#[test]
fn a_check_is_open_before_a_restart_and_not_after() {
    let mut told = Told::truly(pending(), nothing(), NOW);
    told.after.check = checking(idle(), RestartOrder { command_id: None, ..restart() }).check;
    assert_eq!(told.breaks(), Property::OpenQuestions);
}

#[test]
fn an_assignment_waits_for_a_question_only() {
    let told = Told::truly(checking(idle(), restart()), assigned(1), NOW);
    assert!(told.after.deferred.is_some());
    let mut taken = Told::truly(checking(idle(), restart()), assigned(1), NOW);
    taken.after.deferred = None;
    taken.after.state = after(idle(), [assigned(1)]).state;
    assert_eq!(taken.breaks(), Property::OpenQuestions);
    let mut spoiled = Told::truly(idle(), nothing(), NOW);
    spoiled.after.deferred = told.after.deferred;
    assert_eq!(spoiled.breaks(), Property::OpenQuestions);
}
