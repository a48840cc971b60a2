//! Process groups, the only part of running a command that differs between systems. It sends and tests signals; it
//! waits for nothing.

#[cfg(unix)]
mod unix {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
    use tokio::process::Command;

    /// Makes the command lead a process group of its own, so that a timeout reaches all of it and nothing else.
    pub(crate) fn lead(command: &mut Command) {
        command.process_group(0);
    }

    pub(crate) fn terminate(leader: u32) {
        signal(leader, Signal::TERM);
    }

    pub(crate) fn kill(leader: u32) {
        signal(leader, Signal::KILL);
    }

    fn signal(leader: u32, signal: Signal) {
        // The only error that occurs is that the group is gone, which is the aim.
        let _ = pid(leader).map(|group| kill_process_group(group, signal));
    }

    /// Returns whether the group has a member left; an unreaped zombie counts.
    pub(crate) fn is_alive(leader: u32) -> bool {
        pid(leader).is_some_and(|group| test_kill_process_group(group).is_ok())
    }

    fn pid(leader: u32) -> Option<Pid> {
        i32::try_from(leader).ok().and_then(Pid::from_raw)
    }

    pub(super) fn describe_signal(status: ExitStatus) -> String {
        match status.signal() {
            Some(9) => "was killed by signal 9 (by hand, or for want of memory)".to_owned(),
            Some(signal) => format!("was killed by signal {signal}"),
            None => "ended without an exit code".to_owned(),
        }
    }
}

#[cfg(unix)]
pub(crate) use unix::{is_alive, kill, lead, terminate};

#[cfg(unix)]
use unix::describe_signal;

/// Describes an exit status in words.
pub(crate) fn describe_exit(status: std::process::ExitStatus) -> String {
    match status.code() {
        Some(127) => "exited with code 127 (command not found)".to_owned(),
        Some(126) => "exited with code 126 (not executable)".to_owned(),
        Some(code) => format!("exited with code {code}"),
        None => describe_signal(status),
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use std::process::ExitStatus;

    use tokio::process::Command;

    pub(crate) fn lead(_: &mut Command) {}

    pub(crate) fn terminate(_: u32) {}

    pub(crate) fn kill(_: u32) {}

    pub(crate) fn is_alive(_: u32) -> bool {
        false
    }

    pub(super) fn describe_signal(_: ExitStatus) -> String {
        "ended without an exit code".to_owned()
    }
}

#[cfg(not(unix))]
pub(crate) use elsewhere::{is_alive, kill, lead, terminate};

#[cfg(not(unix))]
use elsewhere::describe_signal;
