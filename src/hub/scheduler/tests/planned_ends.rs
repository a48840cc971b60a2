//! Whose end was planned, and which run a loss belongs to.

use super::*;
use crate::hub::scheduler::tests::rig::{Rig, accepted, progress};
use crate::protocol::{Pm2Info, Restarted, Restarting};

const GRACE_MS: u64 = 30_000;

fn v2(boot: &str) -> Identify {
    Identify { agent_id: "a".into(), boot_id: Some(boot.into()), ..Identify::default() }
}

fn legacy(restart_count: u64) -> Identify {
    let pm2_info = Some(Pm2Info { restart_count: Some(restart_count), ..Pm2Info::default() });
    Identify { agent_id: "a".into(), client_type: Some("sidecar".into()), pm2_info, ..Identify::default() }
}

fn identified(rig: &mut Rig, conn: u64, identify: &Identify) {
    rig.scheduler.identified(conn, identify, "10.0.0.1:1", rig.now);
    rig.said();
}

/// It took the task on connection 1.
fn at_work(identify: &Identify) -> Rig {
    let mut rig = Rig::new();
    identified(&mut rig, 1, identify);
    rig.submit("t");
    rig.hear(1, accepted("t"));
    rig
}

fn leaves() -> SidecarFrame {
    SidecarFrame::AgentRestarting(Restarting { expected_back_ms: Some(60_000), ..Restarting::default() })
}

/// The fence of an announced restart ends sooner than the absence that the agent named.
#[test]
fn an_announced_absence_is_no_loss_however_long_it_is() {
    for (before, after) in [(v2("b1"), v2("b2")), (legacy(1), legacy(2))] {
        let mut rig = at_work(&before);
        rig.hear(1, leaves());
        rig.drop_conn(1);
        rig.tick_at(25_000);
        identified(&mut rig, 2, &after);
        assert_eq!((rig.status("t"), rig.losses("t")), ("assigned#1".into(), 0), "{after:?}");
    }
}

#[test]
fn an_announced_end_that_the_hub_did_not_see_is_no_loss() {
    let mut rig = at_work(&v2("b1"));
    rig.hear(1, leaves());
    identified(&mut rig, 2, &v2("b2"));
    assert_eq!(rig.losses("t"), 0);
}

/// Version 0.1.0 says what restart it returned from, and not how the run before it ended.
#[test]
fn a_run_that_returned_from_a_restart_is_no_loss() {
    let mut rig = at_work(&v2("b1"));
    rig.drop_conn(1);
    let restarted = Some(Restarted { command_id: None, reason: "r".into(), forced: false, gap_ms: 1 });
    identified(&mut rig, 2, &Identify { restarted, ..v2("b2") });
    assert_eq!(rig.losses("t"), 0);
}

#[test]
fn a_loss_is_forgiven_to_the_run_that_was_connected_last() {
    let mut rig = at_work(&v2("b1"));
    // The machine was rebooted, and the hub has not seen the end of the first run.
    identified(&mut rig, 2, &v2("b2"));
    rig.hear(2, progress("t"));
    rig.drop_conn(2);
    rig.tick_at(GRACE_MS);
    assert_eq!((rig.status("t"), rig.losses("t")), ("queued#2".into(), 2));
    identified(&mut rig, 3, &v2("b2"));
    assert_eq!(rig.losses("t"), 1, "only its connection had broken");
}

#[test]
fn after_a_crash_of_the_hub_the_run_that_is_back_is_known_as_the_holder() {
    let mut rig = at_work(&v2("b1"));
    rig.hub_crash();
    identified(&mut rig, 2, &v2("b1"));
    rig.hear(2, progress("t"));
    rig.drop_conn(2);
    rig.tick_at(GRACE_MS);
    assert_eq!((rig.status("t"), rig.losses("t")), ("queued#2".into(), 1));
}
