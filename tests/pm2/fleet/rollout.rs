//! A new version goes out to twenty sidecars that work: two that cannot start halt the rollout in its canary, and are mended;
//! the hub is killed in the middle. Judged by the hub's rollout, ledger and tasks, by pm2's list, and by what the agents
//! were woken for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::feeder::Feeder;
use super::{AGENTS, ALL, BOUND, Fleet, apps, names, wait_idle, wait_online};
use crate::support::ground::{Ground, HUB_APP};
use crate::support::hub::{Client, request};
use crate::support::new_version::{self, new_version};
use crate::support::sidecar::SIDECAR;
use crate::support::{process, wait};

/// Of the canary: its new program passes the check before the restart, and ends at once when it is to run.
const ENDS_AT_ONCE: &str = "agent-02";
/// Of the canary: its new program cannot be executed, so that the old one refuses to make way for it.
const NOT_EXECUTABLE: &str = "agent-03";

/// How long a task may delay a restart; beyond it, the hub gives a sidecar 6 s to come back.
const DEADLINE_MS: u64 = 2_000;
const HUB: &[(&str, &str)] = &[
    // Also how long a rollout rests after a start of the hub.
    ("AGENTCOM_HUB_ACCEPT_TIMEOUT_MS", "3000"),
    ("AGENTCOM_HUB_DRAIN_DEADLINE_MS", "1000"),
    ("AGENTCOM_HUB_RESTART_MARGIN_MS", "5000"),
];

fn plan() -> Value {
    json!({
        "selector": ALL, "reason": "new version", "expect_version": new_version(), "canary": 3, "steps": ["50%"],
        "max_unavailable": 4, "soak_ms": 300, "deadline_ms": DEADLINE_MS, "offline": "wait",
    })
}

/// A rollout at the hub, which may be away when it is asked.
struct Rollout<'a> {
    hub: &'a Client,
    path: String,
}

impl<'a> Rollout<'a> {
    fn start(hub: &'a Client) -> Self {
        let (status, answer) = hub.post("/api/v1/rollouts", &plan());
        assert_eq!(status, 201, "{answer}");
        let id = answer["rollout"]["rollout_id"].as_str().unwrap_or_else(|| panic!("no id in {answer}"));
        Self { hub, path: format!("/api/v1/rollouts/{id}") }
    }

    fn wait(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let look = || request(self.hub.address(), "GET", &self.path, Some(self.hub.admin_token()), None).ok();
        let probe = || look().map(|(_, rollout)| rollout).filter(|rollout| is(rollout));
        wait::until_or(what, BOUND, probe, || format!("{:?} {:?}", look(), self.targets("")))
    }

    fn act(&self, act: &str) -> Value {
        let (status, rollout) = self.hub.post(&format!("{}/{act}", self.path), &json!({"reason": "as told"}));
        assert_eq!(status, 200, "{act}: {rollout}");
        rollout
    }

    fn targets(&self, query: &str) -> Vec<Value> {
        items(self.hub, &format!("{}/targets{query}", self.path))
    }
}

/// All items of a list, page by page.
fn items(hub: &Client, path: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let sign = if path.contains('?') { '&' } else { '?' };
        let (status, body) = hub.get(&format!("{path}{sign}limit=100{cursor}"));
        assert_eq!(status, 200, "{path}: {body}");
        all.extend(body["items"].as_array().unwrap_or_else(|| panic!("no items in {body}")).clone());
        match body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}

/// The version, and the run, that the hub knows of each agent.
fn agents(hub: &Client) -> BTreeMap<String, Value> {
    items(hub, &format!("/api/v1/agents?selector={ALL}"))
        .into_iter()
        .map(|agent| (text(&agent, "agent_id").to_owned(), agent))
        .collect()
}

