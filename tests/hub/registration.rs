//! Registration over a real hub: who is let in, what an agent may do that nobody vouched for, and what is left of a flood of
//! names.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{Hub, PATIENCE, Peer, folder, hub_command, node, run, run_token, token};

const REGISTER: &str = "/api/onboard/register";
const TOKENS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("tokens");

/// What a hub with these words says until it listens, or to its end: its exit code, if it ended, and the text.
fn said(dir: &Path, words: &[&str], closed: Option<&str>) -> (Option<i32>, String) {
    let mut command = hub_command();
    command.arg("serve").args(words).arg("--data").arg(dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(closed.map(|value| ("AGENTCOM_HUB_CLOSED_REGISTRATION", value)));
    let mut child = command.spawn().unwrap();
    let mut text = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    while stdout.read_line(&mut text).unwrap() > 0 {
        if text.contains("\"listening\"") {
            child.kill().unwrap();
            child.wait().unwrap();
            return (None, text);
        }
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_hub_that_others_reach_warns_of_the_next_version_unless_it_is_told_who_may_register() {
    let dir = folder();
    let warning = "--registration invite to have that now";
    for (words, warned) in [
        (&["--listen", "127.0.0.1:0"][..], false),
        (&["--listen", "0.0.0.0:0"], true),
        (&["--listen", "0.0.0.0:0", "--registration", "open"], false),
        (&["--listen", "0.0.0.0:0", "--registration", "closed", "--closed-registration"], false),
    ] {
        let (code, text) = said(dir.path(), words, None);
        assert_eq!((code, text.contains(warning)), (None, warned), "{words:?}: {text}");
    }
    // The variable of the version before counts as it did.
    let words = ["--listen", "0.0.0.0:0"];
    assert!(!said(dir.path(), &words, Some("true")).1.contains(warning));
    assert!(said(dir.path(), &words, Some("false")).1.contains(warning));
}

#[test]
fn two_answers_to_who_may_register_are_refused_and_so_is_one_that_there_is_not() {
    let dir = folder();
    for (words, closed, expected) in [
        (&["--registration", "open", "--closed-registration"][..], None, "--registration open: leave one of them out"),
        (&["--registration", "invite"], Some("true"), "--registration invite: leave one of them out"),
        (&["--registration", "shut"], None, "expected open, invite or closed"),
    ] {
        let (code, text) = said(dir.path(), &[&["--listen", "127.0.0.1:0"], words].concat(), closed);
        assert!(code == Some(2) && text.contains(expected), "{words:?}: {code:?} {text}");
    }
}

#[tokio::test]
async fn by_invitation_a_stranger_is_told_how_to_get_in_and_an_admin_is_let_in() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--registration", "invite"]);
    let agent = token(dir.path(), "a", false);
    let (status, answer) = hub.request("POST", REGISTER, None, json!({"agent_id": "b"})).await;
    assert_eq!((status, &answer["error"]), (403, &json!("invitation_required")), "{answer}");
    assert!(answer["hint"].as_str().unwrap().contains("agentcom-hub invite"), "{answer}");
    // What is wrong with a request is no stranger's business.
    assert_eq!(hub.request("POST", REGISTER, None, json!({"agent_id": " "})).await.0, 403);
    let (status, answer) = hub.request("POST", REGISTER, Some(&agent), json!({"agent_id": "b"})).await;
    assert_eq!((status, &answer["needed_role"]), (403, &json!("admin")), "{answer}");
    assert_eq!(hub.request("POST", REGISTER, Some("nonsense"), json!({"agent_id": "b"})).await.0, 401);
    let by_admin = hub.register("b").await;
    let (_, made) = hub.admin("POST", "/api/v1/invitations", json!({})).await;
    let body = json!({"agent_id": "c", "invitation": made["invitation"]});
    let (status, answer) = hub.request("POST", REGISTER, None, body).await;
    assert_eq!(status, 201, "{answer}");
    // Both were vouched for.
    for token in [&by_admin, answer["token"].as_str().unwrap()] {
        let task = json!({"description": "d", "assign_to": "a"});
        assert_eq!(hub.request("POST", "/api/tasks", Some(token), task).await.0, 201);
        let (_, me) = hub.request("GET", "/api/v1/me", Some(token), Value::Null).await;
        assert_eq!((&me["registered_openly"], &me["registration"]), (&json!(false), &json!("invite")));
    }
    let check = hub_command().args(["check", "--data"]).arg(dir.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&check.stdout).contains("by invitation"), "{check:?}");
}

/// The calls of the original's `add-agent.js`, in its order.
#[tokio::test]
async fn the_originals_onboarding_does_its_own_test_task() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let bystander = hub.register("bystander").await;
    let mut bystander = Peer::join(&hub, "bystander", &bystander, run("boot-1")).await;
    assert_eq!(hub.request("GET", "/api/agents", None, Value::Null).await.0, 200);
    let (status, registered) = hub.request("POST", REGISTER, None, json!({"agent_id": "new"})).await;
    assert_eq!((status, &registered["agent_id"]), (201, &json!("new")), "{registered}");
    let token = registered["token"].as_str().unwrap();
    let mut agent = Peer::join(&hub, "new", token, node(0)).await;
    let task = json!({
        "description": "Onboarding test: echo 'Agent new online'", "priority": "urgent",
        "metadata": {"onboarding_test": true},
    });
    let (status, submitted) = hub.request("POST", "/api/tasks", Some(token), task).await;
    assert_eq!(status, 201, "{submitted}");
    let task_id = submitted["task_id"].as_str().unwrap();
    let assigned = agent.expect("task_assign").await;
    assert_eq!(assigned["task_id"], json!(task_id));
    agent.accept(task_id).await;
    agent.complete(task_id, assigned["generation"].as_u64().unwrap()).await;
    let (status, task) = hub.request("GET", &format!("/api/tasks/{task_id}"), Some(token), Value::Null).await;
    assert_eq!((status, &task["status"]), (200, &json!("completed")), "{task}");
    assert_eq!(bystander.drain().await, Vec::<Value>::new());
}

