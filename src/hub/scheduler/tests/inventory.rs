//! What is known of agents that have come and gone: since when, why, how often, and what they said last.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::hub::scheduler::inventory::close::{CloseCause, Closing};
use crate::hub::scheduler::inventory::entry::Detail;
use crate::hub::scheduler::inventory::record::AgentRecord;
use crate::hub::scheduler::inventory::{Flush, LabelsRefused};
use crate::hub::scheduler::policy::Policy;
use crate::hub::scheduler::task::Priority;
use crate::hub::scheduler::tests::rig::{Rig, accepted, complete, submission};
use crate::protocol::{
    BadLabel, Identify, JsonFields, JsonText, Labels, PreviousEnd, Restarted, Restarting, SidecarFrame,
};

const DAY_MS: u64 = 86_400_000;

impl Rig {
    fn record(&self, agent_id: &str) -> AgentRecord {
        self.scheduler.inventory().get(agent_id).unwrap().clone()
    }

    fn entry(&self, agent_id: &str) -> Value {
        serde_json::to_value(self.scheduler.view().entry(agent_id, Detail::Full, self.now).unwrap()).unwrap()
    }

    /// The status, since when, and why.
    fn standing(&self, agent_id: &str) -> (String, u64, String) {
        let standing = self.scheduler.view().standing(agent_id, self.now).unwrap();
        (standing.status.name().into(), standing.since, standing.why.into())
    }

    fn close(&mut self, conn: ConnId, closing: &Closing) {
        self.scheduler.closed(conn, closing, self.now);
    }

    fn counts(&self, agent_id: &str) -> (u64, u64) {
        let counts = self.record(agent_id).restarts;
        (counts.planned, counts.unplanned)
    }

    fn waiting_for(&self, task_id: &str) -> Value {
        let view = self.scheduler.view();
        serde_json::to_value(view.waiting_for(view.tasks().get(task_id).unwrap(), self.now)).unwrap()
    }

    /// What was stored by now, as the store would give it back.
    fn stored(&mut self) -> Vec<AgentRecord> {
        self.scheduler.flush_inventory(Flush::Last, self.now);
        let changes = self.scheduler.take_changes();
        let json = changes.agents.iter().map(|(_, record)| serde_json::to_vec(record.unwrap()).unwrap());
        json.map(|json| serde_json::from_slice(&json).unwrap()).collect()
    }
}

fn as_(agent_id: &str, boot: &str) -> Identify {
    Identify { agent_id: agent_id.into(), boot_id: Some(boot.into()), ..Identify::default() }
}

fn labels(pairs: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect()
}

fn said(text: &str) -> SidecarFrame {
    let event = json!({"event_type": "stdout", "text": text});
    let frame = json!({"type": "task_progress", "task_id": "t", "progress": 40, "execution_event": event});
    SidecarFrame::parse(&frame.to_string()).unwrap()
}

#[test]
fn an_agent_that_is_away_is_known_with_since_when_and_why() {
    let cases = [
        (Closing::broken(), "connection_lost"),
        (Closing::by_agent(Some(1001), "stopped"), "closed_by_agent"),
        (Closing::silent(1002, "silent for too long"), "silent"),
        (Closing::by_hub(1008, "too many validation errors"), "closed_by_hub"),
    ];
    for (closing, why) in cases {
        let mut rig = Rig::at(1_000);
        rig.join_today(1, "a", "boot-1");
        assert_eq!(rig.standing("a"), ("healthy".into(), 1_000, "connected".into()));
        rig.now = 2_000;
        rig.close(1, &closing);
        assert_eq!(rig.standing("a"), ("offline".into(), 2_000, why.into()));
        rig.now = 2_000 + 7 * DAY_MS;
        assert_eq!(rig.standing("a").0, "offline");
        rig.now += 1;
        assert_eq!(rig.standing("a"), ("stale".into(), 2_000 + 7 * DAY_MS, why.into()));
        let entry = rig.entry("a");
        assert_eq!((&entry["first_seen"], &entry["last_seen"]), (&json!(1_000), &json!(2_000)));
        assert_eq!((&entry["connected_at"], &entry["away_since"]), (&Value::Null, &json!(2_000)));
        assert_eq!(entry["last_close"]["why"], why);
        rig.join_today(2, "a", "boot-1");
        assert_eq!(rig.standing("a").0, "healthy");
        assert_eq!(rig.entry("a")["last_close"]["at"], 2_000);
    }
}

