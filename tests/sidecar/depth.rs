//! JSON that is nested deep, from every side: what the sidecar takes it keeps across a kill, what it does not take it refuses
//! with why, and what an older one took it goes on with.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;

use agentcom::protocol::{MAX_JSON_DEPTH, MAX_RESULT_DEPTH, RESERVED_KEY};
use serde_json::{Value, json};

use crate::support::hub::Hub;
use crate::support::legacy_hub::{Status, Task};
use crate::support::scene::{ALICE, Scene};
use crate::support::sidecar::Agent;
use crate::support::wait;

/// A list of so many levels.
fn nested(levels: usize) -> Value {
    (1..levels).fold(json!([]), |inner, _| json!([inner]))
}

fn task(id: &str, metadata: Value) -> Task {
    Task::new(id, "run=hold").max_retries(1).field("metadata", json!({"a": metadata}))
}

/// The journals that were set aside.
fn set_aside(agent: &Agent) -> Vec<String> {
    let names = fs::read_dir(agent.folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("queue.json.corrupt-")).collect()
}

/// Kills it in mid-task, changes its journal, starts it again, and lets the session finish: one wake, one run.
fn killed_in_mid_task(metadata: Value, change: impl FnOnce(&mut Value)) -> Scene {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    let task = scene.hub.submit_task(task("deep", metadata));
    scene.agent.wait_log("running", |line| (line["stage"] == "running").then_some(()));
    sidecar.kill9();
    let mut journal = scene.agent.queue().unwrap();
    change(&mut journal);
    fs::write(scene.agent.path("queue.json"), journal.to_string()).unwrap();
    let _sidecar = scene.start();
    scene.hub.wait_said(ALICE, "task_accepted", 2);
    scene.agent.go("run", &task);
    scene.done_once(&task);
    assert_eq!(scene.agent.count(&task, "woken"), 1);
    // Not as a value: it may be nested deeper than serde_json reads.
    let journal = || fs::read_to_string(scene.agent.path("queue.json")).unwrap();
    let quiet = || journal().contains("\"active\": null") && journal().contains("\"outbox\": []");
    wait::until_true("the journal to be empty", quiet);
    scene
}

#[test]
fn the_deepest_task_that_is_taken_survives_a_kill() {
    let scene = killed_in_mid_task(nested(MAX_JSON_DEPTH - 2), |_| {});
    assert_eq!(set_aside(&scene.agent), [""; 0]);
}

