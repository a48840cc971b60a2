//! Configurations that are none, or hold wrong values.

use std::fs;
use std::process::Command;

use super::row::{RUN, Row, judge};
use crate::support::process;
use crate::support::sidecar::SIDECAR;
use crate::support::wait;

#[test]
fn files_that_are_no_configuration() {
    judge(&[
        Row {
            args: RUN,
            files: &[],
            env: &[],
            code: 78,
            says: [
                "cannot read the configuration",
                "{dir}/config.json",
                "agentcom-sidecar onboard writes one; or name yours with --config",
            ],
        },
        config!("<dir>", ["cannot read the configuration", "{dir}/config.json", "name another with --config"]),
        Row {
            args: "run",
            files: &[],
            env: &[("AGENTCOM_CONFIG", "{dir}/none.json")],
            code: 78,
            says: ["cannot read", "{dir}/none.json", "AGENTCOM_CONFIG"],
        },
        config!("", ["the file is empty", "{dir}/config.json:1:1", "docs/configuration.md has one to begin with"]),
        config!("[1]", ["one JSON object", "{dir}/config.json", "allowed"]),
        config!(
            "{\n  \"agent_id\": \"a\"\n  \"token\"}",
            ["not valid JSON", "{dir}/config.json:3:3", "expected `,` or `}`"]
        ),
        config!("{\"agent_id\": \"a\",}", ["not valid JSON", "{dir}/config.json:1:", "trailing"]),
    ]);
}

#[test]
fn bytes_that_are_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let said = |bytes: &[u8]| {
        let file = folder.path().join("config.json");
        fs::write(&file, bytes).unwrap();
        let mut command = Command::new(SIDECAR);
        command.args(["run", "--config"]).arg(file);
        let (status, text) = process::run(command, wait::BOUND);
        assert_eq!(status.code(), Some(78), "{text}");
        text
    };
    assert!(said(b"{\n\"agent_id\": \"\xe4\"}").contains("config.json:2: not UTF-8; save the file as UTF-8"));
    assert!(said(&vec![b' '; 2 << 20]).contains("is larger than 1048576 bytes: is it the right file?"));
}