fn wait_version(hub: &Client, agent: &str, version: &str) {
    let look = || hub.get(&format!("/api/v1/agents/{agent}")).1;
    let probe = || Some(look()).filter(|it| it["version"] == version && it["status"] == "healthy").map(drop);
    wait::until_or(&format!("{agent} with {version}"), BOUND, probe, || look().to_string());
}

/// The programs, each in the old version: that of all but two, then one for each of these.
fn launched(ground: &Ground, fleet: &Fleet) -> [PathBuf; 3] {
    let bad = [ENDS_AT_ONCE, NOT_EXECUTABLE];
    let good: Vec<String> = names().into_iter().filter(|name| !bad.contains(&name.as_str())).collect();
    let groups = [("bin", good), ("bin-2", vec![bad[0].to_owned()]), ("bin-3", vec![bad[1].to_owned()])];
    groups.map(|(bin, names)| {
        let program = fleet.path(bin).join("agentcom-sidecar");
        std::fs::create_dir(fleet.path(bin)).expect("a folder");
        process::install(Path::new(SIDECAR), &program);
        fleet.launch(ground, &names, &fleet.path(bin));
        program
    })
}

/// Kills the hub while some are on their restart and some are not commanded yet; pm2 starts it again.
fn kill_hub_in_the_middle(ground: &Ground, rollout: &Rollout<'_>) {
    let moment = rollout.wait("the middle of the rollout", |it| {
        let count = |state: &str| it["counts"][state].as_u64().unwrap_or(0);
        count("succeeded") >= 5 && count("restarting") > 0
    });
    assert!(moment["counts"]["pending"].as_u64() > Some(0), "{moment}");
    process::kill9(ground.pm2.pid_of(HUB_APP).expect("it runs"));
    ground.pm2.wait_restarts(HUB_APP, 1);
}

/// Nobody but the canary was commanded, and those that cannot start are named, each with the reason.
fn check_halted(ground: &Ground, rollout: &Rollout<'_>, halted: &Value) {
    assert_eq!((&halted["why"], &halted["counts"]["pending"]), (&json!("canary_failed"), &json!(17)), "{halted}");
    let failed = rollout.targets("?state=failed");
    let named: Vec<_> = failed.iter().map(|target| (text(target, "agent_id"), text(target, "why"))).collect();
    assert_eq!(named, [(ENDS_AT_ONCE, "overdue"), (NOT_EXECUTABLE, "refused")], "{failed:?}");
    assert!(text(&failed[1], "detail").contains("could not start"), "{failed:?}");
    let commanded: Vec<Value> = items(&ground.hub, "/api/v1/restarts");
    let commanded: BTreeSet<&str> = commanded.iter().map(|restart| text(restart, "agent_id")).collect();
    assert_eq!(commanded, BTreeSet::from(["agent-01", ENDS_AT_ONCE, NOT_EXECUTABLE]));
    let restarted: Vec<Value> = apps(ground).into_iter().filter(|app| app["pm2_env"]["restart_time"] != 0).collect();
    let restarted: Vec<&str> = restarted.iter().map(|app| text(app, "name")).collect();
    assert_eq!(restarted, ["agent-01", ENDS_AT_ONCE], "the one that refused is as it was");
}

