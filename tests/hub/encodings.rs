//! The table of encodings at the hub's entrances: bodies and frames.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use crate::encoding_table::{Reading, all};
use crate::support::{Hub, Peer, folder, run};
use serde_json::{Value, json};

#[tokio::test]
async fn bodies() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let head = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", hub.admin);
    for encoding in all() {
        // The mark comes before the body.
        let (mark, object) = match encoding.name {
            "a byte order mark" => (&b"\xef\xbb\xbf"[..], encoding.object("noted").split_off(3)),
            _ => (&b""[..], encoding.object("noted")),
        };
        let body = [mark, b"{\"description\":\"d\",\"metadata\":", &object, b"}"].concat();
        let (status, answer) = hub.raw("POST", "/api/tasks", &head, &body).await;
        match encoding.reading {
            Reading::Output(output) => {
                let task = hub.task(answer["task_id"].as_str().unwrap()).await;
                assert_eq!((status, &task["metadata"]["output"]), (201, &json!(output)), "{}", encoding.name);
            }
            Reading::Refused(why) => {
                let said = answer.to_string().replace("nested 152", "nested 151");
                assert!(matches!(status, 400 | 422) && said.contains(why), "{}: {answer}", encoding.name);
            }
        }
    }
}

#[tokio::test]
async fn frames() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    for encoding in all().iter().filter(|encoding| encoding.is_utf8 && encoding.name != "a byte order mark") {
        let mut agent = Peer::join(&hub, "a", &token, run("b1")).await;
        let task_id = hub.submit(json!({"description": "d", "assign_to": "a"})).await;
        let assigned = agent.expect("task_assign").await;
        assert_eq!(assigned["task_id"], task_id);
        let result = String::from_utf8(encoding.object("success")).unwrap();
        let verdict = format!(r#"{{"type":"task_complete","task_id":"{task_id}","generation":1,"result":{result}}}"#);
        agent.say_text(&verdict).await;
        match encoding.reading {
            Reading::Output(output) => {
                assert_eq!(agent.expect("task_ack").await["status"], "complete");
                assert_eq!(hub.task(&task_id).await["result"]["output"], output, "{}", encoding.name);
            }
            Reading::Refused(why) => {
                let error = agent.expect("error").await;
                let said = error.to_string().replace("nested 152", "nested 151");
                let not_json =
                    error["error"] == "invalid_json" && !matches!(encoding.name, "too deep" | "a reserved key");
                assert!(not_json || said.contains(why), "{}: {error}", encoding.name);
                assert_eq!(hub.task(&task_id).await["status"], "assigned", "{}", encoding.name);
                hub.admin("POST", &format!("/api/tasks/{task_id}/cancel"), Value::Null).await;
            }
        }
        agent.close().await;
    }
}

#[tokio::test]
async fn what_is_passed_on_is_what_was_written() {
    let dir = folder();
    let hub = Hub::start(&dir, &[]);
    let token = hub.register("a").await;
    let head = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", hub.admin);
    let written = r#"{"n":[12345678901234567890123456789.000,1e15,-0.0],"b":1,"a":2}"#;
    let body = format!(r#"{{"description":"d","assign_to":"a","metadata":{written}}}"#);
    let (status, answer) = hub.raw("POST", "/api/tasks", &head, body.as_bytes()).await;
    assert_eq!(status, 201, "{answer}");
    let mut agent = Peer::join(&hub, "a", &token, run("b1")).await;
    let text = agent.text_of("task_assign").await;
    assert!(text.contains(&format!(r#""metadata":{written}"#)), "{text}");
}
