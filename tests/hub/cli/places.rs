//! Which hub a command is for: over HTTP with the token of each role, over the own socket, and where no hub runs.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Output;

use serde_json::json;

use crate::cli::{command, json_of, printed, run, said, started, token_file};
use crate::roles::token_of;
use crate::support::{Hub, Peer, folder, hub_command, run as boot};
use crate::tls::TlsDoor;

/// A command for the hub at an address, with a token file.
fn at(address: &str, file: Option<&str>, args: &[&str]) -> Output {
    let mut command = hub_command();
    command.args(args).args(["--hub", &format!("http://{address}")]);
    if let Some(file) = file {
        command.args(["--token-file", file]);
    }
    command.output().unwrap()
}

#[tokio::test]
async fn each_role_may_do_over_http_what_it_may_and_is_told_what_it_takes() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let agent = hub.register("a").await;
    let _peer = Peer::join(&hub, "a", &agent, boot("boot-1")).await;
    let task = hub.submit(json!({"description": "d", "needed_capabilities": ["none"]})).await;
    let mut files = vec![token_file(dir.path(), "agent", &agent)];
    for role in ["viewer", "operator", "admin"] {
        files.push(token_file(dir.path(), role, &token_of(dir.path(), role, role, &[])));
    }
    // For an agent, a viewer, an operator and an admin.
    for (args, codes, needed) in [
        (&["agents"][..], [0, 0, 0, 0], ""),
        (&["agent", "a"], [0, 0, 0, 0], ""),
        (&["tasks"], [0, 0, 0, 0], ""),
        (&["task", &task], [0, 0, 0, 0], ""),
        (&["restarts", "--agent", "a"], [0, 0, 0, 0], ""),
        (&["restarts"], [77, 0, 0, 0], "viewer"),
        (&["submit", "d"], [0, 77, 0, 0], "operator"),
        (&["label", "a", "x=y"], [77, 77, 0, 0], "operator"),
        (&["restart", "a", "--dry-run"], [0, 77, 0, 0], "operator"),
        (&["restart", "all", "--dry-run"], [77, 77, 0, 0], "operator"),
        (&["restart", "a,b", "--dry-run"], [77, 77, 0, 0], "operator"),
        (&["rollout", "status"], [77, 0, 0, 0], "viewer"),
        (&["rollout", "start", "all", "--dry-run"], [77, 77, 0, 0], "operator"),
        (&["audit"], [77, 77, 0, 0], "operator"),
        (&["token", "list"], [77, 77, 77, 0], "admin"),
        (&["token", "new"], [77, 77, 77, 0], "admin"),
        (&["invite"], [77, 77, 77, 0], "admin"),
        (&["invite", "list"], [77, 77, 77, 0], "admin"),
        (&["store", "check"], [77, 77, 77, 0], "admin"),
        (&["cancel", &task], [77, 77, 0, 1], "operator"),
    ] {
        for (file, code) in files.iter().zip(codes) {
            let output = at(&hub.address, Some(file), args);
            assert_eq!(output.status.code(), Some(code), "{args:?} with {file}: {output:?}");
            if code == 77 {
                assert!(said(&output).contains(&format!("takes the role {needed}")), "{args:?}: {output:?}");
            }
        }
    }
}

#[tokio::test]
async fn without_a_valid_token_it_says_what_to_do_and_never_what_the_token_is() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let none = at(&hub.address, None, &["agents"]);
    assert_eq!((none.status.code(), said(&none).contains("--token-file")), (Some(77), true), "{none:?}");
    let secret = "c0ffee".repeat(10);
    let file = token_file(dir.path(), "unknown", &secret);
    for args in [&["agents"][..], &["check"], &["submit", "d"]] {
        let output = at(&hub.address, Some(&file), args);
        assert_eq!(output.status.code(), Some(77), "{args:?}: {output:?}");
        assert!(!said(&output).contains(&secret), "{output:?}");
    }
    let admin = token_file(dir.path(), "admin", &hub.admin);
    std::fs::set_permissions(&admin, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let warned = at(&hub.address, Some(&admin), &["agents"]);
    assert_eq!(warned.status.code(), Some(0), "{warned:?}");
    assert!(said(&warned).contains("chmod 600") && !said(&warned).contains(&hub.admin), "{warned:?}");
    for (file, word) in [("missing", "cannot be used"), ("", "cannot be used")] {
        let path = dir.path().join(file);
        let output = at(&hub.address, path.to_str(), &["agents"]);
        assert_eq!((output.status.code(), said(&output).contains(word)), (Some(78), true), "{output:?}");
    }
}

