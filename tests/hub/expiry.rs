//! Tokens that end by themselves, and what is noted of their use.

use std::time::Instant;

use redb::{Database, TableDefinition};
use serde_json::{Value, json};

use crate::roles::token_of;
use crate::support::{Hub, PATIENCE, Peer, folder, hub_command, identify, run};

async fn expiring(hub: &Hub, name: &str, ms: u64) -> String {
    let body = json!({"agent_id": name, "expires_in_ms": ms});
    let (status, made) = hub.admin("POST", "/api/admin/tokens", body).await;
    assert_eq!(status, 201, "{made}");
    made["token"].as_str().unwrap().to_owned()
}

async fn listed(hub: &Hub, name: &str) -> Value {
    let (_, list) = hub.admin("GET", "/api/admin/tokens", Value::Null).await;
    list["tokens"].as_array().unwrap().iter().find(|token| token["agent_id"] == name).cloned().unwrap()
}

#[tokio::test]
async fn at_its_time_a_token_is_refused_its_connection_closed_and_its_name_kept() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = expiring(&hub, "a", 2_000).await;
    let mut live = Peer::join(&hub, "a", &token, run("boot-1")).await;
    let task = hub.submit(json!({"description": "d", "assign_to": "a"})).await;
    live.expect("task_assign").await;
    assert_eq!(hub.request("GET", "/api/tasks", Some(&token), Value::Null).await.0, 200);
    let began = Instant::now();
    assert_eq!(live.expect_close(1008).await, "the token has expired");
    assert!(began.elapsed().as_millis() < 4_000, "{:?}", began.elapsed());
    hub.task_until(&task, |task| task["status"] == "queued").await;
    let (status, answer) = hub.request("GET", "/api/tasks", Some(&token), Value::Null).await;
    assert_eq!((status, &answer["error"]), (401, &json!("token_expired")), "{answer}");
    assert!(answer["hint"].as_str().unwrap().contains("agentcom-hub token NAME"), "{answer}");
    let mut again = Peer::connect(&hub).await;
    again.say(identify("a", &token, json!({}))).await;
    assert_eq!(again.expect("error").await["error"], "invalid_token");
    // A stranger does not get the name, and the next token is the same owner's: its task waits for it.
    let (status, _) = hub.request("POST", "/api/onboard/register", None, json!({"agent_id": "a"})).await;
    assert_eq!(status, 409);
    let next = expiring(&hub, "a", 600_000).await;
    let mut back = Peer::join(&hub, "a", &next, run("boot-2")).await;
    assert_eq!(back.expect("task_assign").await["task_id"], json!(task));
    let output = hub_command().args(["token", "list", "--data"]).arg(dir.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("has expired") && text.contains("expires in 9 m") && text.contains(&next[..6]), "{text}");
}

#[tokio::test]
async fn a_token_that_expired_while_the_hub_was_down_is_refused_by_the_next() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = expiring(&hub, "a", 1).await;
    let long = token_of(dir.path(), "b", "agent", &["--expires", "30d"]);
    hub.kill_9();
    let hub = Hub::start(&dir, &[]);
    let (status, answer) = hub.request("GET", "/api/tasks", Some(&token), Value::Null).await;
    assert_eq!((status, &answer["error"]), (401, &json!("token_expired")));
    assert_eq!(hub.request("GET", "/api/tasks", Some(&long), Value::Null).await.0, 200);
    assert!(listed(&hub, "b").await["expires_at"].is_u64());
}

#[tokio::test]
async fn the_use_of_a_token_is_noted() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (a, b) = (hub.register("a").await, hub.register("b").await);
    assert_eq!(listed(&hub, "a").await["last_used_at"], Value::Null);
    let began = Instant::now();
    let _peer = Peer::join(&hub, "b", &b, run("boot-1")).await;
    hub.request("GET", "/api/tasks", Some(&a), Value::Null).await;
    for name in ["a", "b"] {
        while !listed(&hub, name).await["last_used_at"].is_u64() {
            assert!(began.elapsed() < PATIENCE, "the use by {name} was not noted");
        }
    }
    let noted = listed(&hub, "a").await["last_used_at"].clone();
    hub.request("GET", "/api/tasks", Some(&a), Value::Null).await;
    assert_eq!(listed(&hub, "a").await["last_used_at"], noted, "once an hour");
}

#[tokio::test]
async fn tokens_of_a_hub_that_knew_no_roles_are_admins_and_agents() {
    const TOKENS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("tokens");
    const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let (admin, agent) = (hub.admin.clone(), hub.register("a").await);
    hub.kill_9();
    {
        use redb::ReadableTable as _;
        let db = Database::open(dir.path().join("hub.redb")).unwrap();
        let write = db.begin_write().unwrap();
        {
            let mut tokens = write.open_table(TOKENS).unwrap();
            let all: Vec<(Vec<u8>, Value)> = tokens
                .iter()
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|(key, value)| (key.value().to_vec(), serde_json::from_slice(value.value()).unwrap()))
                .collect();
            for (key, record) in all {
                let old = json!({
                    "name": record["name"], "admin": record["role"] == "admin", "created_at": record["created_at"],
                    "owned_since": record["owned_since"],
                });
                tokens.insert(key.as_slice(), old.to_string().as_bytes()).unwrap();
            }
            assert!(write.delete_table(TableDefinition::<u64, &[u8]>::new("audit")).unwrap());
            assert!(write.delete_table(TableDefinition::<&str, &[u8]>::new("invitations")).unwrap());
            write.open_table(META).unwrap().insert("schema", 2).unwrap();
        }
        write.commit().unwrap();
    }
    let hub = Hub::start(&dir, &[]);
    assert_eq!(hub.request("GET", "/admin/tokens", Some(&admin), Value::Null).await.0, 200);
    assert_eq!(hub.request("GET", "/admin/tokens", Some(&agent), Value::Null).await.0, 403);
    let shown = listed(&hub, "a").await;
    assert_eq!((&shown["role"], &shown["prefix"], &shown["created_by"]), (&json!("agent"), &Value::Null, &Value::Null));
    Peer::join(&hub, "a", &agent, run("boot-1")).await;
}
