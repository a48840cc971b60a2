//! Checks pm2: whether it is installed, which of its apps is this sidecar, and whether the app's settings are right. It
//! asks over pm2's socket, else by `pm2 jlist`. It changes nothing and never makes pm2 start a daemon.

use std::path::Path;

use crate::common::fs::atomic_file;
use crate::sidecar::cli::check::Finding;
use crate::sidecar::cli::check::stored;
use crate::sidecar::config::Config;
use crate::sidecar::exit_code::ExitCode;
use crate::sidecar::journal::state_lock::Holder;
use crate::sidecar::policy::STOP_RESERVE_MS;
use crate::sidecar::supervisor::pm2::settings::{
    DEFAULT_KILL_TIMEOUT_MS, DEFAULT_LISTEN_TIMEOUT_MS, DEFAULT_MAX_RESTARTS,
};
use crate::sidecar::supervisor::pm2::{Launch, Pm2, Pm2Error, Pm2Process, ProcessStatus, QUERY_TIMEOUT, query};

/// The least time that the goodbye to the hub gets, ms (`sidecar::policy`).
const MIN_GOODBYE_MS: u64 = 200;

/// Checks pm2's state of this sidecar, its settings, and the secrets that pm2 stores.
pub(super) async fn check(config: &Config, holder: Option<&Holder>) -> Vec<Finding> {
    let pm2 = Pm2::of_this_process();
    let Some(home) = pm2.home() else {
        return vec![Finding::warning("pm2", "not looked for: neither PM2_HOME nor HOME is set").then("set PM2_HOME")];
    };
    let list = query(pm2.program(), home, QUERY_TIMEOUT).await;
    let mut findings = match &list {
        Ok(list) => check_apps(list, home, config, holder),
        Err(error) => vec![query_failed(&pm2, home, error)],
    };
    let stored_secrets = stored::check(home, list.as_deref().ok(), Some(&config.token));
    if stored_secrets.is_empty() && list.is_ok() {
        findings.push(Finding::ok("pm2 secrets", "pm2 hands none to our programs, and has saved none"));
    }
    findings.extend(stored_secrets);
    findings
}

/// Checks the secrets that pm2 stores, without a configuration to name the agent.
pub(super) async fn secrets() -> Vec<Finding> {
    let pm2 = Pm2::of_this_process();
    let Some(home) = pm2.home() else { return Vec::new() };
    let list = query(pm2.program(), home, QUERY_TIMEOUT).await;
    stored::check(home, list.as_deref().ok(), None)
}

fn check_apps(list: &[Pm2Process], home: &Path, config: &Config, holder: Option<&Holder>) -> Vec<Finding> {
    // A start script that hands over to ours is known by its process.
    let is_holder = |app: &Pm2Process| app.pid.is_some() && app.pid == holder.and_then(|holder| holder.pid);
    let ours: Vec<&Pm2Process> = list.iter().filter(|app| is_holder(app) || serves(app, config)).collect();
    match ours.as_slice() {
        [] if list.iter().any(|app| is_another_in_the_folder(app, config)) => {
            let others: Vec<_> =
                list.iter().filter(|app| is_another_in_the_folder(app, config)).map(app_label).collect();
            let found = format!("another program runs in this folder: {}", others.join(", "));
            let todo = "start no second one beside it; if it is a Node sidecar, this one takes its place under its name \
                        (docs/migrating.md, \"Replace Node sidecars\")";
            vec![Finding::warning("pm2", found).then(todo)]
        }
        [] => {
            let found = format!(
                "its daemon at {} runs no app with this configuration (it has {} in all)",
                home.display(),
                list.len()
            );
            let todo = "start it under pm2; where another user's pm2 runs it, check as that user or set PM2_HOME";
            vec![Finding::warning("pm2", found).then(todo)]
        }
        [us] => {
            let mut findings = vec![check_status(us, holder)];
            findings.extend(check_settings(us, config));
            findings
        }
        several => {
            let names: Vec<_> = several.iter().map(|app| app_label(app)).collect();
            let found = format!("{} entries serve this one state folder: {}", several.len(), names.join(", "));
            let todo =
                "pm2 delete all but one: only one copy can serve an agent, the others exit with 75 over and over";
            vec![Finding::problem("pm2", found, ExitCode::Unavailable).then(todo)]
        }
    }
}