#[tokio::test]
async fn a_hub_behind_tls_is_asked_if_its_certificate_is_trusted() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let door = TlsDoor::before(hub.address.parse().unwrap());
    let file = token_file(dir.path(), "admin", &hub.admin);
    let pem = dir.path().join("ca.pem");
    std::fs::write(&pem, door.pem()).unwrap();
    let ask = |trusted: &str| {
        let mut command = hub_command();
        command.args(["submit", "over TLS", "--hub", &door.url(), "--token-file", &file]);
        command.env("SSL_CERT_FILE", trusted).output().unwrap()
    };
    let output = ask(pem.to_str().unwrap());
    assert!(output.status.success(), "{output:?}");
    assert!(printed(&dir, &["tasks"]).contains("over TLS"));
    let refused = ask("/nowhere");
    assert_eq!((refused.status.code(), said(&refused).contains("cannot speak TLS")), (Some(69), true), "{refused:?}");
}

/// Answers the first connection with this text.
fn stranger(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(answer.as_bytes());
    });
    address
}

#[test]
fn what_is_no_hub_is_told_by_the_exit_code() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = at(&gone, None, &["agents"]);
    assert_eq!((output.status.code(), said(&output).contains("is the hub running")), (Some(69), true), "{output:?}");
    for (answer, code, word) in [
        ("SSH-2.0-x\r\n", 69, "did not answer as a web server"),
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\nno", 69, "HTTP 502"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", 70, "not one of the API"),
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 38\r\n\r\n{\"code\":\"not_found\",\"detail\":\"no way\"}",
            70,
            "another version",
        ),
    ] {
        let output = at(&stranger(answer), None, &["agents"]);
        assert_eq!((output.status.code(), said(&output).contains(word)), (Some(code), true), "{answer}: {output:?}");
    }
}

#[tokio::test]
async fn an_option_counts_more_than_the_environment_and_two_hubs_are_refused() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let file = token_file(dir.path(), "admin", &hub.admin);
    let url = format!("ws://{}/ws", hub.address);
    let by_environment = |args: &[&str], data: Option<&str>| {
        let mut command = hub_command();
        command.args(args).env("AGENTCOM_HUB_URL", &url).env("AGENTCOM_HUB_TOKEN_FILE", &file);
        command.envs(data.map(|data| ("AGENTCOM_HUB_DATA", data))).output().unwrap()
    };
    assert_eq!(by_environment(&["agents"], None).status.code(), Some(0));
    let both = by_environment(&["agents"], Some("/nowhere"));
    assert_eq!((both.status.code(), said(&both).contains("--hub or --data")), (Some(2), true), "{both:?}");
    assert_eq!(by_environment(&["agents", "--data", "/nowhere"], None).status.code(), Some(78));
    assert_eq!(by_environment(&["agents", "--hub", "http://127.0.0.1:1"], Some("/nowhere")).status.code(), Some(69));
    for args in [
        &["agents", "--hub", "http://h", "--data", "d"][..],
        &["agents", "--data", "d", "--token-file", "f"],
        &["agents", "--hub", "h"],
        &["agents", "--hub", "http://me:hunter2@h"],
    ] {
        let output = hub_command().args(args).output().unwrap();
        assert_eq!((output.status.code(), said(&output).contains("hunter2")), (Some(2), false), "{args:?}: {output:?}");
    }
    let alone = hub_command().args(["agents", "--token-file", "f"]).current_dir(dir.path()).output().unwrap();
    assert_eq!(alone.status.code(), Some(2), "{alone:?}");
}

