//! Agents that come and go, at a real hub: all of them are known, with since when and why, whatever becomes of the hub.

use std::time::{Duration, Instant};

use redb::{Database, TableDefinition};
use serde_json::{Value, json};

use crate::support::{Hub, PATIENCE, Peer, folder, hub_command, run};

const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const AGENTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("agents");

/// The known agents that the selector means.
async fn agents(hub: &Hub, selector: &str) -> Vec<Value> {
    let (status, body) = hub.admin("GET", &format!("/api/v1/agents?selector={selector}"), Value::Null).await;
    assert_eq!(status, 200, "{body}");
    body["items"].as_array().unwrap().clone()
}

async fn names(hub: &Hub, selector: &str) -> Vec<String> {
    let found = agents(hub, selector).await;
    found.iter().map(|agent| agent["agent_id"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the agent has this status, and returns it.
async fn until(hub: &Hub, agent_id: &str, status: &str) -> Value {
    let begun = Instant::now();
    loop {
        let found = agents(hub, &format!("id={agent_id}")).await;
        if found.first().is_some_and(|agent| agent["status"] == status) {
            return found[0].clone();
        }
        assert!(begun.elapsed() < PATIENCE, "{agent_id} never {status}: {found:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn labelled(boot: &str, labels: Value) -> Value {
    json!({"boot_id": boot, "client_type": "sidecar", "version": "9.9.9", "capabilities": ["code"], "labels": labels})
}

#[tokio::test]
async fn every_agent_is_listed_and_those_that_are_away_say_why() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--silence-timeout-ms", "1500"]);
    let mut tokens = Vec::new();
    for name in ["a", "b", "c", "new"] {
        tokens.push(hub.register(name).await);
    }
    let closed = Peer::join(&hub, "a", &tokens[0], labelled("boot-1", json!({"pool": "gpu", "Bad": "x"}))).await;
    let cut = Peer::join(&hub, "b", &tokens[1], run("boot-1")).await;
    let silent = Peer::join(&hub, "c", &tokens[2], run("boot-1")).await;
    closed.close().await;
    drop(cut);
    let a = until(&hub, "a", "offline").await;
    assert_eq!((&a["why"], &a["last_close"]["by"]), (&json!("closed_by_agent"), &json!("agent")), "{a}");
    assert_eq!((&a["labels"], &a["version"]), (&json!({"pool": "gpu"}), &json!("9.9.9")), "{a}");
    assert_eq!(until(&hub, "b", "offline").await["why"], "connection_lost");
    let c = until(&hub, "c", "offline").await;
    assert_eq!((&c["why"], &c["last_close"]["code"]), (&json!("silent"), &json!(1002)), "{c}");
    drop(silent);
    // An admin who never identifies is no agent.
    assert_eq!(names(&hub, "all").await, ["a", "b", "c", "new"]);
    assert_eq!(until(&hub, "new", "never_seen").await["why"], "never_identified");
    assert_eq!(names(&hub, "label.pool=gpu,status=offline").await, ["a"]);
    assert_eq!(names(&hub, "capability=code").await, ["a", "b", "c"]);
    assert_eq!(names(&hub, "capability=none").await, Vec::<String>::new());
    assert_eq!(names(&hub, "version=9.9.9,id=a,id=b").await, ["a"]);
    assert_eq!(names(&hub, "status=never_seen").await, ["new"]);
    let (status, refused) = hub.admin("GET", "/api/v1/agents?selector=gpu", Value::Null).await;
    assert_eq!((status, &refused["errors"][0]["field"]), (422, &json!("selector")), "{refused}");
    // The original's list keeps its meaning.
    assert!(hub.agent("a").await.is_none());
}

#[tokio::test]
async fn what_is_known_outlives_the_hub_however_it_ends() {
    let dir = folder();
    let mut hub = Hub::start(&dir, &[]);
    let (a, b) = (hub.register("a").await, hub.register("b").await);
    let peer = Peer::join(&hub, "a", &a, labelled("boot-1", json!({"pool": "gpu"}))).await;
    Peer::join(&hub, "b", &b, run("boot-1")).await.close().await;
    let gone = until(&hub, "b", "offline").await;
    assert_eq!(hub.signal("TERM").0, Some(0));
    drop(peer);
    let hub = Hub::start(&dir, &[]);
    assert_eq!(until(&hub, "a", "offline").await["why"], "hub_restarted");
    let kept = until(&hub, "b", "offline").await;
    assert_eq!((&kept["since"], &kept["why"]), (&gone["since"], &gone["why"]));
    // Another run, and then a hub that is killed: what is stored by then is known, and no restart is counted twice.
    let _peer = Peer::join(&hub, "a", &a, labelled("boot-2", json!({"pool": "gpu"}))).await;
    let counts = |agent: &Value| (agent["restarts"]["planned"].clone(), agent["restarts"]["unplanned"].clone());
    assert_eq!(counts(&until(&hub, "a", "healthy").await), (json!(0), json!(1)));
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    let a_known = until(&hub, "a", "offline").await;
    assert_eq!((&a_known["why"], &a_known["labels"]), (&json!("hub_restarted"), &json!({"pool": "gpu"})));
    let _peer = Peer::join(&hub, "a", &a, labelled("boot-2", json!({}))).await;
    assert_eq!(counts(&until(&hub, "a", "healthy").await), (json!(0), json!(1)));
    // With its last token an agent is forgotten, also while no hub runs.
    hub.kill_9();
    for name in ["a", "b"] {
        let output = hub_command().args(["token", "revoke", name, "--data"]).arg(dir.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let hub = Hub::start(&dir, &[]);
    assert_eq!(names(&hub, "all").await, Vec::<String>::new());
}

#[tokio::test]
async fn an_older_store_opens_and_its_agents_are_known_from_their_next_connection_on() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    hub.kill_9();
    {
        // As the hub before this one left it.
        let db = Database::open(dir.path().join("hub.redb")).unwrap();
        let write = db.begin_write().unwrap();
        write.delete_table(AGENTS).unwrap();
        let mut meta = write.open_table(META).unwrap();
        meta.insert("schema", 2).unwrap();
        meta.remove("agents_as_of").unwrap();
        drop(meta);
        write.commit().unwrap();
    }
    let hub = Hub::start(&dir, &[]);
    assert_eq!(until(&hub, "a", "never_seen").await["connected"], false);
    let _peer = Peer::join(&hub, "a", &token, run("boot-1")).await;
    assert_eq!(until(&hub, "a", "healthy").await["connected"], true);
}

#[tokio::test]
async fn a_task_shows_what_it_waits_for_and_the_fields_that_scripts_read_through() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    hub.register("new").await;
    let waits = |task: Value| async { hub.task(&hub.submit(task).await).await };
    let task = waits(json!({"description": "d", "needed_capabilities": ["gpu"]})).await;
    let missing = json!({"what": "capabilities", "needed": ["gpu"], "missing": ["gpu"]});
    assert_eq!(task["waiting_for"], missing);
    for name in ["repo", "branch", "goal_id", "complete_by", "routing_decision"] {
        assert_eq!(task.get(name), Some(&Value::Null), "{name}: {task}");
    }
    for name in ["file_hints", "success_criteria", "verification_steps", "depends_on"] {
        assert_eq!(task[name], json!([]), "{name}: {task}");
    }
    assert_eq!(task["complexity"]["effective_tier"], "standard");
    for (name, status) in [("new", json!("never_seen")), ("nobody", Value::Null)] {
        let task = waits(json!({"description": "d", "assign_to": name, "repo": "r"})).await;
        assert_eq!((&task["waiting_for"]["agent_id"], &task["waiting_for"]["status"]), (&json!(name), &status));
        assert_eq!(task["repo"], "r");
    }
    let (_, page) = hub.admin("GET", "/api/v1/tasks?limit=1", Value::Null).await;
    assert_eq!(page["items"][0]["waiting_for"], missing);
}
