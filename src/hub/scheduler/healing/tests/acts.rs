//! What each rule finds, when it acts, and what holds it back.

use serde_json::{Value, json};

use crate::hub::scheduler::healing::LOOK_MS;
use crate::hub::scheduler::healing::tests::{Stored, restarting};
use crate::hub::scheduler::inventory::close::Closing;
use crate::hub::scheduler::rollouts::plan::Plan;
use crate::hub::scheduler::rollouts::start::RolloutRequest;
use crate::hub::scheduler::tests::rig::{Rig, accepted, progress};
use crate::protocol::{Identify, RestartAck, RestartAckOutcome, Restarting, SidecarFrame};

/// A rule that finds everybody with another version than 2.
fn old_version(more: Value) -> Value {
    json!({"rules": [restarting("old", &json!({"version_not": "2"}), &more)]})
}

impl Rig {
    /// Agents `a`, `b`, ... of version 1, on the connections 1, 2, ...
    fn fleet(size: u8) -> Self {
        let mut rig = Self::new();
        for number in 0..size {
            rig.join_version(u64::from(number) + 1, &char::from(b'a' + number).to_string(), "boot-1", "1");
        }
        rig
    }

    fn join_version(&mut self, conn: u64, agent_id: &str, boot: &str, version: &str) {
        let (boot_id, version) = (Some(boot.to_owned()), Some(version.to_owned()));
        self.join_as(conn, Identify { agent_id: agent_id.to_owned(), boot_id, version, ..Identify::default() });
    }

    /// The agent on this connection restarts as it was told, and is back as this run.
    fn comply(&mut self, conn: u64, agent_id: &str, boot: &str, version: &str) {
        self.hear(conn, SidecarFrame::AgentRestarting(Restarting::default()));
        self.drop_conn(conn);
        self.join_version(conn + 100, agent_id, boot, version);
    }

    fn held_back(&self) -> Vec<String> {
        let agents = self.healing()["rules"][0]["agents"].take();
        let shown =
            |it: &Value| format!("{} {}", it["agent_id"].as_str().unwrap(), it["held_back"].as_str().unwrap_or("-"));
        agents.as_array().unwrap().iter().map(shown).collect()
    }
}

#[test]
fn a_stuck_task_is_found_after_its_time_and_restarted_under_the_rules_name() {
    let mut rig = Rig::new();
    rig.join_today(1, "a", "boot-1");
    rig.submit("t");
    rig.hear(1, accepted("t"));
    rig.obey(&json!({"rules": [restarting("stuck", &json!({"task_silent_ms": 60_000}), &json!({"for_ms": 10_000}))]}));
    assert_eq!(rig.look(11), Vec::<String>::new());
    // A sign of life begins it anew.
    rig.hear(1, progress("t"));
    assert_eq!(rig.look(13), Vec::<String>::new());
    assert_eq!(rig.held_back(), ["a for"]);
    assert_eq!(rig.look(1), ["stuck restart a"]);
    let said = rig.said();
    assert!(said[0].starts_with("1:restart_sidecar \"rule-stuck-"), "{said:?}");
    let restart = rig.scheduler.restarts().of_agent("a")[0].clone();
    assert_eq!((restart.by.as_str(), restart.force), ("rule:stuck", false));
    assert!(restart.reason.starts_with("task t shows no sign of life for "), "{}", restart.reason);
    assert_eq!(rig.look(1), Vec::<String>::new());
    assert_eq!(rig.held_back(), ["a on_restart"]);
    let shown = rig.healing();
    assert_eq!(shown["rules"][0]["last_actions"][0]["command_id"], json!(restart.command_id));
}

#[test]
fn a_rule_that_observes_tells_once_of_each_match_and_not_again_within_its_cooldown() {
    let mut rig = Rig::fleet(1);
    let rule = json!({"name": "old", "when": {"version_not": "2"}, "action": "restart", "for_ms": 5_000, "cooldown_ms": 60_000});
    rig.obey(&json!({"rules": [rule]}));
    assert_eq!(rig.look_at(0), Vec::<String>::new());
    assert_eq!(rig.look(4), ["old tells of a"]);
    assert!(rig.said().is_empty() && rig.scheduler.restarts().of_agent("a").is_empty());
    // It goes and comes: another match, and too soon to be told of.
    rig.drop_conn(1);
    assert_eq!(rig.look(1), Vec::<String>::new());
    rig.join_version(2, "a", "boot-1", "1");
    assert_eq!(rig.look(3), Vec::<String>::new());
    rig.drop_conn(2);
    rig.look(8);
    rig.join_version(3, "a", "boot-1", "1");
    assert_eq!(rig.look(2), ["old tells of a"]);
}

