//! Process groups, as signals reach them. It sends and tests signals; it
//! waits for nothing.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::Command;

use crate::sidecar::proc_stat::ProcStat;

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

/// Returns whether the group has a member in that session, with its leader or without: ids are not given anew as long as a
/// group or a session has them.
pub(crate) fn has_member_in(leader: u32, session: u32) -> bool {
    let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<u32>().ok());
    pids.map(ProcStat::of).any(|stat| stat.group == Some(leader) && stat.session == Some(session))
}

fn pid(leader: u32) -> Option<Pid> {
    i32::try_from(leader).ok().and_then(Pid::from_raw)
}

fn describe_signal(status: ExitStatus) -> String {
    match status.signal() {
        Some(9) => "was killed by signal 9 (by hand, or for want of memory)".to_owned(),
        Some(signal) => format!("was killed by signal {signal}"),
        None => "ended without an exit code".to_owned(),
    }
}

/// Describes an exit status in words.
pub(crate) fn describe_exit(status: ExitStatus) -> String {
    match status.code() {
        Some(127) => "exited with code 127 (command not found)".to_owned(),
        Some(126) => "exited with code 126 (not executable)".to_owned(),
        Some(code) => format!("exited with code {code}"),
        None => describe_signal(status),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_member_is_found_without_its_leader_and_in_its_session_only() {
        let line = "sleep 600 > /dev/null & echo $!";
        let shell =
            std::process::Command::new("setsid").args(["sh", "-c", line]).stderr(Stdio::null()).output().unwrap();
        let member: u32 = String::from_utf8(shell.stdout).unwrap().trim().parse().unwrap();
        let stat = ProcStat::of(member);
        let (group, session) = (stat.group.unwrap(), stat.session.unwrap());
        assert!(has_member_in(group, session) && !has_member_in(group, std::process::id()));
        kill(group);
    }
}
