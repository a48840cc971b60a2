//! What the environment, `/proc` and `pm2 jlist` say of a process, asked of a real pm2 with a home of its own.
#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use agentcom::sidecar::supervisor::pm2;
use agentcom::sidecar::supervisor::pm2::{
    NameSource, Pm2, Pm2Error, Pm2Process, ProcessIdentity, ProcessStatus, SupervisorSettings, query_jlist,
};

const BOUND: Duration = Duration::from_secs(30);

/// A pm2 daemon of our own, killed at the end whatever happens.
struct Daemon {
    program: PathBuf,
    home: tempfile::TempDir,
}

impl Daemon {
    fn new() -> Self {
        Self { program: program(), home: tempfile::tempdir().unwrap() }
    }

    fn home(&self) -> PathBuf {
        self.home.path().join("pm2")
    }

    fn pm2(&self, args: &[&str]) -> Output {
        Command::new(&self.program)
            .args(args)
            .env("PM2_HOME", self.home())
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Starts an app that writes its environment to a file and sleeps.
    fn start(&self, settings: &str) -> HashMap<String, String> {
        let dump = self.home.path().join("environment");
        let config = self.home.path().join("app.config.js");
        let script = format!("export APP_PPID=$PPID; env -0 > {0}.new; mv {0}.new {0}; exec sleep 600", dump.display());
        fs::write(&config, format!(
            "module.exports = {{apps: [{{script: '/bin/sh', interpreter: 'none', args: ['-c', '{script}'], {settings}}}]}}"
        ))
        .unwrap();
        let output = self.pm2(&["start", config.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
        let text = wait_for("the app's environment", || fs::read_to_string(&dump).ok());
        text.split('\0').filter_map(|line| line.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
    }

    async fn list(&self) -> Result<Vec<Pm2Process>, Pm2Error> {
        query_jlist(&self.program, &self.home(), BOUND).await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.pm2(&["kill", "-s"]);
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + BOUND;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < give_up, "waited {BOUND:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `AGENTCOM_TEST_PM2`, else a local installation, made once.
fn program() -> PathBuf {
    if let Some(given) = std::env::var_os("AGENTCOM_TEST_PM2") {
        return PathBuf::from(given);
    }
    let prefix = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pm2");
    let program = prefix.join("node_modules/.bin/pm2");
    fs::create_dir_all(&prefix).unwrap();
    let lock = File::create(prefix.join(".lock")).unwrap();
    lock.lock().unwrap();
    if !program.exists() {
        let npm = ["install", "--no-audit", "--no-fund", "--prefix", prefix.to_str().unwrap(), "pm2@7.0.4"];
        assert!(Command::new("npm").args(npm).stdout(Stdio::null()).status().unwrap().success(), "npm install pm2");
    }
    program
}

/// An app's environment, for what reads environments.
fn reader(environment: &HashMap<String, String>) -> impl Fn(&str) -> Option<String> {
    |key| environment.get(key).cloned()
}

#[tokio::test]
async fn a_real_list_has_our_app_with_its_lists() {
    let daemon = Daemon::new();
    daemon.start("name: 'probe one', stop_exit_codes: [5, 0], kill_timeout: 4321, env: {SECRET: 's3cret'}");
    let list = daemon.list().await.unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].name.as_deref(), &list[0].status), (Some("probe one"), &ProcessStatus::Online));
    assert_eq!((list[0].kill_timeout_ms, &list[0].stop_exit_codes), (Some(4_321), &Some(vec![5, 0])));
    assert!(!format!("{list:?}").contains("s3cret"));
}

#[tokio::test]
async fn the_socket_and_the_program_tell_the_same() {
    let daemon = Daemon::new();
    daemon.start("name: 'a', stop_exit_codes: [5, 0]");
    let settled = |mut list: Vec<Pm2Process>| {
        // Measured anew each time.
        list.iter_mut().for_each(|app| (app.memory_bytes, app.cpu_percent) = (None, None));
        list
    };
    let by_socket = pm2::query(None, &daemon.home(), BOUND).await.unwrap();
    assert_eq!(settled(by_socket), settled(daemon.list().await.unwrap()));
}

#[tokio::test]
async fn a_socket_that_says_nothing_is_given_up_for_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let _silent = std::os::unix::net::UnixListener::bind(folder.path().join("rpc.sock")).unwrap();
    let program = stand_in(folder.path(), "echo '[]'");
    assert_eq!(pm2::query(Some(&program), folder.path(), BOUND).await.unwrap(), []);
}

#[tokio::test]
async fn an_empty_daemon_has_an_empty_list_either_way() {
    let daemon = Daemon::new();
    assert!(daemon.pm2(&["ping"]).status.success());
    assert_eq!(pm2::query(None, &daemon.home(), BOUND).await.unwrap(), []);
    assert_eq!(daemon.list().await.unwrap(), []);
}

#[tokio::test]
async fn the_real_environment_says_who_we_are_and_the_list_agrees() {
    let daemon = Daemon::new();
    let environment = daemon.start("name: 'probe one', autorestart: false, stop_exit_codes: [5, 0]");
    let us = ProcessIdentity { pid: 0, ..ProcessIdentity::from_env(reader(&environment)) };
    assert_eq!((us.name.as_deref(), us.source), (Some("probe one"), NameSource::Pm2Environment));
    let facts = SupervisorSettings::from_env(reader(&environment));
    assert!(facts.under_pm2 && !facts.autorestart && facts.restart_time == Some(0));
    // Why `parent_is_pm2` may be decided by that file.
    assert_eq!(environment["APP_PPID"], fs::read_to_string(daemon.home().join("pm2.pid")).unwrap().trim());
    assert!(facts.pm_uptime_ms.is_some() && facts.created_at_ms.is_some() && facts.channel_fd == Some(3));
    let list = daemon.list().await.unwrap();
    let entry = pm2::find_us(&list, &us).unwrap();
    assert_eq!(facts.refined_by(entry).stop_exit_codes, [5, 0]);
}

#[tokio::test]
async fn the_figures_come_from_the_list() {
    let daemon = Daemon::new();
    let environment = daemon.start("name: 'a', env: {PM2_PROCESS_NAME: 'a'}");
    let path = daemon.program.parent().unwrap().as_os_str().to_owned();
    let with_node = std::env::join_paths(
        [PathBuf::from(path)].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let pm2 = Pm2::from_env(|key| match key {
        "PATH" => Some(with_node.clone()),
        _ => environment.get(key).map(OsString::from),
    });
    daemon.pm2(&["restart", "a"]);
    let info = pm2.info().await;
    assert_eq!((info.name.as_deref(), info.status.as_deref()), (Some("a"), Some("online")));
    assert_eq!(info.restart_count, Some(1));
    assert!(info.memory_bytes.is_some() && info.uptime_ms.is_some());
}

#[tokio::test]
async fn a_child_inherits_nothing_of_pm2s() {
    let daemon = Daemon::new();
    let environment = daemon.start("name: 'p2', env: {MINE: 'kept'}, restart_delay: 5, min_uptime: 900");
    // What pm2 adds to what it was started with, less what it removes again.
    let before: Vec<_> = std::env::vars().map(|(name, _)| name).collect();
    let removed = pm2::injected(environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
    let mut left: Vec<_> = environment
        .keys()
        .filter(|name| !removed.iter().any(|gone| gone == name.as_str()) && !before.contains(name))
        .map(String::as_str)
        .filter(|name| !["MINE", "APP_PPID", "PM2_HOME", "PWD", "OLDPWD", "SHLVL", "_"].contains(name))
        .collect();
    left.sort_unstable();
    assert_eq!(left, Vec::<&str>::new());
    assert!(!removed.iter().any(|name| name == "MINE" || name == "PATH" || name == "PM2_HOME"));
}

#[tokio::test]
async fn where_no_daemon_runs_none_is_started() {
    let daemon = Daemon::new();
    assert!(matches!(daemon.list().await, Err(Pm2Error::NoDaemon)));
    assert!(!daemon.home().exists());
}

#[tokio::test]
async fn a_socket_that_nobody_listens_at_is_no_daemon() {
    let daemon = Daemon::new();
    fs::create_dir_all(daemon.home()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(daemon.home().join("rpc.sock")).unwrap());
    assert!(matches!(daemon.list().await, Err(Pm2Error::NoDaemon)));
    assert!(!daemon.home().join("pm2.pid").exists());
    fs::remove_file(daemon.home().join("rpc.sock")).unwrap();
}

/// An executable script. Another process writes it: a descriptor of ours that a test beside this one forks with would
/// make it "text file busy".
fn stand_in(folder: &Path, script: &str) -> PathBuf {
    let program = folder.join("pm2");
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$2" && chmod 755 "$2""#;
    let status = Command::new("/bin/sh").args(["-c", write, "sh", script]).arg(&program).status().unwrap();
    assert!(status.success());
    program
}

/// A home whose socket answers, and a stand-in for `pm2` that runs `script`.
async fn ask_stand_in(script: &str, timeout: Duration) -> Result<Vec<Pm2Process>, Pm2Error> {
    let folder = tempfile::tempdir().unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(folder.path().join("rpc.sock")).unwrap();
    let program = stand_in(folder.path(), script);
    query_jlist(&program, folder.path(), timeout).await
}

#[tokio::test]
async fn a_pm2_that_hangs_is_given_up() {
    let answer = ask_stand_in("exec sleep 600", Duration::from_millis(300)).await;
    assert!(matches!(answer, Err(Pm2Error::TimedOut(_))), "{answer:?}");
}

#[tokio::test]
async fn a_pm2_that_fails_is_quoted() {
    let answer = ask_stand_in("echo 'env: node: not found' >&2; exit 127", BOUND).await;
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("127") && error.contains("node: not found"), "{error}");
}

#[tokio::test]
async fn a_pm2_that_talks_nonsense_is_not_quoted() {
    let answer = ask_stand_in("echo 'TOKEN=s3cret'", BOUND).await;
    let error = answer.unwrap_err();
    assert!(matches!(error, Pm2Error::Garbage(_)));
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

#[tokio::test]
async fn a_missing_pm2_is_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(folder.path().join("rpc.sock")).unwrap();
    let answer = query_jlist(&folder.path().join("pm2"), folder.path(), BOUND).await;
    assert!(matches!(answer, Err(Pm2Error::NotFound)), "{answer:?}");
}
