//! Sessions that are not supervised and name their process: `<task_id>.started` holds `{"pid":n}` and nothing else. Such a
//! process is known to be dead only after it was seen alive, under the same start ticks, machine boot and pid namespace.
//! It signals nothing.
//!
//! That it was seen is in `<task_id>.seen` of the scratch folder, so that the sidecar's next run knows it too.

use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::common::fs::{atomic_file, regular_file};
use crate::sidecar::agent::supervised::claim_record::Process;
use crate::sidecar::proc_stat::ProcStat;

/// The longest sign that is read, bytes: a session may leave notes of its own there.
const MAX_SIGN_BYTES: u64 = 256;

/// By how much a process may seem to have started after it wrote its sign: the kernel counts in clock ticks, and its wall
/// clock is adjusted.
const SLACK: Duration = Duration::from_secs(2);

/// The content of a sign that names a process.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sign {
    pid: u32,
}

/// A session's process, as it was seen alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    process: Process,
    /// The id of the machine's boot.
    machine_boot: String,
    /// This process's pid namespace, as the kernel names it.
    pid_namespace: Option<PathBuf>,
}

/// Returns the pid of the task's session if that is known to be dead, and notes one that is alive.
pub(super) fn find_dead(sign: &Path, seen: &Path, machine_boot: &str) -> Option<u32> {
    let (pid, sign) = read_sign(sign).ok()?;
    let namespace = pid_namespace("self");
    let known = fs::read(seen).ok().and_then(|text| serde_json::from_slice::<Seen>(&text).ok()).filter(|known| {
        known.process.pid == pid && known.machine_boot == machine_boot && known.pid_namespace == namespace
    });
    if let Some(known) = known {
        return (!is_running(known.process)).then_some(pid);
    }
    let process = Process::now(pid);
    if is_running(process) && is_writer(process, &sign, namespace.as_deref()) {
        note(seen, &Seen { process, machine_boot: machine_boot.to_owned(), pid_namespace: namespace });
    }
    None
}

/// Returns the process that the sign names, and what the system has of the file.
fn read_sign(path: &Path) -> io::Result<(u32, Metadata)> {
    let file = regular_file::open(path)?;
    let metadata = file.metadata()?;
    let mut text = Vec::new();
    file.take(MAX_SIGN_BYTES).read_to_end(&mut text)?;
    Ok((serde_json::from_slice::<Sign>(&text)?.pid, metadata))
}

/// Returns whether the process has not ended; one that nobody has reaped has.
fn is_running(process: Process) -> bool {
    process.started.is_some() && ProcStat::of(process.pid).running_since() == process.started
}

/// Returns whether the process may have written the sign: it is the owner's, had started by then, and counts pids as this one
/// does.
fn is_writer(process: Process, sign: &Metadata, namespace: Option<&Path>) -> bool {
    let is_owners = fs::metadata(format!("/proc/{}", process.pid)).is_ok_and(|its| its.uid() == sign.uid());
    let Ok(written) = sign.modified() else { return false };
    // Where another user's namespace may not be read, the time decides.
    let theirs = pid_namespace(process.pid);
    let shares_pids = theirs.is_none() || theirs.as_deref() == namespace;
    is_owners && shares_pids && process.started.and_then(start_time).is_some_and(|started| started <= written + SLACK)
}

/// Returns the time of `ticks` after the machine's boot.
fn start_time(ticks: u64) -> Option<SystemTime> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    let since_boot = Duration::from_millis(ticks.saturating_mul(1_000).checked_div(per_second)?);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(boot))?.checked_add(since_boot)
}

fn pid_namespace(process: impl core::fmt::Display) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/pid")).ok()
}

fn note(path: &Path, seen: &Seen) {
    let written = serde_json::to_vec(seen).map_err(io::Error::from).and_then(|text| {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        atomic_file::write_atomic(path, &text).map_err(io::Error::other)
    });
    if let Err(error) = written {
        tracing::warn!(file = %path.display(), %error, "a session's process cannot be noted: its death would not be seen");
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    struct Stage {
        dir: tempfile::TempDir,
        session: Child,
    }

    impl Stage {
        /// A session that runs, and its sign.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let session = Command::new("sleep").arg("600").spawn().unwrap();
            let stage = Self { dir, session };
            stage.sign(&format!("{{\"pid\": {}}}\n", stage.session.id()));
            stage
        }

        fn sign(&self, text: &str) {
            fs::write(self.dir.path().join("t.started"), text).unwrap();
        }

        fn look_in(&self, machine_boot: &str) -> Option<u32> {
            find_dead(&self.dir.path().join("t.started"), &self.dir.path().join("t.seen"), machine_boot)
        }

        fn look(&self) -> Option<u32> {
            self.look_in("b")
        }

        fn is_noted(&self) -> bool {
            self.dir.path().join("t.seen").exists()
        }

        fn kill(&mut self) {
            self.session.kill().unwrap();
        }
    }

    impl Drop for Stage {
        fn drop(&mut self) {
            let _ = self.session.kill();
            let _ = self.session.wait();
        }
    }

    #[test]
    fn a_session_that_was_seen_alive_is_known_to_be_dead_also_before_it_is_reaped() {
        let mut stage = Stage::new();
        assert_eq!(stage.look(), None);
        assert!(stage.is_noted());
        stage.kill();
        let pid = stage.session.id();
        let dead = || {
            (0..1_000).any(|_| {
                std::thread::sleep(Duration::from_millis(5));
                stage.look() == Some(pid)
            })
        };
        assert!(dead());
    }

    #[test]
    fn one_that_was_never_seen_alive_is_not() {
        let mut stage = Stage::new();
        stage.kill();
        stage.session.wait().unwrap();
        assert_eq!(stage.look(), None);
    }

    #[test]
    fn of_another_boot_nothing_is_known() {
        let mut stage = Stage::new();
        assert_eq!(stage.look(), None);
        stage.kill();
        stage.session.wait().unwrap();
        assert_eq!(stage.look_in("another"), None);
    }

    #[test]
    fn a_process_that_began_after_the_sign_did_not_write_it() {
        let stage = Stage::new();
        let sign = fs::File::options().write(true).open(stage.dir.path().join("t.started")).unwrap();
        sign.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        assert_eq!(stage.look(), None);
        assert!(!stage.is_noted());
    }

    #[test]
    fn a_process_of_another_user_did_not_write_it() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let stage = Stage::new();
        std::os::unix::fs::chown(stage.dir.path().join("t.started"), Some(65_534), None).unwrap();
        assert_eq!(stage.look(), None);
        assert!(!stage.is_noted());
    }

    #[test]
    fn any_other_content_names_no_process() {
        let stage = Stage::new();
        let pid = stage.session.id();
        let texts =
            ["".to_owned(), pid.to_string(), format!(r#"{{"pid": "{pid}"}}"#), format!(r#"{{"pid": {pid}, "x": 1}}"#)];
        for text in texts {
            stage.sign(&text);
            assert_eq!(stage.look(), None);
            assert!(!stage.is_noted(), "{text}");
        }
    }
}