#[tokio::test]
async fn who_registered_openly_submits_to_itself_and_reads_what_is_its_own() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let victim = hub.register("victim").await;
    let _victim = Peer::join(&hub, "victim", &victim, run("boot-1")).await;
    let secret = hub.submit(json!({"description": "secret", "needed_capabilities": ["none"]})).await;
    let stray = hub.register_openly("stray").await;
    for (path, body) in [
        ("/api/tasks", json!({"description": "d", "assign_to": "victim"})),
        ("/api/tasks", json!({"description": "d", "assign_to": "Stray"})),
        ("/api/tasks", json!({"description": "d", "metadata": {"target_agent": "victim"}})),
        ("/api/tasks", json!({"description": "d", "metadata": {"assign_to": "victim"}})),
        ("/api/v1/tasks", json!({"description": "d", "assign_to": "victim"})),
        ("/api/admin/push-task", json!({"description": "d", "agent_id": "victim"})),
    ] {
        let (status, answer) = hub.request("POST", path, Some(&stray), body.clone()).await;
        assert_eq!((status, &answer["needed_role"]), (403, &json!("agent")), "{path} {body}: {answer}");
        let why = answer["hint"].as_str().or(answer["detail"].as_str()).unwrap();
        assert!(why.contains("another agent") && why.contains("agentcom-hub token NAME --replace"), "{answer}");
    }
    let task = json!({"description": "mine", "metadata": {"target_agent": ""}, "needed_capabilities": ["code"]});
    let (status, mine) = hub.request("POST", "/api/v1/tasks", Some(&stray), task).await;
    assert_eq!((status, &mine["assign_to"]), (201, &json!("stray")), "{mine}");
    let mine = mine["id"].as_str().or(mine["task_id"].as_str()).unwrap().to_owned();
    for path in ["/api/tasks", "/api/v1/tasks"] {
        let (_, list) = hub.request("GET", path, Some(&stray), Value::Null).await;
        assert!(list.to_string().contains(&mine) && !list.to_string().contains(&secret), "{list}");
    }
    for (path, expected) in [
        (format!("/api/tasks/{mine}"), 200),
        (format!("/api/tasks/{secret}"), 403),
        (format!("/api/v1/tasks/{secret}"), 403),
        ("/api/tasks/nonsense".to_owned(), 404),
        ("/api/agents/victim/state".to_owned(), 403),
        ("/api/v1/agents/victim".to_owned(), 403),
        ("/api/v1/agents".to_owned(), 403),
        ("/api/v1/events".to_owned(), 403),
    ] {
        let (status, answer) = hub.request("GET", &path, Some(&stray), Value::Null).await;
        assert_eq!(status, expected, "{path}: {answer}");
    }
    // Connected, it reads itself, and what it holds.
    let mut agent = Peer::join(&hub, "stray", &stray, run("boot-1")).await;
    assert_eq!(agent.expect("task_assign").await["task_id"], json!(mine));
    for path in ["/api/agents/stray/state", "/api/v1/agents/stray", "/api/v1/restarts?agent_id=stray"] {
        let (status, answer) = hub.request("GET", path, Some(&stray), Value::Null).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    // It fills its own places, and nobody else's.
    let mut taken = 0;
    while hub.request("POST", "/api/tasks", Some(&stray), json!({"description": "d"})).await.0 == 201 {
        taken += 1;
    }
    assert_eq!(taken, 16);
    hub.submit(json!({"description": "d"})).await;
}

