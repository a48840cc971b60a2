//! Drains from the hub: who gets no task, what goes on, and when it ends by itself.

use serde_json::{Value, json};

use super::*;
use crate::hub::scheduler::drains::{DrainNews, DrainRequest, Drained};
use crate::hub::scheduler::inventory::close::Closing;
use crate::hub::scheduler::inventory::entry::Detail;
use crate::hub::scheduler::inventory::record::AgentRecord;
use crate::hub::scheduler::tests::rig::{Rig, accepted, complete};
use crate::protocol::SidecarFrame;

impl Rig {
    fn drain(&mut self, agent_id: &str, until: Option<u64>, deadline: Option<u64>) -> Drained {
        let (by, reason) = ("ops".to_owned(), Some("new disk".to_owned()));
        self.scheduler.drain(agent_id, DrainRequest { by, reason, until, deadline }, self.now).unwrap()
    }

    /// What was told since the last look, as `agent drained|free holds overdue`.
    fn news(&mut self) -> Vec<String> {
        let told = |DrainNews { agent_id, drain, holds_task, overdue }: DrainNews| {
            let (drained, holds) =
                (if drain.is_some() { "drained" } else { "free" }, if holds_task { " holds" } else { "" });
            format!("{agent_id} {drained}{holds}{}", if overdue { " overdue" } else { "" })
        };
        self.scheduler.take_drain_news().into_iter().map(told).collect()
    }

    fn shown(&self, agent_id: &str) -> Value {
        serde_json::to_value(self.scheduler.view().entry(agent_id, Detail::Page, self.now).unwrap()).unwrap()["drain"]
            .take()
    }

    /// The hub is killed, and starts again from what was stored by then.
    fn crash_with(&mut self, stored: Vec<AgentRecord>, moment: u64) {
        let tasks = self.scheduler.tasks().list().into_iter().cloned().collect();
        self.scheduler = Scheduler::load(tasks, Vec::new(), Policy::default(), self.now).with_agents(stored, moment);
    }

    /// What a commit stores now.
    fn commit(&mut self) -> Vec<AgentRecord> {
        let changes = self.scheduler.take_changes();
        let json = changes.agents.iter().map(|(_, record)| serde_json::to_vec(record.unwrap()).unwrap());
        json.map(|json| serde_json::from_slice(&json).unwrap()).collect()
    }
}

#[test]
fn a_drained_agent_gets_no_task_until_it_is_resumed() {
    let mut rig = Rig::at(10);
    rig.join_today(1, "a", "boot-1");
    assert!(rig.drain("a", None, None).is_change());
    assert_eq!((rig.news(), rig.fsm("a")), (vec!["a drained".to_owned()], "draining".to_owned()));
    assert_eq!(rig.submit("t"), Vec::<String>::new());
    let view = rig.scheduler.view();
    let waits = serde_json::to_value(view.waiting_for(view.tasks().get("t").unwrap(), rig.now)).unwrap();
    assert_eq!(waits, json!({"what": "draining_agents", "agents": 1}));
    let hub =
        json!({"by": "ops", "reason": "new disk", "since": 10, "until": null, "deadline": null, "overdue": false});
    assert_eq!(rig.shown("a"), json!({"own": false, "hub": hub}));
    // The same again changes nothing; another connection and another run do not, either.
    assert!(!rig.drain("a", None, None).is_change());
    rig.join_today(2, "a", "boot-2");
    assert_eq!((rig.news(), rig.said()), (Vec::new(), Vec::new()));
    assert!(rig.scheduler.resume("a", rig.now).unwrap().is_change());
    assert_eq!((rig.said(), rig.news()), (vec!["2:task_assign t#1".to_owned()], vec!["a free".to_owned()]));
    assert!(!rig.scheduler.resume("a", rig.now).unwrap().is_change());
    assert_eq!(rig.scheduler.resume("nobody", rig.now), None);
}

