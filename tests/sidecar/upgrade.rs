//! Another program in the sidecar's place: a good one takes over at the next commanded restart, a bad one is refused by
//! the one that runs, and the agent stays. Judged by the hub's ledger, pm2's list, and the version that reports itself.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::ground::{ALICE, Ground};
use crate::support::hub::HUB;
use crate::support::new_version::{self, OLD, new_version};
use crate::support::sidecar::SIDECAR;
use crate::support::{process, wait};

/// The sidecar from a file of its own, under these settings on top of the usual ones.
fn with(settings: Value) -> Ground {
    let ground = Ground::new();
    fs::create_dir(ground.agent.path("bin")).expect("a folder");
    process::install(Path::new(SIDECAR), &program(&ground));
    let mut app = ground.agent.app();
    app["script"] = json!(program(&ground));
    for (key, value) in settings.as_object().expect("an object") {
        app[key] = value.clone();
    }
    ground.launch_as(app);
    ground
}

fn program(ground: &Ground) -> PathBuf {
    ground.agent.path("bin/agentcom-sidecar")
}

fn replace(ground: &Ground, by: &[u8]) {
    new_version::replace(&program(ground), by);
}

fn replace_by_new_version(ground: &Ground) {
    new_version::install(&program(ground));
}

/// The version by which the last run has reported itself.
fn wait_version(ground: &Ground, version: &str) {
    let last = || {
        let log = ground.agent.log_lines();
        let start = log.iter().rfind(|line| line["message"] == "the sidecar starts")?;
        start["version"].as_str().map(str::to_owned)
    };
    let probe = || last().filter(|last| last == version);
    wait::until_or(&format!("version {version}"), wait::BOUND, probe, || format!("{:?}", last()));
}

/// Commands a restart that is refused; answers why.
fn refused(ground: &Ground) -> String {
    let command = ground.command(json!({"reason": "upgrade"}));
    let entry = ground.hub.wait_restart(&command, ALICE, "refused");
    entry.to_string()
}

#[test]
fn the_new_version_takes_over_by_exit() {
    let ground = with(json!({}));
    wait_version(&ground, OLD);
    let before = ground.listed();
    replace_by_new_version(&ground);
    ground.wait_back(&ground.command(json!({"reason": "upgrade"})));
    wait_version(&ground, &new_version());
    ground.assert_restarted(&before, 1);
    ground.assert_works();
}

#[test]
fn the_new_version_takes_over_in_place() {
    let ground = with(json!({"autorestart": false}));
    let before = ground.listed();
    for version in [new_version(), OLD.to_owned()] {
        if version == OLD {
            replace(&ground, &fs::read(SIDECAR).expect("it"))
        } else {
            replace_by_new_version(&ground)
        }
        ground.wait_back(&ground.command(json!({"reason": "upgrade"})));
        wait_version(&ground, &version);
        assert_eq!(ground.listed(), before, "same process");
    }
    ground.assert_works();
}

#[test]
fn a_link_to_another_version_is_followed() {
    let ground = Ground::new();
    let link = ground.agent.path("current");
    std::os::unix::fs::symlink(SIDECAR, &link).expect("a link");
    fs::create_dir(ground.agent.path("bin")).expect("a folder");
    let mut app = ground.agent.app();
    (app["script"], app["autorestart"]) = (json!(link), json!(false));
    ground.launch_as(app);
    wait_version(&ground, OLD);
    replace_by_new_version(&ground);
    let next = ground.agent.path("next");
    std::os::unix::fs::symlink(program(&ground), &next).expect("a link");
    fs::rename(next, link).expect("mv");
    ground.wait_back(&ground.command(json!({"reason": "upgrade"})));
    wait_version(&ground, &new_version());
}

#[test]
fn what_cannot_start_is_refused_and_the_agent_stays() {
    let ground = with(json!({}));
    let before = ground.listed();
    let bad: [(&[u8], &str); 6] = [
        (b"no program at all", "cannot be started"),
        (b"#!/bin/sh\necho 'libssl.so.9: no such file' >&2; exit 127\n", "exit code 127 (libssl.so.9: no such file)"),
        (b"#!/bin/sh\nkill -SEGV $$\n", "ended with signal: 11"),
        (b"#!/bin/sh\nexec sleep 600\n", "gave no answer within 2 s"),
        (b"#!/bin/sh\nexit 0\n", "that is not the sidecar"),
        (b"#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' x >&2\nexit 9\n", "exit code 9 (xxx"),
    ];
    for (program, why) in bad {
        replace(&ground, program);
        let entry = refused(&ground);
        assert!(entry.contains(why), "{entry}");
    }
    fs::remove_file(program(&ground)).expect("mv, half done");
    let entry = refused(&ground);
    assert!(entry.contains("No such file"), "{entry}");
    assert_eq!(ground.listed(), before);
    ground.assert_works();
    // Once it is mended, nothing is held against it.
    replace_by_new_version(&ground);
    ground.wait_back(&ground.command(json!({"reason": "mended"})));
    wait_version(&ground, &new_version());
}

/// The two programs stand side by side, and each knows `--version`.
#[test]
fn the_hub_in_the_sidecars_place_is_refused() {
    let ground = with(json!({}));
    let before = ground.listed();
    replace(&ground, &fs::read(HUB).expect("the hub"));
    let entry = refused(&ground);
    assert!(entry.contains("`--version` answered") && entry.contains("that is not the sidecar"), "{entry}");
    assert_eq!(ground.listed(), before);
    ground.assert_works();
}

