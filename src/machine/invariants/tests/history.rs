//! What [`History`] says of spoiled lives.

use super::*;

#[test]
fn one_verdict_a_hand_out() {
    let mut history = History::default();
    let sent = |effect| Told::truly(idle(), nothing(), NOW).with_effects(vec![effect]);
    let complete = |result: &str| {
        sent(Effect::Send(ToHub::TaskComplete { task_id: task(1).id, generation: 1, result: result.into() }))
    };
    assert_eq!(history.observe(&complete("a").step()), Ok(()));
    assert_eq!(history.observe(&complete("a").step()), Ok(()), "the same again is no second verdict");
    assert_eq!(complete("b").breaks_in(&mut history), Property::OneVerdict);
    assert_eq!(sent(verdict(1, "a")).breaks_in(&mut history), Property::OneVerdict);
    assert_eq!(history.observe(&sent(verdict(2, "a")).step()), Ok(()), "another hand-out, another verdict");
}

#[test]
fn no_hand_out_is_woken_twice_unless_the_wake_failed() {
    let woken_once = |outcome| {
        let mut history = History::default();
        let machine = after(idle(), [assigned(1)]);
        history.observe(&Told::truly(machine.clone(), nothing(), NOW).with_effects(vec![wake(1)]).step()).unwrap();
        history.observe(&Told::truly(machine.clone(), woken(outcome), NOW).step()).unwrap();
        let again = Told::truly(machine, nothing(), NOW).with_effects(vec![wake(1)]);
        history.observe(&again.step()).map_err(|violation| violation.property)
    };
    assert_eq!(woken_once(WakeOutcome::Succeeded), Err(Property::NoDoubleWake));
    assert_eq!(woken_once(WakeOutcome::Failed { error: "exit 1".into() }), Ok(()));
    assert_eq!(woken_once(WakeOutcome::TimedOut { after_ms: 1 }), Ok(()));
    assert_eq!(woken_once(WakeOutcome::Refused { reason: "nobody".into() }), Ok(()));
}

#[test]
fn work_under_way_is_not_woken_for_a_new_hand_out_either() {
    let machine = working();
    let mut history = History::default();
    history.crashed(&machine.durable, false).unwrap();
    let again = || Told::truly(machine.clone(), nothing(), NOW).with_effects(vec![wake(2)]);
    assert_eq!(again().breaks_in(&mut history), Property::NoDoubleWake);
    history.crashed(&machine.durable, true).unwrap();
    assert_eq!(history.observe(&again().step()), Ok(()), "a reboot ended it");
}

#[test]
fn work_that_the_disk_shows_under_way_is_not_woken_again() {
    let machine = working();
    let mut history = History::default();
    history.observe(&Told::truly(machine.clone(), nothing(), NOW).step()).unwrap();
    let again = Told::truly(machine, nothing(), NOW).with_effects(vec![wake(2)]);
    assert_eq!(again.breaks_in(&mut history), Property::NoDoubleWake);
}

#[test]
fn the_sign_of_work_under_way_is_kept() {
    let machine = working();
    let mut history = History::default();
    history.crashed(&machine.durable, false).unwrap();
    let drops = |name: &str| {
        let drop = Effect::DropSign { task_id: TaskId::new(name).unwrap() };
        Told::truly(machine.clone(), nothing(), NOW).with_effects(vec![drop])
    };
    assert_eq!(history.observe(&drops("u").step()), Ok(()));
    assert_eq!(drops("t").breaks_in(&mut history), Property::NoDoubleWake);
    history.crashed(&machine.durable, true).unwrap();
    assert_eq!(history.observe(&drops("t").step()), Ok(()), "a reboot ended it");
}

#[test]
fn work_that_ended_may_be_woken_for_a_new_hand_out() {
    let cancelled = Event::HubSaid(FromHub::TaskCancelled { task_id: "t".into() });
    for ends in [cancelled, failed()] {
        let mut history = History::default();
        history.observe(&Told::truly(working(), nothing(), NOW).step()).unwrap();
        history.observe(&Told::truly(working(), ends, NOW).step()).unwrap();
        let again = Told::truly(idle(), nothing(), NOW).with_effects(vec![wake(2)]);
        assert_eq!(history.observe(&again.step()), Ok(()));
    }
}

#[test]
fn an_uncounted_hand_out_of_a_forgotten_task_is_a_new_one() {
    let mut history = History::default();
    let sent = |effects| Told::truly(idle(), nothing(), NOW).with_effects(effects);
    history.observe(&sent(vec![wake(0), verdict(0, "a")]).step()).unwrap();
    assert_eq!(sent(vec![wake(0)]).breaks_in(&mut history), Property::NoDoubleWake);
    history.observe(&Told::truly(idle(), assigned(0), NOW).step()).unwrap();
    assert_eq!(history.observe(&sent(vec![wake(0), verdict(0, "b")]).step()), Ok(()));
}

#[test]
fn the_restart_is_announced_once_and_after_the_last_verdict() {
    let sent = |effects| Told::truly(idle(), nothing(), NOW).with_effects(effects);
    for late in [goodbye(), verdict(1, "a")] {
        let mut history = History::default();
        history.observe(&sent(vec![goodbye()]).step()).unwrap();
        assert_eq!(sent(vec![late.clone()]).breaks_in(&mut history), Property::AnnouncedOnce);
        history.crashed(&Journal::default(), false).unwrap();
        assert_eq!(history.observe(&sent(vec![late]).step()), Ok(()), "a new process, a new goodbye");
    }
}