#[test]
fn a_restart_is_counted_once_as_planned_or_unplanned() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    // The link breaks, and the same run is back.
    rig.drop_conn(1);
    rig.join_today(2, "a", "boot-1");
    assert_eq!(rig.counts("a"), (0, 0));
    // Announced; the next run says nothing of it.
    rig.hear(2, SidecarFrame::AgentRestarting(Restarting::default()));
    rig.close(2, &Closing::by_agent(Some(1012), "restart"));
    assert_eq!(rig.record("a").last_close.unwrap().why, CloseCause::RestartAnnounced);
    rig.join_today(3, "a", "boot-2");
    assert_eq!(rig.counts("a"), (1, 0));
    // Commanded.
    rig.restart(false);
    rig.hear(3, SidecarFrame::AgentRestarting(Restarting::default()));
    rig.close(3, &Closing::by_agent(Some(1012), "restart"));
    assert_eq!(rig.record("a").last_close.unwrap().why, CloseCause::RestartCommanded);
    rig.join_today(4, "a", "boot-3");
    assert_eq!(rig.counts("a"), (2, 0));
    // Killed, and noticed by the next run's connection alone.
    rig.now = 50;
    rig.join_today(5, "a", "boot-4");
    assert_eq!((rig.counts("a"), rig.record("a").restarts.last_unplanned_at), ((2, 1), Some(50)));
    let close = rig.record("a").last_close.unwrap();
    assert_eq!((close.why, close.code), (CloseCause::Superseded, Some(4001)));
    // Stopped by an operator on its machine, as the next run reports.
    rig.drop_conn(5);
    let stopped = Some(crate::protocol::PreviousEnd::Stopped);
    rig.join_as(6, Identify { previous_end: stopped, ..as_("a", "boot-5") });
    assert_eq!(rig.counts("a"), (3, 1));
}

#[test]
fn a_crash_of_the_hub_forgets_nothing_that_was_stored_and_counts_no_restart() {
    let mut rig = Rig::at(1_000);
    rig.join_today(1, "a", "boot-1");
    rig.join_today(2, "b", "boot-1");
    rig.now = 1_500;
    rig.drop_conn(2);
    rig.scheduler.set_labels("a", &labels(&[("pool", Some("gpu"))]), "ops", rig.now).unwrap();
    let stored = rig.stored();
    rig.scheduler = Scheduler::load(Vec::new(), Vec::new(), Policy::default(), 9_000).with_agents(stored, 4_000);
    rig.now = 9_000;
    assert_eq!(rig.standing("a"), ("offline".into(), 4_000, "hub_restarted".into()));
    assert_eq!(rig.standing("b"), ("offline".into(), 1_500, "connection_lost".into()));
    rig.join_today(3, "a", "boot-1");
    rig.join_today(4, "b", "boot-2");
    assert_eq!((rig.counts("a"), rig.counts("b")), ((0, 0), (0, 1)));
    assert_eq!((rig.record("a").first_seen, rig.record("a").label("pool")), (1_000, Some("gpu")));
}

#[test]
fn a_join_costs_no_commit_and_a_label_of_an_operator_is_in_the_next() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.drop_conn(1);
    assert!(rig.scheduler.take_changes().is_empty());
    rig.scheduler.set_labels("a", &labels(&[("pool", Some("gpu"))]), "ops", 5).unwrap();
    let changes = rig.scheduler.take_changes();
    assert_eq!((changes.agents.len(), changes.moment), (1, None));
    // Nothing else has changed by the same value again.
    assert_eq!(rig.scheduler.set_labels("a", &labels(&[("pool", Some("gpu"))]), "ops", 6), Ok(Vec::new()));
    assert!(rig.scheduler.take_changes().is_empty());
    assert!(rig.scheduler.flush_inventory(Flush::Part, 7));
    let changes = rig.scheduler.take_changes();
    assert_eq!((changes.agents.len(), changes.moment), (1, Some(7)));
}

