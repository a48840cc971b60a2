use serde_json::{Value, json};

use super::*;
use crate::machine::{
    LateSession, OpenRestart, Outcome, ParkedTask, PersistedJob, RestartLedger, Returned, Stage, Task, TaskId,
    TimeLimit, Timestamp, Verdict,
};
use crate::protocol::stored_fields;

const BOOT: Boot<'static> = Boot { id: "this-boot", since_ms: Some(1_000) };

fn journal_of(bytes: &[u8]) -> (Journal, JsonFields) {
    match from_bytes(bytes, BOOT).unwrap() {
        Found::Journal { journal, other, unread, replaced: _ } => {
            assert!(unread.is_empty(), "{unread:?}");
            (*journal, other)
        }
        Found::Newer { schema } => panic!("schema {schema}"),
    }
}

fn read(value: &Value) -> Journal {
    journal_of(value.to_string().as_bytes()).0
}

fn persisted(stage: Stage) -> PersistedJob {
    let payload = json!({"task_id": "t-1", "generation": 3, "description": "d", "metadata": {"k": 1}, "novel": [1]});
    PersistedJob {
        task: Task { id: TaskId::new("t-1").unwrap(), generation: 3, payload: payload.to_string().into() },
        stage,
        woken: Some(2),
        machine_boot: "b".into(),
        assigned_at: Some(42),
        limit: Some(TimeLimit { limit_ms: 600_000, until: Timestamp::from_millis(9), warned: true }),
    }
}

