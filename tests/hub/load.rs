//! Five hundred agents at once: the load program, which fails when anything is lost or done twice. Its figures are not
//! judged here, where other tests run beside it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::example_binary;

/// The longest that the load program may take.
const BOUND: Duration = Duration::from_secs(90);

#[test]
fn nothing_is_lost_when_five_hundred_agents_join_work_and_restart() {
    let program = example_binary::build("agentcom-load", "hub");
    let mut command = Command::new(program);
    command.args(["500", "--herds", "2", "--tasks", "2000", "--watch-ms", "300", "--strangers", "40", "--json"]);
    command.args(["--hub-binary", env!("CARGO_BIN_EXE_agentcom-hub"), "--hub-argument=--max-unidentified=32"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > BOUND {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["herds"].as_array().map(Vec::len), Some(2), "{report}");
    assert_eq!(report["restart"]["agents"], 500, "{report}");
    assert_eq!(report["tasks"][1]["tasks"], 2_000, "{report}");
}