#[test]
fn a_mass_join_is_stored_in_parts_and_the_moment_waits_for_the_last() {
    let mut rig = Rig::new();
    for n in 0..1_300 {
        rig.join_today(n + 1, &format!("a{n}"), "boot-1");
    }
    let mut parts = Vec::new();
    while rig.scheduler.flush_inventory(Flush::Part, 1_000) {
        let changes = rig.scheduler.take_changes();
        parts.push((changes.agents.len(), changes.moment.is_some()));
    }
    assert_eq!(parts, [(512, false), (512, false), (276, true)]);
    // Idle, it says from time to time that it runs; without an agent it need not.
    assert!(!rig.scheduler.flush_inventory(Flush::Part, 20_000));
    assert!(rig.scheduler.flush_inventory(Flush::Part, 31_000));
    assert_eq!(rig.scheduler.take_changes().moment, Some(31_000));
}

#[test]
fn an_operators_label_wins_and_its_bounds_hold() {
    let mut rig = Rig::new();
    let own = Labels::from([("pool".into(), "cpu".into()), ("site".into(), "x".into())]);
    rig.join_as(1, Identify { labels: own, ..as_("a", "boot-1") });
    let set = |rig: &mut Rig, pairs: &[(&str, Option<&str>)]| rig.scheduler.set_labels("a", &labels(pairs), "ops", 5);
    let changed = set(&mut rig, &[("pool", Some("gpu")), ("tier", Some("1")), ("none", None)]).unwrap();
    let told: Vec<_> = changed.iter().map(|change| (change.key.as_str(), &change.old, &change.new)).collect();
    assert_eq!(told, [("pool", &None, &Some("gpu".into())), ("tier", &None, &Some("1".into()))]);
    assert_eq!(rig.entry("a")["labels"], json!({"pool": "gpu", "site": "x", "tier": "1"}));
    assert_eq!(rig.entry("a")["operator_labels"]["pool"], json!({"value": "gpu", "by": "ops", "at": 5}));
    set(&mut rig, &[("pool", None)]).unwrap();
    assert_eq!(rig.entry("a")["labels"], json!({"pool": "cpu", "site": "x", "tier": "1"}));
    let refused = |key: &str, why| Err(LabelsRefused::BadLabel { key: key.into(), why });
    assert_eq!(set(&mut rig, &[("fine", Some("v")), ("Pool", Some("v"))]), refused("Pool", BadLabel::Key));
    assert_eq!(set(&mut rig, &[("fine", Some("a\nb"))]), refused("fine", BadLabel::Value));
    let many: Vec<String> = (0..16).map(|n| format!("k{n:02}")).collect();
    let many: Vec<_> = many.iter().map(|key| (key.as_str(), Some("v"))).collect();
    assert_eq!(set(&mut rig, &many), refused("k15", BadLabel::TooMany));
    assert_eq!(rig.record("a").operator_labels.len(), 1, "a refusal changes nothing");
    let unknown = rig.scheduler.set_labels("nobody", &labels(&[("a", None)]), "ops", 5);
    assert_eq!(unknown, Err(LabelsRefused::UnknownAgent));
}

#[test]
fn what_is_wrong_with_a_connected_agent_is_told() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit("t");
    rig.hear(1, accepted("t"));
    rig.now = 299_999;
    assert_eq!(rig.standing("a").0, "healthy");
    rig.now = 300_000;
    assert_eq!(rig.standing("a"), ("degraded".into(), 300_000, "task_silent".into()));
    rig.hear(1, SidecarFrame::Status { status: "unwell: the sidecar cannot write its journal".into() });
    rig.now += 5;
    rig.hear(1, SidecarFrame::Status { status: "unwell: still".into() });
    assert_eq!(rig.standing("a"), ("degraded".into(), 300_000, "journal_failing".into()));
    rig.hear(1, SidecarFrame::Status { status: "working".into() });
    rig.hear(1, said("a"));
    assert_eq!(rig.standing("a").0, "healthy");
    rig.restart(false);
    let overdue_at = rig.scheduler.restarts().of_agent("a")[0].overdue_at;
    rig.hear(1, said("b"));
    rig.tick_at(overdue_at);
    assert_eq!(rig.standing("a"), ("degraded".into(), overdue_at, "restart_overdue".into()));
    // Two copies take each other's place.
    for conn in 2..6 {
        rig.join_today(conn, "a", if conn % 2 == 0 { "boot-2" } else { "boot-1" });
    }
    assert_eq!(rig.standing("a").2, "identity_conflict");
}