/// Each target has succeeded by one restart. The one that was late goes on with its command, which has restarted it; the
/// one that refused got another, since the first had not.
fn check_restarts(ground: &Ground, rollout: &Rollout<'_>) {
    let agents = agents(&ground.hub);
    let targets = rollout.targets("");
    assert_eq!((agents.len(), targets.len()), (AGENTS, AGENTS));
    for target in &targets {
        let name = text(target, "agent_id");
        let states: &[&str] = if name == NOT_EXECUTABLE { &["refused", "back"] } else { &["back"] };
        assert_eq!((&target["state"], &target["attempt"]), (&json!("succeeded"), &json!(states.len())), "{target}");
        let mut restarts = ground.hub.restarts(name);
        restarts.sort_by_key(|restart| restart["commanded_at"].as_u64());
        assert_eq!(restarts.iter().map(|restart| text(restart, "state")).collect::<Vec<_>>(), states, "{name}");
        let (restart, agent) = (&restarts[states.len() - 1], &agents[name]);
        assert_eq!(restart["command_id"], target["command_id"]);
        // The run that was there at the start ended by the command, and the one that came back is there still.
        assert_eq!((&restart["boot_before"], &restart["boot_after"]), (&target["boot_before"], &agent["boot_id"]));
        assert_eq!(agent["version"], new_version(), "{agent}");
    }
    for app in apps(ground) {
        let restarts = app["pm2_env"]["restart_time"].as_u64().expect("a count");
        // Of the one that ended at once, pm2 also counts the starts that failed.
        let expected = if app["name"] == ENDS_AT_ONCE { restarts > 1 } else { restarts == 1 };
        assert!(expected, "{}: {restarts}", app["name"]);
    }
}

/// Each task is completed once, by one session, under one number.
fn check_tasks(ground: &Ground, fleet: &Fleet, tasks: &[String]) {
    let ran = fleet.ran();
    assert_eq!(ran.iter().collect::<BTreeSet<_>>(), tasks.iter().collect(), "what was submitted is what ran");
    assert_eq!(ran.len(), tasks.len(), "each was woken for once");
    let listed = items(&ground.hub, "/api/v1/tasks?status=completed");
    let listed: BTreeSet<&str> = listed.iter().map(|task| text(task, "id")).collect();
    assert_eq!(listed, tasks.iter().map(String::as_str).collect(), "the hub has them all, and no other");
    for task in tasks.iter().map(|task| ground.hub.task(task)) {
        let history = task["history"].as_array().expect("a history");
        let completed = history.iter().filter(|entry| entry["event"] == "completed").count();
        assert_eq!((completed, &task["generation"]), (1, &json!(1)), "{task}");
    }
}

#[test]
fn a_new_version_goes_out_although_two_cannot_start_and_the_hub_is_killed() {
    let ground = Ground::with_hub(HUB);
    let fleet = Fleet::new();
    let [good, bad @ ..] = launched(&ground, &fleet);
    wait_online(&ground, 0);
    wait_idle(&ground);
    new_version::install(&good);
    let script = format!("#!/bin/sh\n[ \"$1\" != run ] || exit 1\nexec '{}' \"$@\"\n", good.display());
    new_version::replace(&bad[0], script.as_bytes());
    new_version::replace(&bad[1], b"half a download");
    let since = Instant::now();
    let told = |what: &str| eprintln!("{:?}: {what}", since.elapsed());
    let feeder = Feeder::start(&ground.hub);

    let rollout = Rollout::start(&ground.hub);
    // What is under way when it halts is followed to its end.
    let halted = rollout.wait("the halt", |it| it["state"] == "halted" && it["counts"]["restarting"] == 0);
    told("halted");
    check_halted(&ground, &rollout, &halted);

    for bad in &bad {
        process::install(&good, &bad.with_extension("next"));
        std::fs::rename(bad.with_extension("next"), bad).expect("mv");
    }
    wait_version(&ground.hub, ENDS_AT_ONCE, &new_version());
    told("mended");
    rollout.act("retry-failed");
    rollout.act("resume");
    rollout.wait("the canary to be through", |it| it["awaits_promote"] == true);
    rollout.act("promote");
    told("promoted");
    kill_hub_in_the_middle(&ground, &rollout);
    told("the hub was killed");
    let ended = rollout.wait("the end", |it| !it["ended_at"].is_null());
    told("ended");

    assert_eq!((&ended["state"], &ended["counts"]["succeeded"]), (&json!("succeeded"), &json!(AGENTS)), "{ended}");
    let tasks = feeder.stop();
    check_restarts(&ground, &rollout);
    check_tasks(&ground, &fleet, &tasks);
    eprintln!("{} tasks", tasks.len());
}
