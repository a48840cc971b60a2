//! `ecosystem.config.js` in a real pm2, with stand-ins for the binaries: what it promises about exits, names and restarts
//! is what pm2 does. The real binaries are for the stories.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::pm2::Pm2;
use crate::support::{process, wait};

const SIDECAR: &str = "agentcom-sidecar";

/// A folder with stand-ins for both binaries, and pm2 with both running by the real file.
struct Ground {
    pm2: Pm2,
    folder: tempfile::TempDir,
}

impl Ground {
    /// `sidecar` is the sidecar stand-in's shell script; it runs in the folder.
    fn with(sidecar: &str) -> Self {
        Self::with_secrets(sidecar, &[])
    }

    /// The same from a shell that has these variables too.
    fn with_secrets(sidecar: &str, secrets: &[(&str, &str)]) -> Self {
        let pm2 = Pm2::start();
        let folder = tempfile::tempdir().expect("a folder");
        executable(&folder.path().join("agentcom-hub"), "exec sleep 600");
        executable(&folder.path().join(SIDECAR), sidecar);
        let ground = Self { pm2, folder };
        ground.start(secrets, None);
        ground
    }

    /// `pm2 start ecosystem.config.js`, as at first.
    fn start(&self, secrets: &[(&str, &str)], only: Option<&str>) {
        let path = self.folder.path().to_str().expect("a readable path");
        let config = format!("{path}/config.json");
        let variables = [
            ("AGENTCOM_BIN_DIR", path),
            ("AGENTCOM_LOG_DIR", path),
            ("AGENTCOM_CONFIG", &config),
            ("AGENTCOM_HUB_DATA", path),
        ];
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("ecosystem.config.js");
        self.pm2.launch_file(&file, &[&variables, secrets].concat(), only);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.path(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

fn executable(path: &Path, script: &str) {
    let written = path.with_extension("written");
    fs::write(&written, format!("#!/bin/sh\n{script}\n")).expect("a stand-in");
    process::install(&written, path);
}

#[test]
fn both_programs_run_by_absolute_path_under_their_own_names() {
    let ground = Ground::with(r#"echo "$PM2_PROCESS_NAME $name $*" > told; exec sleep 600"#);
    ground.pm2.wait_online(SIDECAR);
    ground.pm2.wait_online("agentcom-hub");
    let told = wait::until("the stand-in to tell", || ground.lines("told").first().cloned());
    let config = ground.path("config.json");
    assert_eq!(told, format!("{SIDECAR} {SIDECAR} run --config {}", config.display()));
}

#[test]
fn exit_0_is_answered_by_a_new_process() {
    let ground = Ground::with("trap 'exit 0' USR1; touch ready; while :; do sleep 0.05; done");
    let first = ground.pm2.wait_online(SIDECAR);
    wait::until_true("the stand-in to be ready", || ground.path("ready").exists());
    process::send(first, process::Signal::USR1);
    let second = ground.pm2.wait_restarts(SIDECAR, 1);
    assert_ne!(first, second);
    let app = ground.pm2.jlist().into_iter().find(|app| app["name"] == SIDECAR).expect("in pm2's list");
    assert_eq!((app["pid"].as_u64(), app["pm2_env"]["restart_time"].as_u64()), (Some(u64::from(second)), Some(1)));
}

#[test]
fn a_crash_loop_slows_down_and_is_never_given_up() {
    // pm2's own guard would have given up after 16 starts.
    let ground = Ground::with("date +%s%3N >> starts; exit 1");
    let starts = wait::until("18 starts", || Some(ground.lines("starts")).filter(|starts| starts.len() >= 18));
    let at: Vec<u64> = starts.iter().map(|line| line.parse().expect("a time in ms")).collect();
    let (second, last) = (at[2] - at[1], at[17] - at[16]);
    assert!(last > 500 && last > 5 * second, "gaps: second {second} ms, seventeenth {last} ms");
}

#[test]
fn a_wrong_config_heals_when_the_file_does() {
    let ground = Ground::with("test -e config.json && exec sleep 600; exit 78");
    wait::until_true("a second try", || ground.pm2.restarts_of(SIDECAR) >= 1);
    fs::write(ground.path("config.json"), "{}").expect("a config");
    let pid = wait::until("the stand-in to stay", || {
        let pid = ground.pm2.pid_of(SIDECAR).filter(|pid| process::alive(*pid))?;
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        command.starts_with("sleep").then_some(pid)
    });
    assert_eq!(ground.pm2.wait_online(SIDECAR), pid);
}

#[test]
fn pm2_stop_leaves_what_the_sidecar_has_started_to_the_sidecar() {
    let ground =
        Ground::with("trap 'exit 0' INT; sleep 600 & echo $! > child; touch ready; while :; do sleep 0.05; done");
    ground.pm2.wait_online(SIDECAR);
    wait::until_true("the stand-in to be ready", || ground.path("ready").exists());
    let child: u32 = ground.lines("child")[0].parse().expect("a pid");
    ground.pm2.command(&["stop", SIDECAR]);
    assert_eq!(ground.pm2.status_of(SIDECAR), "stopped");
    let lives = process::alive(child);
    process::kill9(child);
    assert!(lives, "pm2 has ended the child too");
}

/// A restart by the file is a way of its own through pm2: there `filter_env` does nothing.
#[test]
fn a_secret_of_the_caller_reaches_no_app_and_no_dump() {
    let secrets = [("ADMIN", "s3cret-1"), ("AGENTCOM_TOKEN", "s3cret-2"), ("github_token", "s3cret-3")];
    let variables = [&secrets[..], &[("HARMLESS", "passed on")]].concat();
    let ground = Ground::with_secrets("env > told.$$; mv told.$$ told; exec sleep 600", &variables);
    let expect_none = |when: &str| {
        let told = wait::until("the stand-in to tell", || fs::read_to_string(ground.path("told")).ok());
        assert!(told.contains("HARMLESS=passed on") && !told.contains("s3cret"), "{when}: {told}");
        fs::remove_file(ground.path("told")).expect("it was there");
        for _ in 0..2 {
            ground.pm2.command(&["save"]);
        }
        for name in ["dump.pm2", "dump.pm2.bak"] {
            let saved = fs::read_to_string(ground.pm2.home().join(name)).expect("what pm2 saved");
            assert!(saved.contains("HARMLESS") && !saved.contains("s3cret"), "{when}: {name}: {saved}");
        }
    };
    expect_none("at the start");
    ground.start(&variables, Some(SIDECAR));
    ground.pm2.wait_restarts(SIDECAR, 1);
    expect_none("at the restart by the file");
}
