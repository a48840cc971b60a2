//! Which agents somebody means: all of them, or those that meet every criterion that is named. One rule with two forms, a
//! text (`label.pool=gpu,status=offline`) and JSON (`{"labels": {"pool": "gpu"}, "status": "offline"}`). Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::VariantArray as _;

use crate::hub::scheduler::inventory::record::AgentRecord;
use crate::hub::scheduler::inventory::status::AgentStatus;
use crate::hub::scheduler::inventory::statuses::Statuses;
use crate::protocol::{BadAgentName, BadLabel, Labels, check_agent_name, check_label_key, check_label_value};

/// The keys of the text form.
const KEYS: &str = "`id`, `label.KEY`, `capability`, `version`, `status`";

/// A choice of agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub enum Selector {
    /// All agents.
    All,
    /// The agents that meet all of these criteria.
    Matching(Criteria),
}

/// What an agent must be or have; at least one criterion is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Criteria {
    /// It has one of these names.
    pub ids: Option<BTreeSet<String>>,
    /// It has all of these labels.
    pub labels: Labels,
    /// It has this capability.
    pub capability: Option<String>,
    /// It has this version.
    pub version: Option<String>,
    /// It has one of these statuses, if any is named.
    pub statuses: BTreeSet<AgentStatus>,
}

/// What a selector asks of one agent.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The agent's name.
    pub agent_id: &'a str,
    /// What is known of it; `None` if it has never identified.
    pub record: Option<&'a AgentRecord>,
    /// Its status.
    pub status: AgentStatus,
}

/// The reason why a text or JSON is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSelector {
    /// Nothing is named. It could be meant as all or as none.
    #[error("it names no agents: write `all`, or what they have, as in `label.pool=gpu,status=offline`")]
    Empty,
    /// All agents, and a criterion.
    #[error("`all` stands alone: leave it out, or what is beside it")]
    AllAndMore,
    /// A part of a text that is no criterion.
    #[error("{0:?} is no criterion: expected KEY=VALUE, where KEY is one of {KEYS}")]
    NoCriterion(String),
    /// A criterion that is named twice.
    #[error("`{0}` is named twice, and one agent cannot be both: name it once")]
    Twice(String),
    /// A criterion without a value.
    #[error("`{0}` has no value: write one, or leave it out")]
    NoValue(&'static str),
    /// An unknown status.
    #[error("{0:?} is no status: expected one of {known}", known = status_names().join(", "))]
    Status(String),
    /// A name that no agent can have.
    #[error("{name:?} is no agent's name: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: BadAgentName,
    },
    /// A label that no agent can have.
    #[error("label {key:?}: {why}")]
    Label {
        /// The label's key.
        key: String,
        /// What is wrong with it.
        why: BadLabel,
    },
}

impl Selector {
    /// Returns whether the agent is meant.
    pub fn matches(&self, agent: Subject<'_>) -> bool {
        let Self::Matching(Criteria { ids, labels, capability, version, statuses }) = self else { return true };
        let Subject { agent_id, record, status } = agent;
        let has_label = |(key, value): (&String, &String)| record.is_some_and(|it| it.label(key) == Some(value));
        let has = |capability: &String| record.is_some_and(|it| it.capabilities.contains(capability));
        let is_version = |version: &String| record.is_some_and(|it| it.about.version.as_ref() == Some(version));
        ids.as_ref().is_none_or(|ids| ids.contains(agent_id))
            && (statuses.is_empty() || statuses.contains(&status))
            && labels.iter().all(has_label)
            && capability.as_ref().is_none_or(has)
            && version.as_ref().is_none_or(is_version)
    }

    /// Returns the names that it is limited to, if it names any.
    pub fn ids(&self) -> Option<&BTreeSet<String>> {
        match self {
            Self::All => None,
            Self::Matching(criteria) => criteria.ids.as_ref(),
        }
    }

    /// Returns whether the agent's status decides.
    pub fn asks_status(&self) -> bool {
        matches!(self, Self::Matching(Criteria { statuses, .. }) if !statuses.is_empty())
    }
}

impl TryFrom<Criteria> for Selector {
    type Error = BadSelector;

    fn try_from(criteria: Criteria) -> Result<Self, BadSelector> {
        let Criteria { ids, labels, capability, version, statuses: _ } = &criteria;
        if criteria == Criteria::default() {
            return Err(BadSelector::Empty);
        }
        for name in ids.iter().flatten() {
            check_agent_name(name).map_err(|why| BadSelector::Name { name: name.clone(), why })?;
        }
        for (key, value) in labels {
            let bad = |why| BadSelector::Label { key: key.clone(), why };
            check_label_key(key).map_err(bad)?;
            check_label_value(value).map_err(bad)?;
        }
        for (name, value) in [("capability", capability), ("version", version)] {
            if value.as_ref().is_some_and(String::is_empty) {
                return Err(BadSelector::NoValue(name));
            }
        }
        Ok(Self::Matching(criteria))
    }
}

/// The JSON form.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ids: Option<BTreeSet<String>>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capability: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<Statuses>,
}

impl TryFrom<Form> for Selector {
    type Error = BadSelector;

