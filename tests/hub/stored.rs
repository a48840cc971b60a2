//! What the hub takes it reads again: nothing that was answered keeps it from starting, and a record that it cannot read is
//! named and costs nothing else.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::mpsc;

use agentcom::protocol::{MAX_JSON_DEPTH, MAX_RESULT_DEPTH, RESERVED_KEY};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde_json::{Value, json};

use crate::support::{Hub, PATIENCE, Peer, folder, hub_command, run};

const TASKS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("tasks");
const RESTARTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("restarts");
const TOKENS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("tokens");

const JSON: &str = "content-type: application/json\r\n";

/// A list of so many levels.
fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

async fn submit(hub: &Hub, token: &str, field: &str, value: &str) -> (u16, Value) {
    let body = format!(r#"{{"description":"d","{field}":{value}}}"#);
    hub.raw("POST", "/api/tasks", &format!("{JSON}authorization: Bearer {token}\r\n"), body.as_bytes()).await
}

async fn started_again(mut hub: Hub, dir: &tempfile::TempDir) -> Hub {
    assert_eq!(hub.signal("TERM").0, Some(0));
    Hub::start(dir, &[])
}

#[tokio::test]
async fn whatever_is_submitted_and_answered_is_there_after_a_restart() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut taken = Vec::new();
    for (field, around, before, after) in [
        ("metadata", 2, "{\"a\":", "}"),
        ("file_hints", 3, "[{\"a\":", "}]"),
        ("verification_steps", 3, "[{\"a\":", "}]"),
    ] {
        for levels in
            [1, 40, MAX_JSON_DEPTH - around, MAX_JSON_DEPTH - around + 1, 110, 120, 124, 125, 126, 127, 100_000]
        {
            let value = format!("{before}{}{after}", nested(levels));
            let (status, answer) = submit(&hub, &token, field, &value).await;
            if levels + around <= MAX_JSON_DEPTH {
                assert_eq!(status, 201, "{levels}: {answer}");
                let value: Value = serde_json::from_str(&value).unwrap();
                taken.push((answer["task_id"].as_str().unwrap().to_owned(), field, value));
            } else {
                let error = &answer["errors"][0];
                assert_eq!((status, &error["field"], &error["error"]), (422, &json!(field), &json!("too_deep")));
                let said = format!("nested {} levels deep, at most {MAX_JSON_DEPTH}", levels + around);
                assert!(error["detail"].as_str().unwrap().starts_with(&said), "{answer}");
            }
        }
    }
    // Sorted first when it is written, it would be read as what it is not.
    for value in [format!(r#"{{"{RESERVED_KEY}":"[[1]]"}}"#), format!(r#"{{"z":{{"z":1,"{RESERVED_KEY}":5}}}}"#)] {
        let (status, answer) = submit(&hub, &token, "metadata", &value).await;
        assert_eq!((status, &answer["errors"][0]["error"]), (422, &json!("reserved_key")), "{answer}");
    }
    let hub = started_again(hub, &dir).await;
    for (task_id, field, value) in taken {
        assert_eq!(hub.task(&task_id).await[field], value);
    }
}

#[tokio::test]
async fn whatever_a_verdict_says_and_is_answered_is_there_after_a_restart() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let task_id = hub.submit(json!({"description": "d", "metadata": {"a": 1}})).await;
    let generation = peer.expect("task_assign").await["generation"].clone();
    peer.accept(&task_id).await;
    let verdict = |fields: &str| {
        format!(r#"{{"type":"task_complete","task_id":"{task_id}","generation":{generation},{fields}}}"#)
    };
    let in_object = |levels: usize| format!(r#"{{"a":{}}}"#, nested(levels - 1));
    let (deepest, deeper) = (in_object(MAX_RESULT_DEPTH), in_object(MAX_RESULT_DEPTH + 1));
    for (fields, field, error) in [
        (format!(r#""result":{deeper}"#), "result", "too_deep"),
        (format!(r#""result":{}"#, in_object(100_000)), "result", "too_deep"),
        (format!(r#""result":{{}},"verification_report":{deeper}"#), "verification_report", "too_deep"),
        (format!(r#""result":{{}},"of_its_own":{}"#, in_object(127)), "of_its_own", "too_deep"),
        (format!(r#""result":{{"z":1,"{RESERVED_KEY}":5}}"#), "message", "reserved_key"),
    ] {
        peer.say_text(&verdict(&fields)).await;
        let told = peer.expect("error").await;
        assert_eq!((&told["error"], &told["message_type"]), (&json!("validation_failed"), &json!("task_complete")));
        assert_eq!((&told["errors"][0]["field"], &told["errors"][0]["error"]), (&json!(field), &json!(error)));
    }
    let all = format!(r#""result":{deepest},"verification_report":{deepest},"of_its_own":{deepest}"#);
    peer.say_text(&verdict(&all)).await;
    assert_eq!(peer.expect("task_ack").await["status"], "complete");
    let hub = started_again(hub, &dir).await;
    let task = hub.task(&task_id).await;
    let deepest: Value = serde_json::from_str(&deepest).unwrap();
    assert_eq!((&task["result"], &task["verification_report"]), (&deepest, &deepest));
}

fn check_store(dir: &Path, flags: &[&str]) -> Output {
    hub_command().args(["store", "check", "--data"]).arg(dir).args(flags).output().unwrap()
}

/// What a hub says until it listens; it is killed then.
fn said_at_start(dir: &Path) -> Vec<Value> {
    let mut command = hub_command();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut said: Vec<Value> = Vec::new();
        for line in stdout.lines().map_while(Result::ok) {
            said.push(serde_json::from_str(&line).unwrap());
            if said.last().is_some_and(|line| line["message"] == "listening") {
                return sender.send(said);
            }
        }
        sender.send(said)
    });
    let said = receiver.recv_timeout(PATIENCE).expect("the hub never listened");
    child.kill().unwrap();
    child.wait().unwrap();
    said
}

/// Writes what no hub would.
fn break_records(dir: &Path) {
    let db = Database::open(dir.join("hub.redb")).unwrap();
    let write = db.begin_write().unwrap();
    write.open_table(TASKS).unwrap().insert("task-half", &b"{\"id\":\"task-half\""[..]).unwrap();
    write.open_table(TASKS).unwrap().insert("task-deep", nested(1_000_000).as_bytes()).unwrap();
    write.open_table(RESTARTS).unwrap().insert("restart-7", &b"7"[..]).unwrap();
    write.open_table(TOKENS).unwrap().insert(&[0xab; 32][..], &b"{\"name\":7}"[..]).unwrap();
    write.open_table(TOKENS).unwrap().insert(&b"short"[..], &b"null"[..]).unwrap();
    write.commit().unwrap();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_named_and_kept_and_everything_else_works() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let task_id = hub.submit(json!({"description": "before"})).await;
    assert_eq!(check_store(dir.path(), &[]).status.code(), Some(0));
    hub.kill_9();
    break_records(dir.path());
    let broken =
        ["tasks/task-deep", "tasks/task-half", "restarts/restart-7", "tokens/73686f7274", "tokens/abababababab"];
    let names = |lines: &[Value]| -> Vec<String> {
        let name = |line: &Value| Some(format!("{}/{}", line["table"].as_str()?, line["key"].as_str()?));
        lines.iter().filter_map(name).collect()
    };
    for start in 1..=2 {
        let said = said_at_start(dir.path());
        let errors: Vec<Value> = said.iter().filter(|line| line["level"] == "ERROR").cloned().collect();
        assert_eq!(names(&errors), broken, "start {start}: {said:?}");
        assert!(errors.iter().all(|line| line["bytes"].as_u64() > Some(0) && line["why"].is_string()), "{errors:?}");
        assert_eq!(said.last().unwrap()["tasks"], 1);
    }
    let offline = check_store(dir.path(), &[]);
    let text = String::from_utf8(offline.stdout).unwrap();
    assert_eq!(offline.status.code(), Some(65), "{text}");
    assert!(broken.iter().all(|name| text.contains(name)), "{text}");
    assert!(text.contains("restarts/restart-7: 1 bytes: ") && text.contains("agentcom-hub token NAME"), "{text}");
    // With a token made while none runs, and others while one does.
    let hub = Hub::start(&dir, &[]);
    let running = check_store(dir.path(), &["--json"]);
    assert_eq!(running.status.code(), Some(65));
    let listed: Vec<Value> = serde_json::from_slice(&running.stdout).unwrap();
    assert_eq!(names(&listed), broken);
    assert!(listed.iter().all(|record| record["then"].is_string() && record["bytes"].is_u64()), "{listed:?}");
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let assigned = peer.expect("task_assign").await;
    assert_eq!(assigned["task_id"], task_id.as_str());
    peer.accept(&task_id).await;
    assert_eq!(peer.complete(&task_id, assigned["generation"].as_u64().unwrap()).await["status"], "complete");
    let list = hub_command().args(["token", "list", "--data"]).arg(dir.path()).output().unwrap();
    assert!(list.status.success() && String::from_utf8(list.stdout).unwrap().contains("  a\n"));
    hub.kill_9();
    let db = Database::open(dir.path().join("hub.redb")).unwrap();
    let read = db.begin_read().unwrap();
    let tasks = read.open_table(TASKS).unwrap();
    assert_eq!(tasks.get("task-half").unwrap().unwrap().value(), b"{\"id\":\"task-half\"");
    assert_eq!(tasks.get("task-deep").unwrap().unwrap().value().len(), 2_000_000);
}

#[test]
fn a_store_that_is_not_there_is_told_and_not_made() {
    let dir = folder();
    let checked = check_store(dir.path(), &[]);
    assert_eq!(checked.status.code(), Some(78), "{checked:?}");
    assert!(String::from_utf8(checked.stderr).unwrap().contains("--data"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_task_that_an_older_hub_took_is_read_and_handed_out_as_deep_as_a_sidecar_takes_it() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    hub.kill_9();
    {
        let db = Database::open(dir.path().join("hub.redb")).unwrap();
        let write = db.begin_write().unwrap();
        {
            let mut tasks = write.open_table(TASKS).unwrap();
            let record = String::from_utf8(tasks.get(task_id.as_str()).unwrap().unwrap().value().to_vec()).unwrap();
            // Its deepest: a body of 127 levels.
            let deep = format!(r#""metadata":{{"a":{},"b":7}}"#, nested(125));
            let record = record.replace(r#""metadata":{}"#, &deep);
            assert!(record.contains(&deep), "{record}");
            tasks.insert(task_id.as_str(), record.as_bytes()).unwrap();
        }
        write.commit().unwrap();
    }
    let hub = Hub::start(&dir, &[]);
    assert_eq!(check_store(dir.path(), &[]).status.code(), Some(0));
    assert_eq!(hub.task(&task_id).await["metadata"]["a"], serde_json::from_str::<Value>(&nested(125)).unwrap());
    let mut peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let assigned = peer.expect("task_assign").await;
    assert_eq!(assigned["metadata"]["b"], 7);
    assert!(agentcom::protocol::Document::check(assigned.to_string().as_bytes(), MAX_JSON_DEPTH).is_ok(), "{assigned}");
}

#[tokio::test]
async fn a_store_with_damaged_pages_is_told_of() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    hub.submit(json!({"description": "before"})).await;
    hub.kill_9();
    let path = dir.path().join("hub.redb");
    let whole = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for page in 0..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096 + 4..][..64].fill(0xa5);
        std::fs::write(&path, damaged).unwrap();
        let checked = check_store(dir.path(), &[]);
        let said = String::from_utf8(checked.stderr).unwrap();
        match checked.status.code() {
            Some(0 | 65) => {}
            Some(78) => {
                refused += 1;
                assert!(said.contains("hub.redb: "), "{said}");
            }
            code => panic!("page {page}: {code:?}: {said}"),
        }
    }
    assert!(refused > 0);
}
