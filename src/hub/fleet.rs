//! All agents that the hub knows: those that have identified, and those that have only a token, but for tokens that were
//! registered openly and never used. Both are read from a snapshot, in the order of their names.

use std::collections::BTreeMap;

use strum::VariantArray as _;

use crate::hub::hub_state::Snapshot;
use crate::hub::scheduler::inventory::entry::{AgentEntry, Detail};
use crate::hub::scheduler::inventory::status::AgentStatus;
use crate::hub::scheduler::selector::{Selector, Subject};
use crate::hub::scheduler::task::{Status, Task};
use crate::hub::scheduler::waiting::WaitingFor;
use crate::hub::state::tokens::TokenTable;

/// Returns whether the present owner of the name submitted the task: the name may have had another one then.
pub(super) fn has_submitted(tokens: &TokenTable, name: &str, task: &Task) -> bool {
    let is_owner = |since: u64| match task.submission.submitter_since {
        Some(then) => since == then,
        // Of an older hub, which kept no more than the times.
        None => since <= task.created_at,
    };
    name == task.submission.submitted_by && tokens.owned_since(name).is_some_and(is_owner)
}

/// Returns whether the present owner of the name submitted the task, or holds it.
pub(super) fn is_own_task(tokens: &TokenTable, name: &str, task: &Task) -> bool {
    let holds = matches!(&task.status, Status::Assigned { agent_id, .. } if agent_id == name);
    holds || has_submitted(tokens, name, task)
}

/// The agents that a selector means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selected {
    /// The agents, by name.
    pub agents: Vec<String>,
    /// The names in the selector that no agent has.
    pub unknown: Vec<String>,
}

impl Snapshot {
    /// Returns the agents that the selector means.
    pub fn selected(&self, selector: &Selector, now_ms: u64) -> Selected {
        let is_meant = |agent_id: &&str| self.is_selected(selector, agent_id, now_ms);
        let Some(ids) = selector.ids() else {
            let agents = self.agents_after(None).filter(is_meant).map(str::to_owned).collect();
            return Selected { agents, unknown: Vec::new() };
        };
        let is_known = |agent_id: &&str| self.agent_entry(agent_id, Detail::Page, now_ms).is_some();
        let (known, unknown): (Vec<&str>, Vec<&str>) = ids.iter().map(String::as_str).partition(is_known);
        let agents = known.into_iter().filter(is_meant).map(str::to_owned).collect();
        Selected { agents, unknown: unknown.into_iter().map(str::to_owned).collect() }
    }

    /// Returns the names after this one of all agents: those that have identified, or have an agent's token.
    pub fn agents_after<'a>(&'a self, after: Option<&'a str>) -> impl Iterator<Item = &'a str> {
        let mut recorded = self.view.recorded_after(after).peekable();
        let mut with_token = self.tokens.agents_after(after).peekable();
        std::iter::from_fn(move || {
            let next = match (recorded.peek(), with_token.peek()) {
                (Some(one), Some(other)) => *one.min(other),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => return None,
            };
            recorded.next_if_eq(&next);
            with_token.next_if_eq(&next);
            Some(next)
        })
    }

    /// Returns the number of agents of each status. It looks at every agent.
    pub fn agents_by_status(&self, now_ms: u64) -> Vec<(&'static str, usize)> {
        let mut counts: BTreeMap<AgentStatus, usize> =
            AgentStatus::VARIANTS.iter().map(|status| (*status, 0)).collect();
        for agent_id in self.agents_after(None) {
            let standing = self.view.standing(agent_id, now_ms);
            *counts.entry(standing.map_or(AgentStatus::NeverSeen, |standing| standing.status)).or_default() += 1;
        }
        counts.into_iter().map(|(status, count)| (status.name(), count)).collect()
    }

    /// Returns the time since which an agent that has never identified has a token, in ms since the epoch.
    fn expected_since(&self, agent_id: &str) -> Option<u64> {
        let is_expected = self.tokens.expects(agent_id);
        self.tokens.owned_since(agent_id).filter(|_| is_expected)
    }

    /// Returns whether the selector means the agent. One that is not known is not meant by any.
    pub fn is_selected(&self, selector: &Selector, agent_id: &str, now_ms: u64) -> bool {
        if !selector.may_mean(self.view.record(agent_id).is_some_and(|record| record.presence.is_connected())) {
            return false;
        }
        let subject = self.view.subject(agent_id, now_ms).or_else(|| {
            self.expected_since(agent_id)?;
            Some(Subject { agent_id, record: None, status: AgentStatus::NeverSeen })
        });
        subject.is_some_and(|subject| selector.matches(subject))
    }

    /// Returns one agent as the inventory shows it; `None` if it is not known.
    pub fn agent_entry<'a>(&'a self, agent_id: &'a str, detail: Detail, now_ms: u64) -> Option<AgentEntry<'a>> {
        let never_seen = || Some(AgentEntry::never_seen(agent_id, self.expected_since(agent_id)?));
        self.view.entry(agent_id, detail, now_ms).or_else(never_seen)
    }

    /// Returns what the task waits for, if it is queued.
    pub fn waiting_for(&self, task: &Task, now_ms: u64) -> Option<WaitingFor> {
        let waits = self.view.waiting_for(task, now_ms)?;
        Some(match waits {
            WaitingFor::Agent { agent_id, status: None, fsm_state } => {
                let status = self.expected_since(&agent_id).map(|_| AgentStatus::NeverSeen);
                WaitingFor::Agent { agent_id, status, fsm_state }
            }
            WaitingFor::Agent { status: Some(_), .. }
            | WaitingFor::Capabilities { .. }
            | WaitingFor::DrainingAgents { .. }
            | WaitingFor::IdleAgent { .. }
            | WaitingFor::AnyAgent => waits,
        })
    }
}
