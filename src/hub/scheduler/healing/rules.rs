//! Healing rules, as an operator writes them in a file: what each looks for, and what it does then. Pure: it reads a text.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::hub::scheduler::amount::{Amount, AmountForm};
use crate::hub::scheduler::selector::Selector;

/// The largest number of rules.
const MAX_RULES: usize = 100;
/// The longest name of a rule, in characters.
const MAX_NAME: usize = 64;
/// The longest version, in characters: that of an agent.
const MAX_VERSION: usize = 256;
/// The longest time in a rule, in ms: 30 days.
pub const MAX_MS: u64 = 30 * 86_400_000;
/// The largest number of actions in a budget.
const MAX_TIMES: u32 = 100;
/// The number of restarts that the inventory keeps of an agent.
const MAX_RESTARTS: u32 = 8;

/// What a rule looks for in an agent. Times are in ms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ConditionForm", into = "ConditionForm")]
pub enum Condition {
    /// It is away for this long.
    Silent(u64),
    /// Its task has shown no sign of life for this long.
    TaskSilent(u64),
    /// Its machine uses more memory than this, in bytes.
    MemoryOver(u64),
    /// Its process was replaced so often, and nobody had wanted it.
    CrashLoop(CrashLoop),
    /// It has another version.
    VersionNot(String),
}

/// So many unplanned restarts within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CrashLoop {
    /// The number of restarts.
    #[serde(deserialize_with = "restarts")]
    pub restarts: u32,
    /// The time, in ms.
    #[serde(deserialize_with = "time")]
    pub within_ms: u64,
}

/// A condition in JSON: one of these.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConditionForm {
    /// It is away for this long, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_time")]
    silent_ms: Option<u64>,
    /// Its task has shown no sign of life for this long, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_time")]
    task_silent_ms: Option<u64>,
    /// Its machine uses more memory than this, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory_over_bytes: Option<u64>,
    /// Its process was replaced so often, and nobody had wanted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crash_loop: Option<CrashLoop>,
    /// It has another version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version_not: Option<String>,
}

impl TryFrom<ConditionForm> for Condition {
    type Error = String;

    fn try_from(form: ConditionForm) -> Result<Self, String> {
        let ConditionForm { silent_ms, task_silent_ms, memory_over_bytes, crash_loop, version_not } = form;
        let version_not = version_not.map(|version| match version.chars().count() {
            1..=MAX_VERSION => Ok(Self::VersionNot(version)),
            _ => Err(format!("`version_not`: expected 1 to {MAX_VERSION} characters")),
        });
        let named = [
            silent_ms.map(Self::Silent),
            task_silent_ms.map(Self::TaskSilent),
            memory_over_bytes.map(Self::MemoryOver),
            crash_loop.map(Self::CrashLoop),
            version_not.transpose()?,
        ];
        let mut named = named.into_iter().flatten();
        match (named.next(), named.next()) {
            (Some(only), None) => Ok(only),
            (None, _) | (Some(_), Some(_)) => Err(
                "expected one of `silent_ms`, `task_silent_ms`, `memory_over_bytes`, `crash_loop`, `version_not`, and no other beside it".to_owned(),
            ),
        }
    }
}

