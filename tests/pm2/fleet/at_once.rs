//! Twenty sidecars on one machine, under one pm2, at one hub: all serve, all restart on command at the same time, all come
//! back, each once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use super::{AGENTS, Fleet, names, wait_idle, wait_online};
use crate::support::ground::Ground;
use crate::support::sidecar::SIDECAR;
use crate::support::{process, wait};

fn work(ground: &Ground) {
    let tasks: Vec<String> = (0..AGENTS).map(|n| ground.hub.submit(&format!("task {n}"))).collect();
    tasks.iter().for_each(|task| drop(ground.hub.wait_task(task, "completed")));
}

fn tell(what: &str, pids: &[u32]) {
    let resident: Vec<u64> = pids.iter().filter_map(|pid| process::resident_kb(*pid)).collect();
    let open = |pid: &u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let open: Vec<usize> = pids.iter().map(open).collect();
    let of = |all: &[u64]| (all.iter().min().copied(), all.iter().max().copied(), all.iter().sum::<u64>());
    eprintln!(
        "{what}: RSS min, max, sum kB {:?}; open files {:?}",
        of(&resident),
        open.iter().collect::<BTreeSet<_>>()
    );
}

#[test]
fn twenty_restart_at_once_and_come_back_each_once() {
    let ground = Ground::new();
    let fleet = Fleet::new();
    let bin = Path::new(SIDECAR).parent().expect("a folder");
    fleet.launch(&ground, &names(), bin);
    let before = wait_online(&ground, 0);
    wait_idle(&ground);
    work(&ground);
    tell("before", &before);
    let since = Instant::now();
    let commands: Vec<String> = names()
        .iter()
        .map(|name| {
            let (status, answer) = ground.hub.restart(name, json!({"reason": "all at once"}));
            assert_eq!(status, 200, "{answer}");
            answer["command_id"].as_str().expect("an id").to_owned()
        })
        .collect();
    for (name, command) in names().iter().zip(&commands) {
        ground.hub.wait_restart(command, name, "back");
    }
    eprintln!("all back after {:?}", since.elapsed());
    let after = wait_online(&ground, 1);
    wait_idle(&ground);
    work(&ground);
    tell("after", &after);
    let pids: BTreeSet<u32> = before.iter().chain(&after).copied().collect();
    assert_eq!(pids.len(), 2 * AGENTS, "each is another process, and its own");
    for name in names() {
        assert_eq!(ground.hub.restarts(&name).len(), 1, "{name}");
    }
    let ran = fleet.ran();
    let once: BTreeSet<&String> = ran.iter().collect();
    assert_eq!((ran.len(), once.len()), (2 * AGENTS, 2 * AGENTS), "each task once");
    let shows = |app: &Value| app["pm2_env"]["axm_monitor"]["Hub"]["value"] == "online";
    wait::until_true("each to say for itself how it is", || {
        ground.pm2.apps().iter().filter(|app| shows(app)).count() == AGENTS
    });
}
