//! The audit: every act is in it, once it was answered, and no secret is.

use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::roles::token_of;
use crate::support::{Hub, Peer, first_token, folder, hub_command, run};

fn audit(dir: &TempDir, args: &[&str]) -> Output {
    hub_command().arg("audit").args(args).arg("--data").arg(dir.path()).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn actions(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_was_answered_is_in_it_after_a_crash() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let operator = token_of(dir.path(), "olga", "operator", &[]);
    let agent = hub.register("a").await;
    let _peer = Peer::join(&hub, "a", &agent, run("boot-1")).await;
    let path = "/api/admin/agents/a/restart";
    let (status, answer) = hub.request("POST", path, Some(&operator), json!({"reason": "disks"})).await;
    assert_eq!(status, 200, "{answer}");
    // Between the answer and whoever reads.
    hub.kill_9();
    let found = lines(&audit(&dir, &["--json", "--target", "a", "--action", "restart_commanded"]));
    assert_eq!(found.len(), 1, "{found:?}");
    let entry = &found[0];
    assert_eq!((&entry["who"], &entry["role"], &entry["via"]), (&json!("olga"), &json!("operator"), &json!("http")));
    assert_eq!((&entry["reason"], &entry["new"]), (&json!("disks"), &answer["command_id"]));
    assert_eq!(entry["token"].as_str().unwrap().len(), 12);
    let hub = Hub::start(&dir, &[]);
    let (_, page) = hub.request("GET", "/api/v1/audit?who=olga", Some(&operator), Value::Null).await;
    assert_eq!((&page["items"][0], &page["next_cursor"]), (entry, &Value::Null));
}

#[tokio::test]
async fn every_act_is_in_it_and_no_secret_is() {
    let dir = folder();
    let before = first_token(dir.path(), "early");
    let hub = Hub::start(&dir, &[]);
    let a = hub.register_openly("a").await;
    let (_, made) = hub.admin("POST", "/api/admin/tokens", json!({"agent_id": "v", "role": "viewer"})).await;
    let (_, reset) = hub.admin("POST", "/api/admin/agents/a/reset-token", Value::Null).await;
    let (_, invited) = hub.admin("POST", "/api/v1/invitations", json!({"uses": 2})).await;
    let code = invited["invitation"].as_str().unwrap();
    let body = json!({"agent_id": "i", "invitation": code});
    let (_, registered) = hub.request("POST", "/api/onboard/register", None, body).await;
    hub.admin("DELETE", &format!("/api/v1/invitations/{}", invited["id"].as_str().unwrap()), Value::Null).await;
    let task = hub.submit(json!({"description": "d", "needed_capabilities": ["none"]})).await;
    hub.admin("POST", &format!("/api/tasks/{task}/cancel"), Value::Null).await;
    hub.admin("PUT", "/api/config/default-repo", json!({"url": "https://u:s3cret@example.org/r.git"})).await;
    hub.admin("DELETE", "/api/admin/tokens/v", Value::Null).await;
    // These change nothing.
    hub.admin("DELETE", "/api/admin/tokens/nobody", Value::Null).await;
    hub.admin("POST", &format!("/api/tasks/{task}/cancel"), Value::Null).await;
    hub.admin("POST", "/api/admin/agents/nobody/restart", Value::Null).await;

    let all = lines(&audit(&dir, &["--json"]));
    let mut expected = [
        "token_issued",
        "token_issued",
        "agent_registered",
        "token_issued",
        "token_replaced",
        "invitation_made",
        "agent_registered",
        "invitation_redeemed",
        "invitation_revoked",
        "task_cancelled",
        "setting_changed",
        "token_revoked",
    ];
    expected.reverse();
    assert_eq!(actions(&all), expected, "{all:?}");
    let vias: Vec<_> = all.iter().map(|entry| entry["via"].as_str().unwrap()).collect();
    assert_eq!((vias[11], vias[10], vias[9]), ("offline", "socket", "http"));
    assert_eq!((&all[9]["who"], &all[9]["role"]), (&json!("unauthenticated"), &Value::Null));
    assert_eq!(all[5]["who"], json!(format!("invitation:{}", invited["id"].as_str().unwrap())));
    assert_eq!((&all[2]["old"], &all[2]["new"]), (&json!("queued"), &json!("cancelled")));
    assert_eq!(all[1]["new"], "https://***@example.org/r.git");
    let text = format!("{all:?}{}", String::from_utf8_lossy(&audit(&dir, &[]).stdout));
    let issued = [&made["token"], &reset["token"], &registered["token"], &invited["invitation"]];
    let secrets =
        issued.iter().map(|secret| secret.as_str().unwrap()).chain([a.as_str(), &before, &hub.admin, "s3cret"]);
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    assert!(text.contains("uid:") && text.contains("ops (admin) by http: token_revoked v"), "{text}");
}

#[tokio::test]
async fn it_is_read_in_pages_by_who_what_and_when() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    for n in 0..7 {
        hub.register_openly(&format!("a{n}")).await;
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/audit?action=agent_registered&limit=3".to_owned();
    loop {
        let (status, page) = hub.admin("GET", &path, Value::Null).await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 3);
        seen.extend(items.iter().map(|entry| entry["target"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v1/audit?action=agent_registered&limit=3&cursor={cursor}");
    }
    assert_eq!(seen, ["a6", "a5", "a4", "a3", "a2", "a1", "a0"]);
    let (_, none) = hub.admin("GET", "/api/v1/audit?since=99999999999999", Value::Null).await;
    assert_eq!(none, json!({"items": [], "next_cursor": null}));
    for query in ["action=none", "since=yesterday", "cursor=x", "limit=0"] {
        let (status, answer) = hub.admin("GET", &format!("/api/v1/audit?{query}"), Value::Null).await;
        assert_eq!((status, &answer["code"]), (422, &json!("validation_failed")), "{query}");
    }
    assert_eq!(lines(&audit(&dir, &["--json", "--since", "1h", "--limit", "2", "--who", "unauthenticated"])).len(), 2);
    assert_eq!(audit(&dir, &["--action", "none"]).status.code(), Some(2));
    assert_eq!(audit(&dir, &["--since", "1"]).status.code(), Some(2));
    assert_eq!(audit(&folder(), &[]).status.code(), Some(78));
}