#[test]
fn wrong_values_in_the_configuration() {
    judge(&[
        config!(
            r#"{"token": "t0ken-that-nobody-may-see", "hub_url": "ws://h/ws"}"#,
            ["`agent_id`: found no such key", "{dir}/config.json", "allowed: a text of 1 to 128"]
        ),
        config!(
            r#"{"agent_id": "a", "hub_url": "ws://h/ws"}"#,
            ["`token`: found no such key", "{dir}/config.json", "that the hub gave at registration"]
        ),
        config!(
            r#"{"agent_id": "a", "token": "t0ken-that-nobody-may-see"}"#,
            ["`hub_url`: found no such key", "{dir}/config.json", "ws://localhost:4000/ws"]
        ),
        config!(
            r#"{"agent_id": "a", "token": ["t0ken-that-nobody-may-see"], "hub_url": "ws://h/ws"}"#,
            ["`token`: found", "{dir}/config.json:1:28", "allowed: the text"]
        ),
        config!(
            r#"{"agent_id": "a", "token": " t0ken-that-nobody-may-see", "hub_url": "ws://h/ws"}"#,
            ["white space", "{dir}/config.json:1:28", "allowed: the text"]
        ),
        config!(
            r#"{"agent_id": "a", "token": "t0ken-that-nobody-may-see", "hub_url": "t0ken-that-nobody-may-see"}"#,
            ["`hub_url`: found", "{dir}/config.json:1:", "ws://localhost:4000/ws"]
        ),
        with!(
            r#""agent_id": 7"#,
            ["`agent_id`: found the number 7", "{dir}/config.json:2:13", "a text of 1 to 128 characters"]
        ),
        with!(
            r#""agent_id": "a\u0007b""#,
            ["`agent_id`: found", "{dir}/config.json:2:13", "without control characters"]
        ),
        with!(
            r#""hub_url": "https://h/ws""#,
            ["`hub_url`: found \"https://h/ws\"", "{dir}/config.json:2:12", "write wss:// instead of https://"]
        ),
        with!(
            r#""hub_url": "ftp://h""#,
            ["`hub_url`: found \"ftp://h\"", "{dir}/config.json:2:12", "wss://hub.example/ws"]
        ),
        with!(
            r#""hub_url": "ws://me:hunter2@h/ws""#,
            ["an address with credentials in it", "{dir}/config.json:2:12", "the token has a key of its own"]
        ),
        with!(
            r#""hub_url": "ws:///ws""#,
            ["`hub_url`: found", "{dir}/config.json:2:12", "allowed: a WebSocket address"]
        ),
        with!(r#""hub_api_url": "ws://h""#, ["`hub_api_url`: found", "{dir}/config.json:2:16", "http:// or https://"]),
        with!(
            r#""log_level": "loud""#,
            ["`log_level`: found \"loud\"", "{dir}/config.json:2:14", "one of debug, info"]
        ),
        with!(
            r#""capabilities": "code""#,
            ["`capabilities`: found", "{dir}/config.json:2:17", "[\"code\", \"review\"]"]
        ),
        with!(
            r#""capabilities": ["a", 1]"#,
            ["`capabilities[1]`: found the number 1", "{dir}/config.json:2:23", "a list of texts"]
        ),
        with!(
            r#""labels": ["gpu"]"#,
            ["`labels`: found the list", "{dir}/config.json:2:11", "an object of texts such as {\"pool\": \"gpu\"}"]
        ),
        with!(
            r#""labels": {"Pool": "gpu"}"#,
            ["`labels.Pool`: found the key \"Pool\"", "{dir}/config.json:2:12", "allowed: a key is 1 to 64 characters"]
        ),
        with!(
            r#""labels": {"pool": 7}"#,
            ["`labels.pool`: found the number 7", "{dir}/config.json:2:20", "a text: \"7\" in place of 7"]
        ),
        with!(
            r#""wake_command": 7"#,
            ["`wake_command`: found the number 7", "{dir}/config.json:2:17", "allowed: a text"]
        ),
        with!(
            r#""restart_intensity": 3"#,
            ["`restart_intensity`: found the number 3", "{dir}/config.json:2:22", "{\"max\": 3, \"window_ms\": 60000}"]
        ),
        with!(
            r#""restart_intensity": {"max": -1}"#,
            ["`restart_intensity.max`: found the number -1", "{dir}/config.json:2:30", "from 0 to 1000"]
        ),
        with!(
            r#""wake_retry_delays_ms": "5 s""#,
            ["`wake_retry_delays_ms`: found the text", "{dir}/config.json:2:25", "[] means no retry"]
        ),
        with!(
            r#""wake_retry_delays_ms": [2.5]"#,
            ["`wake_retry_delays_ms[0]`: found the number 2.5", "{dir}/config.json:2:26", "a whole number"]
        ),
        with!(
            r#""wake_retry_delays_ms": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"#,
            ["found 17 delays", "{dir}/config.json:2:25", "at most 16"]
        ),
        with!(
            r#""drain_deadline_ms": "5 s""#,
            ["`drain_deadline_ms`: found the text \"5 s\"", "{dir}/config.json:2:22", "from 100 to 60000"]
        ),
        with!(
            r#""drain_deadline_ms": 50"#,
            ["`drain_deadline_ms`: found the number 50", "{dir}/config.json:2:22", "from 100 to 60000"]
        ),
        with!(
            r#""ping_interval_ms": 60000"#,
            ["`ping_interval_ms`: found the number 60000", "{dir}/config.json:2:21", "to 55000"]
        ),
        with!(
            r#""reconnect_min_ms": 5000, "reconnect_max_ms": 1000"#,
            ["`reconnect_min_ms`: found 5000", "{dir}/config.json:2:21", "at most reconnect_max_ms"]
        ),
        with!(r#""results_dir": 7"#, ["`results_dir`: found the number 7", "{dir}/config.json:2:16", "allowed: a"]),
        with!(r#""queue_file": ["q"]"#, ["`queue_file`: found", "{dir}/config.json:2:15", "allowed: a"]),
    ]);
}
