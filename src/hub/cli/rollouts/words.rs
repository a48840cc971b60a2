//! The states of rollouts and of their targets, and the reasons for them, in words. All of them stand here.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::hub::cli::show::fields::text;
use crate::hub::scheduler::rollouts::rollout::{HaltReason, RolloutPhase};
use crate::hub::scheduler::rollouts::target::{Counts, FailReason, SkipReason, TargetPhase, WaitReason};

/// Returns a rollout's state in words. `why` is the reason of the API; one of a newer hub is shown as it is.
pub(in crate::hub::cli) fn rollout(state: RolloutPhase, why: &Value, awaits_promote: bool) -> String {
    let said = match state {
        RolloutPhase::Canary if awaits_promote => "the canary is through, and it waits for promote",
        RolloutPhase::Canary => "the canary is under way",
        RolloutPhase::Running => "running",
        RolloutPhase::Paused => "paused",
        RolloutPhase::Halted => return format!("halted: {}", reason(why, halt)),
        RolloutPhase::Succeeded => "succeeded: each target has restarted",
        RolloutPhase::Partial => "partial: it has ended, and not each target has restarted",
        RolloutPhase::Cancelled => "cancelled",
    };
    said.to_owned()
}

/// Returns why a target is in its state, in words; `None` where the state needs no reason.
pub(in crate::hub::cli) fn target(state: TargetPhase, why: &Value) -> Option<String> {
    match state {
        TargetPhase::Waiting => Some(reason(why, wait)),
        TargetPhase::Failed => Some(reason(why, fail)),
        TargetPhase::Skipped => Some(reason(why, skip)),
        TargetPhase::Pending
        | TargetPhase::Restarting
        | TargetPhase::Soaking
        | TargetPhase::Succeeded
        | TargetPhase::Cancelled => None,
    }
}

/// Returns the words for each reason of the API, by the state that it explains.
#[cfg(feature = "page")]
pub(in crate::hub) fn reasons() -> Value {
    use strum::VariantArray as _;
    serde_json::json!({
        "halted": of_each(HaltReason::VARIANTS, halt),
        "failed": of_each(FailReason::VARIANTS, fail),
        "skipped": of_each(SkipReason::VARIANTS, skip),
        "waiting": of_each(WaitReason::VARIANTS, wait),
    })
}

#[cfg(feature = "page")]
fn of_each<T: Copy + serde::Serialize>(all: &[T], words: impl Fn(T) -> &'static str) -> Value {
    let name = |reason: &T| serde_json::json!(reason).as_str().unwrap_or_default().to_owned();
    all.iter().map(|reason| (name(reason), Value::from(words(*reason)))).collect()
}

/// Returns the state of an agent that was skipped, in words.
pub(super) fn skip(why: SkipReason) -> &'static str {
    match why {
        SkipReason::Offline => "it is not connected",
        SkipReason::Cordoned => "it is drained",
        SkipReason::AlreadyRestarted => "it has restarted already since the rollout began",
        SkipReason::Removed => "it is not known any more, or its last token was revoked",
        SkipReason::Unsupported => "it names no version, and one is expected",
    }
}

/// Returns how many targets are in which state. Those that wait or were cancelled are told of only where there are any.
pub(in crate::hub::cli) fn counts(counts: &Counts) -> String {
    let Counts { succeeded, failed, skipped, waiting, cancelled, .. } = *counts;
    let seldom = [(waiting, "waiting"), (cancelled, "cancelled")];
    let seldom = seldom.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}"));
    let in_flight = counts.in_flight();
    format!("{succeeded} succeeded, {in_flight} in flight, {failed} failed, {skipped} skipped")
        + &seldom.collect::<String>()
}

const fn halt(why: HaltReason) -> &'static str {
    match why {
        HaltReason::CanaryFailed => "a target of the canary failed",
        HaltReason::CanaryDeadline => "the canary was not through within its deadline",
        HaltReason::MaxFailures => "more targets failed than max_failures allows",
        HaltReason::ProgressDeadline => "no target has moved for too long",
    }
}

const fn fail(why: FailReason) -> &'static str {
    match why {
        FailReason::Refused => "it refused to restart",
        FailReason::Overdue => "it was not back in time",
        FailReason::Crashed => "it came back, and did not stay",
        FailReason::Unhealthy => "it came back, and was not healthy at the end of the soak time",
        FailReason::WrongVersion => "it came back with another version than the expected one",
    }
}

const fn wait(why: WaitReason) -> &'static str {
    match why {
        WaitReason::Offline => "it is not connected",
        WaitReason::Intensity => "it has restarted too often lately",
    }
}

fn reason<T: DeserializeOwned>(why: &Value, words: impl Fn(T) -> &'static str) -> String {
    T::deserialize(why).map_or_else(|_| text(why), |why| words(why).to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reasons_are_told_in_words_and_those_of_a_newer_hub_as_they_are() {
        assert_eq!(
            rollout(RolloutPhase::Halted, &json!("max_failures"), false),
            "halted: more targets failed than max_failures allows"
        );
        assert_eq!(rollout(RolloutPhase::Halted, &json!("full_moon"), false), "halted: full_moon");
        assert_eq!(target(TargetPhase::Failed, &json!("overdue")).as_deref(), Some("it was not back in time"));
        assert_eq!(target(TargetPhase::Skipped, &json!("offline")).as_deref(), Some("it is not connected"));
        assert_eq!(target(TargetPhase::Waiting, &Value::Null).as_deref(), Some("-"));
        assert_eq!(target(TargetPhase::Soaking, &Value::Null), None);
    }
}
