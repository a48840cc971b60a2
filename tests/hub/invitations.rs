//! Invitations over a real hub: made, used, used up, expired, withdrawn.

use std::process::Output;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Hub, PATIENCE, first_token, folder, hub_command};

const REGISTER: &str = "/api/onboard/register";

fn invite(dir: &TempDir, args: &[&str]) -> Output {
    hub_command().arg("invite").args(args).arg("--data").arg(dir.path()).output().unwrap()
}

/// The last word that a command printed.
fn code(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).split_whitespace().last().unwrap().to_owned()
}

async fn register(hub: &Hub, agent_id: &str, invitation: &str) -> (u16, Value) {
    hub.request("POST", REGISTER, None, json!({"agent_id": agent_id, "invitation": invitation})).await
}

#[tokio::test]
async fn an_invitation_lets_an_agent_in_where_registration_is_closed_and_no_one_else() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--closed-registration"]);
    let (status, made) = hub.admin("POST", "/api/v1/invitations", json!({"uses": 2})).await;
    assert_eq!(status, 201, "{made}");
    let invitation = made["invitation"].as_str().unwrap();
    assert_eq!(hub.request("POST", REGISTER, None, json!({"agent_id": "a"})).await.0, 401);
    let (status, answer) = register(&hub, "a", "inv-0").await;
    assert_eq!((status, &answer["error"]), (403, &json!("invitation_unknown")));
    let (status, answer) = register(&hub, "a", invitation).await;
    assert_eq!(status, 201, "{answer}");
    let token = answer["token"].as_str().unwrap();
    assert_eq!(hub.request("GET", "/api/tasks", Some(token), Value::Null).await.0, 200);
    // A name that is taken costs no use.
    assert_eq!(register(&hub, "a", invitation).await.0, 409);
    hub.kill_9();
    let hub = Hub::start(&dir, &["--closed-registration"]);
    let (_, list) = hub.admin("GET", "/api/v1/invitations", Value::Null).await;
    assert_eq!((&list["items"][0]["uses_left"], &list["items"][0]["created_by"]), (&json!(1), &json!("ops")));
    assert!(!list.to_string().contains(&invitation[4..]), "{list}");
    assert_eq!(register(&hub, "b", invitation).await.0, 201);
    let (status, answer) = register(&hub, "c", invitation).await;
    assert_eq!((status, &answer["error"]), (403, &json!("invitation_used_up")));
}

#[tokio::test]
async fn one_is_for_its_name_until_its_time_and_until_it_is_withdrawn() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--closed-registration"]);
    let path = "/api/v1/invitations";
    let (_, made) = hub.admin("POST", path, json!({"agent_id": "a", "expires_in_ms": 1_500})).await;
    let short = made["invitation"].as_str().unwrap();
    let (status, answer) = register(&hub, "b", short).await;
    assert_eq!((status, &answer["error"]), (403, &json!("invitation_for_another")));
    let began = Instant::now();
    loop {
        let (status, answer) = register(&hub, "b", short).await;
        assert_eq!(status, 403);
        if answer["error"] == "invitation_expired" {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{answer}");
    }
    let (_, made) = hub.admin("POST", path, Value::Null).await;
    let id = format!("{path}/{}", made["id"].as_str().unwrap());
    assert_eq!(hub.admin("DELETE", &id, Value::Null).await.0, 200);
    let (status, answer) = hub.admin("DELETE", &id, Value::Null).await;
    assert_eq!((status, &answer["code"]), (404, &json!("invitation_not_found")));
    let (_, answer) = register(&hub, "a", made["invitation"].as_str().unwrap()).await;
    assert_eq!(answer["error"], "invitation_unknown");
    for body in [json!({"uses": 0}), json!({"uses": 10_001}), json!({"expires_in_ms": 0}), json!({"agent_id": " "})] {
        assert_eq!(hub.admin("POST", path, body.clone()).await.0, 422, "{body}");
    }
}

#[tokio::test]
async fn a_hundred_at_once_are_as_many_as_it_is_for() {
    let dir = folder();
    let hub = Hub::start(&dir, &["--closed-registration"]);
    let (_, made) = hub.admin("POST", "/api/v1/invitations", json!({"uses": 10})).await;
    let invitation = made["invitation"].as_str().unwrap();
    let names: Vec<String> = (0..40).map(|n| format!("a{n}")).collect();
    let answers = futures_util::future::join_all(names.iter().map(|name| register(&hub, name, invitation))).await;
    let let_in = answers.iter().filter(|(status, _)| *status == 201).count();
    assert_eq!(let_in, 10, "{answers:?}");
    assert!(answers.iter().all(|(status, answer)| *status == 201 || answer["error"] == "invitation_used_up"));
}

#[tokio::test]
async fn the_command_makes_lists_and_revokes_them_with_a_hub_and_without() {
    let dir = folder();
    first_token(dir.path(), "first");
    let before = code(&invite(&dir, &["a", "--expires", "2d"]));
    let hub = Hub::start(&dir, &["--closed-registration"]);
    let many = code(&invite(&dir, &["--uses", "3"]));
    assert_eq!(register(&hub, "a", &before).await.0, 201);
    assert_eq!(register(&hub, "b", &many).await.0, 201);
    let text = String::from_utf8(invite(&dir, &["list"]).stdout).unwrap();
    assert!(text.contains("0 of 1 left") && text.contains("2 of 3 left") && text.contains("any agent"), "{text}");
    assert!(!text.contains(&before[4..]) && text.contains("by uid:"), "{text}");
    let listed: Vec<Value> = serde_json::from_slice(&invite(&dir, &["list", "--json"]).stdout).unwrap();
    let id = listed.iter().find(|one| one["uses"] == 3).unwrap()["id"].as_str().unwrap().to_owned();
    assert!(invite(&dir, &["revoke", &id]).status.success());
    assert_eq!(invite(&dir, &["revoke", &id]).status.code(), Some(1));
    assert_eq!(register(&hub, "c", &many).await.1["error"], "invitation_unknown");
    for wrong in [&["--uses", "0"][..], &["--expires", "soon"], &[" "]] {
        assert_eq!(invite(&dir, wrong).status.code(), Some(2), "{wrong:?}");
    }
}