#[tokio::test]
async fn where_no_hub_runs_the_store_answers_and_takes_acts() {
    let dir = folder();
    let mut hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let mut labelled = boot("boot-1");
    labelled["labels"] = json!({"pool": "gpu"});
    let _peer = Peer::join(&hub, "a", &token, labelled).await;
    let task = hub.submit(json!({"description": "d", "needed_capabilities": ["none"]})).await;
    assert_eq!(hub.signal("TERM").0, Some(0));
    assert!(printed(&dir, &["agents", "--away"]).contains("hub_restarted"));
    assert!(printed(&dir, &["agent", "a"]).contains("the hub was restarted"));
    assert!(printed(&dir, &["tasks"]).contains(&task));
    assert!(printed(&dir, &["label", "a", "pool=cpu"]).contains("pool was -, is cpu"));
    let skipped = run(&dir, &["restart", "all"]);
    assert_eq!(skipped.status.code(), Some(1), "{skipped:?}");
    // What only a running hub does is not waited for.
    for args in [&["task", task.as_str(), "--follow"][..], &["events"]] {
        let output = run(&dir, args);
        assert_eq!((output.status.code(), said(&output).contains("no hub runs")), (Some(69), true), "{output:?}");
    }
    assert!(printed(&dir, &["cancel", &task]).contains("cancelled"));
    let audit = printed(&dir, &["audit"]);
    assert!(audit.contains("by offline: task_cancelled") && audit.contains("by offline: labels_changed"), "{audit}");
    let _hub = Hub::start(&dir, &[]);
    assert_eq!(json_of(&dir, &["tasks", "--json"])[0]["status"], "cancelled");
    assert!(printed(&dir, &["agents", "label.pool=cpu"]).contains("a "));
}

#[tokio::test]
async fn commands_at_the_same_time_without_a_hub_all_succeed_and_each_act_is_done_once() {
    let dir = folder();
    printed(&dir, &["token", "ops", "--admin", "--init"]);
    let names: Vec<String> = (0..8).map(|n| format!("t{n}")).collect();
    let running: Vec<_> =
        names.iter().map(|name| started(command(&dir, &["submit", name, "--idempotency-key", name]))).collect();
    let tokens: Vec<_> = names.iter().map(|name| started(command(&dir, &["token", name]))).collect();
    for output in running.into_iter().chain(tokens) {
        let output = output.await.unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let tasks = json_of(&dir, &["tasks", "--json"]);
    let mut described: Vec<&str> =
        tasks.as_array().unwrap().iter().map(|it| it["description"].as_str().unwrap()).collect();
    described.sort_unstable();
    assert_eq!(described, names);
    let listed = json_of(&dir, &["token", "list", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), 9, "{listed}");
}

#[test]
fn a_folder_that_is_none_of_a_hub_is_not_made() {
    let dir = folder();
    let missing = dir.path().join("missing");
    let (file, out) = (missing.join("file"), dir.path().join("out"));
    let (file, out) = (file.to_str().unwrap(), out.to_str().unwrap());
    for args in [
        &["agents"][..],
        &["agent", "a"],
        &["tasks"],
        &["task", "t"],
        &["submit", "d"],
        &["cancel", "t"],
        &["retry", "t"],
        &["restart", "a"],
        &["restarts"],
        &["rollout", "status"],
        &["drain", "a"],
        &["resume", "a"],
        &["healing"],
        &["events"],
        &["label", "a", "x=y"],
        &["token", "a"],
        &["token", "a", "--out", file],
        &["token", "list"],
        &["token", "revoke", "a"],
        &["invite"],
        &["invite", "list"],
        &["invite", "revoke", "i"],
        &["audit"],
        &["store", "check"],
        &["backup", "--out", out],
        &["check"],
        &["serve", "--no-init", "--listen", "127.0.0.1:0"],
    ] {
        let output = hub_command().args(args).arg("--data").arg(&missing).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!((output.status.code(), missing.exists()), (Some(78), false), "{args:?}: {output:?}");
        assert!(said.contains("no store in") && said.contains("--init"), "{args:?}: {said}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