#[test]
fn cooldown_and_budget_hold_over_a_crash_of_the_hub() {
    let mut rig = Rig::fleet(1);
    let rule = old_version(json!({"cooldown_ms": 60_000, "max_per_agent": {"times": 2, "within_ms": 600_000}}));
    rig.obey(&rule);
    let mut stored = Stored::default();
    assert_eq!(rig.look_at(0), ["old restart a"]);
    // The act and what is remembered of it are one commit.
    stored.commit(&mut rig.scheduler);
    assert_eq!((stored.restarts.len(), stored.healing["old/a"].acted_at.as_slice()), (1, &[0][..]));
    let mut acted_at = Vec::new();
    for round in 1..400u64 {
        // Killed before each look, with the agent back at once; or, each third time, not.
        let now = round * LOOK_MS;
        if round % 3 > 0 {
            rig.scheduler = stored.start(now);
            rig.now = now;
            rig.obey(&rule);
        }
        rig.join_version(round * 2, "a", &format!("boot-{round}"), "1");
        if !rig.look_at(now).is_empty() {
            acted_at.push(now);
        }
        stored.commit(&mut rig.scheduler);
    }
    assert_eq!(acted_at, [60_000, 600_000, 660_000, 1_200_000, 1_260_000, 1_800_000, 1_860_000]);
}

#[test]
fn no_more_than_max_unavailable_are_restarted_and_the_restarts_of_others_count() {
    let mut rig = Rig::fleet(4);
    let mut file = old_version(json!({"blast_radius": "100%"}));
    file["max_unavailable"] = json!(2);
    rig.obey(&file);
    // Somebody else's restart.
    rig.scheduler.command_restart(
        "c1".into(),
        "d",
        crate::hub::scheduler::restart::RestartRequest {
            reason: "r".into(),
            deadline_ms: None,
            force: false,
            by: "ops".into(),
        },
        0,
    );
    assert_eq!(rig.look_at(0), ["old restart a"]);
    assert_eq!(rig.held_back(), ["a -", "b max_unavailable", "c max_unavailable", "d on_restart"]);
    assert_eq!(rig.look(3), Vec::<String>::new());
    rig.comply(1, "a", "boot-2", "2");
    assert_eq!(rig.look(2), ["old restart b"]);
    rig.comply(4, "d", "boot-2", "2");
    assert_eq!(rig.look(2), ["old restart c"]);
}

#[test]
fn a_rule_that_too_many_match_does_nothing_until_fewer_do() {
    let mut rig = Rig::fleet(20);
    rig.obey(&old_version(json!({})));
    assert_eq!(rig.look_at(0), ["old off: 20 of 2"]);
    assert_eq!((rig.look(5), rig.healing()["rules"][0]["off"].clone()), (Vec::new(), json!(true)));
    assert!(rig.held_back().iter().all(|it| it.ends_with("blast_radius")), "{:?}", rig.held_back());
    for number in 0..17u8 {
        rig.join_version(100 + u64::from(number), &char::from(b'a' + number).to_string(), "boot-2", "2");
    }
    assert_eq!(rig.look(1), Vec::<String>::new());
    rig.join_version(200, "r", "boot-2", "2");
    assert_eq!(rig.look(1), ["old on", "old restart s"]);
    assert_eq!(rig.healing()["rules"][0]["off"], json!(false));
    // One always may, however small the share.
    let mut rig = Rig::fleet(1);
    rig.obey(&old_version(json!({"blast_radius": "1%"})));
    assert_eq!(rig.look_at(0), ["old restart a"]);
}

#[test]
fn a_blast_radius_that_is_a_number_does_not_depend_on_who_is_connected() {
    let mut rig = Rig::fleet(3);
    let gone = |most: u8| json!({"rules": [{"name": "gone", "when": {"silent_ms": 1}, "action": "notify", "for_ms": 0, "blast_radius": most}]});
    (1..4).for_each(|conn| drop(rig.drop_conn(conn)));
    rig.obey(&gone(3));
    assert_eq!(rig.look(1), ["gone tells of a", "gone tells of b", "gone tells of c"]);
    rig.obey(&gone(2));
    assert_eq!(rig.look(1), ["gone off: 3 of 2"]);
}

