//! Checks whether another sidecar uses this agent's identity: the running sidecar tells what the hub's close frames said,
//! and our hub what it saw of both.

use std::time::Duration;

use serde_json::Value;

use crate::common::http_client::percent_encoded;
use crate::common::wall_clock::now_ms;
use crate::protocol::RECENT_CONFLICT_MS;
use crate::sidecar::admin::identity_conflict::REMEDY;
use crate::sidecar::admin::status::{IdentityConflictPart, Status};
use crate::sidecar::cli::check::Finding;
use crate::sidecar::cli::check::hub::api_base;
use crate::sidecar::cli::hub_client::{Question, ask};
use crate::sidecar::cli::show::{another_sidecar, duration};
use crate::sidecar::config::Config;
use crate::sidecar::exit_code::ExitCode;

const CHECK: &str = "identity";

/// What is known of another sidecar.
#[derive(Debug, Default)]
pub(super) struct Known {
    by_sidecar: Option<IdentityConflictPart>,
    by_hub: Option<Value>,
}

impl Known {
    /// Returns what the running sidecar said.
    pub(super) fn of_sidecar(status: &Status) -> Self {
        Self { by_sidecar: status.identity_conflict.clone(), by_hub: None }
    }

    /// Asks the hub too. A hub that does not answer has findings of its own, and a legacy one knows nothing of this.
    pub(super) async fn and_of_hub(self, config: &Config) -> Self {
        let Ok(base) = api_base(config) else { return self };
        let path = format!("/api/agents/{}/state", percent_encoded(&config.agent_id));
        let timeout = Duration::from_millis(config.connect_timeout_ms);
        let request = Question { base: &base, path: &path, token: Some(&config.token), body: None, timeout };
        let by_hub = ask(request).await.ok().map(|answer| answer.body["identity_conflict"].clone());
        Self { by_hub, ..self }
    }

    /// Returns the finding: another sidecar that was there within the last ten minutes is a problem.
    pub(super) fn finding(&self) -> Finding {
        let problem = |found: String| Finding::problem(CHECK, found, ExitCode::Unavailable).then(REMEDY);
        let by_hub = self.by_hub.as_ref().and_then(told_by_hub);
        match (&self.by_sidecar, by_hub) {
            (Some(other), Some(by_hub)) => problem(format!("{}; {by_hub}", another_sidecar(other, "uses"))),
            (None, Some(by_hub)) => problem(format!("two sidecars use this identity: {by_hub}")),
            (Some(other), None) if other.recent => problem(another_sidecar(other, "uses")),
            (Some(other), None) => {
                let found = another_sidecar(other, "used");
                Finding::ok(CHECK, format!("no other sidecar uses this identity now; {found}"))
            }
            (None, None) => Finding::ok(CHECK, "no other sidecar is known to use this identity"),
        }
    }
}

/// Returns the hub's `identity_conflict` in words; `None` if it is null, or not what our hub says.
fn told_by_hub(conflict: &Value) -> Option<String> {
    let addresses: Vec<&str> = conflict["addresses"].as_array()?.iter().filter_map(Value::as_str).collect();
    // By the hub's clock, which may be ahead of ours; the hub names none that is not recent.
    let age_ms = now_ms().saturating_sub(conflict["last_at"].as_u64()?).min(RECENT_CONFLICT_MS);
    Some(format!("the hub saw them at {} {} ago", addresses.join(" and "), duration(age_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(age_ms: Option<u64>, by_hub: Option<Value>) -> (bool, String) {
        let by_sidecar = age_ms.map(|age_ms| IdentityConflictPart {
            address: Some("10.0.0.14:1".into()),
            last_at_ms: 0,
            age_ms,
            times: 1,
            recent: age_ms < RECENT_CONFLICT_MS,
            in_our_place: false,
        });
        let finding = Known { by_sidecar, by_hub }.finding();
        (finding.is_problem(), finding.as_sentence())
    }

    #[test]
    fn what_the_hub_saw_counts_also_where_the_sidecar_saw_nothing_for_long() {
        let conflict = || Some(json!({"addresses": ["10.0.0.14:1", "10.0.0.15:2"], "last_at": now_ms()}));
        for age_ms in [None, Some(1_000), Some(86_400_000)] {
            let (problem, text) = told(age_ms, conflict());
            assert!(problem && text.contains("10.0.0.14:1 and 10.0.0.15:2") && text.contains("onboard"), "{text}");
        }
    }

    #[test]
    fn without_the_hub_a_conflict_of_the_last_minutes_is_a_problem() {
        assert!(told(Some(1_000), None).0 && told(Some(1_000), Some(Value::Null)).0);
        let (problem, text) = told(Some(7_380_000), Some(Value::Null));
        assert!(!problem && text.contains("used this identity, last seen 2 h 3 min ago"), "{text}");
        assert!(!told(None, None).0 && !told(None, Some(json!("no conflict"))).0);
    }
}
