//! `check`.

use redb::{Database, TableDefinition};
use serde_json::{Value, json};

use crate::cli::{printed, run, said, token_file};
use crate::roles::token_of;
use crate::support::{Hub, Peer, folder, hub_command, run as boot};

/// The findings of a check that are not ok, each as `check: found`.
fn faults(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["level"] != "ok");
    findings
        .map(|finding| {
            assert!(finding["do"].is_string(), "what to do is missing: {finding}");
            format!("{}: {}", finding["check"].as_str().unwrap(), finding["found"].as_str().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_hub_without_faults_has_none_and_those_of_another_are_named_with_what_to_do() {
    let dir = folder();
    let mode = |mode| std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o700);
    let mut hub = Hub::start(&dir, &[]);
    let text = printed(&dir, &["check"]);
    assert!(
        text.contains("ok       hub")
            && text.contains("ok       ready")
            && text.ends_with("no problems, no warnings\n"),
        "{text}"
    );
    let token = hub.register("a").await;
    Peer::join(&hub, "a", &token, boot("boot-1")).await.close().await;
    let viewer = token_file(dir.path(), "viewer", &token_of(dir.path(), "v", "viewer", &[]));
    let output = hub_command()
        .args(["check", "--json", "--hub", &format!("http://{}", hub.address), "--token-file", &viewer])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["exit_code"]), (Some(0), &json!(0)), "{report}");
    assert!(report.to_string().contains("v: viewer") && report.to_string().contains("role does not allow"), "{report}");
    mode(0o755);
    assert_eq!(hub.signal("TERM").0, Some(0));
    let checked = run(&dir, &["check", "--json"]);
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let found = faults(&report);
    assert_eq!(checked.status.code(), Some(0), "{report}");
    assert!(!report.to_string().contains("\"ready\""), "nothing runs that could be: {report}");
    for word in ["data: other users may open", "hub: no hub runs", "agents: 1 offline: a ("] {
        assert!(found.iter().any(|fault| fault.starts_with(word)), "no {word}: {found:?}");
    }
}

#[tokio::test]
async fn what_does_not_work_is_the_exit_code() {
    let dir = folder();
    Hub::start(&dir, &[]).kill_9();
    let store = Database::open(dir.path().join("hub.redb")).unwrap();
    let write = store.begin_write().unwrap();
    let table: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("tasks");
    write.open_table(table).unwrap().insert("task-half", &b"{"[..]).unwrap();
    write.commit().unwrap();
    drop(store);
    let unread = run(&dir, &["check"]);
    assert_eq!(unread.status.code(), Some(65), "{unread:?}");
    assert!(said(&unread).contains("tasks/task-half") && said(&unread).contains("submit the task again"), "{unread:?}");
    let gone = hub_command().args(["check", "--hub", "http://127.0.0.1:1"]).output().unwrap();
    assert_eq!((gone.status.code(), said(&gone).contains("-> start the hub")), (Some(69), true), "{gone:?}");
    let missing = hub_command().args(["check", "--data", "/nowhere"]).output().unwrap();
    assert_eq!((missing.status.code(), said(&missing).contains("--data")), (Some(78), true), "{missing:?}");
}