#[test]
fn the_latest_restarts_are_told_with_why_also_those_that_nobody_wanted() {
    let mut rig = Rig::at(100);
    rig.join_today(1, "a", "boot-1");
    rig.now = 200;
    rig.drop_conn(1);
    rig.now = 250;
    let (previous_end, previous_end_detail) = (Some(PreviousEnd::Killed), Some("SIGKILL, as pm2 saw".to_owned()));
    rig.join_as(2, Identify { previous_end, previous_end_detail, ..as_("a", "boot-2") });
    rig.now = 300;
    rig.scheduler.closed(2, &Closing::by_agent(Some(1000), "stopped by SIGINT"), rig.now);
    rig.now = 400;
    let command_id = Some("restart-1".to_owned());
    let restarted = Some(Restarted { command_id, reason: "new version".into(), ..Restarted::default() });
    let version = Some("2.0".to_owned());
    rig.join_as(3, Identify { restarted, version, ..as_("a", "boot-3") });
    let past = rig.entry("a")["past_restarts"].clone();
    assert_eq!(
        past[0],
        json!({
            "at": 400, "planned": true, "why": "closed_by_agent", "away_ms": 100, "end": null,
            "reason": "new version", "command_id": "restart-1", "boot_before": "boot-2", "boot_after": "boot-3", "version": "2.0",
        })
    );
    assert_eq!(
        past[1],
        json!({
            "at": 250, "planned": false, "why": "connection_lost", "away_ms": 50, "end": "killed",
            "reason": "SIGKILL, as pm2 saw", "command_id": null, "boot_before": "boot-1", "boot_after": "boot-2", "version": null,
        })
    );
    assert_eq!(rig.stored()[0].past_restarts.len(), 2);
    for (conn, number) in (4..20).zip(4..) {
        rig.join_today(conn, "a", &format!("boot-{number}"));
    }
    assert_eq!(rig.entry("a")["past_restarts"].as_array().unwrap().len(), 8, "no more are kept");
    let view = rig.scheduler.view();
    let page = serde_json::to_value(view.entry("a", Detail::Page, rig.now).unwrap()).unwrap();
    assert!(page.get("past_restarts").is_none(), "a page has none");
}

#[test]
fn the_last_progress_of_a_task_stays_until_the_next_one_is_reported() {
    let mut rig = Rig::at(7);
    rig.join_today(1, "a", "boot-1");
    rig.submit("t");
    rig.hear(1, accepted("t"));
    rig.hear(1, said("\u{1b}[31mred\n"));
    // Of a task that it does not hold nothing is kept.
    let other = json!({"type": "task_progress", "task_id": "u", "progress": 90}).to_string();
    rig.hear(1, SidecarFrame::parse(&other).unwrap());
    let task = rig.entry("a")["task"].clone();
    assert_eq!((&task["task_id"], &task["progress"], &task["held"]), (&json!("t"), &json!(40), &json!(true)));
    assert_eq!((&task["output"], &task["last_progress_at"]), (&json!("\u{1b}[31mred\n"), &json!(7)));
    assert_eq!(task["silent_since"], 7, "its last output");
    let page = rig.scheduler.view();
    let page = serde_json::to_value(page.entry("a", Detail::Page, rig.now).unwrap()).unwrap();
    assert!(page["task"].get("output").is_none(), "{page}");
    rig.hear(1, complete("t", 1));
    let task = rig.entry("a")["task"].clone();
    assert_eq!(
        (&task["task_id"], &task["held"], &task["output"]),
        (&json!("t"), &json!(false), &json!("\u{1b}[31mred\n"))
    );
    assert_eq!(rig.stored()[0].progress.as_ref().unwrap().output, "\u{1b}[31mred\n");
}

