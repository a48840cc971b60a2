//! Rollouts and their targets as the API answers them, and what the commands say of them.

use serde::Deserialize;
use serde_json::Value;

use crate::common::http_client::percent_encoded;
use crate::common::text::on_one_line;
use crate::common::wall_clock::utc;
use crate::hub::cli::client::{Client, Failure};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::rollouts::words;
use crate::hub::cli::show::fields::took;
use crate::hub::scheduler::amount::Amount;
use crate::hub::scheduler::rollouts::rollout::RolloutPhase;
use crate::hub::scheduler::rollouts::target::{Counts, TargetPhase};

/// A rollout. Times are in ms since the epoch.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RolloutRecord {
    pub(super) rollout_id: String,
    pub(super) state: RolloutPhase,
    pub(super) why: Value,
    pub(super) since: u64,
    pub(super) awaits_promote: bool,
    pub(super) reason: String,
    pub(super) by: String,
    pub(super) selector: String,
    pub(super) plan: PlanRecord,
    pub(super) wave: u32,
    pub(super) waves: u32,
    pub(super) wave_cap: u32,
    pub(super) size: u32,
    pub(super) counts: Counts,
    pub(super) created_at: u64,
    pub(super) ended_at: Option<u64>,
}

/// What is shown of a rollout's plan.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct PlanRecord {
    pub(super) max_unavailable: Amount,
    pub(super) canary: Option<Amount>,
    pub(super) max_failures: Amount,
    pub(super) expect_version: Option<String>,
}

/// A target. Times are in ms since the epoch.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct TargetRecord {
    pub(super) number: u32,
    pub(super) agent_id: String,
    pub(super) state: TargetPhase,
    why: Value,
    pub(super) since: u64,
    until: Option<u64>,
    pub(super) attempt: u32,
    pub(super) gap_ms: Value,
    detail: String,
}

impl RolloutRecord {
    /// Returns its state in words.
    pub(super) fn said(&self) -> String {
        words::rollout(self.state, &self.why, self.awaits_promote)
    }

    /// Returns the exit code of a command that waits for its end; `None` while it goes on by itself.
    pub(super) const fn outcome(&self) -> Option<ExitCode> {
        match self.state {
            RolloutPhase::Canary if self.awaits_promote => Some(ExitCode::No),
            RolloutPhase::Canary | RolloutPhase::Running => None,
            RolloutPhase::Succeeded => Some(ExitCode::Done),
            RolloutPhase::Paused | RolloutPhase::Halted | RolloutPhase::Partial => Some(ExitCode::No),
            // What is under way is followed to its end.
            RolloutPhase::Cancelled if self.ended_at.is_none() => None,
            RolloutPhase::Cancelled => Some(ExitCode::No),
        }
    }

    /// Returns the name of the present wave.
    pub(super) fn wave_name(&self) -> String {
        match self.wave == 0 && self.plan.canary.is_some() {
            true => "canary".to_owned(),
            false => format!("wave {} of {}", self.wave + 1, self.waves),
        }
    }

    /// Returns the number of targets that have ended.
    pub(super) fn through(&self) -> u32 {
        self.size.saturating_sub(self.counts.open())
    }

    /// Returns what can be done with it now, each as a command to type; `hub` are the options that name the hub.
    pub(super) fn next_steps(&self, hub: &str) -> String {
        let steps = self.steps();
        let commands: Vec<String> = steps
            .iter()
            .map(|(act, option, _)| format!("agentcom-hub rollout {act} {}{option}{hub}", self.rollout_id))
            .collect();
        let width = commands.iter().map(String::len).max().unwrap_or_default();
        let line = |(command, (_, _, why)): (&String, &Step)| format!("  {command:<width$}  {why}\n");
        let lines: String = commands.iter().zip(&steps).map(line).collect();
        if lines.is_empty() { lines } else { format!("what to do next:\n{lines}") }
    }

    fn steps(&self) -> Vec<Step> {
        const CANCEL: Step = ("cancel", "", "end it here");
        const RECALL: Step = ("recall", "", "take back the commands that have not reached their agents");
        const RESUME: Step = ("resume", "", "let it go on; failures so far do not count any more");
        const LOOK: Step = ("status", " --state failed", "which failed, and why: mend them first");
        const RETRY: Step = ("retry-failed", "", "let those that failed have another try");
        let [has_failed, in_flight] = [self.counts.failed > 0, self.counts.restarting > 0];
        let steps = match self.state {
            RolloutPhase::Canary if self.awaits_promote => {
                vec![(true, ("promote", "", "let the others follow")), (true, CANCEL)]
            }
            RolloutPhase::Canary | RolloutPhase::Running => {
                vec![(true, ("watch", "", "follow it")), (true, ("pause", "", "stop it for now"))]
            }
            RolloutPhase::Paused | RolloutPhase::Halted => {
                vec![(has_failed, LOOK), (has_failed, RETRY), (true, RESUME), (in_flight, RECALL), (true, CANCEL)]
            }
            RolloutPhase::Partial => vec![
                (has_failed, LOOK),
                (has_failed, RETRY),
                (self.counts.skipped > 0, ("status", " --state skipped", "which were left as they are, and why")),
            ],
            RolloutPhase::Cancelled => {
                vec![(in_flight, ("watch", "", "follow what is under way")), (in_flight, RECALL)]
            }
            RolloutPhase::Succeeded => vec![],
        };
        steps.into_iter().filter_map(|(is_due, step)| is_due.then_some(step)).collect()
    }
}