fn query_failed(pm2: &Pm2, home: &Path, error: &Pm2Error) -> Finding {
    match (error, pm2.program()) {
        (Pm2Error::NoDaemon, None) => Finding::warning("pm2", "there is no `pm2` on the PATH, and no daemon answers")
            .then("npm install -g pm2; without it the sidecar runs too, and restarts itself in place"),
        (Pm2Error::NoDaemon, Some(program)) => {
            let found = format!("{} is there, and no daemon answers at {}", program.display(), home.display());
            Finding::warning("pm2", found).then("start the sidecar under it, or set PM2_HOME")
        }
        (
            Pm2Error::NotFound
            | Pm2Error::Spawn(_)
            | Pm2Error::TimedOut(_)
            | Pm2Error::Failed { .. }
            | Pm2Error::Rpc(_)
            | Pm2Error::Garbage(_)
            | Pm2Error::NotListed,
            _,
        ) => Finding::warning("pm2", error).then("pm2 ls shows whether it is well; pm2 update renews its daemon"),
    }
}

/// Returns whether the app is a sidecar on the same journal.
fn serves(app: &Pm2Process, config: &Config) -> bool {
    let Launch { program, cwd, config: named, .. } = &app.launch;
    let name = program.as_ref().and_then(|path| path.file_name()?.to_str());
    let Some(cwd) = cwd.as_ref().filter(|_| name.is_some_and(|name| name.contains("agentcom-sidecar"))) else {
        return false;
    };
    let file = cwd.join(named.as_deref().unwrap_or(Path::new("config.json")));
    if is_same(&file, &config.path) {
        return true;
    }
    // Another configuration may name the same journal.
    let journal = |config: &Config| atomic_file::resolve(&config.queue_file).ok();
    Config::load(&file).is_ok_and(|theirs| journal(&theirs.config).is_some_and(|path| Some(path) == journal(config)))
}

/// Returns whether the app runs something else in the configuration's folder.
fn is_another_in_the_folder(app: &Pm2Process, config: &Config) -> bool {
    let folder = atomic_file::folder_of(&config.path);
    let runs = matches!(app.status, ProcessStatus::Online | ProcessStatus::Launching | ProcessStatus::WaitingRestart);
    runs && !serves(app, config) && app.launch.cwd.as_ref().is_some_and(|cwd| is_same(cwd, folder))
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        (Err(_), _) | (_, Err(_)) => one == other,
    }
}

fn app_label(app: &Pm2Process) -> String {
    let id = app.pm_id.map(|id| format!("id {id}, ")).unwrap_or_default();
    format!("{:?} ({id}{})", app.name.as_deref().unwrap_or("without a name"), app.status)
}

/// Checks the app's status, and whether its process is the one that holds the agent's lock.
fn check_status(us: &Pm2Process, holder: Option<&Holder>) -> Finding {
    let name = us.name.as_deref().unwrap_or("NAME");
    let serving = holder.and_then(|holder| holder.pid);
    match (&us.status, us.pid, serving) {
        (ProcessStatus::Online | ProcessStatus::Launching, Some(ours), Some(serving)) if ours != serving => {
            let found = format!("{} is process {ours}, and process {serving} serves this agent", app_label(us));
            Finding::warning("pm2", found)
                .then(format!("if nobody needs process {serving} (pm2 was killed under it?): kill {serving}; pm2's copy then takes over"))
        }
        (ProcessStatus::Online | ProcessStatus::Launching, Some(_), _) => {
            Finding::ok("pm2", format!("we are {}, restarted {} times", app_label(us), us.restart_time.unwrap_or(0)))
        }
        (ProcessStatus::Online | ProcessStatus::Launching, None, _) => Finding::problem(
            "pm2",
            format!("{} has no process: is its binary gone?", app_label(us)),
            ExitCode::Unavailable,
        )
        .then(format!("put the binary back, then pm2 restart {name}")),
        (ProcessStatus::Errored, _, _) => {
            Finding::problem("pm2", format!("pm2 has given {} up", app_label(us)), ExitCode::Unavailable)
                .then(format!("pm2 logs {name} --err says why; then pm2 restart {name}"))
        }
        (
            ProcessStatus::Stopped
            | ProcessStatus::Stopping
            | ProcessStatus::WaitingRestart
            | ProcessStatus::OneLaunch
            | ProcessStatus::Other(_)
            | ProcessStatus::Absent,
            _,
            _,
        ) => Finding::warning("pm2", format!("{} does not run", app_label(us))).then(format!("pm2 restart {name}")),
    }
}

