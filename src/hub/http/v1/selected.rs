//! What requests about a selection of agents share: the selector in a body, and the agents that were passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::hub::problem::Problem;
use crate::hub::scheduler::inventory::status::AgentStatus;
use crate::hub::scheduler::selector::Selector;
use crate::protocol::{JsonFields, JsonType};

/// Which agents are meant: a text such as `all` or `label.pool=gpu,status=offline`, or an object.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "it describes what `read_selector` reads")]
#[serde(untagged)]
pub(super) enum SelectorForm {
    /// The text form.
    Text(String),
    /// The object.
    Criteria(SelectorObject),
}

/// Either `all`, or what the agents must be or have, all of it.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "it describes what `read_selector` reads")]
#[serde(deny_unknown_fields)]
pub(super) struct SelectorObject {
    /// All agents.
    all: Option<bool>,
    /// One of these names.
    ids: Option<Vec<String>>,
    /// All of these labels.
    labels: Option<BTreeMap<String, String>>,
    /// This capability.
    capability: Option<String>,
    /// This version.
    version: Option<String>,
    /// This status, or one of these.
    status: Option<StatusForm>,
}

/// One status, or several.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "it describes what `read_selector` reads")]
#[serde(untagged)]
enum StatusForm {
    /// One.
    One(AgentStatus),
    /// One of these.
    Several(Vec<AgentStatus>),
}

/// An agent that was selected and passed over.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Skipped {
    /// The agent.
    agent_id: String,
    /// The reason, for programs: `unknown_agent`, `never_seen`, `not_connected` or `too_many_labels`.
    code: &'static str,
    /// The reason, for people.
    detail: &'static str,
}

impl Skipped {
    /// Creates the entry of a name that no agent has.
    pub(super) fn unknown(agent_id: String) -> Self {
        let detail = "no agent of this name is known; GET /api/v1/agents lists those that are";
        Self { agent_id, code: "unknown_agent", detail }
    }

    /// Creates the entry of an agent that has only a token.
    pub(super) fn never_seen(agent_id: String) -> Self {
        Self { agent_id, code: "never_seen", detail: "it has never identified: try again once it has" }
    }

    /// Creates the entry of an agent that is away.
    pub(super) fn not_connected(agent_id: String) -> Self {
        Self { agent_id, code: "not_connected", detail: "it is not connected: try again when it is" }
    }

    /// Creates the entry of an agent that would have too many labels.
    pub(super) fn too_many_labels(agent_id: String) -> Self {
        Self { agent_id, code: "too_many_labels", detail: "at most 16 labels of operators: remove some" }
    }
}

/// Reads the field `selector`: an object, or the text form.
///
/// # Errors
/// 422 if it is missing, or is no selector.
pub(super) fn read_selector(body: &JsonFields) -> Result<Selector, Problem> {
    let invalid = |detail: &str| Problem::invalid_field("selector", "invalid", detail);
    let Some(given) = body.get("selector") else {
        let detail = "name the agents: {\"all\": true}, or {\"ids\": [...]}, or \"label.pool=gpu,status=offline\"";
        return Err(Problem::invalid_field("selector", "required", detail));
    };
    match (body.string("selector"), given.json_type()) {
        (Some(text), _) => text.parse().map_err(|why| invalid(&format!("{text:?}: {why}"))),
        (None, JsonType::Object) => given.read().map_err(|why| invalid(&why.to_string())),
        (None, JsonType::Null | JsonType::Boolean | JsonType::Number | JsonType::String | JsonType::Array) => {
            Err(invalid("expected an object, or a text such as \"label.pool=gpu,status=offline\""))
        }
    }
}
