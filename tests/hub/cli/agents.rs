//! `agents`, `agent` and `label`.

use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{command, json_of, printed, run, said};
use crate::support::{Hub, PATIENCE, Peer, folder, run as boot};

/// Waits until the agent has this status.
async fn until(hub: &Hub, agent_id: &str, status: &str) {
    let begun = Instant::now();
    loop {
        let (_, agent) = hub.admin("GET", &format!("/api/v1/agents/{agent_id}"), Value::Null).await;
        if agent["status"] == status {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "never {status}: {agent}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .find(|line| line.split_whitespace().next() == Some(name))
        .unwrap_or_else(|| panic!("no {name}: {text}"))
}

/// A hub with `here`, which is connected, `gone`, which closed its connection, and `new`, which never came.
async fn fleet(dir: &TempDir) -> (Hub, Peer) {
    let hub = Hub::start(dir, &[]);
    let (here, gone) = (hub.register("here").await, hub.register("gone").await);
    hub.register("new").await;
    let mut labelled = boot("boot-1");
    labelled["labels"] = json!({"pool": "gpu", "site": "a-rather-long-name-of-a-site"});
    let peer = Peer::join(&hub, "here", &here, labelled).await;
    Peer::join(&hub, "gone", &gone, boot("boot-1")).await.close().await;
    until(&hub, "gone", "offline").await;
    (hub, peer)
}

#[tokio::test]
async fn which_agents_are_away_since_when_and_why_is_one_command() {
    let dir = folder();
    let (_hub, _peer) = fleet(&dir).await;
    for args in [&["agents", "--away"][..], &["agents", "status=offline"]] {
        let text = printed(&dir, args);
        assert!(text.starts_with("NAME  STATUS   SINCE"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(line(&text, "gone").contains(" s ago") && line(&text, "gone").contains("closed_by_agent"), "{text}");
    }
    let all = printed(&dir, &["agents"]);
    assert!(line(&all, "here").contains("healthy") && line(&all, "here").contains("pool=gpu"), "{all}");
    assert!(line(&all, "new").contains("never_identified"), "{all}");
    let listed = json_of(&dir, &["agents", "here,gone", "--json"]);
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|it| it["agent_id"].as_str().unwrap()).collect();
    assert_eq!(names, ["gone", "here"]);
    assert_eq!(json_of(&dir, &["agents", "status=stale", "--json"]), json!([]));
    let wrong = run(&dir, &["agents", "pool=gpu"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(said(&wrong).contains("label.KEY"), "{wrong:?}");
}

#[tokio::test]
async fn a_table_fits_a_narrow_terminal_and_is_whole_without_one() {
    let dir = folder();
    let (_hub, _peer) = fleet(&dir).await;
    assert!(printed(&dir, &["agents"]).contains("site=a-rather-long-name-of-a-site"));
    for columns in ["10", "44", "60", "100"] {
        let output = command(&dir, &["agents"]).env("COLUMNS", columns).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let most: usize = columns.parse().unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= most), "{columns}: {text}");
        assert!(text.contains('…') && text.lines().any(|line| line.starts_with("here  ")), "{columns}: {text}");
    }
}

#[tokio::test]
async fn a_watch_shows_them_again_until_it_is_ended() {
    use std::io::{BufRead as _, BufReader};
    let dir = folder();
    let (_hub, _peer) = fleet(&dir).await;
    let mut child = command(&dir, &["agents", "here", "--watch"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let heads = tokio::task::spawn_blocking(move || {
        stdout.lines().map_while(Result::ok).filter(|line| line.starts_with("NAME")).take(2).count()
    });
    assert_eq!(tokio::time::timeout(PATIENCE, heads).await.unwrap().unwrap(), 2);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn one_agent_is_told_of_in_words() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    // Cut, and back as another run: nobody wanted that.
    drop(Peer::join(&hub, "a", &token, boot("boot-1")).await);
    until(&hub, "a", "offline").await;
    let away = printed(&dir, &["agent", "a"]);
    assert!(away.contains("offline for") && away.contains("connection_lost") && away.contains("last seen"), "{away}");
    let mut peer = Peer::join(&hub, "a", &token, boot("boot-2")).await;
    let task = hub.submit(json!({"description": "d"})).await;
    peer.expect("task_assign").await;
    peer.accept(&task).await;
    let progress = json!({"type": "task_progress", "task_id": task, "progress": 40, "output": "one\ntwo\u{1b}[2J"});
    peer.say(progress).await;
    peer.drain().await;
    let text = printed(&dir, &["agent", "a"]);
    assert!(text.contains("healthy for") && text.contains("1 unplanned, the last"), "{text}");
    assert!(text.contains("unplanned, connection_lost, away for"), "{text}");
    assert!(text.contains(&format!("{task} in hand")) && !text.contains('\u{1b}'), "{text}");
    let shown = json_of(&dir, &["agent", "a", "--json"]);
    assert_eq!((&shown["agent_id"], &shown["restarts"]["unplanned"]), (&json!("a"), &json!(1)));
    let nobody = run(&dir, &["agent", "nobody"]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    assert!(said(&nobody).contains("agentcom-hub agents lists"), "{nobody:?}");
}

#[tokio::test]
async fn labels_are_set_and_removed() {
    let dir = folder();
    let (_hub, _peer) = fleet(&dir).await;
    let text = printed(&dir, &["label", "here", "pool=cpu", "tier=canary", "--reason", "tests"]);
    assert!(text.contains("here: pool was -, is cpu") && text.ends_with("1 of 1 changed\n"), "{text}");
    assert!(printed(&dir, &["agents", "label.tier=canary"]).contains("pool=cpu"));
    assert!(printed(&dir, &["agent", "here"]).contains("pool=cpu by uid:"));
    let back = json_of(&dir, &["label", "label.tier=canary", "pool-", "tier-", "--json"]);
    assert_eq!((&back["matched"], &back["changed"][0]["agent_id"]), (&json!(1), &json!("here")));
    assert!(printed(&dir, &["audit", "--action", "labels_changed"]).contains("because tests"));
    for (args, code) in [
        (&["label", "here", "pool"][..], 2),
        (&["label", "here"], 2),
        (&["label", "here", "B AD=x"], 2),
        (&["label", "new", "a=b"], 1),
        (&["label", "nobody", "a=b"], 1),
        (&["label", "label.pool=none", "a=b"], 1),
    ] {
        assert_eq!(run(&dir, args).status.code(), Some(code), "{args:?}");
    }
}

#[tokio::test]
async fn an_agent_named_all_is_never_taken_for_all_of_them() {
    let dir = folder();
    let (hub, _peer) = fleet(&dir).await;
    assert!(printed(&dir, &["restart", "all", "--dry-run"]).contains("here"));
    let token = hub.register("all").await;
    let _all = Peer::join(&hub, "all", &token, boot("boot-1")).await;
    for args in [&["restart", "all", "--dry-run"][..], &["label", "all", "a=b"]] {
        let refused = run(&dir, args);
        assert_eq!((refused.status.code(), said(&refused).contains("id=all")), (Some(2), true), "{refused:?}");
    }
    let one = json_of(&dir, &["restart", "id=all", "--dry-run", "--json"]);
    assert_eq!((&one["matched"], &one["restarts"][0]["agent_id"]), (&json!(1), &json!("all")));
    let both = json_of(&dir, &["restart", "status=healthy,status=degraded", "--dry-run", "--json"]);
    assert_eq!(both["matched"], 2, "{both}");
    assert!(printed(&dir, &["label", "id=all", "a=b"]).ends_with("1 of 1 changed\n"));
}