impl From<Condition> for ConditionForm {
    fn from(condition: Condition) -> Self {
        let form = Self::default();
        match condition {
            Condition::Silent(ms) => Self { silent_ms: Some(ms), ..form },
            Condition::TaskSilent(ms) => Self { task_silent_ms: Some(ms), ..form },
            Condition::MemoryOver(bytes) => Self { memory_over_bytes: Some(bytes), ..form },
            Condition::CrashLoop(crash_loop) => Self { crash_loop: Some(crash_loop), ..form },
            Condition::VersionNot(version) => Self { version_not: Some(version), ..form },
        }
    }
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Remedy {
    /// It commands a restart, as an operator would.
    Restart,
    /// It drains the agent from the hub.
    Drain,
    /// It tells of it, and changes nothing.
    Notify,
}

impl Remedy {
    /// Returns the name in the API.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// At most so many actions within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The number of actions.
    #[serde(deserialize_with = "times")]
    pub times: u32,
    /// The time, in ms.
    #[serde(deserialize_with = "time")]
    pub within_ms: u64,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, under which it acts.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// The agents that it looks at.
    #[serde(default = "everybody", deserialize_with = "selector")]
    #[schema(value_type = Object)]
    pub selector: Selector,
    /// What it looks for.
    #[schema(value_type = ConditionForm)]
    pub when: Condition,
    /// How long that must last before it acts, in ms.
    #[serde(default = "default_for", deserialize_with = "time_or_none")]
    pub for_ms: u64,
    /// What it does.
    pub action: Remedy,
    /// Whether it does it. Otherwise it tells what it would do.
    #[serde(default)]
    pub act: bool,
    /// The time between two actions on one agent, in ms.
    #[serde(default = "default_cooldown", deserialize_with = "time")]
    pub cooldown_ms: u64,
    /// How often it acts on one agent.
    #[serde(default = "default_budget")]
    pub max_per_agent: Budget,
    /// The number of matching agents, or their share of those that it looks at and that are connected, above which it does
    /// nothing.
    #[serde(default = "default_blast_radius", deserialize_with = "some_amount")]
    #[schema(value_type = AmountForm)]
    pub blast_radius: Amount,
}

/// All rules of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSet {
    /// The number of agents that may be on a restart or drained by a rule when a rule acts.
    #[serde(default = "default_max_unavailable", deserialize_with = "some_amount")]
    pub max_unavailable: Amount,
    /// The rules, in the order of the file.
    pub rules: Vec<Rule>,
}

impl Default for RuleSet {
    fn default() -> Self {
        Self { max_unavailable: default_max_unavailable(), rules: Vec::new() }
    }
}

/// The reason why a text holds no rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{detail}", shown_place(*.place), shown_path(.path))]
pub struct BadRules {
    /// The line and column up to which it was read, from 1; `None` where several values do not go together.
    pub place: Option<(usize, usize)>,
    /// The field, with its path (`rules[1].when`); empty where it is the whole.
    pub path: String,
    /// What is wrong with it.
    pub detail: String,
}

impl RuleSet {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`BadRules`]: the first thing that is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, BadRules> {
        if !text.trim_start().starts_with('{') {
            let detail = "expected an object: {\"rules\": [...]}".to_owned();
            return Err(BadRules { place: Some((1, 1)), path: String::new(), detail });
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let read: Self = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            // A `?` stands for a place that has no name yet.
            let path = error.path().to_string();
            BadRules::new(error.inner(), path.trim_end_matches(['?', '.']).to_owned())
        })?;
        json.end().map_err(|error| BadRules::new(&error, String::new()))?;
        read.check()
    }

    /// Returns the rules if they go together.
    fn check(self) -> Result<Self, BadRules> {
        let wrong = |path: String, detail: String| BadRules { place: None, path, detail };
        if self.rules.len() > MAX_RULES {
            return Err(wrong(
                "rules".to_owned(),
                format!("{} rules; at most {MAX_RULES} are allowed", self.rules.len()),
            ));
        }
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, rule) in self.rules.iter().enumerate() {
            if let Some(first) = names.insert(&rule.name, number) {
                let detail = format!("{:?} is the name of rules[{first}], too: give each its own", rule.name);
                return Err(wrong(format!("rules[{number}].name"), detail));
            }
            rule.check().map_err(|(field, detail)| wrong(format!("rules[{number}].{field}"), detail))?;
        }
        Ok(self)
    }
}