#[test]
fn a_task_that_an_older_sidecar_took_is_gone_on_with() {
    // Its deepest: a frame of 127 levels. What the hub hands out anew is shallow, so that only the journal is tried.
    let scene = killed_in_mid_task(json!(1), |journal| {
        journal["active"]["metadata"] = json!({"a": nested(125)});
        journal["active"]["sidecar"]["assignment"]["metadata"] = json!({"a": nested(125)});
        let result = json!({"status": "success", "a": nested(126)});
        let finished = json!({"kind": "finished", "task_id": "other", "result": result});
        journal["shelf"] = json!([finished]);
    });
    assert_eq!(set_aside(&scene.agent), [""; 0]);
    let asked = scene.hub.wait_said(ALICE, "task_recovering", 1);
    assert!(agentcom::protocol::Document::check(asked.to_string().as_bytes(), MAX_JSON_DEPTH).is_ok(), "{asked}");
    let journal = fs::read_to_string(scene.agent.path("queue.json")).unwrap();
    assert!(journal.contains(&format!(r#""task_id":"other","result":{{"a":{},"#, nested(126))), "{journal}");
}

#[test]
fn a_part_of_the_journal_that_makes_no_sense_is_set_aside_and_the_task_goes_on() {
    let mut written = String::new();
    let scene = killed_in_mid_task(json!(1), |journal| {
        journal["outbox"] = json!([{"task_id": 7}]);
        written = journal.to_string();
    });
    let aside = set_aside(&scene.agent);
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(fs::read_to_string(scene.agent.path(&aside[0])).unwrap(), written);
    scene.agent.wait_log("what makes no sense", |line| {
        let named = line["why"].as_str()?.contains("outbox[0]") && line["copied_to"].as_str()?.ends_with(&aside[0]);
        (named && line["level"] == "ERROR").then_some(())
    });
}

#[test]
fn a_task_that_is_too_deep_is_refused_with_why_and_the_next_one_is_done() {
    let scene = Scene::new();
    let _sidecar = scene.start();
    for levels in [MAX_JSON_DEPTH - 1, 100, 120] {
        let task = scene.hub.submit_task(task(&format!("deep-{levels}"), nested(levels)));
        let dead = scene.hub.wait_task(&task, Status::DeadLetter);
        let said = format!("task_too_deep: field \"metadata\": nested {} levels deep", levels + 2);
        assert!(dead.last_error.as_deref().unwrap().starts_with(&said), "{dead:?}");
    }
    // More than any reader takes, and what a reader would take for something else.
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (id, field) in [("raw-1", deep), ("raw-2", format!(r#"{{"z":1,"{RESERVED_KEY}":5}}"#))] {
        let frame = format!(r#"{{"a":{field},"type":"task_assign","task_id":"{id}","generation":1}}"#);
        let before = scene.times_said("task_failed");
        scene.hub.say_raw(ALICE, &frame);
        scene.hub.wait_said(ALICE, "task_failed", before + 1);
        assert_eq!(scene.hub.said(ALICE, "task_failed").last().unwrap().1["task_id"], id);
    }
    let next = scene.hub.submit("next");
    scene.done_once(&next);
    assert_eq!(scene.agent.runs().iter().filter(|run| run.task != next).count(), 0);
}

/// Prints a result with so many levels, itself included, as `$TASK_DESCRIPTION` says.
const PRINT: &str = r#"n=$((TASK_DESCRIPTION - 1)); a=$(printf '[%.0s' $(seq $n)); b=$(printf ']%.0s' $(seq $n));
    printf '{"status":"success","deep":%s%s}\n' "$a" "$b""#;

fn stage() -> (Hub, Agent) {
    let hub = Hub::start();
    let agent = Agent::new("a", &hub.url(), &hub.register("a"));
    agent.configure("results_scan_ms", json!(20));
    let write = "> results/$TASK_ID.part; : > results/$TASK_ID.started; mv results/$TASK_ID.part results/$TASK_ID.json";
    agent.configure("wake_command", json!(format!("({PRINT}) {write}")));
    agent.configure("shell_commands", json!({"enabled": true}));
    (hub, agent)
}

#[test]
fn a_result_is_taken_by_both_ends_or_fails_its_task_with_why() {
    let (hub, agent) = stage();
    let mut sidecar = agent.start();
    let kept = |why: &str, task: &str, levels: usize| {
        let path = agent.path(&format!("results/rejected/{task}.json"));
        assert!(why.contains(path.to_str().unwrap()), "{why}");
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.matches('[').count(), levels - 1, "it lies there as it was");
    };
    for metadata in [json!({}), json!({"shell_command": PRINT})] {
        let submit = |levels: usize| {
            let body = json!({"description": levels.to_string(), "metadata": metadata, "max_retries": 0});
            hub.submit_with(body)
        };
        let done = hub.wait_task(&submit(MAX_RESULT_DEPTH), "completed");
        assert_eq!(done["result"]["deep"], nested(MAX_RESULT_DEPTH - 1));
        for levels in [MAX_RESULT_DEPTH + 1, 120, 128, 500] {
            let task = submit(levels);
            let dead = hub.wait_task(&task, "dead_letter");
            let why = dead["last_error"].as_str().unwrap();
            assert!(why.starts_with("result_too_deep: "), "{why}");
            if metadata == json!({}) {
                kept(why, &task, levels);
            }
            assert!(why.contains(&format!("nested {levels} levels deep, at most {MAX_RESULT_DEPTH}")), "{why}");
        }
    }
    sidecar.kill9();
}

#[test]
fn a_hook_s_answer_is_taken_as_deep_as_a_result_may_be_and_no_deeper() {
    let (hub, agent) = stage();
    // The answer's own object, and its `result`, are two of the levels.
    let hook = r#"n=$(sed -n 's/.*"description":"0*\([0-9]*\)".*/\1/p'); a=$(printf '[%.0s' $(seq $n)); b=$(printf ']%.0s' $(seq $n));
        printf '{"result":{"hook":%s%s}}\n' "$a" "$b""#;
    agent.configure(
        "wake_command",
        json!(": > results/$TASK_ID.started; echo '{\"status\":\"success\"}' > results/$TASK_ID.json"),
    );
    agent.configure("hooks", json!({"on_task_result": hook}));
    let mut sidecar = agent.start();
    let submit = |levels: usize| hub.submit_with(json!({"description": levels.to_string(), "max_retries": 0}));
    let done = hub.wait_task(&submit(MAX_JSON_DEPTH - 2), "completed");
    assert_eq!(done["result"]["hook"], nested(MAX_JSON_DEPTH - 2));
    let failed = hub.wait_task(&submit(MAX_JSON_DEPTH - 1), "dead_letter");
    let why = failed["last_error"].as_str().unwrap();
    assert!(why.starts_with("result_hook_failed: ") && why.contains("nested 65 levels deep"), "{why}");
    agent.wait_log("why the answer was not taken", |line| {
        let why = line["error"].as_str().filter(|_| line["hook"] == "on_task_result")?;
        why.contains("nested 65 levels deep").then_some(())
    });
    sidecar.kill9();
}