/// What can be done with a rollout: the command's last word, its options after the id, and what it does.
type Step = (&'static str, &'static str, &'static str);

impl TargetRecord {
    /// Returns whether it has ended without a failure.
    pub(super) const fn ended_well(&self) -> bool {
        match self.state {
            TargetPhase::Succeeded | TargetPhase::Skipped | TargetPhase::Cancelled => true,
            TargetPhase::Pending
            | TargetPhase::Waiting
            | TargetPhase::Restarting
            | TargetPhase::Soaking
            | TargetPhase::Failed => false,
        }
    }

    /// Returns the reason of its state in words, with its details.
    pub(super) fn reason(&self) -> Option<String> {
        let why = words::target(self.state, &self.why)?;
        Some(if self.detail.is_empty() { why } else { format!("{why} ({})", self.detail) })
    }

    /// Returns how far it is, in words.
    pub(super) fn said(&self) -> String {
        let reason = self.reason().unwrap_or_default();
        let gap = self.gap_ms.is_u64().then(|| took(&self.gap_ms));
        let until = self.until.map(|at| format!(", until {} at the latest", utc(at))).unwrap_or_default();
        match self.state {
            TargetPhase::Pending if self.attempt > 1 => "gets another try".to_owned(),
            TargetPhase::Pending => "its turn has not come".to_owned(),
            TargetPhase::Waiting => format!("waits: {reason}{until}"),
            TargetPhase::Restarting => "is told to restart".to_owned(),
            TargetPhase::Soaking => {
                let gap = gap.map(|gap| format!(" after {gap}")).unwrap_or_default();
                let until = self.until.map(|at| format!(" until {}", utc(at))).unwrap_or_default();
                format!("is back{gap}, and has to stay{until}")
            }
            TargetPhase::Succeeded => {
                format!("restarted{}", gap.map(|gap| format!(", away for {gap}")).unwrap_or_default())
            }
            TargetPhase::Failed => format!("failed: {reason}"),
            TargetPhase::Skipped => format!("skipped: {reason}"),
            TargetPhase::Cancelled => "cancelled: the rollout restarts it no more".to_owned(),
        }
    }

    /// Returns it as a line of what happens.
    pub(super) fn line(&self) -> String {
        on_one_line(&format!("{}: {}", self.agent_id, self.said()))
    }
}

/// Returns the path of a rollout.
pub(super) fn path_of(id: &str) -> String {
    format!("/api/v1/rollouts/{}", percent_encoded(id))
}

/// Reads what the hub answered.
///
/// # Errors
/// It is not what the API says.
pub(super) fn read<T: for<'a> Deserialize<'a>>(client: &Client, json: &str) -> Result<T, Failure> {
    serde_json::from_str(json).map_err(|error| client.unknown_answer(&error))
}

/// Returns the failure of a request about a rollout, with what to do next.
pub(super) fn not_done(failure: Failure, id: &str, hub: &str) -> Failure {
    let said = match failure.problem.as_deref() {
        Some("rollout_not_found") => {
            format!("no rollout {id:?} is known; agentcom-hub rollout status{hub} lists those that are")
        }
        Some("rollout_state") => format!("{}; how it is: agentcom-hub rollout status {id}{hub}", failure.message),
        Some("agents_in_rollout") => format!("{}; agentcom-hub rollout status{hub} lists both", failure.message),
        Some(_) | None => return failure,
    };
    failure.saying(said)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::hub::cli::rollouts) fn record(state: &str, more: Value) -> RolloutRecord {
        let mut record = json!({
            "rollout_id": "r", "state": state, "why": null, "since": 1, "awaits_promote": false, "reason": "x", "by": "ops",
            "selector": "all", "plan": {"max_unavailable": "5%", "canary": 1, "max_failures": 0, "expect_version": null},
            "wave": 1, "waves": 2, "wave_cap": 3, "size": 3, "created_at": 1, "ended_at": null,
            "counts": {"pending": 1, "waiting": 0, "restarting": 1, "soaking": 0, "succeeded": 0, "failed": 1, "skipped": 0,
                       "already_restarted": 0, "cancelled": 0},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            record[key] = value.clone();
        }
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn what_to_do_next_is_a_command_to_type() {
        let halted = record("halted", json!({"why": "max_failures"}));
        assert_eq!(
            halted.next_steps(" --data 'a b'").lines().nth(2),
            Some("  agentcom-hub rollout retry-failed r --data 'a b'           let those that failed have another try")
        );
        let acts = |record: &RolloutRecord| record.steps().iter().map(|step| step.0).collect::<Vec<_>>();
        assert_eq!(acts(&halted), ["status", "retry-failed", "resume", "recall", "cancel"]);
        assert_eq!(acts(&record("canary", json!({"awaits_promote": true}))), ["promote", "cancel"]);
        assert_eq!(acts(&record("succeeded", json!({}))), [""; 0]);
    }

    #[test]
    fn only_what_goes_on_by_itself_is_waited_for() {
        let outcome = |state: &str, more: Value| record(state, more).outcome();
        assert_eq!(outcome("canary", json!({})), None);
        assert_eq!(outcome("canary", json!({"awaits_promote": true})), Some(ExitCode::No));
        assert_eq!(outcome("running", json!({})), None);
        assert_eq!(outcome("succeeded", json!({"ended_at": 2})), Some(ExitCode::Done));
        assert_eq!(outcome("cancelled", json!({})), None, "its last targets go on");
        assert_eq!(outcome("cancelled", json!({"ended_at": 2})), Some(ExitCode::No));
        for state in ["paused", "halted", "partial"] {
            assert_eq!(outcome(state, json!({})), Some(ExitCode::No), "{state}");
        }
    }
}