#[tokio::test]
async fn an_admin_takes_a_name_over_with_nothing_of_who_registered_it_openly() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    // Never used: whoever is vouched for gets it.
    let squatted = hub.register_openly("gpu-1").await;
    let (_, made) = hub.admin("POST", "/api/v1/invitations", json!({"agent_id": "gpu-1"})).await;
    let body = json!({"agent_id": "gpu-1", "invitation": made["invitation"]});
    assert_eq!(hub.request("POST", REGISTER, None, body).await.0, 201);
    assert_eq!(hub.request("GET", "/api/v1/me", Some(&squatted), Value::Null).await.0, 401);
    hub.register_openly("gpu-2").await;
    token(dir.path(), "gpu-2", false);
    // Used: it would share the name with the next token, and what it left would be done by the next owner's agent.
    let squatted = hub.register_openly("gpu-3").await;
    let (_, trap) = hub.request("POST", "/api/tasks", Some(&squatted), json!({"description": "trap"})).await;
    for name in ["token", "viewer"] {
        let body = json!({"agent_id": "gpu-3", "role": if name == "token" { "agent" } else { name }});
        let (status, answer) = hub.admin("POST", "/api/v1/tokens", body).await;
        assert_eq!((status, &answer["code"]), (409, &json!("registered_openly")), "{answer}");
    }
    let refused = run_token(dir.path(), "gpu-3", false);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--replace"), "{refused:?}");
    assert_eq!(hub.admin("POST", REGISTER, json!({"agent_id": "gpu-3"})).await.0, 409);
    let (status, next) = hub.admin("POST", "/api/v1/tokens", json!({"agent_id": "gpu-3", "replace": true})).await;
    assert_eq!(status, 201, "{next}");
    let next = next["token"].as_str().unwrap();
    let mut agent = Peer::join(&hub, "gpu-3", next, run("boot-1")).await;
    assert_eq!(agent.drain().await, Vec::<Value>::new());
    let (_, task) = hub.admin("GET", &format!("/api/tasks/{}", trap["task_id"].as_str().unwrap()), Value::Null).await;
    assert_eq!(task["status"], "dead_letter", "{task}");
    assert_eq!(hub.request("GET", "/api/tasks/stats", Some(next), Value::Null).await.0, 200, "it was vouched for");
}

