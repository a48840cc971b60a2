//! The hub as a process: what survives kill -9, how it stops, how it exits, who may do what, and the token command.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{Hub, Peer, first_token, folder, hub_command, run, run_token, token};
use serde_json::{Value, json};

#[tokio::test]
async fn kill_9_loses_no_task_whatever_its_state() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let agent = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &agent, run("boot-1")).await;
    let done = hub.submit(json!({"description": "done"})).await;
    peer.expect("task_assign").await;
    peer.accept(&done).await;
    peer.complete(&done, 1).await;
    let held = hub.submit(json!({"description": "held"})).await;
    peer.expect("task_assign").await;
    peer.accept(&held).await;
    let waiting = hub.submit(json!({"description": "waiting", "priority": "low"})).await;
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    assert_eq!(hub.task(&done).await["status"], "completed");
    assert_eq!(hub.task(&done).await["result"]["output"], "done");
    let task = hub.task(&held).await;
    assert_eq!(
        (&task["status"], &task["generation"], &task["accepted"]),
        (&json!("assigned"), &json!(1), &json!(true))
    );
    assert_eq!(hub.task(&waiting).await["status"], "queued");
    // The holder comes back with its token and goes on with its task, then takes what waits.
    let mut peer = Peer::join(&hub, "a", &agent, run("boot-1")).await;
    peer.say(json!({"type": "state_report", "task_id": held, "status": "working", "generation": 1})).await;
    assert_eq!(peer.expect("state_report_ack").await["action"], "continue");
    assert_eq!(peer.complete(&held, 1).await["status"], "complete");
    assert_eq!(peer.expect("task_assign").await["task_id"], waiting.as_str());
}

#[tokio::test]
async fn a_holder_that_does_not_come_back_after_kill_9_loses_its_task() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let agent = hub.register("a").await;
    let mut peer = Peer::join(&hub, "a", &agent, run("boot-1")).await;
    let task_id = hub.submit(json!({"description": "d"})).await;
    peer.expect("task_assign").await;
    hub.kill_9();
    let hub = Hub::start(&dir, &["--accept-timeout-ms", "200", "--reconnect-grace-ms", "200"]);
    hub.task_until(&task_id, |task| task["status"] == "queued" && task["generation"] == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_submission_that_was_answered_is_there_after_kill_9_in_the_middle_of_many() {
    let dir = folder();
    let hub = Arc::new(Hub::start(&dir, &[]));
    let (sender, mut answered) = tokio::sync::mpsc::unbounded_channel();
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for _ in 0..8 {
        let (hub, sender, stop) = (hub.clone(), sender.clone(), stop.clone());
        clients.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                sender.send(hub.submit(json!({"description": "d"})).await).unwrap();
            }
        }));
    }
    let mut ids = Vec::new();
    while ids.len() < 100 {
        ids.push(answered.recv().await.unwrap());
    }
    let pid = hub.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    stop.store(true, Ordering::Relaxed);
    drop(sender);
    for client in clients {
        // Whoever was in the middle of a request fails; that one was not answered.
        let _ = client.await;
    }
    while let Some(id) = answered.recv().await {
        ids.push(id);
    }
    drop(hub);
    let hub = Hub::start(&dir, &[]);
    let (_, body) = hub.admin("GET", "/api/tasks", Value::Null).await;
    let stored: Vec<&str> = body["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap()).collect();
    let lost: Vec<&String> = ids.iter().filter(|id| !stored.contains(&id.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} answered submissions are gone: {lost:?}", lost.len(), ids.len());
}

#[tokio::test]
async fn a_signal_closes_sockets_as_going_away_and_exits_0_in_time_keeping_assignments() {
    for name in ["INT", "TERM"] {
        let dir = folder();
        let mut hub = Hub::start(&dir, &[]);
        let agent = hub.register("a").await;
        let mut peer = Peer::join(&hub, "a", &agent, run("boot-1")).await;
        let task_id = hub.submit(json!({"description": "d"})).await;
        peer.expect("task_assign").await;
        peer.accept(&task_id).await;
        let waiting = tokio::spawn(async move { peer.expect_close(1001).await });
        let (hub, (code, took)) = tokio::task::spawn_blocking(move || {
            let ended = hub.signal(name);
            (hub, ended)
        })
        .await
        .unwrap();
        waiting.await.unwrap();
        drop(hub);
        assert_eq!(code, Some(0), "SIG{name}");
        // The hub itself gives up on its peers after 0.9 s (pm2 kills after 1.6 s); the rest is for a busy machine.
        assert!(took < Duration::from_secs(10), "SIG{name} took {took:?}");
        let hub = Hub::start(&dir, &[]);
        let task = hub.task(&task_id).await;
        assert_eq!((&task["status"], &task["generation"]), (&json!("assigned"), &json!(1)));
    }
}

#[tokio::test]
async fn signals_that_mean_nothing_here_end_no_hub() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    for name in ["HUP", "USR1", "USR2"] {
        hub.send(name);
        // A second one of each tells that the first was survived.
        hub.send(name);
        let (status, _) = hub.request("GET", "/api/tasks", Some(&hub.admin), Value::Null).await;
        assert_eq!(status, 200, "SIG{name}");
    }
}