#[test]
fn a_record_ends_with_the_owner_of_its_name() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.stored();
    rig.scheduler.expel(1, &Closing::revoked(), rig.now);
    assert_eq!(rig.record("a").last_close.unwrap().why, CloseCause::TokenRevoked);
    rig.scheduler.owner_left("a", rig.now);
    assert!(rig.scheduler.inventory().get("a").is_none());
    let changes = rig.scheduler.take_changes();
    assert!(matches!(&changes.agents[..], [(name, None)] if name == "a"), "{changes:?}");
    // What was to be stored of it later is not stored any more.
    assert!(!rig.scheduler.flush_inventory(Flush::Part, rig.now) || rig.scheduler.take_changes().agents.is_empty());
}

#[test]
fn the_time_of_the_last_change_of_state_is_shown() {
    let mut rig = Rig::at(10);
    let shown = |rig: &Rig| rig.scheduler.view().agent_state("a", rig.now).unwrap()["last_state_change"].clone();
    rig.join_today(1, "a", "boot-1");
    let mut times = vec![shown(&rig)];
    rig.now = 20;
    rig.submit("t");
    times.push(shown(&rig));
    rig.now = 30;
    rig.hear(1, accepted("t"));
    rig.now = 35;
    rig.hear(1, said("still working"));
    times.push(shown(&rig));
    rig.now = 40;
    rig.hear(1, complete("t", 1));
    times.push(shown(&rig));
    assert_eq!(json!(times), json!([10, 20, 30, 40]));
}

#[test]
fn a_task_that_waits_says_for_whom_or_what() {
    let mut rig = Rig::new();
    let needing = |rig: &mut Rig, task_id: &str, needed: &[&str]| {
        let needed_capabilities = needed.iter().map(|name| (*name).to_owned()).collect();
        let submission = Submission { needed_capabilities, ..submission(Priority::Normal) };
        rig.scheduler.submit(task_id.into(), submission, rig.now);
    };
    rig.submit("any");
    assert_eq!(rig.waiting_for("any"), json!({"what": "any_agent"}));
    let join = |rig: &mut Rig, conn, agent_id: &str, has: &[&str]| {
        let capabilities = has.iter().map(JsonText::of).collect();
        rig.join_as(conn, Identify { capabilities, ..as_(agent_id, "boot-1") });
    };
    join(&mut rig, 1, "a", &["code"]);
    assert_eq!(rig.waiting_for("any"), Value::Null);
    needing(&mut rig, "code", &["code"]);
    assert_eq!(rig.waiting_for("code"), json!({"what": "idle_agent", "agents": 1}));
    needing(&mut rig, "both", &["code", "gpu"]);
    let missing = json!({"what": "capabilities", "needed": ["code", "gpu"], "missing": ["gpu"]});
    assert_eq!(rig.waiting_for("both"), missing);
    rig.hear(1, SidecarFrame::Cordon { on: true });
    assert_eq!(rig.waiting_for("code"), json!({"what": "draining_agents", "agents": 1}));
    join(&mut rig, 2, "b", &["gpu"]);
    let apart = json!({"what": "capabilities", "needed": ["code", "gpu"], "missing": []});
    assert_eq!(rig.waiting_for("both"), apart);
    rig.submit_with("mine", JsonFields::from_iter([("assign_to", JsonText::of("b"))]));
    rig.submit_with("his", JsonFields::from_iter([("assign_to", JsonText::of("nobody"))]));
    assert_eq!(rig.waiting_for("mine"), Value::Null);
    assert_eq!(
        rig.waiting_for("his"),
        json!({"what": "agent", "agent_id": "nobody", "status": null, "fsm_state": null})
    );
    rig.submit_with("next", JsonFields::from_iter([("assign_to", JsonText::of("b"))]));
    let busy = json!({"what": "agent", "agent_id": "b", "status": "healthy", "fsm_state": "assigned"});
    assert_eq!(rig.waiting_for("next"), busy);
    rig.drop_conn(2);
    let away = json!({"what": "agent", "agent_id": "b", "status": "offline", "fsm_state": null});
    assert_eq!(rig.waiting_for("next"), away);
}
