//! What is told of drains and of healing rules beside what is stored: events for who follows them, and lines of the log.

use serde_json::json;

use crate::hub::log_budget::LogBudget;
use crate::hub::scheduler::drains::DrainNews;
use crate::hub::scheduler::healing::HealingNews;
use crate::protocol::JsonText;

/// What is to be told, once what it relies on is stored.
#[derive(Debug, Default)]
pub struct News {
    /// Of drains from the hub.
    pub drains: Vec<DrainNews>,
    /// Of healing rules.
    pub healing: Vec<HealingNews>,
}

impl News {
    /// Returns the events.
    pub fn events(&self) -> impl Iterator<Item = (&'static str, JsonText)> {
        let drains = self.drains.iter().map(|news| ("drain", drain_event(news)));
        drains.chain(self.healing.iter().map(|news| ("healing", JsonText::of(&news.shown()))))
    }

    /// Logs it, as far as the budget goes.
    pub fn log(&self, budget: &mut LogBudget, steady_ms: u64) {
        self.drains.iter().filter(|_| budget.permits("drain", steady_ms)).for_each(log_drain);
        self.healing.iter().filter(|_| budget.permits("healing", steady_ms)).for_each(log_healing);
    }
}

fn drain_event(DrainNews { agent_id, drain, holds_task, overdue }: &DrainNews) -> JsonText {
    let (by, until) = (drain.as_ref().map(|drain| &drain.by), drain.as_ref().and_then(|drain| drain.until));
    let drained = drain.is_some();
    JsonText::of(&json!({
        "agent_id": agent_id, "drained": drained, "by": by, "until": until, "holds_task": holds_task, "overdue": overdue,
    }))
}

fn log_drain(DrainNews { agent_id, drain, holds_task, overdue }: &DrainNews) {
    let by = drain.as_ref().map(|drain| &*drain.by);
    match (overdue, by) {
        (true, _) => {
            tracing::warn!(%agent_id, by, "an agent holds a task after the deadline of its drain; nothing is taken from it");
        }
        (false, Some(by)) => tracing::info!(%agent_id, by, holds_task, "an agent is drained"),
        (false, None) => tracing::info!(%agent_id, "the drain of an agent from the hub has ended"),
    }
}

fn log_healing(news: &HealingNews) {
    match news {
        HealingNews::Acted { rule, agent_id, why, command_id } => {
            let (rule, action, command_id) = (&rule.name, rule.action.name(), command_id.as_deref());
            tracing::info!(rule, %agent_id, action, why, command_id, "a healing rule acts");
        }
        HealingNews::Told { rule, agent_id, why } => {
            let (rule, action) = (&rule.name, rule.action.name());
            tracing::warn!(rule, %agent_id, action, why, "an agent matches a healing rule, which does nothing");
        }
        HealingNews::TooManyMatch { rule, matching, most } => {
            let rule = &rule.name;
            tracing::warn!(
                rule,
                matching,
                most,
                "too many agents match a healing rule: it does nothing until fewer do"
            );
        }
        HealingNews::FewEnoughMatch { rule } => {
            tracing::info!(rule = rule.name, "few enough agents match a healing rule again");
        }
    }
}
