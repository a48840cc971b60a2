//! Real sidecars at a real hub that is restored from a backup and so knows less than they do: everything ends, nobody hangs,
//! and nobody does anything for a task that is not theirs.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::backup::fetch;
use crate::support::hub::{HUB, Hub};
use crate::support::process;
use crate::support::sidecar::Agent;
use crate::support::wait;

fn restore(hub: &Hub, file: &Path) {
    let mut command = Command::new(HUB);
    command.arg("restore").arg(file).arg("--data").arg(hub.data());
    let (status, text) = process::run(command, wait::BOUND);
    assert!(status.success(), "{status}: {text}");
}

fn agent(hub: &Hub, name: &str) -> Agent {
    let agent = Agent::new(name, &hub.url(), &hub.register(name));
    agent.configure("reconnect_min_ms", json!(20));
    agent.configure("reconnect_max_ms", json!(200));
    agent.configure("results_scan_ms", json!(50));
    agent
}

fn submit(hub: &Hub, agent: &Agent) -> String {
    hub.submit_with(json!({"description": "run=hold", "assign_to": agent.id()}))
}

/// Lets the agent finish a task that it has in hand.
fn finish(hub: &Hub, agent: &Agent, task: &str) {
    agent.wait_run(task, "started");
    agent.go("run", task);
    hub.wait_task(task, "completed");
}

fn is_idle(agent: &Agent) -> bool {
    agent.queue().is_some_and(|queue| queue["active"].is_null() && queue["outbox"].as_array().is_none_or(Vec::is_empty))
}

#[test]
fn sidecars_that_are_ahead_of_a_restored_hub_settle() {
    // What is not accepted again soon goes to the next.
    let mut hub = Hub::start_with(&["--accept-timeout-ms", "3000", "--reconnect-grace-ms", "3000"]);
    let (alice, bob) = (agent(&hub, "alice"), agent(&hub, "bob"));
    let (_alice_runs, _bob_runs) = (alice.start(), bob.start());
    let backup = hub.data().join("backup.redb");

    // As of the backup: one done; one with each agent; one waits behind it.
    let done = submit(&hub, &alice);
    finish(&hub, &alice, &done);
    let (of_alice, of_bob) = (submit(&hub, &alice), submit(&hub, &bob));
    alice.wait_run(&of_alice, "started");
    bob.wait_run(&of_bob, "started");
    let waiting = submit(&hub, &bob);
    fetch(hub.address(), hub.admin_token(), &backup);

    // Since then: alice finished hers and one more, and works on a third; a third agent came. Bob still works on his.
    finish(&hub, &alice, &of_alice);
    let forgotten = submit(&hub, &alice);
    finish(&hub, &alice, &forgotten);
    let unknown = submit(&hub, &alice);
    alice.wait_run(&unknown, "started");
    let carol = agent(&hub, "carol");
    let _carol_runs = carol.start();
    hub.wait_agent("carol", |agent| agent["status"] != "offline");

    hub.kill9();
    restore(&hub, &backup);
    hub.start_again();

    // Bob's task goes on under the same assignment, is done once, and the one that waits after it too.
    finish(&hub, &bob, &of_bob);
    finish(&hub, &bob, &waiting);
    // The hub has never heard of what alice works on: she puts it away.
    wait::until_or(
        "alice to drop the unknown task",
        wait::BOUND,
        || alice.queue().filter(|queue| queue["active"]["task_id"] != json!(unknown)),
        || alice.story(),
    );
    assert_eq!(hub.get(&format!("/api/tasks/{unknown}")).0, 404);
    assert_eq!(hub.get(&format!("/api/tasks/{forgotten}")).0, 404);
    // What she did since the backup is lost with its result, so the hub has it done again, by her and once.
    let again = hub.wait_task(&of_alice, "completed");
    assert_eq!(again["result"]["output"], json!(format!("done {of_alice}")));
    for (agent, task, times) in
        [(&alice, &done, 1), (&alice, &of_alice, 2), (&alice, &forgotten, 1), (&bob, &of_bob, 1), (&bob, &waiting, 1)]
    {
        assert_eq!(agent.count(task, "finished"), times, "{task}\n{}", agent.story());
    }
    // A token of after the backup is none, and its agent is told so.
    let said = wait::until_or(
        "carol to be refused",
        wait::BOUND,
        || {
            Some(carol.operate(&["status"]).1)
                .filter(|text| text.contains("the hub does not let us in (invalid_token)"))
        },
        || carol.story(),
    );
    assert!(said.contains("->"), "{said}");
    // And the next tasks are done as ever.
    let (next, other) = (submit(&hub, &alice), submit(&hub, &bob));
    finish(&hub, &alice, &next);
    finish(&hub, &bob, &other);
    wait::until_true("both to be idle", || is_idle(&alice) && is_idle(&bob));
    let (_, stats): (u16, Value) = hub.get("/api/tasks/stats");
    assert_eq!((&stats["by_status"], &stats["dead_letter"]), (&json!({"completed": 6}), &json!(0)), "{stats}");
}
