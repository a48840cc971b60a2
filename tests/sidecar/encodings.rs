//! The table of encodings at every entrance of the sidecar: what is read, what is refused and said, and that a failure is
//! never taken for a success.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;

use crate::support::encodings::{Encoding, Reading, all, printed};
use crate::support::legacy_hub::{Status, Task};
use crate::support::scene::{ALICE, Scene};
use serde_json::{Value, json};

/// A stage whose tasks are done by this shell line, which finds the object of the table in the file that
/// `$TASK_DESCRIPTION` names.
fn scene(command: &str, mode: &str) -> Scene {
    let scene = Scene::new();
    scene.agent.configure("repo_dir", Value::Null);
    scene.agent.configure("executors", json!({"sidecar": {"command": command, "mode": mode}}));
    scene
}

/// Puts the object of the table with this status where the shell line finds it, and submits a task for it.
fn submit(scene: &Scene, encoding: &Encoding, status: &str, number: usize) -> String {
    fs::write(scene.agent.path("object"), encoding.object(status)).unwrap();
    scene.hub.submit_task(Task::new(&format!("task-{status}-{number}"), "object").max_retries(1))
}

/// Returns whether the reason says why an object was refused; inside of another document it is one level deeper.
fn says(reason: &str, why: &str) -> bool {
    reason.contains(why) || reason.contains(&why.replace("151", "152"))
}

/// Whatever is in the table, a result that says `success` ends as it is to be read, and one that says `failed` fails.
fn results_end_as_they_are_to_be_read(scene: &Scene, table: &[Encoding]) {
    for (number, encoding) in table.iter().enumerate() {
        let task = submit(scene, encoding, "success", number);
        match encoding.reading {
            Reading::Output(output) => {
                let result = scene.hub.wait_task(&task, Status::Completed).result.unwrap();
                assert_eq!(result["output"], output, "{}", encoding.name);
            }
            Reading::Refused(why) => {
                let reason = scene.hub.wait_task(&task, Status::DeadLetter).last_error.unwrap();
                assert!(says(&reason, why), "{}: {reason}", encoding.name);
            }
        }
        let task = submit(scene, encoding, "failed", number);
        let reason = scene.hub.wait_task(&task, Status::DeadLetter).last_error.unwrap();
        let why = if let Reading::Refused(why) = encoding.reading { why } else { "tests fail" };
        assert!(says(&reason, why), "{}: {reason}", encoding.name);
    }
}

#[test]
fn result_files() {
    let command = ": > results/${TASK_ID}.started; cp \"$TASK_DESCRIPTION\" results/${TASK_ID}.json";
    let scene = scene(command, "wake");
    scene.agent.configure("results_settle_ms", json!(100));
    let _sidecar = scene.start();
    results_end_as_they_are_to_be_read(&scene, &all());
    // What was not taken is kept, whatever it holds.
    let kept = |name: &str| fs::read(scene.agent.path("results/rejected").join(name));
    let refused = all().into_iter().enumerate().filter(|(_, it)| matches!(it.reading, Reading::Refused(_)));
    for (number, encoding) in refused {
        assert_eq!(
            kept(&format!("task-success-{number}.json")).unwrap(),
            encoding.object("success"),
            "{}",
            encoding.name
        );
    }
    let warned = scene.agent.log_lines();
    assert!(warned.iter().any(|line| line["level"] == "WARN" && line.to_string().contains("not Unicode")));
}

#[test]
fn printed_output() {
    let scene = scene("cat \"$TASK_DESCRIPTION\"", "run");
    let _sidecar = scene.start();
    results_end_as_they_are_to_be_read(&scene, &printed());
    // What was not taken is kept.
    let refused = printed().into_iter().enumerate().filter(|(_, it)| matches!(it.reading, Reading::Refused(_)));
    for (number, encoding) in refused {
        let kept = fs::read(scene.agent.path(&format!("results/rejected/task-success-{number}.json"))).unwrap();
        assert_eq!(kept, encoding.object("success"), "{}", encoding.name);
    }
    let latin_1 = all().into_iter().position(|encoding| encoding.name == "Latin-1").unwrap();
    let result = scene.hub.task(&format!("task-success-{latin_1}")).unwrap().result.unwrap();
    assert_eq!(result["replaced_characters"], 1);
}

