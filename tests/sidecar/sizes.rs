//! The largest things that the two ends take from their users: each must come through, or be refused once, and never
//! keep the two from talking.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use crate::support::hub::Hub;
use crate::support::sidecar::Agent;
use serde_json::json;

#[test]
fn the_largest_task_that_the_hub_takes_reaches_the_agent() {
    let hub = Hub::start();
    let agent = Agent::new("a", &hub.url(), &hub.register("a"));
    let _sidecar = agent.start();
    let padding = "x".repeat((1 << 20) - 200);
    let task = hub.submit_with(json!({"description": "start=0 run=0", "metadata": {"padding": padding}}));
    agent.wait_log("the task was taken", |line| (line["task_id"] == *task && line["phase"] == "Working").then_some(()));
}

#[test]
fn a_result_too_large_for_the_hub_fails_its_task_and_nothing_else() {
    let hub = Hub::start();
    let agent = Agent::new("a", &hub.url(), &hub.register("a"));
    let size = r#"case "$TASK_DESCRIPTION" in huge) n=5000000 ;; *) n=5 ;; esac"#;
    let write = r#"p=results/$TASK_ID.part; printf '{"status":"success","output":"' > $p; head -c $n /dev/zero | tr '\0' x >> $p"#;
    let done = r#"printf '"}' >> $p; : > results/$TASK_ID.started; mv $p results/$TASK_ID.json"#;
    agent.configure("wake_command", json!(format!("{size}; {write}; {done}")));
    let _sidecar = agent.start();
    let huge = hub.submit_with(json!({"description": "huge", "max_retries": 0}));
    hub.wait_task(&huge, "dead_letter");
    let small = hub.submit("small");
    hub.wait_task(&small, "completed");
}
