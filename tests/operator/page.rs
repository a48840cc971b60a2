//! The hub's page in a real Chromium, by `page/main.js`, which judges what it shows. The processes are run here: the hub, and
//! a real sidecar that is started again whenever it ends, as a supervisor would.
#![allow(clippy::print_stderr, reason = "a test that cannot be run says so")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::browser::chromium;
use crate::support::hub::Hub;
use crate::support::process::Running;
use crate::support::sidecar::Agent;
use crate::support::{npm, wait};

/// How often it is looked whether the sidecar has ended.
const LOOK: Duration = Duration::from_millis(20);

/// The hub, and alice's sidecar.
struct Stage {
    hub: Hub,
    alice: Option<Agent>,
    running: Option<Running>,
}

impl Stage {
    fn order(&mut self, what: &str) {
        match what {
            "come" => {
                let hub = &self.hub;
                let alice = self.alice.get_or_insert_with(|| {
                    let agent = Agent::new("alice", &hub.url(), &hub.register("alice"));
                    agent.configure("reconnect_min_ms", json!(20));
                    agent.configure("reconnect_max_ms", json!(200));
                    agent
                });
                self.running = Some(alice.start_supervised());
            }
            // Letting go of it kills it.
            "leave" => self.running = None,
            "restart the hub" => self.hub.start_again(),
            other => panic!("main.js wants {other:?}"),
        }
    }

    fn supervise(&mut self) {
        if let (Some(alice), Some(running)) = (&self.alice, &mut self.running)
            && running.ended().is_some()
        {
            *running = alice.start_supervised();
        }
    }
}

#[test]
fn people_see_at_the_page_what_happens_and_act_there() {
    let Some(chromium) = chromium() else {
        eprintln!("SKIPPED: there is no chromium here (Debian: apt-get install chromium)");
        return;
    };
    let mut stage = Stage { hub: Hub::start(), alice: None, running: None };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operator/page/main.js");
    let mut node = Command::new("node");
    node.arg(script).arg(chromium).arg(stage.hub.address().port().to_string()).arg(stage.hub.admin_token());
    node.env("NODE_PATH", npm::packages());
    let mut node = node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("node");
    let (mut orders, stdout) = (node.stdin.take().expect("a pipe"), node.stdout.take().expect("a pipe"));
    let mut stderr = node.stderr.take().expect("a pipe");
    let complaint = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });

    let (begun, mut told) = (Instant::now(), String::new());
    while begun.elapsed() < 6 * wait::BOUND {
        match lines.recv_timeout(LOOK) {
            Ok(line) => {
                told.push_str(&line);
                told.push('\n');
                if let Some(what) = line.strip_prefix("do ") {
                    stage.order(what);
                    writeln!(orders, "done {what}").expect("main.js reads");
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        stage.supervise();
    }
    let _ = node.kill();
    let status = node.wait().expect("the end of main.js");
    let complaint = complaint.join().unwrap_or_default();
    eprintln!("{told}");
    assert!(status.success(), "main.js ended with {status} after {:?}:\n{told}{complaint}", begun.elapsed());
}
