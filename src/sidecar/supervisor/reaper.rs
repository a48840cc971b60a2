//! Waits for the children that this process has had since before its `exec` in place, so that none of them stays behind
//! as a zombie. Their exit status is not used; the result of a command is in its files.

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, getpid, waitid, waitpid};
use tokio::signal::unix::{SignalKind, signal};

use crate::sidecar::proc_stat::ProcStat;

/// Waits for inherited children in the background. Must be called inside the runtime, BEFORE this program starts a
/// child of its own.
pub fn reap() {
    let mut remaining = children_of_this_process();
    if remaining.is_empty() {
        return;
    }
    tracing::debug!(children = remaining.len(), "children of the run before this one are waited for");
    // BEFORE the first check: a child that ends after it is signalled.
    let mut child_signals = match signal(SignalKind::child()) {
        Ok(child_signals) => child_signals,
        Err(error) => {
            tracing::warn!(%error, "children of the run before this one may stay behind as zombies");
            return;
        }
    };
    tokio::spawn(async move {
        loop {
            // An error means that it is not a child of this process any more.
            remaining.retain(|child| matches!(waitpid(Some(*child), WaitOptions::NOHANG), Ok(None)));
            if remaining.is_empty() || child_signals.recv().await.is_none() {
                return;
            }
        }
    });
}

/// Returns this process's children: nearly always none, which costs one system call.
fn children_of_this_process() -> Vec<Pid> {
    let any = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if waitid(WaitId::All, any).is_err() {
        return Vec::new();
    }
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let this = getpid().as_raw_pid();
    pids.filter(|pid| ProcStat::of(*pid).parent == Some(this)).filter_map(Pid::from_raw).collect()
}