#[test]
fn a_rule_looks_at_its_selection_only() {
    let mut rig = Rig::fleet(12);
    rig.obey(&old_version(json!({"selector": {"ids": ["b", "c"]}})));
    assert_eq!(rig.look_at(0), ["old off: 2 of 1"], "a share of the selection, not of all");
    rig.obey(&old_version(json!({"selector": "id=b"})));
    assert_eq!(rig.look(1), ["old restart b"]);
    rig.obey(&old_version(json!({"selector": "status=degraded"})));
    assert_eq!(rig.look(1), Vec::<String>::new());
}

#[test]
fn a_rule_drains_and_what_it_has_drained_counts_as_unavailable() {
    let mut rig = Rig::fleet(2);
    let drains = json!({"name": "old", "when": {"version_not": "2"}, "action": "drain", "act": true, "for_ms": 0, "blast_radius": "100%"});
    rig.obey(&json!({"rules": [drains]}));
    assert_eq!(rig.look_at(0), ["old drain a"]);
    let record = rig.scheduler.inventory().get("a").unwrap();
    assert_eq!(record.hub_drain.as_ref().unwrap().by.as_ref(), "rule:old");
    assert_eq!(record.hub_drain.as_ref().unwrap().reason.as_deref(), Some("its version is 1, not 2"));
    assert_eq!(rig.look(200), Vec::<String>::new());
    assert_eq!(rig.held_back(), ["a drained", "b max_unavailable"]);
    rig.scheduler.resume("a", rig.now);
    // The cooldown is over: the same agent again.
    assert_eq!(rig.look(1), ["old drain a"]);
}

#[test]
fn who_crashes_uses_too_much_memory_or_is_away_is_found() {
    let mut rig = Rig::new();
    let rule = |name: &str, when: Value| json!({"name": name, "when": when, "action": "notify", "for_ms": 0});
    rig.obey(&json!({"rules": [
        rule("crashes", json!({"crash_loop": {"restarts": 2, "within_ms": 60_000}})),
        rule("memory", json!({"memory_over_bytes": 1_000})),
        rule("away", json!({"silent_ms": 30_000})),
    ]}));
    rig.join_today(1, "a", "boot-1");
    rig.join_today(2, "a", "boot-2");
    assert_eq!(rig.look_at(5_000), Vec::<String>::new());
    rig.join_today(3, "a", "boot-3");
    assert_eq!(rig.look(1), ["crashes tells of a"]);
    let report = |bytes: u64| {
        SidecarFrame::parse(&json!({"type": "resource_report", "ram_used_bytes": bytes}).to_string()).unwrap()
    };
    rig.hear(3, report(1_000));
    assert_eq!(rig.look(1), Vec::<String>::new());
    rig.hear(3, report(1_001));
    assert_eq!(rig.look(1), ["memory tells of a"]);
    rig.drop_conn(3);
    assert_eq!(rig.look(5), Vec::<String>::new());
    assert_eq!(rig.look(1), ["away tells of a"]);
    let why = rig.healing()["rules"][2]["agents"][0]["why"].clone();
    assert_eq!(why, "it is away for 30 s");
}

#[test]
fn a_legacy_sidecar_is_not_called_stuck_and_one_without_a_version_is_not_called_old() {
    let mut rig = Rig::new();
    let identify = Identify { agent_id: "a".into(), client_type: Some("sidecar".into()), ..Identify::default() };
    rig.scheduler.identified(1, &identify, "10.0.0.1:1", 0);
    rig.submit("t");
    rig.hear(1, accepted("t"));
    let mut file = old_version(json!({}));
    file["rules"].as_array_mut().unwrap().push(restarting("stuck", &json!({"task_silent_ms": 1_000}), &json!({})));
    rig.obey(&file);
    assert_eq!(rig.look(20), Vec::<String>::new());
}