impl Rule {
    /// Returns the field whose value is impossible beside the others, and why.
    fn check(&self) -> Result<(), (&'static str, String)> {
        match (&self.when, self.action) {
            (Condition::Silent(_), Remedy::Restart | Remedy::Drain) => {
                let detail = "an agent that is away cannot be told anything: `silent_ms` goes with `notify` only";
                Err(("action", detail.to_owned()))
            }
            (_, Remedy::Notify) if self.act => {
                Err(("act", "`notify` changes nothing, so there is nothing to act: leave it out".to_owned()))
            }
            (
                Condition::Silent(_)
                | Condition::TaskSilent(_)
                | Condition::MemoryOver(_)
                | Condition::CrashLoop(_)
                | Condition::VersionNot(_),
                Remedy::Restart | Remedy::Drain | Remedy::Notify,
            ) => Ok(()),
        }
    }
}

impl BadRules {
    fn new(error: &serde_json::Error, path: String) -> Self {
        let (line, column) = (error.line(), error.column());
        let said = error.to_string();
        let detail = said.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&said).to_owned();
        Self { place: Some((line, column)), path, detail }
    }
}

fn shown_place(place: Option<(usize, usize)>) -> String {
    place.map(|(line, column)| format!("line {line}, column {column}: ")).unwrap_or_default()
}

fn shown_path(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("`{path}`: ") }
}

fn everybody() -> Selector {
    Selector::All
}

const fn default_for() -> u64 {
    60_000
}

const fn default_cooldown() -> u64 {
    600_000
}

const fn default_budget() -> Budget {
    Budget { times: 3, within_ms: 86_400_000 }
}

const fn default_blast_radius() -> Amount {
    Amount::Percent(10)
}

const fn default_max_unavailable() -> Amount {
    Amount::Number(1)
}

/// Reads a whole number within bounds.
fn within<'de, D: Deserializer<'de>>(read: D, least: u64, most: u64) -> Result<u64, D::Error> {
    let number = u64::deserialize(read)?;
    match (least..=most).contains(&number) {
        true => Ok(number),
        false => Err(de::Error::custom(format!("found {number}; allowed: {least} to {most}"))),
    }
}

fn time<'de, D: Deserializer<'de>>(read: D) -> Result<u64, D::Error> {
    within(read, 1, MAX_MS)
}

fn some_time<'de, D: Deserializer<'de>>(read: D) -> Result<Option<u64>, D::Error> {
    time(read).map(Some)
}

fn time_or_none<'de, D: Deserializer<'de>>(read: D) -> Result<u64, D::Error> {
    within(read, 0, MAX_MS)
}

fn times<'de, D: Deserializer<'de>>(read: D) -> Result<u32, D::Error> {
    within(read, 1, MAX_TIMES.into()).map(|times| u32::try_from(times).unwrap_or(MAX_TIMES))
}

fn restarts<'de, D: Deserializer<'de>>(read: D) -> Result<u32, D::Error> {
    within(read, 1, MAX_RESTARTS.into()).map(|restarts| u32::try_from(restarts).unwrap_or(MAX_RESTARTS))
}

fn some_amount<'de, D: Deserializer<'de>>(read: D) -> Result<Amount, D::Error> {
    let amount = Amount::deserialize(read)?;
    match amount.is_none() {
        true => Err(de::Error::custom("that would be none: a rule that shall do nothing has no `act`")),
        false => Ok(amount),
    }
}

fn name<'de, D: Deserializer<'de>>(read: D) -> Result<String, D::Error> {
    let name = String::deserialize(read)?;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    match (1..=MAX_NAME).contains(&name.len()) && name.chars().all(fits) {
        true => Ok(name),
        false => {
            let expected = format!("expected 1 to {MAX_NAME} characters of a-z, 0-9, `-`, `_` and `.`");
            Err(de::Error::custom(format!("found {name:?}; {expected}")))
        }
    }
}

/// Reads a selector in either of its forms.
fn selector<'de, D: Deserializer<'de>>(read: D) -> Result<Selector, D::Error> {
    struct Forms;

    impl<'de> Visitor<'de> for Forms {
        type Value = Selector;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a selector, as text or as an object")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Selector, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Selector, A::Error> {
            Selector::deserialize(MapAccessDeserializer::new(map))
        }
    }

    read.deserialize_any(Forms)
}
