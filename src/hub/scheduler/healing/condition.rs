//! Finds the agents that a condition is true of, with the reason in words. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hub::scheduler::agents::Agent;
use crate::hub::scheduler::healing::rules::{Condition, CrashLoop, Rule};
use crate::hub::scheduler::inventory::record::AgentRecord;
use crate::hub::scheduler::inventory::status::AgentStatus;
use crate::hub::scheduler::selector::{Selector, Subject};
use crate::hub::scheduler::view::View;

/// The fleet at one moment.
#[derive(Clone, Copy)]
pub(super) struct Fleet<'a> {
    pub(super) view: &'a View,
    pub(super) now_ms: u64,
}

impl<'a> Fleet<'a> {
    /// Returns the agents that the rule looks at and whose condition is true, each with the reason.
    pub(super) fn matching(self, rule: &Rule) -> BTreeMap<Arc<str>, String> {
        // The condition first: it is cheaper than a status.
        let matching = |(agent_id, record): (&Arc<str>, &'a Arc<AgentRecord>)| {
            let why = self.why(&rule.when, agent_id, record)?;
            self.is_meant(&rule.selector, agent_id, record).then(|| (agent_id.clone(), why))
        };
        self.view.records.iter().filter_map(matching).collect()
    }

    /// Returns how many connected agents the selector means, as far as `enough`.
    pub(super) fn connected(self, selector: &Selector, enough: u32) -> u32 {
        let enough = usize::try_from(enough).unwrap_or(usize::MAX);
        let here = self.view.records.iter().filter(|(_, record)| record.presence.is_connected());
        let meant = here.filter(|(agent_id, record)| self.is_meant(selector, agent_id, record)).take(enough).count();
        u32::try_from(meant).unwrap_or(u32::MAX)
    }

    fn is_meant(self, selector: &Selector, agent_id: &str, record: &AgentRecord) -> bool {
        // The status of an agent takes longer to find than all else.
        let status = match selector.asks_status() {
            true => self.view.standing(agent_id, self.now_ms).map(|standing| standing.status),
            false => Some(AgentStatus::Healthy),
        };
        status.is_some_and(|status| selector.matches(Subject { agent_id, record: Some(record), status }))
    }

    /// Returns why the condition is true of the agent, if it is. But for `silent_ms`, it is of a connected agent only.
    fn why(self, condition: &Condition, agent_id: &str, record: &AgentRecord) -> Option<String> {
        let is_here = record.presence.is_connected();
        match condition {
            Condition::Silent(ms) => {
                let away_ms = self.now_ms.saturating_sub(record.presence.since());
                (!is_here && away_ms >= *ms).then(|| format!("it is away for {} s", away_ms / 1_000))
            }
            Condition::TaskSilent(ms) => {
                let holding = self.view.holders.get(agent_id).filter(|_| is_here)?;
                let silent_ms = self.now_ms.saturating_sub(holding.silent_since);
                // A legacy sidecar says nothing while its agent works.
                let speaks = self.agent(agent_id).is_some_and(|agent| !agent.legacy);
                let said = || format!("task {} shows no sign of life for {} s", holding.task_id, silent_ms / 1_000);
                (speaks && silent_ms >= *ms).then(said)
            }
            Condition::MemoryOver(bytes) => {
                let used = self.agent(agent_id).filter(|_| is_here)?.resources.read::<f64>("ram_used_bytes")?;
                // Rounding does not matter at this size.
                #[allow(clippy::cast_precision_loss, reason = "a figure of memory")]
                let is_over = used > *bytes as f64;
                is_over.then(|| format!("its machine uses {used} bytes of memory, more than {bytes}"))
            }
            Condition::CrashLoop(CrashLoop { restarts, within_ms }) => {
                let since = self.now_ms.saturating_sub(*within_ms);
                let crashes = record.past_restarts.iter().filter(|past| !past.planned && past.at >= since).count();
                let is_loop = is_here && crashes >= usize::try_from(*restarts).unwrap_or(usize::MAX);
                is_loop.then(|| {
                    format!(
                        "its process was replaced {crashes} times within {} s, and nobody had wanted it",
                        within_ms / 1_000
                    )
                })
            }
            Condition::VersionNot(wanted) => {
                let version = record.about.version.as_ref().filter(|version| is_here && *version != wanted)?;
                Some(format!("its version is {version}, not {wanted}"))
            }
        }
    }

    fn agent(self, agent_id: &str) -> Option<&'a Agent> {
        self.view.agents.get(agent_id).map(|agent| &**agent)
    }
}