fn full_journal(stage: Stage) -> Journal {
    let restart = OpenRestart {
        command_id: Some("c1".into()),
        reason: "r".into(),
        forced: true,
        leaving_at: Some(Timestamp::from_millis(7)),
    };
    Journal {
        job: Some(persisted(stage)),
        parked: vec![
            ParkedTask::UnderWay(persisted(Stage::Running)),
            ParkedTask::Finished {
                task_id: TaskId::new("t-2").unwrap(),
                generation: 1,
                result: r#"{"status":"success"}"#.into(),
            },
        ],
        late_sessions: vec![LateSession { task_id: TaskId::new("t-5").unwrap(), machine_boot: "b".into() }],
        outbox: vec![
            Verdict {
                task_id: TaskId::new("t-3").unwrap(),
                generation: 1,
                outcome: Outcome::Completed { result: r#"{"output":"x","status":"success"}"#.into() },
                accept_first: true,
                no_session_came: false,
                result_read: false,
                refusals: 3,
            },
            Verdict {
                task_id: TaskId::new("t-4").unwrap(),
                generation: 9,
                outcome: Outcome::failed("no"),
                accept_first: false,
                no_session_came: true,
                result_read: false,
                refusals: 0,
            },
        ],
        restarts: RestartLedger {
            recent: vec![Timestamp::from_millis(5)],
            open: Some(restart.clone()),
            returned: Some(Returned { restart }),
            seen: vec!["c0".into(), "c1".into()],
            cancelled: vec!["c00".into(), "c0".into()],
        },
        cordoned: true,
        stopped: true,
    }
}

#[test]
fn every_journal_reads_back_as_it_was_written() {
    let at = Timestamp::from_millis(99);
    for stage in [
        Stage::Accepted,
        Stage::Waking { attempt: 2 },
        Stage::RetryingWake { at, attempt: 2 },
        Stage::AwaitingConfirmation { until: at },
        Stage::Running,
        Stage::Interrupted { until: at },
    ] {
        let journal = full_journal(stage);
        let bytes = to_bytes(&journal, &JsonFields::default());
        let (back, other) = journal_of(&bytes);
        assert_eq!((back, other), (journal, JsonFields::default()));
    }
    let empty = Journal::default();
    assert_eq!(journal_of(&to_bytes(&empty, &JsonFields::default())).0, empty);
}

#[test]
fn the_node_sidecar_can_read_what_it_needs() {
    let file: Value = serde_json::from_slice(&to_bytes(&full_journal(Stage::Running), &JsonFields::default())).unwrap();
    let active = &file["active"];
    assert_eq!(
        (&active["task_id"], &active["generation"], &active["status"], &active["description"], &active["metadata"]),
        (&json!("t-1"), &json!(3), &json!("working"), &json!("d"), &json!({"k": 1}))
    );
    assert_eq!(file["recovering"], Value::Null);
}

#[test]
fn where_no_boot_is_noted_the_wakes_counts_and_else_this_one() {
    let booted = |sidecar: Value| {
        let mut sidecar = sidecar;
        sidecar["assignment"] = json!({});
        read(&json!({"active": {"task_id": "t-1", "generation": 1, "sidecar": sidecar}})).job.unwrap().machine_boot
    };
    let woken = json!({"generation": 1, "machine_boot": "wake"});
    let running = json!({"name": "running"});
    assert_eq!(booted(json!({"stage": running, "woken": woken, "machine_boot": "task"})), "task");
    assert_eq!(booted(json!({"stage": running, "woken": woken})), "wake");
    assert_eq!(booted(json!({"stage": {"name": "accepted"}})), "this-boot");
}

#[test]
fn the_node_sidecar_finds_what_it_checks_a_result_by() {
    let steps = json!([{"type": "command_succeeds", "target": "true"}]);
    let payload = json!({"task_id": "t-1", "generation": 3, "description": "d", "verification_steps": steps,
        "skip_verification": true, "branch": "b", "novel": [1]});
    let mut job = persisted(Stage::Running);
    job.task.payload = payload.to_string().into();
    let journal = Journal { job: Some(job), ..Journal::default() };
    let active = serde_json::from_slice::<Value>(&to_bytes(&journal, &JsonFields::default())).unwrap()["active"].take();
    let kept = (&active["verification_steps"], &active["skip_verification"], &active["branch"], active.get("novel"));
    assert_eq!(kept, (&steps, &json!(true), &json!("b"), None));
}

#[test]
fn a_node_sidecars_task_is_taken_over_with_its_own_fields() {
    let node = json!({"active": {
        "task_id": "t-9", "description": "d", "metadata": {}, "status": "working", "assigned_at": 5_000,
        "generation": 4, "wake_attempts": 1, "branch": "b"
    }, "recovering": null});
    let job = read(&node).job.unwrap();
    assert_eq!((job.task.generation, job.stage, job.assigned_at), (4, Stage::Running, Some(5_000)));
    assert_eq!((job.woken, job.machine_boot.as_str()), (Some(4), "this-boot"));
    assert_eq!(stored_fields(&job.task.payload).string("branch").as_deref(), Some("b"));
}

#[test]
fn a_node_sidecars_task_from_before_the_boot_has_no_session() {
    let node = json!({"active": {"task_id": "t-9", "status": "working", "assigned_at": 900, "generation": 4}});
    let job = read(&node).job.unwrap();
    assert_eq!((job.woken, job.machine_boot.as_str()), (Some(4), ""));
}

#[test]
fn what_the_node_sidecar_did_inside_its_own_process_has_no_session_either() {
    let routed = |target: Value| {
        let decision = json!({"target_type": target});
        let active = json!({
            "task_id": "t-9", "status": "working", "assigned_at": 5_000, "generation": 4, "routing_decision": decision,
        });
        read(&json!({"active": active})).job.unwrap().machine_boot
    };
    for target in ["ollama", "claude", "sidecar"] {
        assert_eq!(routed(json!(target)), "", "{target}");
    }
    for target in [json!("wake"), json!(""), Value::Null] {
        assert_eq!(routed(target.clone()), "this-boot", "{target}");
    }
}

#[test]
fn a_node_sidecars_second_task_is_kept_too() {
    let node = json!({
        "active": {"task_id": "t-1", "status": "accepted", "generation": 1},
        "recovering": {"task_id": "t-2", "status": "waking_confirmation", "generation": 2}
    });
    let journal = read(&node);
    assert_eq!(journal.job.unwrap().stage, Stage::Accepted);
    assert_eq!(journal.parked.len(), 1);
}

#[test]
fn a_task_that_the_node_sidecar_had_given_up_is_reported_as_failed() {
    let journal = read(&json!({"active": {"task_id": "t-1", "status": "failed", "generation": 2}}));
    assert!(journal.job.is_none());
    assert_eq!((journal.outbox[0].generation, journal.outbox.len()), (2, 1));
}

#[test]
fn fields_of_other_writers_survive() {
    let (journal, other) = journal_of(br#"{"active":null,"recovering":null,"theirs":{"a":1}}"#);
    let file: Value = serde_json::from_slice(&to_bytes(&journal, &other)).unwrap();
    assert_eq!(file["theirs"], json!({"a": 1}));
}

#[test]
fn nonsense_says_what_and_where() {
    let error = |bytes: &[u8]| from_bytes(bytes, BOOT).unwrap_err().to_string();
    assert!(!error(b"").is_empty() && !error(b"[]").is_empty());
    assert!(!error(b"{\"active\":null} trailing").is_empty());
    assert!(error(br#"{"active":{"task_id":"t"#).contains("at active: "));
}

#[test]
fn a_part_that_makes_no_sense_is_named_and_the_rest_counts() {
    let whole: Value =
        serde_json::from_slice(&to_bytes(&full_journal(Stage::Running), &JsonFields::default())).unwrap();
    for (pointer, broken, says) in [
        ("/active", json!({"task_id": 7}), "at active: field task_id: "),
        ("/active/task_id", json!("../x"), "at active: task_id \"../x\""),
        ("/active/sidecar/stage", json!({"name": "novel"}), "at active: field sidecar: field stage.name: "),
        ("/outbox/0/result", json!([]), "at outbox[0]"),
        ("/shelf/1", json!({"kind": "novel"}), "at shelf[1]"),
        ("/latecomers/0/task_id", json!(""), "at latecomers[0]: task_id"),
        ("/restarts", json!(7), "at restarts: "),
        ("/cordoned", json!("yes"), "at cordoned: "),
        ("/stopped", json!("yes"), "at stopped: "),
        ("/schema", json!("one"), "at schema: "),
    ] {
        let mut file = whole.clone();
        *file.pointer_mut(pointer).unwrap() = broken;
        let found = from_bytes(file.to_string().as_bytes(), BOOT).unwrap();
        let Found::Journal { journal, other, unread, replaced: 0 } = found else { panic!("{found:?}") };
        assert!(unread.len() == 1 && unread[0].starts_with(says), "{unread:?}");
        let mut expected = full_journal(Stage::Running);
        match pointer.split('/').nth(1).unwrap() {
            "active" => expected.job = None,
            "outbox" => drop(expected.outbox.remove(0)),
            "shelf" => drop(expected.parked.remove(1)),
            "latecomers" => expected.late_sessions.clear(),
            "restarts" => expected.restarts = RestartLedger::default(),
            "cordoned" => expected.cordoned = false,
            "stopped" => expected.stopped = false,
            _ => {}
        }
        assert_eq!((*journal, other), (expected, JsonFields::default()), "{pointer}");
    }
}

#[test]
fn what_an_older_sidecar_took_is_read_at_any_depth_that_it_took() {
    for depth in 60..=127 {
        // An object of this depth.
        let object = format!(r#"{{"metadata":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
        let mut journal = full_journal(Stage::Running);
        let job = journal.job.as_mut().unwrap();
        job.task.payload = object.as_str().into();
        journal.parked[0] = ParkedTask::UnderWay(job.clone());
        journal.parked[1] = ParkedTask::Finished {
            task_id: TaskId::new("t-2").unwrap(),
            generation: 1,
            result: object.as_str().into(),
        };
        journal.outbox[0].outcome = Outcome::Completed { result: object.as_str().into() };
        assert_eq!(journal_of(&to_bytes(&journal, &JsonFields::default())).0, journal, "{depth}");
    }
}

#[test]
fn a_newer_sidecars_journal_is_told_apart_whatever_is_in_it() {
    let newer = from_bytes(br#"{"schema":99,"active":"in a form of its own"}"#, BOOT).unwrap();
    assert!(matches!(newer, Found::Newer { schema: 99 }), "{newer:?}");
    let next = from_bytes(format!(r#"{{"schema":{}}}"#, SCHEMA + 1).as_bytes(), BOOT).unwrap();
    assert!(matches!(next, Found::Newer { schema: 3 }), "{next:?}");
}

#[test]
fn an_older_journal_is_read_and_has_this_sidecars_number_when_it_is_written() {
    let whole = full_journal(Stage::Running);
    // Version 0.1.0's, one below any that a sidecar wrote, and none, as in the Node sidecar's file.
    for before in [json!(1), json!(0), Value::Null] {
        let mut file: Value = serde_json::from_slice(&to_bytes(&whole, &JsonFields::default())).unwrap();
        assert_eq!(file["schema"], 2);
        file["schema"] = before.clone();
        if before.is_null() {
            file.as_object_mut().unwrap().remove("schema");
        }
        let (journal, other) = journal_of(file.to_string().as_bytes());
        assert_eq!((&journal, &other), (&whole, &JsonFields::default()), "{before}");
        let written: Value = serde_json::from_slice(&to_bytes(&journal, &other)).unwrap();
        assert_eq!(written["schema"], SCHEMA, "{before}");
    }
}

/// Returns a JSON object of at least this many bytes, whose lists are nested so deep that one value per line would fill
/// a disk.
fn nested(bytes: usize) -> String {
    let list = format!("{}{}1{}", "[".repeat(100), "1,".repeat(1_000), "]".repeat(100));
    let lists = vec![list; bytes / 2_200 + 1].join(",");
    format!(r#"{{"lists":[{lists}]}}"#)
}

#[test]
fn a_verdict_takes_no_more_room_than_its_result() {
    let length = |results: &[String]| {
        let mut journal = Journal::default();
        for (index, result) in results.iter().enumerate() {
            let outcome = Outcome::Completed { result: result.as_str().into() };
            let task_id = TaskId::new(&format!("t{index}")).unwrap();
            journal.outbox.push(Verdict {
                task_id,
                generation: u64::MAX,
                outcome,
                accept_first: true,
                no_session_came: false,
                result_read: false,
                refusals: 0,
            });
        }
        to_bytes(&journal, &JsonFields::default()).len()
    };
    let result = nested(100_000);
    let grown = length(&[result.clone(), result.clone()]) - length(&[]);
    assert!(grown <= 2 * (result.len() + 1_000), "{grown} bytes for twice {}", result.len());
}

#[test]
fn a_task_takes_no_more_room_than_its_assignment_twice() {
    let metadata = nested(100_000);
    let payload = format!(r#"{{"description":"d","metadata":{metadata}}}"#);
    let task = Task { id: TaskId::new("t").unwrap(), generation: 1, payload: payload.as_str().into() };
    let job = PersistedJob {
        task,
        stage: Stage::Running,
        woken: None,
        machine_boot: String::new(),
        assigned_at: None,
        limit: None,
    };
    let with = to_bytes(&Journal { job: Some(job), ..Journal::default() }, &JsonFields::default()).len();
    let grown = with - to_bytes(&Journal::default(), &JsonFields::default()).len();
    assert!(grown <= 2 * payload.len() + 2_000, "{grown} bytes for {}", payload.len());
}

#[test]
fn the_largest_journal_is_as_large_as_the_page_says() {
    assert_eq!(max_bytes(4 << 20), 236_912_640);
    let page = include_str!("../../../../docs/configuration.md");
    assert!(page.contains("236,912,640"));
}
