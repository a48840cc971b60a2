//! Tells how long the task of the running sidecar has been silent.

use crate::sidecar::admin::status::TaskPart;
use crate::sidecar::cli::check::Finding;
use crate::sidecar::cli::show::{SILENCE_REMEDY, duration, silence};

const CHECK: &str = "task";

/// Returns the finding for the task in hand: half of its time without a result is a warning.
pub(super) fn check(task: &TaskPart) -> Finding {
    let told = format!("{} is {} for {}{}", task.task_id, task.stage, duration(task.age_ms), silence(task));
    if task.is_past_half() {
        return Finding::warning(CHECK, format!("{told}: half of its time is over")).then(SILENCE_REMEDY);
    }
    Finding::ok(CHECK, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(timeout: Option<(u64, u64)>) -> TaskPart {
        TaskPart {
            task_id: "t".into(),
            generation: 1,
            stage: "running".into(),
            waits_for: "the agent's result file".into(),
            recovering: false,
            age_ms: 90_000,
            assigned_at_ms: None,
            silent_ms: 60_000,
            timeout_ms: timeout.map(|(limit, _)| limit),
            timeout_in_ms: timeout.map(|(_, left)| left),
        }
    }

    #[test]
    fn a_silent_task_is_told_and_from_half_of_its_time_on_a_warning() {
        for (timeout, words) in [
            (None, "t is running for 1 min 30 s, silent for 1 min 0 s"),
            (Some((200_000, 110_000)), "silent for 1 min 0 s, 1 min 50 s of its 3 min 20 s left"),
            (Some((160_000, 70_000)), "1 min 10 s of its 2 min 40 s left: half of its time is over"),
        ] {
            let found = check(&part(timeout)).as_sentence();
            assert!(found.contains(words), "{found}");
        }
    }
}