#[test]
fn what_a_drained_agent_holds_goes_on_and_its_end_is_told() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit("t");
    rig.hear(1, accepted("t"));
    rig.drain("a", None, Some(500));
    assert_eq!(
        (rig.news(), rig.said(), rig.fsm("a")),
        (vec!["a drained holds".to_owned()], Vec::new(), "working".to_owned())
    );
    // Past the deadline it is told, once, and nothing is taken.
    assert_eq!(rig.scheduler.deadline(), Some(500));
    rig.tick_at(500);
    assert_eq!((rig.news(), rig.status("t")), (vec!["a drained holds overdue".to_owned()], "assigned#1".to_owned()));
    assert_eq!(rig.shown("a")["hub"]["overdue"], true);
    rig.tick_at(600);
    assert_eq!(rig.news(), Vec::<String>::new());
    rig.submit("u");
    assert_eq!(rig.hear(1, complete("t", 1)), ["1:task_ack complete"]);
    assert_eq!((rig.news(), rig.shown("a")["hub"]["overdue"].clone()), (vec!["a drained".to_owned()], json!(false)));
    // With other values it is changed, and is drained since the same time.
    let changed = rig.drain("a", Some(900), None);
    assert_eq!((changed.new.unwrap().since, changed.old.unwrap().deadline), (0, Some(500)));
}

#[test]
fn a_drain_ends_by_itself_also_after_a_crash_of_the_hub() {
    for crash in [false, true] {
        let mut rig = Rig::at(10);
        rig.join_today(1, "a", "boot-1");
        rig.drain("a", Some(1_000), Some(100));
        rig.submit("t");
        // The act is in the next commit, with what was known of the agent.
        let stored = rig.commit();
        rig.now = 20;
        if crash {
            rig.crash_with(stored, 15);
            assert_eq!(rig.scheduler.deadline(), Some(100));
            rig.join_today(2, "a", "boot-1");
        }
        assert_eq!((rig.news().len(), rig.fsm("a")), (usize::from(!crash), "draining".to_owned()));
        // Free at the deadline: there is nothing to tell.
        rig.tick_at(100);
        assert_eq!(rig.news(), Vec::<String>::new());
        assert_eq!(rig.scheduler.deadline(), Some(1_000));
        let said = rig.tick_at(1_000);
        assert_eq!(said, [format!("{}:task_assign t#1", if crash { 2 } else { 1 })]);
        assert_eq!((rig.news(), rig.commit()[0].hub_drain.clone()), (vec!["a free".to_owned()], None));
    }
}

#[test]
fn a_drained_holder_that_was_away_when_the_hub_crashed_is_told_when_its_task_ends() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit("t");
    rig.drain("a", None, Some(5_000));
    let stored = rig.commit();
    rig.crash_with(stored, 0);
    rig.tick_at(5_000);
    assert_eq!(rig.news(), ["a drained holds overdue"]);
    let due = rig.scheduler.deadline().unwrap();
    rig.tick_at(due);
    assert_eq!((rig.news(), rig.status("t")), (vec!["a drained".to_owned()], "queued#2".to_owned()));
}

#[test]
fn the_machines_own_drain_and_the_hubs_are_apart() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.drain("a", None, None);
    rig.hear(1, SidecarFrame::Cordon { on: true });
    assert_eq!((rig.shown("a")["own"].clone(), rig.shown("a")["hub"]["by"].clone()), (json!(true), json!("ops")));
    rig.scheduler.resume("a", rig.now);
    assert_eq!((rig.submit("t"), rig.fsm("a")), (Vec::new(), "draining".to_owned()));
    rig.drain("a", None, None);
    rig.hear(1, SidecarFrame::Cordon { on: false });
    assert_eq!((rig.said(), rig.fsm("a")), (Vec::new(), "draining".to_owned()));
    rig.scheduler.resume("a", rig.now);
    assert_eq!(rig.said(), ["1:task_assign t#1"]);
}

#[test]
fn a_drain_ends_with_the_owner_of_the_name() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.drain("a", Some(100), None);
    rig.scheduler.expel(1, &Closing::revoked(), rig.now);
    rig.scheduler.owner_left("a", rig.now);
    assert!(rig.scheduler.drains_are_right() && rig.scheduler.deadline().is_none());
    rig.join_today(2, "a", "boot-1");
    assert_eq!(rig.submit("t"), ["2:task_assign t#1"]);
}
