//! The real sidecar at a hub that speaks TLS itself, with a certificate that only `ca_file` makes it trust.
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::hub::{HUB, Hub};
use crate::support::process;
use crate::support::sidecar::Agent;
use crate::support::wait;

/// Runs a command of the hub over its own socket; the last that it prints with `--json`.
fn command(hub: &Hub, args: &[&str]) -> Value {
    let mut command = Command::new(HUB);
    command.args(args).arg("--json").arg("--data").arg(hub.data());
    let (status, text) = process::run(command, wait::BOUND);
    assert!(status.success(), "{args:?} ended with {status}:\n{text}");
    let printed = serde_json::Deserializer::from_str(&text).into_iter::<Value>().map_while(Result::ok);
    printed.last().unwrap_or_else(|| panic!("not JSON: {text}"))
}

#[test]
fn a_task_and_a_restart_go_over_tls() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = tempfile::tempdir().unwrap();
    let (certificate, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let hub = Hub::start_with(&["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
    let port = hub.address().port();
    let agent = Agent::new("alice", &format!("ws://localhost:{port}/ws"), &hub.token("alice", false));
    agent.configure("reconnect_min_ms", json!(20));
    agent.configure("reconnect_max_ms", json!(200));
    agent.configure("results_scan_ms", json!(50));

    // Without TLS it is told what to write, and with it whom to trust.
    let mut sidecar = agent.start_supervised();
    for (url, ca_file, advice) in [
        ("wss", Value::Null, "that port speaks TLS: write wss://localhost:"),
        ("wss", json!(certificate), "signed by an authority that is not trusted here"),
    ] {
        agent.wait_log(advice, |line| line.to_string().contains(advice).then_some(()));
        sidecar.kill9();
        agent.configure("hub_url", json!(format!("{url}://localhost:{port}/ws")));
        agent.configure("ca_file", ca_file);
        sidecar = agent.start_supervised();
    }

    let task = command(&hub, &["submit", "run=0", "--follow", "--timeout", "30s"]);
    assert_eq!(task["status"], "completed", "{task}");
    let commanded = command(&hub, &["restart", "alice", "--reason", "news"]);
    assert!(sidecar.wait_exit().success());
    let _next = agent.start_supervised();
    let back = || {
        let restarts = command(&hub, &["restarts", "--agent", "alice"]);
        (restarts[0]["state"] == "back").then_some(())
    };
    wait::until_or("the sidecar to be back", wait::BOUND, back, || format!("{commanded}\n{}", agent.story()));
}