#[test]
fn no_restart_without_a_word_while_the_hub_is_there() {
    let told = |event| {
        let mut told = Told::truly(idle(), nothing(), NOW).with_effects(vec![exit()]);
        told.event = event;
        told
    };
    assert_eq!(told(nothing()).breaks_in(&mut History::default()), Property::AnnouncedOnce);
    assert_eq!(History::default().observe(&told(stop()).step()), Ok(()), "a signal is not kept waiting");
    let mut away = told(nothing());
    away.before = started();
    assert_eq!(History::default().observe(&away.step()), Ok(()));
    away = told(nothing());
    away.after = started();
    assert_eq!(History::default().observe(&away.step()), Ok(()));
}

/// An accepted restart at `now`, as many times as the policy allows.
fn restarts_up_to_the_limit(history: &mut History) {
    for _ in 0..Policy::default().restart_intensity.max {
        history.observe(&accepts(idle(), restart(), NOW).step()).unwrap();
    }
}

#[test]
fn one_restart_too_many() {
    let mut history = History::default();
    restarts_up_to_the_limit(&mut history);
    let window = Policy::default().restart_intensity.window_ms;
    let next = |at| accepts(idle(), restart(), at);
    assert_eq!(next(NOW.plus(window - 1)).breaks_in(&mut history.clone()), Property::Intensity);
    assert_eq!(history.observe(&next(NOW.plus(window)).step()), Ok(()), "those before lie outside the window");
}

#[test]
fn a_restart_that_was_taken_back_does_not_count() {
    let mut history = History::default();
    restarts_up_to_the_limit(&mut history);
    history.observe(&Told::truly(pending(), Event::RestartCancelRequested { to: None }, NOW).step()).unwrap();
    assert_eq!(history.observe(&accepts(idle(), restart(), NOW).step()), Ok(()));
}

#[test]
fn a_restart_that_never_reached_the_disk_does_not_count() {
    let mut history = History::default();
    restarts_up_to_the_limit(&mut history);
    let next = || accepts(idle(), restart(), NOW);
    let mut journal = Journal::default();
    journal.restarts.recent = vec![NOW; 3];
    history.crashed(&journal, false).unwrap();
    assert_eq!(next().breaks_in(&mut history.clone()), Property::Intensity, "all three are on disk");
    journal.restarts.recent = vec![NOW; 2];
    history.crashed(&journal, false).unwrap();
    assert_eq!(history.observe(&next().step()), Ok(()), "two of them are");
}

#[test]
fn time_counted_anew_moves_what_is_remembered() {
    let mut history = History::default();
    restarts_up_to_the_limit(&mut history);
    history.shift_back(Policy::default().restart_intensity.window_ms);
    assert_eq!(history.observe(&accepts(idle(), restart(), NOW).step()), Ok(()));
}

#[test]
fn nothing_is_planned_later_than_promised() {
    let policy = Policy::default();
    let promises = [
        (accepts(working(), restart(), NOW), policy.restart_deadline_ms),
        (accepts(idle(), restart(), NOW), policy.drain_deadline_ms),
        (Told::truly(idle(), stop(), NOW), policy.stop_budget_ms),
    ];
    for (mut told, ms) in promises {
        assert_eq!(History::default().observe(&told.step()), Ok(()));
        set_deadline(&mut told.after.state, NOW.plus(ms));
        assert_eq!(History::default().observe(&told.step()), Ok(()));
        set_deadline(&mut told.after.state, NOW.plus(ms + 1));
        assert_eq!(told.breaks_in(&mut History::default()), Property::Bounded);
    }
}

#[test]
fn a_deadline_that_the_command_names_is_the_promise() {
    let order = RestartOrder { deadline_ms: Some(7), ..restart() };
    let mut told = accepts(working(), order, NOW);
    assert_eq!(History::default().observe(&told.step()), Ok(()));
    set_deadline(&mut told.after.state, NOW.plus(8));
    assert_eq!(told.breaks_in(&mut History::default()), Property::Bounded);
}

/// A history in which "t" was accepted.
fn accepted() -> History {
    let mut history = History::default();
    let accept = Effect::Send(ToHub::TaskAccepted { task_id: task(1).id, generation: None });
    history.observe(&Told::truly(working(), nothing(), NOW).with_effects(vec![accept]).step()).unwrap();
    history
}

#[test]
fn an_accepted_task_stays_on_disk() {
    let mut told = Told::truly(working(), nothing(), NOW);
    told.after.durable = Journal::default();
    assert_eq!(told.breaks_in(&mut accepted()), Property::NoLoss);
    let persisted = working().durable.job.unwrap();
    told.after.durable.parked = vec![ParkedTask::UnderWay(persisted)];
    assert_eq!(accepted().observe(&told.step()), Ok(()), "on the shelf it is kept");
}

#[test]
fn an_accepted_task_outlives_a_crash() {
    assert_eq!(accepted().crashed(&working().durable, false), Ok(()));
    let lost = accepted().crashed(&Journal::default(), false);
    assert_eq!(lost.map_err(|violation| violation.property), Err(Property::NoLoss));
}

#[test]
fn what_the_hub_took_back_may_go() {
    let mut history = accepted();
    let cancelled = Event::HubSaid(FromHub::TaskCancelled { task_id: "t".into() });
    let told = Told::truly(working(), cancelled, NOW);
    history.observe(&told.step()).unwrap();
    assert_eq!(history.crashed(&Journal::default(), false), Ok(()));
}

#[test]
fn what_the_hub_refused_of_another_task_may_not() {
    let mut history = accepted();
    let refused = Event::HubSaid(FromHub::VerdictRefused { complete: true, why: VerdictRefusal::Never, of: None });
    history.observe(&Told::truly(working(), refused, NOW).step()).unwrap();
    let lost = history.crashed(&Journal::default(), false);
    assert_eq!(lost.map_err(|violation| violation.property), Err(Property::NoLoss));
}