/// Returns a finding for each of pm2's settings that is wrong, with what to write; a single one if all are right.
fn check_settings(us: &Pm2Process, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut warn = |found: String, todo: &str| findings.push(Finding::warning("pm2 settings", found).then(todo));
    if us.autorestart == Some(false) {
        warn(
            "`autorestart: false`: a crash is not answered by a start (a commanded restart is done in place)"
                .to_owned(),
            "autorestart: true",
        );
    }
    if let Some(codes) = us.stop_exit_codes.as_ref().filter(|codes| !codes.is_empty()) {
        let found = format!(
            "`stop_exit_codes: {codes:?}`: such an end is final, and beside a delay reads `waiting restart` for ever"
        );
        warn(found, "leave `stop_exit_codes` out");
    }
    if us.launch.treekill != Some(false) {
        warn(
            "`treekill` is on: a stop interrupts the wake command and the agent's session too".to_owned(),
            "treekill: false",
        );
    }
    if us.launch.exp_backoff_restart_delay_ms.is_none()
        && us.launch.max_restarts.unwrap_or(DEFAULT_MAX_RESTARTS) <= DEFAULT_MAX_RESTARTS
    {
        let found = "pm2 gives up after 16 ends sooner than a second after their starts";
        warn(found.to_owned(), "exp_backoff_restart_delay: 2, max_restarts: 100000");
    }
    if us.launch.wait_ready == Some(true) {
        let bound_ms = us.launch.listen_timeout_ms.unwrap_or(DEFAULT_LISTEN_TIMEOUT_MS) * 2 / 3;
        let found = format!(
            "`wait_ready`: without a hub it is launching for {bound_ms} ms, and what is stopped or deleted in that time pm2 \
             starts again, a deleted one without listing it"
        );
        warn(found, "leave `wait_ready` out");
    }
    let journal = atomic_file::resolve(&config.queue_file).unwrap_or_else(|_| config.queue_file.clone());
    if us.launch.watched.iter().any(|watched| journal.starts_with(watched.canonicalize().as_ref().unwrap_or(watched))) {
        warn(
            "`watch`: the journal and the log are among what pm2 restarts it for, so it restarts for ever".to_owned(),
            "watch: false",
        );
    }
    findings
        .extend(check_kill_timeout(us.kill_timeout_ms.unwrap_or(DEFAULT_KILL_TIMEOUT_MS), config.drain_deadline_ms));
    if us.launch.exec_mode.as_deref() == Some("cluster_mode") {
        let found = "`exec_mode: cluster`: pm2 loads the binary as JavaScript there, and crash-loops";
        findings.push(
            Finding::problem("pm2 settings", found, ExitCode::Unavailable)
                .then("exec_mode: 'fork', interpreter: 'none'"),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok("pm2 settings", "autorestart, delays, kill_timeout and treekill fit"));
    }
    findings
}

/// Checks pm2's `kill_timeout`: between SIGINT and SIGKILL the sidecar needs its goodbye and a reserve.
fn check_kill_timeout(found_ms: u64, drain_ms: u64) -> Option<Finding> {
    let wanted = drain_ms.saturating_add(STOP_RESERVE_MS);
    let todo = format!("kill_timeout: {wanted} or more (`drain_deadline_ms` and {STOP_RESERVE_MS} ms)");
    if found_ms < STOP_RESERVE_MS + MIN_GOODBYE_MS {
        let found = format!("`kill_timeout: {found_ms}`: pm2 kills before the goodbye can be said");
        Some(Finding::problem("pm2 settings", found, ExitCode::Unavailable).then(todo))
    } else if found_ms < wanted {
        let left = found_ms - STOP_RESERVE_MS;
        let found = format!(
            "`kill_timeout: {found_ms}`: on a stop the goodbye gets {left} of the {drain_ms} ms that it may take"
        );
        Some(Finding::warning("pm2 settings", found).then(todo))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_timeout_is_judged_by_what_the_goodbye_needs() {
        assert!(check_kill_timeout(8_000, 5_000).is_none() && check_kill_timeout(5_600, 5_000).is_none());
        assert!(check_kill_timeout(1_600, 5_000).is_some_and(|finding| !finding.is_problem()));
        assert!(check_kill_timeout(799, 5_000).is_some_and(|finding| finding.is_problem()));
    }
}
