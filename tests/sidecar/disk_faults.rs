//! The real sidecar on a disk that refuses: full, read-only, EIO from fsync, and a journal cut off anywhere. Each must be
//! said clearly, lose nothing that was accepted, and heal by itself when the disk does.
//!
//! Full and read-only need the right to mount (root); without it those tests say so and prove nothing. EIO comes from a few
//! lines of C between the sidecar and libc, since a device that fails would take a kernel module.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

mod fault;
mod stage;
mod truncated;

use crate::support::wait;
use fault::Fault;
use serde_json::json;
use stage::{ALICE, Stage};

/// While the disk refuses, a task is not accepted and the agent not woken; afterwards it is done, by the same process.
fn a_task_that_comes_meanwhile_is_not_accepted(fault: Fault) {
    let Some(mut stage) = Stage::new(fault) else { return };
    stage.start();
    stage.fault.begin();
    let task = stage.hub.submit("quick");
    stage.must_complain();
    stage.agent.wait_log("an assignment was not taken", |line| (line["notice"] == "assignment_refused").then_some(()));
    assert_eq!(stage.agent.count(&task, "woken"), 0, "{}", stage.agent.story());
    assert_ne!(stage.hub.task(&task)["status"], "completed");
    stage.fault.end();
    stage.must_be_done_once(&task);
    assert_eq!(stage.starts, 1, "{}", stage.agent.story());
}

/// While the disk refuses, a verdict is not said; afterwards it is, by the same process.
fn a_result_that_comes_meanwhile_is_held(fault: Fault) {
    let Some(mut stage) = Stage::new(fault) else { return };
    stage.start();
    let task = stage.with_a_running_task();
    stage.fault.begin();
    stage.agent.go("run", &task);
    stage.must_complain();
    assert_eq!(stage.hub.task(&task)["status"], "assigned", "{}", stage.agent.story());
    stage.fault.end();
    stage.must_be_done_once(&task);
    assert_eq!(stage.starts, 1, "{}", stage.agent.story());
}

/// The same, and the sidecar is killed while the disk refuses: whatever starts it again is all the help it gets.
fn a_kill_meanwhile_loses_nothing(fault: Fault) {
    let Some(mut stage) = Stage::new(fault) else { return };
    stage.start();
    let task = stage.with_a_running_task();
    stage.fault.begin();
    stage.agent.go("run", &task);
    stage.must_complain();
    stage.kill();
    stage.start();
    stage.must_complain_again();
    match fault {
        Fault::Full | Fault::ReadOnly | Fault::FileSync => {
            assert_ne!(stage.hub.task(&task)["status"], "completed", "{}", stage.agent.story());
        }
        // The file was written, and the next process found the verdict in it.
        Fault::FolderSync => {}
    }
    stage.fault.end();
    stage.must_be_done_once(&task);
}

/// No session appears in time while the disk refuses, then one does: what it leaves is found when the task comes again.
fn a_session_that_comes_late_meanwhile_is_adopted(fault: Fault) {
    let Some(mut stage) = Stage::new(fault) else { return };
    stage.agent.configure("confirmation_timeout_ms", json!(1_000));
    stage.start();
    let task = stage.hub.submit("start=hold");
    stage.wait_journalled("awaiting_confirmation");
    // What the wake was handed makes room on the full disk once it is withdrawn.
    std::fs::remove_file(stage.fault.folder.join(format!("queue.wake/{task}.TASK_SESSION.value"))).unwrap();
    stage.fault.begin();
    stage.must_complain();
    stage.agent.go("start", &task);
    stage.agent.wait_run(&task, "finished");
    stage.fault.end();
    stage.must_be_done_once(&task);
    assert_eq!(stage.starts, 1, "{}", stage.agent.story());
}

/// The lock is held though nobody can be told who holds it: a full disk does not take the agent off the hub.
#[test]
fn a_start_on_a_full_disk_serves_the_hub_all_the_same() {
    let Some(mut stage) = Stage::new(Fault::Full) else { return };
    stage.start();
    stage.kill();
    wait::until_true("the hub to miss it", || stage.hub.agent(ALICE).is_none());
    // Empty, it holds no space that a new holder's name could have.
    std::fs::write(stage.fault.folder.join("queue.json.lock"), "").unwrap();
    stage.fault.begin();
    stage.start();
    stage.hub.wait_agent(ALICE, |agent| agent["fsm_state"] == "idle");
    assert_eq!(stage.starts, 2, "{}", stage.agent.story());
    stage.fault.end();
    let task = stage.hub.submit("quick");
    stage.must_be_done_once(&task);
}

macro_rules! faults {
    ($($name:ident: $fault:expr;)+) => {$(
        mod $name {
            use super::*;

            #[test]
            fn a_task_that_comes_meanwhile_is_not_accepted() {
                super::a_task_that_comes_meanwhile_is_not_accepted($fault);
            }

            #[test]
            fn a_result_that_comes_meanwhile_is_held() {
                super::a_result_that_comes_meanwhile_is_held($fault);
            }

            #[test]
            fn a_session_that_comes_late_meanwhile_is_adopted() {
                super::a_session_that_comes_late_meanwhile_is_adopted($fault);
            }

            #[test]
            fn a_kill_meanwhile_loses_nothing() {
                super::a_kill_meanwhile_loses_nothing($fault);
            }
        }
    )+};
}

faults! {
    full: Fault::Full;
    read_only: Fault::ReadOnly;
    fsync_of_the_file_fails: Fault::FileSync;
    fsync_of_the_folder_fails: Fault::FolderSync;
}
