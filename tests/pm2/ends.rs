//! How a run ended, as the next one tells it under a real pm2: in its status and history, and to the hub.
#![cfg(target_os = "linux")]

use std::fs;

use serde_json::{Value, json};

use crate::support::ground::{ALICE, Ground};
use crate::support::process::{self, Signal};
use crate::support::wait;

/// What the present run says of the one before: its end, and why.
fn told(ground: &Ground) -> (String, String) {
    let before = &ground.agent.status()["process"]["previous_run"];
    let text = |field: &str| before[field].as_str().unwrap_or_default().to_owned();
    (text("end"), text("why"))
}

/// Ends the sidecar's process by `end`, and returns what the run after it tells, once pm2 has brought it back.
fn after(ground: &Ground, end: impl FnOnce(u32)) -> (String, String) {
    let before = ground.listed();
    end(before.pid);
    ground.pm2.wait_restarts(ALICE, before.restarts + 1);
    // The hub may not have seen the end yet: it is another run that must be known.
    let other =
        |agent: &Value| agent["connected"] == true && agent["past_restarts"][0]["boot_after"] == agent["boot_id"];
    wait::until("the hub to know the new run", || {
        let (code, text) = ground.agent.operate(&["status", "--json"]);
        let status: Value = serde_json::from_str(&text).unwrap_or_default();
        let agent = ground.hub.get(&format!("/api/v1/agents/{ALICE}")).1;
        (code == 0 && other(&agent) && agent["boot_id"] == status["process"]["boot_id"]).then_some(())
    });
    told(ground)
}

/// The hub's latest past restart: whether it was planned, how the run ended, and why.
fn of_the_hub(ground: &Ground) -> (Value, Value, Value) {
    let past = ground.hub.get(&format!("/api/v1/agents/{ALICE}")).1["past_restarts"][0].clone();
    (past["planned"].clone(), past["end"].clone(), past["reason"].clone())
}

#[test]
fn each_way_in_which_a_run_can_end_is_told_right_by_the_next() {
    let ground = Ground::new();
    let cgroups = tempfile::tempdir().expect("a folder");
    fs::create_dir(cgroups.path().join("memory")).expect("a folder");
    // As both versions of cgroups have it, whichever this machine runs.
    let kills = |number: u32| {
        for file in ["memory.events", "memory/memory.oom_control"] {
            fs::write(cgroups.path().join(file), format!("oom 0\noom_kill {number}\n")).expect("a file");
        }
    };
    kills(3);
    let mut app = ground.agent.app();
    app["env"]["AGENTCOM_CGROUP_ROOT"] = json!(cgroups.path());
    ground.launch_as(app);
    assert_eq!(ground.agent.status()["process"]["previous_run"], Value::Null, "the first run");

    let (end, why) = after(&ground, process::kill9);
    assert_eq!((end.as_str(), why.as_str()), ("killed", "SIGKILL, as pm2 saw"));
    assert_eq!(of_the_hub(&ground), (json!(false), json!("killed"), json!("SIGKILL, as pm2 saw")));

    let (end, why) = after(&ground, |pid| process::send(pid, Signal::ABORT));
    assert_eq!((end.as_str(), why.as_str()), ("crashed", "SIGABRT, as pm2 saw"));
    assert_eq!(of_the_hub(&ground).1, json!("crashed"));

    let (end, why) = after(&ground, |pid| {
        kills(4);
        process::kill9(pid);
    });
    assert_eq!(
        (end.as_str(), why.contains("for memory (3 so far in its cgroup, now 4)")),
        ("out_of_memory", true),
        "{why}"
    );
    assert_eq!(of_the_hub(&ground).1, json!("out_of_memory"));

    let (end, why) = after(&ground, |_| drop(ground.pm2.command(&["restart", ALICE])));
    assert_eq!((end.as_str(), why.as_str()), ("stop", "SIGINT from pm2, which was told to stop or restart it"));
    assert_eq!(of_the_hub(&ground), (json!(true), json!("stopped"), json!(why)));

    let (end, why) = after(&ground, |pid| process::send(pid, Signal::TERM));
    assert_eq!((end.as_str(), why.as_str()), ("stop", "SIGTERM"));

    let (end, why) = after(&ground, |_| drop(ground.wait_back(&ground.command(json!({"reason": "upgrade"})))));
    assert_eq!(end, "restart");
    assert!(why.starts_with("\"upgrade\""), "{why}");
    assert_eq!(of_the_hub(&ground), (json!(true), json!("restarted"), json!("upgrade")));

    let page = ground.agent.operate(&["status"]).1;
    assert!(page.contains("run before   restarted: \"upgrade\""), "{page}");
    let table = ground.agent.operate(&["history"]).1;
    for told in ["the run before ended as killed: SIGKILL, as pm2 saw", "ended as crashed", "ended as out_of_memory"] {
        assert!(table.contains(told), "{table}");
    }
}

#[test]
fn after_a_reboot_the_run_before_it_is_not_taken_for_killed() {
    let ground = Ground::launched();
    ground.pm2.command(&["stop", ALICE]);
    let file = ground.agent.path("queue.json.history");
    // As it would be, had the machine lost its power.
    let text = fs::read_to_string(&file).expect("the history");
    let kept = text.lines().filter(|line| !line.contains("run_ended")).map(|line| {
        let mut line: Value = serde_json::from_str(line).expect("a line");
        line["machine_boot"] = json!("another");
        line.to_string() + "\n"
    });
    fs::write(&file, kept.collect::<String>()).expect("the history");
    let mut journal = ground.agent.queue().expect("a journal");
    journal["stopped"] = json!(false);
    fs::write(ground.agent.path("queue.json"), journal.to_string()).expect("the journal");
    ground.pm2.command(&["start", ALICE]);
    ground.wait_idle();
    assert_eq!(told(&ground).0, "rebooted");
}