#[tokio::test]
async fn a_data_folder_whose_sockets_path_is_too_long_for_an_address_will_do() {
    let dir = folder();
    let deep = dir.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let deep = tempfile::tempdir_in(&deep).unwrap();
    // It makes an admin token through that socket.
    let hub = Hub::start(&deep, &[]);
    let (status, _) = hub.request("GET", "/api/tasks", Some(&hub.admin), Value::Null).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_name_that_looks_like_another_is_refused() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    for name in ["alice\u{200b}", "\u{202e}alice", "alice "] {
        let (status, said) =
            hub.request("POST", "/api/onboard/register", Some(&hub.admin), json!({"agent_id": name})).await;
        assert_eq!(status, 422, "{name:?}: {said}");
        assert!(said.to_string().contains("not seen"), "{said}");
        let mut command = hub_command();
        let output = command.args(["token", name, "--data"]).arg(dir.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name:?}");
    }
}

#[tokio::test]
async fn a_token_works_whether_it_was_made_before_the_hub_ran_or_while_it_runs() {
    let dir = folder();
    let before = first_token(dir.path(), "early");
    let hub = Hub::start(&dir, &[]);
    let during = token(dir.path(), "late", false);
    for (name, token) in [("early", &before), ("late", &during)] {
        Peer::join(&hub, name, token, run("boot-1")).await;
        let (status, _) = hub.request("GET", "/api/tasks", Some(token), Value::Null).await;
        assert_eq!(status, 200, "{name}");
    }
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    let (status, _) = hub.request("GET", "/api/tasks", Some(&during), Value::Null).await;
    assert_eq!(status, 200, "a token made while the hub ran must survive it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_made_while_a_hub_starts_all_work() {
    let dir = folder();
    let path = dir.path().to_owned();
    let makers: Vec<_> = (0..6)
        .map(|n| {
            let path = path.clone();
            std::thread::spawn(move || first_token(&path, &format!("agent-{n}")))
        })
        .collect();
    let hub = Hub::start(&dir, &[]);
    for maker in makers {
        let token = maker.join().unwrap();
        let (status, _) = hub.request("GET", "/api/tasks", Some(&token), Value::Null).await;
        assert_eq!(status, 200);
    }
}

#[tokio::test]
async fn the_data_dir_and_the_private_door_are_private() {
    let outer = folder();
    let data = outer.path().join("data");
    let output = hub_command().args(["token", "ops", "--admin", "--init", "--data"]).arg(&data).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    let dir = folder();
    let _hub = Hub::start(&dir, &[]);
    for file in ["hub.sock", "hub.redb", "hub.redb.made"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn everybody_may_do_what_their_token_says_and_no_more() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (a, b) = (hub.register("a").await, hub.register("b").await);
    let _a = Peer::join(&hub, "a", &a, run("boot-1")).await;
    let _b = Peer::join(&hub, "b", &b, run("boot-1")).await;
    let task = hub.submit(json!({"description": "d", "needed_capabilities": ["none"]})).await;
    let cancel = format!("/api/tasks/{task}/cancel");
    let task = format!("/api/tasks/{task}");
    let body = json!({"description": "d", "needed_capabilities": ["none"]});
    let none = Value::Null;
    for (token, method, path, body, expected) in [
        (None, "GET", "/health", &none, 200),
        (None, "GET", "/api/agents", &none, 200),
        (None, "GET", "/api/tasks", &none, 401),
        (None, "POST", "/api/tasks", &body, 401),
        (None, "GET", task.as_str(), &none, 401),
        (None, "POST", "/api/admin/agents/a/restart", &none, 401),
        (None, "GET", "/api/admin/agents/a/restarts", &none, 401),
        (Some("wrong"), "GET", "/api/tasks", &none, 401),
        (Some(a.as_str()), "GET", "/api/tasks", &none, 200),
        (Some(a.as_str()), "POST", "/api/tasks", &body, 201),
        (Some(a.as_str()), "GET", task.as_str(), &none, 200),
        (Some(a.as_str()), "POST", cancel.as_str(), &none, 403),
        (Some(a.as_str()), "POST", "/api/admin/agents/b/restart", &none, 403),
        (Some(a.as_str()), "GET", "/api/admin/agents/b/restarts", &none, 403),
        (Some(a.as_str()), "POST", "/api/admin/agents/a/restart", &none, 200),
        (Some(a.as_str()), "GET", "/api/admin/agents/a/restarts", &none, 200),
        (Some(hub.admin.as_str()), "POST", "/api/admin/agents/b/restart", &none, 200),
        (Some(hub.admin.as_str()), "GET", "/api/admin/agents/a/restarts", &none, 200),
        (Some(hub.admin.as_str()), "POST", cancel.as_str(), &none, 200),
    ] {
        let (status, answer) = hub.request(method, path, token, body.clone()).await;
        assert_eq!(status, expected, "{method} {path} with {token:?}: {answer}");
    }
}

#[tokio::test]
async fn the_first_registration_wins() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    hub.register("a").await;
    let (status, body) = hub.request("POST", "/api/onboard/register", None, json!({"agent_id": "a"})).await;
    assert_eq!(status, 409, "{body}");
    let (status, body) = hub.request("POST", "/api/onboard/register", None, json!({"agent_id": "ops"})).await;
    assert_eq!(status, 409, "an operator's name is taken too: {body}");
}

#[tokio::test]
async fn a_registered_agent_learns_the_urls_that_it_reached_the_hub_by() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let public_dir = folder();
    let public = Hub::start(&public_dir, &["--public-url", "https://hub.example/"]);
    for (n, (hub, head, ws, api)) in [
        (
            &hub,
            "host: hub.example:4000\r\n",
            "ws://hub.example:4000/ws".to_owned(),
            "http://hub.example:4000".to_owned(),
        ),
        (
            &hub,
            "host: hub.example\r\nx-forwarded-proto: https\r\n",
            "wss://hub.example/ws".to_owned(),
            "https://hub.example".to_owned(),
        ),
        (&hub, "host: a\"b\r\n", format!("ws://{}/ws", hub.address), format!("http://{}", hub.address)),
        (&public, "host: hub.example\r\n", "wss://hub.example/ws".to_owned(), "https://hub.example".to_owned()),
        (
            &public,
            "host: 127.0.0.1:4000\r\nx-forwarded-for: 192.0.2.1\r\n",
            "wss://hub.example/ws".to_owned(),
            "https://hub.example".to_owned(),
        ),
        (&public, "host: localhost:4000\r\n", "ws://localhost:4000/ws".to_owned(), "http://localhost:4000".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let head = format!("content-type: application/json\r\nauthorization: Bearer {}\r\n{head}", hub.admin);
        let body = json!({"agent_id": format!("a{n}")}).to_string();
        let (status, body) = hub.raw("POST", "/api/onboard/register", &head, body.as_bytes()).await;
        assert_eq!(status, 201, "{body}");
        assert_eq!((&body["hub_ws_url"], &body["hub_api_url"]), (&json!(ws), &json!(api)));
    }
}

#[tokio::test]
async fn every_wrong_request_gets_json_that_says_what_is_wrong() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let auth = format!("authorization: Bearer {}\r\n", hub.admin);
    let json_type = format!("{auth}content-type: application/json\r\n");
    let text_type = format!("{auth}content-type: text/plain\r\n");
    let large = vec![b' '; (1 << 20) + 1];
    type Case<'a> = (&'a str, &'a str, &'a str, &'a [u8], u16, &'a str);
    let cases: &[Case<'_>] = &[
        ("POST", "/api/tasks", &json_type, b"{", 400, "invalid_json"),
        ("POST", "/api/tasks", &json_type, b"[]", 422, "validation_failed"),
        ("POST", "/api/tasks", &json_type, b"{}", 422, "validation_failed"),
        ("POST", "/api/tasks", &json_type, br#"{"description":7}"#, 422, "validation_failed"),
        ("POST", "/api/tasks", &json_type, br#"{"description":"d","priority":"hgh"}"#, 422, "validation_failed"),
        ("POST", "/api/tasks", &json_type, br#"{"description":"d","max_retries":-1}"#, 422, "validation_failed"),
        ("POST", "/api/tasks", &json_type, br#"{"description":"d","depends_on":["t"]}"#, 422, "validation_failed"),
        ("POST", "/api/tasks", &text_type, br#"{"description":"d"}"#, 415, "unsupported_media_type"),
        ("POST", "/api/tasks", &json_type, &large, 413, "body_too_large"),
        ("GET", "/api/tasks?status=lost", &auth, b"", 422, "validation_failed"),
        ("GET", "/api/tasks/task-none", &auth, b"", 404, "task_not_found"),
        ("POST", "/api/admin/agents/a/restart", &json_type, br#"{"force":"yes"}"#, 422, "validation_failed"),
        ("POST", "/api/onboard/register", &json_type, br#"{"agent_id":" "}"#, 422, "validation_failed"),
        ("DELETE", "/api/tasks", &auth, b"", 405, "method_not_allowed"),
        ("GET", "/api/nothing", &auth, b"", 404, "not_found"),
        ("GET", "/api/tasks/%ff", &auth, b"", 400, "invalid_path"),
        ("GET", "/ws", &auth, b"", 426, "websocket_only"),
    ];
    for (method, path, head, body, status, error) in cases {
        let (found, answer) = hub.raw(method, path, head, body).await;
        assert_eq!((found, &answer["error"]), (*status, &json!(error)), "{method} {path}: {answer}");
        assert!(answer["hint"].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn a_hub_whose_log_nobody_reads_any_more_goes_on() {
    let dir = folder();
    let mut hub = Hub::start_and_leave(&dir);
    let token = hub.register("a").await;
    for n in 0..3 {
        let mut peer = Peer::join(&hub, "a", &token, run(&format!("boot-{n}"))).await;
        // A restart is a line in the log.
        hub.restart("a", Value::Null).await;
        peer.expect("restart_sidecar").await;
        hub.restart_until("a", "delivered").await;
    }
    assert!(!hub.has_ended());
}

#[tokio::test]
async fn a_taken_address_is_exit_69() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let other = folder();
    let output = hub_command().args(["serve", "--listen", &hub.address, "--data"]).arg(other.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&hub.address) && said.contains("--listen"), "{said}");
}

#[tokio::test]
async fn a_data_dir_that_another_hub_uses_is_exit_75() {
    let dir = folder();
    let _hub = Hub::start(&dir, &[]);
    let output = hub_command().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("in use by another hub"), "{said}");
}

#[test]
fn a_data_dir_that_is_a_file_is_exit_78_and_wrong_arguments_are_exit_2() {
    let dir = folder();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = hub_command().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert_eq!(hub_command().args(["serve", "--lisen", "x"]).output().unwrap().status.code(), Some(2));
    assert_eq!(run_token(dir.path(), " ", false).status.code(), Some(2));
}

#[test]
fn help_and_version_are_there() {
    let help = hub_command().args(["serve", "--help"]).output().unwrap();
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for flag in ["--listen", "--data", "--accept-timeout-ms", "--restart-margin-ms", "AGENTCOM_HUB_LISTEN"] {
        assert!(text.contains(flag), "{flag} is missing from {text}");
    }
    let version = hub_command().arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
}