#[test]
fn answers_of_result_hooks() {
    let scene = scene("true", "run");
    let hook = "printf '{\"result\":'; cat object; printf '}'";
    scene.agent.configure("hooks", json!({"on_task_result": hook}));
    let _sidecar = scene.start();
    // Inside of a document a byte order mark is none.
    let table: Vec<Encoding> = all().into_iter().filter(|encoding| encoding.name != "a byte order mark").collect();
    results_end_as_they_are_to_be_read(&scene, &table);
}

#[test]
fn answers_of_start_hooks() {
    let scene = scene("printf '%s' \"$TASK_JSON\" > told.part; mv told.part told", "run");
    let hook = "printf '{\"task\":'; cat object; printf '}'";
    scene.agent.configure("hooks", json!({"on_task_start": hook}));
    let _sidecar = scene.start();
    for (number, encoding) in all().iter().enumerate().filter(|(_, encoding)| encoding.name != "a byte order mark") {
        let task = submit(&scene, encoding, "noted", number);
        match encoding.reading {
            Reading::Output(output) => {
                scene.hub.wait_task(&task, Status::Completed);
                let told: Value = serde_json::from_slice(&fs::read(scene.agent.path("told")).unwrap()).unwrap();
                assert_eq!(told["output"], output, "{}", encoding.name);
            }
            Reading::Refused(why) => {
                let reason = scene.hub.wait_task(&task, Status::DeadLetter).last_error.unwrap();
                assert!(says(&reason, why), "{}: {reason}", encoding.name);
            }
        }
    }
}

#[test]
fn frames_of_the_hub() {
    let scene = scene("printf '%s' \"$TASK_JSON\"", "run");
    let _sidecar = scene.start();
    for (number, encoding) in all().iter().enumerate().filter(|(_, encoding)| encoding.is_utf8) {
        if encoding.name == "a byte order mark" {
            continue;
        }
        let metadata = String::from_utf8(encoding.object("noted")).unwrap();
        let id = format!("untracked-{number}");
        let decision = r#""routing_decision":{"target_type":"sidecar"}"#;
        let frame =
            format!(r#"{{"type":"task_assign","task_id":"{id}","generation":1,{decision},"metadata":{metadata}}}"#);
        scene.hub.say_raw(ALICE, &frame);
        let said = |kind: &str| scene.hub.said(ALICE, kind).into_iter().find(|(_, frame)| frame["task_id"] == *id);
        let text = |frame: (u64, Value)| frame.1["result"]["metadata"]["output"].as_str().map(str::to_owned);
        match encoding.reading {
            Reading::Output(output) => {
                let told = scene.hub.wait("the verdict", |_| said("task_complete"));
                assert_eq!(text(told).as_deref(), Some(output), "{}", encoding.name);
            }
            // The task is taken by its name, and fails.
            Reading::Refused(why)
                if matches!(encoding.name, "too deep" | "a reserved key" | "a number out of range") =>
            {
                let (_, told) = scene.hub.wait("the failure", |_| said("task_failed"));
                assert!(says(told["reason"].as_str().unwrap(), why), "{}: {told}", encoding.name);
            }
            Reading::Refused(why) => {
                scene.agent.wait_log("a warning", |line| line.to_string().contains(why).then_some(()));
            }
        }
    }
}

#[test]
fn the_journal_of_a_legacy_sidecar() {
    for encoding in all().iter().filter(|encoding| encoding.name != "a byte order mark") {
        let Reading::Output(output) = encoding.reading else { continue };
        let scene = scene("printf '%s' \"$TASK_JSON\"", "run");
        let metadata = encoding.object("noted");
        let begin = br#"{"active":{"task_id":"t-1","generation":1,"status":"accepted","description":"d","metadata":"#;
        let decision = br#","routing_decision":{"target_type":"sidecar"}},"recovering":null}"#;
        fs::write(scene.agent.path("queue.json"), [begin, metadata.as_slice(), decision].concat()).unwrap();
        let mut sidecar = scene.start();
        let asked = scene.hub.wait_said(ALICE, "task_recovering", 1);
        assert_eq!(asked["metadata"]["output"], output, "{}", encoding.name);
        sidecar.kill9();
    }
}
