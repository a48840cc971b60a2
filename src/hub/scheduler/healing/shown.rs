//! The rules and what they found, as the API shows it.

use std::sync::Arc;

use serde::Serialize;

use crate::hub::scheduler::amount::{Amount, AmountForm};
use crate::hub::scheduler::healing::record::HealingRecord;
use crate::hub::scheduler::healing::rules::{Rule, RuleSet};
use crate::hub::scheduler::healing::{Healing, HealingNews, Match};

/// The largest number of matching agents that are shown of a rule.
const MAX_SHOWN: usize = 100;
/// The number of latest actions that are shown of a rule.
const MAX_ACTIONS: usize = 10;

/// The rules and what they found, as of the last look. Times are in ms since the epoch.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct HealingStatus {
    /// The file of the rules; null if the hub was started without one.
    #[schema(value_type = Option<String>)]
    file: Option<Arc<str>>,
    /// When the rules that are in force were read.
    loaded_at: Option<u64>,
    /// Why a newer file is not in force.
    last_error: Option<FileError>,
    /// When the rules last looked at the fleet.
    looked_at: Option<u64>,
    /// The number of agents that may be on a restart, or drained by a rule, when a rule acts.
    #[schema(value_type = AmountForm)]
    max_unavailable: Amount,
    /// The rules, in the order of the file.
    rules: Vec<RuleStatus>,
}

/// Why the file of the rules cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FileError {
    /// When it was read.
    pub at: u64,
    /// What is wrong with it, and where.
    pub detail: String,
}

/// One rule, and what it found.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
struct RuleStatus {
    #[schema(value_type = Rule)]
    rule: Arc<Rule>,
    /// Whether it does nothing, because more agents match than its blast radius allows.
    off: bool,
    /// The number of agents that match.
    matching: usize,
    /// The first of them, by name.
    agents: Vec<MatchingAgent>,
    /// Its latest actions, one for each agent, newest first.
    last_actions: Vec<PastAction>,
}

/// An agent that matches a rule.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
struct MatchingAgent {
    #[schema(value_type = String)]
    agent_id: Arc<str>,
    /// Since then.
    since: u64,
    /// The reason, in words.
    why: String,
    /// Why the rule does not act on it yet: `for`, `blast_radius`, `away`, `on_restart`, `in_rollout`, `drained`,
    /// `cooldown`, `max_per_agent` or `max_unavailable`.
    held_back: Option<&'static str>,
}

/// What a rule did to an agent last.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
struct PastAction {
    #[schema(value_type = String)]
    agent_id: Arc<str>,
    at: u64,
    /// The id of the restart, if it was one.
    #[schema(value_type = Option<String>)]
    command_id: Option<Arc<str>>,
}

impl Default for HealingStatus {
    fn default() -> Self {
        Self {
            file: None,
            loaded_at: None,
            last_error: None,
            looked_at: None,
            max_unavailable: RuleSet::default().max_unavailable,
            rules: Vec::new(),
        }
    }
}

/// What a rule did, as an event shows it.
#[derive(Debug, Default, Serialize)]
pub struct ShownNews<'a> {
    rule: &'a str,
    /// `acted`, `told`, `too_many_match` or `few_enough_match`.
    what: &'static str,
    action: &'static str,
    agent_id: Option<&'a str>,
    why: Option<&'a str>,
    command_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    matching: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    most: Option<u32>,
}

impl HealingNews {
    /// Returns the same as an event shows it.
    pub fn shown(&self) -> ShownNews<'_> {
        match self {
            Self::Acted { rule, agent_id, why, command_id } => {
                let (agent_id, why, command_id) = (Some(&**agent_id), Some(why.as_str()), command_id.as_deref());
                ShownNews { agent_id, why, command_id, ..ShownNews::of(rule, "acted") }
            }
            Self::Told { rule, agent_id, why } => {
                ShownNews { agent_id: Some(agent_id), why: Some(why), ..ShownNews::of(rule, "told") }
            }
            Self::TooManyMatch { rule, matching, most } => {
                ShownNews { matching: Some(*matching), most: Some(*most), ..ShownNews::of(rule, "too_many_match") }
            }
            Self::FewEnoughMatch { rule } => ShownNews::of(rule, "few_enough_match"),
        }
    }
}

impl<'a> ShownNews<'a> {
    fn of(rule: &'a Rule, what: &'static str) -> Self {
        Self { rule: &rule.name, what, action: rule.action.name(), ..Self::default() }
    }
}

impl Healing {
    /// Lets readers see the present state.
    pub(super) fn show(&mut self) {
        let rules = self.rules.iter().map(|rule| self.rule_status(rule)).collect();
        self.status = Arc::new(HealingStatus {
            file: self.file.clone(),
            loaded_at: self.loaded_at,
            last_error: self.last_error.clone(),
            looked_at: self.looked_at,
            max_unavailable: self.max_unavailable,
            rules,
        });
    }

    fn rule_status(&self, rule: &Arc<Rule>) -> RuleStatus {
        let matching = || self.matching.iter().filter(|((name, _), _)| **name == *rule.name);
        let agent = |((_, agent_id), found): (&(Arc<str>, Arc<str>), &Match)| MatchingAgent {
            agent_id: agent_id.clone(),
            since: found.since,
            why: found.why.clone(),
            held_back: found.held_back.map(Into::into),
        };
        let of_rule = self.records.values().filter(|record| *record.rule == *rule.name);
        let mut last_actions: Vec<PastAction> = of_rule
            .filter_map(HealingRecord::last_action)
            .map(|(agent_id, at, command_id)| PastAction { agent_id, at, command_id })
            .collect();
        last_actions.sort_by_key(|action| std::cmp::Reverse(action.at));
        last_actions.truncate(MAX_ACTIONS);
        RuleStatus {
            rule: rule.clone(),
            off: self.off.contains(rule.name.as_str()),
            matching: matching().count(),
            agents: matching().take(MAX_SHOWN).map(agent).collect(),
            last_actions,
        }
    }
}
