//! Real hubs, killed and stopped: with a file and with a database, what was answered is there; and two of them on one database.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::postgres::Postgres;
use crate::support::{Hub, folder, hub_command};

/// The flags of a hub on a database.
fn flags(url: &str) -> [&str; 4] {
    ["--store", url, "--cluster-listen", "127.0.0.1:0"]
}

/// Kills a hub while it is asked for much, and looks at what it left: everything that was answered, and each change with its
/// entry in the audit.
async fn killed_while_it_commits(dir: &TempDir, flags: &[&str]) {
    let mut hub = Hub::start(dir, flags);
    let mut answered = Vec::new();
    for round in 0..3_u64 {
        let (address, admin) = (hub.address.clone(), hub.admin.clone());
        let asking: Vec<_> = (0..4)
            .map(|n| {
                let (address, admin) = (address.clone(), admin.clone());
                tokio::spawn(async move { ask_until_it_is_gone(&address, &admin, &format!("agent-{round}-{n}")).await })
            })
            .collect();
        // At another moment each round.
        tokio::time::sleep(Duration::from_millis(150 + 70 * round)).await;
        hub.kill_9();
        for asked in asking {
            answered.extend(asked.await.unwrap());
        }
        hub = Hub::start(dir, flags);
    }
    assert!(answered.len() > 6, "only {} were answered", answered.len());
    let (_, tokens) = hub.admin("GET", "/api/admin/tokens", Value::Null).await;
    let names: Vec<&str> =
        tokens["tokens"].as_array().unwrap().iter().map(|it| it["agent_id"].as_str().unwrap()).collect();
    for name in &answered {
        assert!(names.contains(&name.as_str()), "{name} was answered and is gone");
    }
    let mut cursor = String::new();
    let mut noted = Vec::new();
    loop {
        let path = format!("/api/v1/audit?action=agent_registered&limit=100{cursor}");
        let (status, page) = hub.admin("GET", &path, Value::Null).await;
        assert_eq!(status, 200, "{page}");
        noted.extend(page["items"].as_array().unwrap().iter().map(|it| it["target"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let mut registered: Vec<String> =
        names.iter().filter(|it| it.starts_with("agent-")).map(|it| (*it).to_owned()).collect();
    registered.sort();
    noted.sort();
    assert_eq!(registered, noted, "a change without its entry, or the reverse");
}

/// Registers agents, one after the other, until the hub is gone. Returns those that were answered.
async fn ask_until_it_is_gone(address: &str, admin: &str, prefix: &str) -> Vec<String> {
    let mut answered = Vec::new();
    for n in 0.. {
        let name = format!("{prefix}-{n}");
        match crate::support::try_request(address, "POST", "/api/onboard/register", admin, &json!({"agent_id": name}))
            .await
        {
            Some((201, _)) => answered.push(name),
            _ => break,
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hub_with_a_file_answered_is_there_after_it_was_killed() {
    killed_while_it_commits(&folder(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hub_with_a_database_answered_is_there_after_it_was_killed() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.new_database();
    killed_while_it_commits(&folder(), &flags(&url)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stood_still_for_longer_than_its_lease_finds_itself_deposed_and_ends_with_a_code_of_its_own() {
    let Some(server) = Postgres::shared() else { return };
    let (url, one, other) = (server.new_database(), folder(), folder());
    let mut first = Hub::start(&one, &flags(&url));
    let task = first.submit(json!({"description": "d"})).await;
    first.send("STOP");
    // It leads once the lease of the first is over, and then knows what the first one had answered.
    let begun = Instant::now();
    let second = Hub::start(&other, &flags(&url));
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    assert_eq!(second.task(&task).await["status"], "queued");
    first.send("CONT");
    assert_eq!(first.wait(), Some(76));
    assert_eq!(second.task(&task).await["status"], "queued");
}

#[test]
fn what_is_wrong_with_the_flags_is_said_with_what_to_do() {
    let dir = folder();
    let said = |arguments: &[&str]| {
        let output = hub_command().arg("serve").args(arguments).arg("--data").arg(dir.path()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (arguments, code, what) in [
        (&["--store", "postgres://u:secret@127.0.0.1/d"][..], 2, "needs --cluster-listen"),
        (&["--cluster-listen", "127.0.0.1:0"], 2, "give --store"),
        (&["--store", "mysql://h/d", "--cluster-listen", "127.0.0.1:0"], 2, "does not begin with postgres://"),
    ] {
        let (is, text) = said(arguments);
        assert_eq!(is, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(what) && !text.contains("secret"), "{text}");
    }
}

#[test]
fn a_folder_of_a_node_is_not_taken_for_one_without_a_store() {
    let Some(server) = Postgres::shared() else { return };
    let (url, dir) = (server.new_database(), folder());
    let mut hub = Hub::start(&dir, &flags(&url));
    let data = dir.path().to_str().unwrap();
    // A second one on the same folder would take the socket.
    let second = hub_command().args(["serve", "--data", data]).args(flags(&url)).output().unwrap();
    assert_eq!(second.status.code(), Some(75), "{second:?}");
    assert_eq!(hub.signal("TERM").0, Some(0));
    for arguments in
        [&["serve", "--data", data][..], &["token", "x", "--data", data], &["token", "x", "--init", "--data", data]]
    {
        let output: Command = {
            let mut it = hub_command();
            it.args(arguments);
            it
        };
        let output = { output }.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("is in PostgreSQL"), "{arguments:?}: {output:?}");
    }
}

#[test]
fn check_says_what_is_to_be_said_of_the_database() {
    let Some(server) = Postgres::shared() else { return };
    let (url, dir) = (server.new_database(), folder());
    let _hub = Hub::start(&dir, &flags(&url));
    let check = |url: &str| {
        let output =
            hub_command().args(["check", "--json", "--store", url, "--data"]).arg(dir.path()).output().unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let of = |check: &str| {
            let all = found["findings"].as_array().unwrap().iter();
            all.filter(|it| it["check"] == check).cloned().collect::<Vec<Value>>()
        };
        (output.status.code(), of("database"), of("replication"), of("schema"))
    };
    let (_, reached, replication, schema) = check(&url);
    assert!(reached[0].to_string().contains("takes writes"), "{reached:?}");
    assert!(replication[0].to_string().contains("synchronous_standby_names is empty"), "{replication:?}");
    assert!(schema[0].to_string().contains("schema 3"), "{schema:?}");
    // Before its first start there is nothing but the database to look at; and a node's folder says where its store is.
    let of = |arguments: &[&str], data: &std::path::Path| {
        let output = hub_command().arg("check").args(arguments).arg("--data").arg(data).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = of(&["--store", &url], &dir.path().join("new"));
    let names_hub = said.lines().any(|line| line.split_whitespace().nth(1) == Some("hub"));
    assert!(!names_hub && said.contains("no hub has run on") && said.contains("takes writes"), "{said}");
    let said = of(&[], dir.path());
    assert!(said.contains("which was not looked at") && said.contains("AGENTCOM_HUB_STORE"), "{said}");
    let (code, reached, ..) = check(&server.url("no_such_database"));
    assert_eq!(code, Some(78), "{reached:?}");
    assert!(reached[0].to_string().contains("create the database"), "{reached:?}");
}
