//! The stories, each as short as it can be: what happens is here, how it must end is in [`Stage::must_end_well`].

use std::fs;

use serde_json::json;

use super::stage::{Bad, Stage, Step};

/// One story.
#[derive(Clone, Copy)]
pub(crate) struct Story {
    pub(crate) name: &'static str,
    pub(crate) tell: fn(&mut Stage<'_>) -> Step,
}

const STORIES: [Story; 13] = [
    Story { name: "a-task-from-start-to-end", tell: a_task_from_start_to_end },
    Story { name: "restart-while-idle", tell: restart_while_idle },
    Story { name: "restart-in-place", tell: restart_in_place },
    Story { name: "restart-while-a-task-runs", tell: restart_while_a_task_runs },
    Story { name: "restart-while-the-agent-is-woken", tell: restart_while_the_agent_is_woken },
    Story { name: "restart-that-is-forced-later", tell: restart_that_is_forced_later },
    Story { name: "restart-forced-by-its-deadline", tell: restart_forced_by_its_deadline },
    Story { name: "stop-signal-while-a-task-runs", tell: stop_signal_while_a_task_runs },
    Story { name: "result-while-the-hub-is-away", tell: result_while_the_hub_is_away },
    Story { name: "killed-and-back-while-it-runs", tell: killed_and_back_while_it_runs },
    Story { name: "killed-and-back-when-it-is-done", tell: killed_and_back_when_it_is_done },
    Story { name: "journal-that-makes-no-sense", tell: journal_that_makes_no_sense },
    Story { name: "journal-that-makes-no-sense-in-part", tell: journal_that_makes_no_sense_in_part },
];

/// All stories, or the one that `AGENTCOM_CRASH_STORY` names.
pub(crate) fn chosen() -> Vec<Story> {
    let wanted = std::env::var("AGENTCOM_CRASH_STORY").ok();
    let chosen: Vec<_> =
        STORIES.into_iter().filter(|story| wanted.as_ref().is_none_or(|name| name == story.name)).collect();
    let names = || STORIES.map(|story| story.name).join(", ");
    assert!(!chosen.is_empty(), "AGENTCOM_CRASH_STORY={wanted:?} is none of: {}", names());
    chosen
}

fn a_task_from_start_to_end(stage: &mut Stage<'_>) -> Step {
    stage.submit("quick");
    stage.start();
    Ok(())
}

fn restart_while_idle(stage: &mut Stage<'_>) -> Step {
    stage.start();
    stage.command_restart(&json!({"reason": "why not"}))
}

fn restart_in_place(stage: &mut Stage<'_>) -> Step {
    stage.without_supervisor();
    stage.start();
    stage.command_restart(&json!({"reason": "no supervisor"}))
}

fn restart_while_a_task_runs(stage: &mut Stage<'_>) -> Step {
    stage.start();
    let task = stage.with_a_running_task()?;
    stage.command_restart(&json!({"reason": "when it is done"}))?;
    stage.until_promised()?;
    stage.agent.go("run", &task);
    Ok(())
}

fn restart_while_the_agent_is_woken(stage: &mut Stage<'_>) -> Step {
    stage.start();
    let task = stage.submit("wake=hold");
    stage.until_step(&task, "woken")?;
    stage.command_restart(&json!({"reason": "when it is done"}))?;
    stage.until_promised()?;
    stage.agent.go("wake", &task);
    Ok(())
}

fn restart_that_is_forced_later(stage: &mut Stage<'_>) -> Step {
    stage.start();
    let task = stage.with_a_running_task()?;
    stage.command_restart(&json!({"reason": "when it is done"}))?;
    stage.until_promised()?;
    stage.command_restart(&json!({"reason": "at once", "force": true}))?;
    let id = stage.agent.id().to_owned();
    stage.until("it to be back", |stage| stage.hub.restarts(&id).iter().all(|restart| restart["state"] == "back"))?;
    stage.agent.go("run", &task);
    Ok(())
}

fn restart_forced_by_its_deadline(stage: &mut Stage<'_>) -> Step {
    stage.start();
    let task = stage.with_a_running_task()?;
    stage.command_restart(&json!({"reason": "not for long", "deadline_ms": 100}))?;
    let id = stage.agent.id().to_owned();
    stage.until("it to be back", |stage| stage.hub.restarts(&id).iter().all(|restart| restart["state"] == "back"))?;
    stage.agent.go("run", &task);
    Ok(())
}

fn stop_signal_while_a_task_runs(stage: &mut Stage<'_>) -> Step {
    stage.start();
    let task = stage.with_a_running_task()?;
    stage.stop()?;
    stage.agent.go("run", &task);
    stage.until_step(&task, "finished")?;
    stage.start();
    Ok(())
}

fn result_while_the_hub_is_away(stage: &mut Stage<'_>) -> Step {
    stage.start();
    let task = stage.with_a_running_task()?;
    stage.until_online()?;
    stage.hub.kill9();
    stage.agent.go("run", &task);
    stage.until_step(&task, "finished")?;
    let found = |stage: &Stage<'_>| stage.agent.queue().is_some_and(|queue| queue["outbox"] != json!([]));
    // After a crash the task may not be its own any more: it judges the result once the hub has told it.
    let met = stage.until("the verdict to be in the journal", |stage| found(stage) || stage.crashes() > 0);
    stage.hub.start_again();
    met
}

fn killed_and_back_while_it_runs(stage: &mut Stage<'_>) -> Step {
    stage.start();
    let task = stage.with_a_running_task()?;
    stage.kill()?;
    stage.start();
    stage.until_online()?;
    stage.agent.go("run", &task);
    Ok(())
}

fn killed_and_back_when_it_is_done(stage: &mut Stage<'_>) -> Step {
    stage.start();
    let task = stage.with_a_running_task()?;
    stage.kill()?;
    stage.agent.go("run", &task);
    stage.until_step(&task, "finished")?;
    stage.start();
    Ok(())
}

/// It is moved aside, whole, and so is whatever a predecessor left half written.
fn journal_that_makes_no_sense(stage: &mut Stage<'_>) -> Step {
    const NONSENSE: &str = "{\"active\": {\"task_id\": \"t1\", ";
    fs::write(stage.agent.path("queue.json"), NONSENSE).unwrap();
    fs::write(stage.agent.path(".queue.json.abcdef.tmp"), "{").unwrap();
    let task = stage.submit("quick");
    stage.start();
    stage.until_step(&task, "finished")?;
    let kept = fs::read_dir(stage.agent.folder()).unwrap().filter(|entry| {
        let entry = entry.as_ref().unwrap();
        entry.file_name().to_string_lossy().contains(".corrupt-")
            && fs::read(entry.path()).unwrap() == NONSENSE.as_bytes()
    });
    if kept.count() == 1 { Ok(()) } else { Err(Bad::Lost("the file that made no sense is gone".into())) }
}

/// It is copied aside, whole, before it is written without that part.
fn journal_that_makes_no_sense_in_part(stage: &mut Stage<'_>) -> Step {
    const PARTLY: &str = r#"{"active": null, "outbox": [{"task_id": 7}]}"#;
    fs::write(stage.agent.path("queue.json"), PARTLY).unwrap();
    let task = stage.submit("quick");
    stage.start();
    stage.until_step(&task, "finished")?;
    let mut kept = fs::read_dir(stage.agent.folder()).unwrap().map(Result::unwrap);
    let whole = kept.any(|entry| {
        entry.file_name().to_string_lossy().contains(".corrupt-")
            && fs::read(entry.path()).unwrap() == PARTLY.as_bytes()
    });
    if whole { Ok(()) } else { Err(Bad::Lost("the part that made no sense is gone".into())) }
}