#[test]
fn a_probe_that_hangs_ends_with_all_that_it_started() {
    let ground = with(json!({}));
    let mark = replace_by_one_that_hangs(&ground);
    refused(&ground);
    let left = || process_named(&mark);
    wait::until_or("nothing of it", wait::BOUND, || left().is_empty().then_some(()), || format!("{:?}", left()));
}

#[test]
fn a_configuration_that_has_become_wrong_is_refused_too() {
    let ground = with(json!({}));
    let (file, before) = (ground.agent.config_file(), ground.listed());
    let good = fs::read(&file).expect("config.json");
    fs::write(&file, "{\"agent_id\": 7").expect("a slip of the hand");
    let entry = refused(&ground);
    assert!(entry.contains("`check --preflight` ended with exit code 78"), "{entry}");
    assert_eq!(ground.listed(), before);
    fs::write(&file, good).expect("mended");
    ground.wait_back(&ground.command(json!({"reason": "mended"})));
    ground.assert_restarted(&before, 1);
}

#[test]
fn a_probe_that_takes_long_holds_nothing_up() {
    let ground = with(json!({}));
    replace(&ground, b"#!/bin/sh\nexec sleep 600\n");
    let command = ground.command(json!({"reason": "slow"}));
    let task = ground.hub.submit("start=0 run=0");
    ground.hub.wait_task(&task, "completed");
    ground.hub.wait_restart(&command, ALICE, "refused");
}

#[test]
fn the_token_that_a_program_complains_with_is_not_told() {
    let ground = with(json!({}));
    let config: Value =
        serde_json::from_slice(&fs::read(ground.agent.config_file()).expect("config.json")).expect("JSON");
    let token = config["token"].as_str().expect("a token");
    replace(&ground, format!("#!/bin/sh\necho 'no good: {token}' >&2; exit 78\n").as_bytes());
    let why = refused(&ground);
    assert!(why.contains("no good: <redacted>") && !why.contains(token), "{why}");
}

#[test]
fn an_operator_is_told_as_well() {
    let ground = with(json!({}));
    replace(&ground, b"no program at all");
    let said = ground.pm2.printed(&["trigger", ALICE, "restart"]);
    assert!(said.contains("\"ok\":false") && said.contains("the next run could not start"), "{said}");
    assert!(said.contains("cannot be started"), "{said}");
}

#[test]
fn a_program_that_may_not_be_executed_any_more_is_noticed_before() {
    use std::os::unix::fs::PermissionsExt;
    let ground = with(json!({}));
    let before = ground.listed();
    let permit = |mode| fs::set_permissions(program(&ground), fs::Permissions::from_mode(mode)).expect("chmod");
    permit(0o644);
    let entry = refused(&ground);
    assert!(entry.contains("could not start"), "{entry}");
    assert_eq!(ground.listed(), before);
    permit(0o755);
    ground.wait_back(&ground.command(json!({"reason": "mended"})));
    ground.assert_works();
}

/// The restart was promised while its program was good. What stands there when the task has ended is not run.
#[test]
fn a_program_that_breaks_while_the_task_is_finished_does_not_take_the_agent() {
    let ground = with(json!({}));
    let before = ground.listed();
    let task = ground.start_task("start=0 run=hold");
    let command = ground.command(json!({"reason": "upgrade"}));
    ground.hub.wait_restart(&command, ALICE, "accepted");
    replace(&ground, b"no program at all");
    ground.finish(&task);
    ground.wait_back(&command);
    wait_version(&ground, OLD);
    assert_eq!(ground.listed(), before, "the old program, in place");
    ground.assert_ran_once(&task);
    // The old program still knows where its next self is to be found.
    let entry = refused(&ground);
    assert!(entry.contains(program(&ground).to_str().expect("a readable path")), "{entry}");
    replace_by_new_version(&ground);
    ground.wait_back(&ground.command(json!({"reason": "mended"})));
    wait_version(&ground, &new_version());
    ground.assert_works();
}

#[test]
fn a_stop_is_not_held_up_by_a_program_that_cannot_start() {
    let ground = with(json!({}));
    let pid = ground.listed().pid;
    let mark = replace_by_one_that_hangs(&ground);
    ground.command(json!({"reason": "slow"}));
    wait::until_true("the probe to run", || !process_named(&mark).is_empty());
    ground.pm2.command(&["stop", ALICE]);
    assert!(!process::alive(pid));
    assert!(ground.exits().iter().all(|exit| exit.contains("code [0] via signal [SIGINT]")), "{:?}", ground.exits());
    let left = || process_named(&mark);
    wait::until_or(
        "the probe to end",
        Duration::from_secs(10),
        || left().is_empty().then_some(()),
        || format!("{:?}", left()),
    );
}

/// It starts one more, which is known by the file that is answered.
fn replace_by_one_that_hangs(ground: &Ground) -> PathBuf {
    let mark = ground.agent.path("started-by-the-probe");
    let script = format!("#!/bin/sh\ntrap '' TERM\nsh -c 'sleep 600; : {0}' {0} &\nwait\n", mark.display());
    replace(ground, script.as_bytes());
    mark
}

/// Processes that have this file among their words.
fn process_named(path: &Path) -> Vec<u32> {
    let path = path.to_str().expect("a readable path");
    let pids = fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let runs = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').any(|word| word == path)
    };
    pids.filter(runs).collect()
}