/// Registers names on a few connections until the hub says 429 or all are; the number of those that it registered.
async fn flood(hub: &Hub, prefix: &str, names: usize, head: &str) -> usize {
    let (next, registered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..48 {
        let (address, head, prefix) = (hub.address.clone(), head.to_owned(), prefix.to_owned());
        let (next, registered) = (next.clone(), registered.clone());
        clients.spawn(async move {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let mut answer = vec![0; 16 << 10];
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= names {
                    return;
                }
                let body = format!(r#"{{"agent_id":"{prefix}{n}"}}"#);
                let length = body.len();
                let request = format!(
                    "POST {REGISTER} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: \
                     {length}\r\n{head}\r\n{body}"
                );
                stream.write_all(request.as_bytes()).await.unwrap();
                let read = stream.read(&mut answer).await.unwrap();
                let text = String::from_utf8_lossy(&answer[..read]);
                if text.starts_with("HTTP/1.1 429") {
                    assert!(text.contains("retry-after: ") && text.contains("agentcom-hub invite"), "{text}");
                    return;
                }
                assert!(text.starts_with("HTTP/1.1 201"), "{text}");
                registered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    timeout(PATIENCE, clients.join_all()).await.expect("the flood took too long");
    registered.load(Ordering::Relaxed)
}

async fn metrics(hub: &Hub) -> Vec<String> {
    let mut stream = TcpStream::connect(&hub.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("no metrics").unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_flood_of_names_is_bounded_locks_no_admin_out_and_is_seen_in_the_list_of_tokens_only() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (_, made) = hub.admin("POST", "/api/v1/invitations", json!({})).await;
    let before = metrics(&hub).await.len();
    // One client of a proxy, whatever it writes itself; then all others together.
    let one = flood(&hub, "x", 600, "x-forwarded-for: 198.51.100.7, 203.0.113.9\r\n").await;
    assert!((500..600).contains(&one), "{one}");
    let all = one + flood(&hub, "y", 2_500, "").await;
    assert!((2_000..2_100).contains(&all), "{all}");
    let (status, answer) = hub.request("POST", REGISTER, None, json!({"agent_id": "late"})).await;
    assert!(status == 429 && answer["error"] == "too_many_registrations" || status == 201, "{answer}");
    // Who is vouched for does not notice.
    hub.register("by-admin").await;
    token(dir.path(), "by-command", true);
    let body = json!({"agent_id": "invited", "invitation": made["invitation"]});
    assert_eq!(hub.request("POST", REGISTER, None, body).await.0, 201);
    let (_, agents) = hub.admin("GET", "/api/v1/agents", Value::Null).await;
    assert_eq!(agents["items"].as_array().unwrap().len(), 2, "{agents}");
    let after = metrics(&hub).await;
    assert!(after.len() <= before + 8, "{before} lines became {}", after.len());
    assert!(after.contains(&"agentcom_hub_agents{status=\"never_seen\"} 2".to_owned()), "{after:?}");
    let (_, audit) = hub.admin("GET", "/api/v1/audit?who=unauthenticated&limit=1000", Value::Null).await;
    let entries = audit["items"].as_array().unwrap().len();
    assert!((60..=62).contains(&entries), "{entries}");
    let (_, tokens) = hub.admin("GET", "/api/admin/tokens", Value::Null).await;
    let openly = tokens["tokens"].as_array().unwrap().iter().filter(|token| token["registered_openly"] == true);
    assert!(openly.count() >= all);
}

/// Dates every token that was registered openly back, as if the hub had been down so long.
fn date_back(dir: &Path, age: Duration) {
    let at = (SystemTime::now() - age).duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let db = Database::open(dir.join("hub.redb")).unwrap();
    let write = db.begin_write().unwrap();
    {
        let mut tokens = write.open_table(TOKENS).unwrap();
        let entries = tokens.iter().unwrap().map(Result::unwrap);
        let all: Vec<(Vec<u8>, Value)> = entries
            .map(|(key, value)| (key.value().to_vec(), serde_json::from_slice(value.value()).unwrap()))
            .collect();
        for (key, mut record) in all.into_iter().filter(|(_, record)| record["registered_openly"] == true) {
            record["created_at"] = json!(at);
            tokens.insert(key.as_slice(), record.to_string().as_bytes()).unwrap();
        }
    }
    write.commit().unwrap();
}

#[tokio::test]
async fn what_nobody_used_is_gone_after_a_week_and_what_was_used_stays() {
    let dir = folder();
    let mut hub = Hub::start(&dir, &[]);
    let (used, kept) = (hub.register_openly("used").await, hub.register("kept").await);
    flood(&hub, "x", 700, "").await;
    let mut agent = Peer::join(&hub, "used", &used, run("boot-1")).await;
    agent.drain().await;
    hub.signal("TERM");
    // Six days later they may still start.
    date_back(dir.path(), Duration::from_secs(6 * 86_400));
    let mut hub = Hub::start(&dir, &[]);
    let (_, list) = hub.admin("GET", "/api/admin/tokens", Value::Null).await;
    assert!(list["tokens"].as_array().unwrap().len() > 700);
    // A use is stored in a minute; here the agent comes back.
    let mut agent = Peer::join(&hub, "used", &used, run("boot-1")).await;
    agent.drain().await;
    hub.signal("TERM");
    date_back(dir.path(), Duration::from_secs(8 * 86_400));
    mark_used(dir.path(), "used");
    let mut hub = Hub::start(&dir, &[]);
    let began = std::time::Instant::now();
    loop {
        let (_, list) = hub.admin("GET", "/api/admin/tokens", Value::Null).await;
        if !list.to_string().contains("\"x") {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "they stayed");
    }
    for token in [&used, &kept] {
        assert_eq!(hub.request("GET", "/api/v1/me", Some(token), Value::Null).await.0, 200);
    }
    assert_eq!(hub.signal("TERM").0, Some(0));
    let db = Database::open(dir.path().join("hub.redb")).unwrap();
    // `used` and `kept`, and the admin's of three starts.
    assert_eq!(db.begin_read().unwrap().open_table(TOKENS).unwrap().len().unwrap(), 5);
}

/// Notes a use of the token of this name, as the hub does within a minute.
fn mark_used(dir: &Path, name: &str) {
    let db = Database::open(dir.join("hub.redb")).unwrap();
    let write = db.begin_write().unwrap();
    {
        let mut tokens = write.open_table(TOKENS).unwrap();
        let entries = tokens.iter().unwrap().map(Result::unwrap);
        let found: Vec<(Vec<u8>, Value)> = entries
            .map(|(key, value)| (key.value().to_vec(), serde_json::from_slice(value.value()).unwrap()))
            .collect();
        let (key, mut record) = found.into_iter().find(|(_, record)| record["name"] == name).unwrap();
        record["last_used_at"] = json!(1);
        tokens.insert(key.as_slice(), record.to_string().as_bytes()).unwrap();
    }
    write.commit().unwrap();
}

#[tokio::test]
async fn of_many_that_register_one_name_at_once_one_gets_it() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let asking = (0..24).map(|_| hub.request("POST", REGISTER, None, json!({"agent_id": "one"})));
    let answers = futures_util::future::join_all(asking).await;
    let mut statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (201, &[409; 23][..]));
}

#[tokio::test]
async fn a_registration_whose_answer_was_lost_is_made_good_by_an_admin() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    // It is stored, and the hub dies: the client has no token.
    hub.register_openly("a").await;
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    assert_eq!(hub.request("POST", REGISTER, None, json!({"agent_id": "a"})).await.0, 409);
    let token = token(dir.path(), "a", false);
    Peer::join(&hub, "a", &token, run("boot-1")).await;
    let (_, list) = hub.admin("GET", "/api/v1/tokens", Value::Null).await;
    let of_a: Vec<_> = list["items"].as_array().unwrap().iter().filter(|token| token["agent_id"] == "a").collect();
    assert_eq!((of_a.len(), &of_a[0]["registered_openly"]), (1, &json!(false)), "{list}");
}

#[tokio::test]
async fn a_backup_keeps_who_registered_openly() {
    let dir = folder();
    let mut hub = Hub::start(&dir, &[]);
    let stray = hub.register_openly("stray").await;
    let (copy, place) = (dir.path().join("copy.redb"), folder());
    let backup = hub_command().args(["backup", "--out"]).arg(&copy).arg("--data").arg(dir.path()).output().unwrap();
    assert!(backup.status.success(), "{backup:?}");
    hub.signal("TERM");
    let restored = hub_command().arg("restore").arg(&copy).arg("--data").arg(place.path()).output().unwrap();
    assert!(restored.status.success(), "{restored:?}");
    let hub = Hub::start(&place, &[]);
    let (_, me) = hub.request("GET", "/api/v1/me", Some(&stray), Value::Null).await;
    assert_eq!((&me["name"], &me["registered_openly"]), (&json!("stray"), &json!(true)), "{me}");
    assert_eq!(hub.request("GET", "/api/v1/agents", Some(&stray), Value::Null).await.0, 403);
}
