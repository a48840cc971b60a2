//! Waits for children that nothing else in this process waits for, so that none of them stays behind as a zombie: those
//! since before its `exec` in place, and, as process 1 of a container, the orphans that the kernel hands to it. Their exit
//! status is not used; the result of a command is in its files.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, getpid, waitid, waitpid};
use tokio::signal::unix::{SignalKind, signal};

use crate::sidecar::proc_stat::ProcStat;

/// How long a child of this process's own may have ended before it is taken for an orphan: whatever started it waits for
/// it, and has done so by then.
const OWN_WAITED_FOR: Duration = Duration::from_secs(3);

/// Waits for orphans in the background if this is process 1. Must be called inside the runtime.
pub fn reap_orphans() {
    if getpid().as_raw_pid() != 1 {
        return;
    }
    let mut child_signals = match signal(SignalKind::child()) {
        Ok(child_signals) => child_signals,
        Err(error) => {
            tracing::warn!(%error, "orphans of this container may stay behind as zombies");
            return;
        }
    };
    tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        loop {
            if seen.is_empty() && child_signals.recv().await.is_none() {
                return;
            }
            tokio::time::sleep(OWN_WAITED_FOR).await;
            seen = reap_left(&seen);
        }
    });
}

/// Waits for the ended children that had ended at the last look too, and returns the others.
fn reap_left(seen: &BTreeSet<i32>) -> BTreeSet<i32> {
    let ended = children_of_this_process().into_iter().filter(|child| ProcStat::of(child.as_raw_pid()).is_dead);
    let (left, new): (Vec<_>, Vec<_>) = ended.partition(|child| seen.contains(&child.as_raw_pid()));
    for child in left {
        // An error means that it is not a child of this process any more.
        let _ = waitpid(Some(child), WaitOptions::NOHANG);
    }
    new.into_iter().map(|child| child.as_raw_pid()).collect()
}

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