    fn try_from(form: Form) -> Result<Self, BadSelector> {
        let Form { all, ids, labels, capability, version, status } = form;
        if status.as_ref().is_some_and(|Statuses(named)| named.is_empty()) {
            return Err(BadSelector::NoValue("status"));
        }
        let statuses = status.map(|Statuses(named)| named).unwrap_or_default();
        let criteria = Criteria { ids, labels, capability, version, statuses };
        match all {
            Some(true) if criteria == Criteria::default() => Ok(Self::All),
            Some(true) => Err(BadSelector::AllAndMore),
            Some(false) | None => Self::try_from(criteria),
        }
    }
}

impl From<Selector> for Form {
    fn from(selector: Selector) -> Self {
        match selector {
            Selector::All => Self { all: Some(true), ..Self::default() },
            Selector::Matching(Criteria { ids, labels, capability, version, statuses }) => {
                let status = (!statuses.is_empty()).then_some(Statuses(statuses));
                Self { all: None, ids, labels, capability, version, status }
            }
        }
    }
}

impl FromStr for Selector {
    type Err = BadSelector;

    fn from_str(text: &str) -> Result<Self, BadSelector> {
        let parts = parts_of(text);
        let plain: Vec<(Option<&str>, &str)> =
            parts.iter().map(|(key, value)| (key.as_deref(), value.as_str())).collect();
        match plain.as_slice() {
            [] | [(None, "")] => return Err(BadSelector::Empty),
            [(None, "all")] => return Ok(Self::All),
            more if more.contains(&(None, "all")) => return Err(BadSelector::AllAndMore),
            _ => {}
        }
        let mut criteria = Criteria::default();
        for (key, value) in plain {
            criteria.add(key, value)?;
        }
        Self::try_from(criteria)
    }
}

impl Criteria {
    /// Adds one part of the text form.
    fn add(&mut self, key: Option<&str>, value: &str) -> Result<(), BadSelector> {
        let Some(key) = key else { return Err(BadSelector::NoCriterion(value.to_owned())) };
        let set = |slot: &mut Option<String>| match slot.replace(value.to_owned()) {
            None => Ok(()),
            Some(_) => Err(BadSelector::Twice(key.to_owned())),
        };
        match (key, key.strip_prefix("label.")) {
            (_, Some(label)) => match self.labels.insert(label.to_owned(), value.to_owned()) {
                None => Ok(()),
                Some(_) => Err(BadSelector::Twice(key.to_owned())),
            },
            ("id", None) => {
                self.ids.get_or_insert_default().insert(value.to_owned());
                Ok(())
            }
            ("capability", None) => set(&mut self.capability),
            ("version", None) => set(&mut self.version),
            ("status", None) => {
                self.statuses.insert(value.parse().map_err(|_| BadSelector::Status(value.to_owned()))?);
                Ok(())
            }
            (_, None) => Err(BadSelector::NoCriterion(format!("{key}={value}"))),
        }
    }
}

/// Splits a text at its commas, and each part at its first `=`. A backslash takes the next character as it is; space around
/// keys and values does not count.
fn parts_of(text: &str) -> Vec<(Option<String>, String)> {
    let mut parts = Vec::new();
    let (mut key, mut word) = (None, Word::default());
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        match next {
            '\\' => word.push(chars.next().unwrap_or('\\'), true),
            ',' => parts.push((key.take(), std::mem::take(&mut word).text())),
            '=' if key.is_none() => key = Some(std::mem::take(&mut word).text()),
            other => word.push(other, false),
        }
    }
    parts.push((key, word.text()));
    parts
}

/// A text whose space at both ends does not count, unless it was escaped.
#[derive(Default)]
struct Word {
    text: String,
    /// The length up to the last character that counts, in bytes.
    end: usize,
}

impl Word {
    fn push(&mut self, next: char, escaped: bool) {
        let counts = escaped || !next.is_whitespace();
        if counts || !self.text.is_empty() {
            self.text.push(next);
        }
        if counts {
            self.end = self.text.len();
        }
    }

    fn text(mut self) -> String {
        self.text.truncate(self.end);
        self.text
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Matching(Criteria { ids, labels, capability, version, statuses }) = self else {
            return f.write_str("all");
        };
        let mut parts: Vec<String> = ids.iter().flatten().map(|id| format!("id={}", escaped(id))).collect();
        parts.extend(labels.iter().map(|(key, value)| format!("label.{key}={}", escaped(value))));
        parts.extend(capability.iter().map(|capability| format!("capability={}", escaped(capability))));
        parts.extend(version.iter().map(|version| format!("version={}", escaped(version))));
        parts.extend(statuses.iter().map(|status| format!("status={}", status.name())));
        f.write_str(&parts.join(","))
    }
}

/// Returns a value as the text form has it.
fn escaped(value: &str) -> String {
    let padded = value.trim() != value;
    let mut text = String::with_capacity(value.len());
    for next in value.chars() {
        if matches!(next, ',' | '\\') || (padded && next.is_whitespace()) {
            text.push('\\');
        }
        text.push(next);
    }
    text
}

/// Returns the names of all statuses.
fn status_names() -> Vec<&'static str> {
    AgentStatus::VARIANTS.iter().map(|status| status.name()).collect()
}

#[cfg(test)]
#[path = "tests/selector.rs"]
mod tests;
