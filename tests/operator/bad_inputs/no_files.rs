//! What stands where a file should be, and is none, or is far too large for it: nothing waits for it, nothing reads it.

use super::row::{GOOD, RUN, Row, judge};

/// `run` and the others with something else than a file as configuration.
macro_rules! no_config {
    ($args:expr, $what:expr, $says:expr) => {
        Row { args: $args, files: &[("config.json", $what)], env: &[], code: 78, says: $says }
    };
}

/// A good configuration, and one thing beside it.
macro_rules! beside {
    ($args:expr, $name:expr, $what:expr, $code:expr, $says:expr) => {
        Row { args: $args, files: &[("config.json", GOOD), ($name, $what)], env: &[], code: $code, says: $says }
    };
}

#[test]
fn as_config_json() {
    const THEN: &str = "name another with --config or AGENTCOM_CONFIG";
    judge(&[
        no_config!(RUN, "<pipe>", ["{dir}/config.json", "a named pipe stands where the file should be", THEN]),
        no_config!("status", "<pipe>", ["config.json", "a named pipe stands where the file should be", THEN]),
        no_config!("check", "<pipe>", ["config.json", "a named pipe stands where the file should be", THEN]),
        no_config!("check --preflight", "<pipe>", ["config.json", "a named pipe stands where", THEN]),
        no_config!(RUN, "<socket>", ["{dir}/config.json", "a socket stands where the file should be", THEN]),
        no_config!(RUN, "<link> /dev/zero", ["{dir}/config.json", "a device stands where the file should be", THEN]),
        no_config!(RUN, "<dir>", ["{dir}/config.json", "a folder stands where the file should be", THEN]),
        no_config!(RUN, "<huge>", ["{dir}/config.json", "is larger than 1048576 bytes", "is it the right file?"]),
    ]);
}

#[test]
fn as_the_journal() {
    const THEN: &str = "move it away, or set `queue_file` elsewhere";
    judge(&[
        beside!(RUN, "queue.json", "<pipe>", 74, ["{dir}/queue.json", "a named pipe stands where", THEN]),
        beside!(RUN, "queue.json", "<socket>", 74, ["{dir}/queue.json", "a socket stands where", THEN]),
        beside!(RUN, "queue.json", "<link> /dev/zero", 74, ["/dev/zero", "a device stands where", THEN]),
        beside!("check", "queue.json", "<pipe>", 74, ["queue.json", "a named pipe stands where", THEN]),
        beside!("check --preflight", "queue.json", "<pipe>", 74, ["queue.json", "a named pipe stands where", THEN]),
        beside!("status", "queue.json", "<pipe>", 69, ["queue.json", "a named pipe stands where", "not running"]),
        beside!("check", "queue.json", "<huge>", 74, ["queue.json", "1099511627776 bytes", "move it aside"]),
        beside!("status", "queue.json", "<huge>", 69, ["queue.json", "1099511627776 bytes", "not running"]),
    ]);
}

#[test]
fn as_the_lock() {
    const THEN: &str = "move it away, or set `queue_file` elsewhere";
    judge(&[
        beside!(RUN, "queue.json.lock", "<pipe>", 74, ["{dir}/queue.json.lock", "a named pipe stands where", THEN]),
        beside!("check", "queue.json.lock", "<pipe>", 69, ["queue.json.lock", "a named pipe stands where", THEN]),
        beside!("status", "queue.json.lock", "<pipe>", 69, ["there is none yet", "queue.json", "not running"]),
    ]);
}

#[test]
fn as_a_wake_command() {
    const SCRIPT: &str = r#"{"agent_id": "a", "token": "t0ken-that-nobody-may-see", "hub_url": "ws://{gone}/ws", "wake_command": "./wake.sh"}"#;
    judge(&[Row {
        args: "check",
        files: &[("config.json", SCRIPT), ("wake.sh", "<pipe>")],
        env: &[],
        code: 69,
        says: ["`wake_command`", "wake.sh may not be executed", "chmod +x"],
    }]);
}

#[test]
fn as_a_token_file() {
    const ONBOARD: &str = "onboard --config {dir}/new.json --hub {web}/x --name a --token-file {dir}/token";
    const THEN: &str = "`--token-file -` reads it from stdin";
    let row = |what, says| Row { args: ONBOARD, files: what, env: &[], code: 2, says };
    judge(&[
        row(&[("token", "<pipe>")], ["{dir}/token", "a named pipe stands where the file should be", THEN]),
        row(&[("token", "<link> /dev/zero")], ["{dir}/token", "a device stands where the file should be", THEN]),
        row(&[("token", "<huge>")], ["{dir}/token", "1099511627776 bytes", "the last word of that file"]),
    ]);
}