#[test]
fn a_refused_restart_is_tried_again_after_the_cooldown_and_never_twice_in_one_look() {
    let mut rig = Rig::fleet(1);
    let mut file = old_version(json!({"cooldown_ms": 20_000}));
    file["max_unavailable"] = json!(5);
    file["rules"].as_array_mut().unwrap().push(restarting("older", &json!({"version_not": "3"}), &json!({})));
    rig.obey(&file);
    assert_eq!(rig.look_at(0), ["old restart a"]);
    let refuse = |rig: &mut Rig| {
        let command_id = rig.scheduler.restarts().of_agent("a")[0].command_id.clone();
        let (outcome, detail) = (RestartAckOutcome::Refused, None);
        rig.hear(
            1,
            SidecarFrame::RestartAck(RestartAck {
                command_id,
                outcome,
                detail,
                deadline_ms: None,
                retry_after_ms: None,
            }),
        );
    };
    refuse(&mut rig);
    assert_eq!(rig.look(1), ["older restart a"]);
    refuse(&mut rig);
    assert_eq!(rig.look(2), Vec::<String>::new());
    assert_eq!(rig.look(1), ["old restart a"]);
}

#[test]
fn what_a_rollout_deals_with_is_left_to_it_and_counts_as_unavailable() {
    let mut rig = Rig::fleet(2);
    let request = RolloutRequest {
        reason: "upgrade".into(),
        by: "ops".into(),
        selector: "a".into(),
        plan: Plan { soak_ms: 60_000, ..Plan::default() },
    };
    rig.scheduler.start_rollout("r", request, &["a".to_owned()], 0).unwrap();
    rig.obey(&old_version(json!({"blast_radius": "100%"})));
    assert_eq!(rig.look_at(0), Vec::<String>::new());
    assert_eq!(rig.held_back(), ["a on_restart", "b max_unavailable"]);
    // Back, and it has to stay for a minute.
    rig.comply(1, "a", "boot-2", "1");
    assert_eq!(rig.look(1), Vec::<String>::new());
    assert_eq!(rig.held_back(), ["a in_rollout", "b max_unavailable"]);
    assert_eq!(rig.look(12), ["old restart a"]);
}

#[test]
fn a_rule_that_is_as_before_goes_on_when_the_file_is_read_again() {
    let mut rig = Rig::fleet(1);
    let file = old_version(json!({"for_ms": 20_000}));
    rig.obey(&file);
    rig.look_at(0);
    rig.look(3);
    rig.obey(&file);
    assert_eq!(rig.look(1), ["old restart a"]);
    // Without rules nobody is looked at, and nothing is due; what was done is remembered.
    rig.obey(&json!({"rules": []}));
    rig.comply(1, "a", "boot-2", "1");
    assert!(rig.scheduler.deadline().is_none());
    rig.obey(&old_version(json!({})));
    assert_eq!((rig.look(3), rig.held_back()), (Vec::new(), vec!["a cooldown".to_owned()]));
    // A file that cannot be used leaves them in force.
    rig.scheduler.healing_failed("rules.json", "rules.json: it is wrong", rig.now);
    assert_eq!(
        (rig.healing()["last_error"]["detail"].clone(), rig.healing()["rules"][0]["matching"].clone()),
        (json!("rules.json: it is wrong"), json!(1))
    );
}

#[test]
fn what_a_rule_did_to_an_agent_is_forgotten_with_the_owner_of_its_name_and_when_it_counts_no_more() {
    let mut rig = Rig::fleet(1);
    rig.obey(&old_version(json!({"max_per_agent": {"times": 1, "within_ms": 1_000_000}})));
    let mut stored = Stored::default();
    rig.look_at(0);
    stored.commit(&mut rig.scheduler);
    assert_eq!(stored.healing.len(), 1);
    rig.comply(1, "a", "boot-2", "2");
    rig.look_at(999_999);
    stored.commit(&mut rig.scheduler);
    assert_eq!(stored.healing.len(), 1);
    rig.look_at(1_010_000);
    stored.commit(&mut rig.scheduler);
    assert_eq!(stored.healing.len(), 0);
    rig.join_version(300, "a", "boot-3", "1");
    assert_eq!(rig.look(1), ["old restart a"]);
    rig.scheduler.expel(300, &Closing::revoked(), rig.now);
    rig.scheduler.owner_left("a", rig.now);
    stored.commit(&mut rig.scheduler);
    assert_eq!(rig.look(1), Vec::<String>::new());
    assert_eq!((stored.healing.len(), rig.healing()["rules"][0]["last_actions"].clone()), (0, json!([])));
}
