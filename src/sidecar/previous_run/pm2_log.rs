//! What pm2 saw of the end of the process before this one. pm2 keeps neither a signal nor its own part in an end, and only
//! writes of them in its log, `$PM2_HOME/pm2.log`; the texts are those of pm2 7 (`lib/God.js`, `lib/God/Methods.js`,
//! `lib/God/ActionMethods.js`, `lib/Worker.js`), the same since pm2 2.

use crate::common::fs::regular_file;
use crate::sidecar::supervisor::pm2::Pm2;

/// The length of the log's end that is looked through, in bytes: some hundred lines.
const TAIL_BYTES: u64 = 1 << 16;

/// The end of a process, as pm2 saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pm2End {
    /// The exit code; 0 also where a signal ended it.
    pub(super) exit_code: i32,
    /// The signal that ended it. pm2 writes `SIGINT` where there was none.
    pub(super) signal: String,
    /// Whether pm2 was told to stop or restart it.
    pub(super) was_asked: bool,
    /// Whether pm2 stopped it because it used more than `max_memory_restart`.
    pub(super) used_too_much: bool,
    /// Whether pm2 killed it, since it had not ended within `kill_timeout`.
    pub(super) was_killed: bool,
}

/// Returns what pm2 wrote of the end of the process before this one, which had this pid; `None` if it wrote nothing, or did
/// not start this one.
pub(super) fn last_end(pm2: &Pm2, pid: Option<u32>) -> Option<Pm2End> {
    let (name, pm_id) = (pm2.listed_as()?, pm2.identity().pm_id?);
    let mut log = regular_file::open(&pm2.home()?.join("pm2.log")).ok()?;
    let mut bytes = Vec::new();
    regular_file::read_end(&mut log, TAIL_BYTES, &mut bytes).ok()?;
    end_in(&String::from_utf8_lossy(&bytes), name, pm_id, pid)
}

/// Returns the end that the start of this process, the last in the log, followed.
fn end_in(log: &str, name: &str, pm_id: u32, pid: Option<u32>) -> Option<Pm2End> {
    let (app, starts) = (format!("App [{name}:{pm_id}] "), format!("App [{name}:{pm_id}] starting in "));
    let exited = format!("{app}exited with code [");
    let stopping = format!("Stopping app:{name} id:{pm_id}");
    let worker = format!("[PM2][WORKER] Process {pm_id} restarted");
    let late = pid.map(|pid| format!("Process with pid {pid} still alive after "));
    let mut since_start = Pm2End::default();
    let mut before_this = None;
    let mut ended = None;
    for line in log.lines() {
        if line.contains(&starts) {
            before_this = ended.take();
            since_start = Pm2End::default();
        } else if let Some((_, end)) = line.split_once(&exited) {
            let (exit_code, signal) = read_exit(end)?;
            ended = Some(Pm2End { exit_code, signal: signal.to_owned(), ..since_start.clone() });
        } else if line.contains(&stopping) {
            since_start.was_asked = true;
        } else if line.contains(&worker) {
            since_start.used_too_much = true;
        } else if late.as_ref().is_some_and(|late| line.contains(late)) {
            since_start.was_killed = true;
        }
    }
    // This process's start may not be written yet.
    ended.or(before_this)
}

/// Reads `0] via signal [SIGKILL]`.
fn read_exit(text: &str) -> Option<(i32, &str)> {
    let (code, rest) = text.split_once(']')?;
    let signal = rest.split_once('[').and_then(|(_, signal)| signal.split_once(']')).map_or("", |(signal, _)| signal);
    Some((code.parse().unwrap_or(0), signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTS: &str = "2026-11-30T13:51:27: PM2 log: App [alice:3] starting in -fork mode-\n";
    const ONLINE: &str = "2026-11-30T13:51:27: PM2 log: App [alice:3] online\n";

    fn exited(code: &str, signal: &str) -> String {
        format!("2026-11-30T13:51:26: PM2 log: App [alice:3] exited with code [{code}] via signal [{signal}]\n")
    }

    fn read(lines: &[&str]) -> Option<Pm2End> {
        end_in(&lines.concat(), "alice", 3, Some(77))
    }

    #[test]
    fn the_end_before_the_last_start_is_this_ones() {
        let killed = exited("0", "SIGKILL");
        let end = read(&[STARTS, ONLINE, &killed, STARTS]).unwrap();
        assert_eq!((end.signal.as_str(), end.was_asked), ("SIGKILL", false));
        // Whether pm2 has written of the start yet or not.
        assert_eq!(read(&[STARTS, ONLINE, &killed]), Some(end.clone()));
        assert_eq!(read(&[&exited("1", "SIGINT"), STARTS, ONLINE, &killed]), Some(end.clone()));
        assert_eq!(read(&[STARTS, ONLINE, &killed, STARTS, ONLINE]), Some(end));
        assert_eq!(read(&[&exited("101", "SIGINT"), STARTS]).map(|end| end.exit_code), Some(101));
        assert_eq!(read(&[&exited("null", "SIGSEGV"), STARTS]).map(|end| end.exit_code), Some(0));
    }

    #[test]
    fn an_end_that_other_starts_followed_is_not_this_ones() {
        let killed = exited("0", "SIGKILL");
        assert_eq!(read(&[&killed, STARTS, ONLINE, STARTS, ONLINE]), None);
        assert_eq!(read(&[&killed.replace("alice:3", "alice:4"), STARTS]), None);
        assert_eq!(read(&[&killed.replace("alice:3", "mallice:3"), STARTS]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn what_pm2_did_itself_is_told_apart() {
        let (stop, gone) = ("PM2 log: Stopping app:alice id:3\n", exited("0", "SIGINT"));
        let late = "PM2 log: Process with pid 77 still alive after 8000ms, sending SIGKILL to 1 remaining pids...\n";
        let worker = "PM2 log: [PM2][WORKER] Process 3 restarted because it exceeds --max-memory-restart value (...)\n";
        let end = read(&[STARTS, worker, stop, &gone, STARTS]).unwrap();
        assert!(end.was_asked && end.used_too_much && !end.was_killed);
        let end = read(&[STARTS, stop, late, &exited("0", "SIGKILL"), STARTS]).unwrap();
        assert!(end.was_asked && end.was_killed && !end.used_too_much);
        // Another app's, before ours was killed by a stranger.
        let late = late.replace("77", "7");
        let end = read(&[STARTS, &late, &exited("0", "SIGKILL"), STARTS]).unwrap();
        assert!(!end.was_killed && !end.was_asked);
    }
}
