//! The label route of `/api/v1`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::hub::http::credentials::Credentials;
use crate::hub::http::reply::require;
use crate::hub::http::request::{Body, Shared};
use crate::hub::http::v1::body::{bytes_of, read_strict};
use crate::hub::http::v1::once::{Asked, act_once};
use crate::hub::http::v1::parameters::OnceHeader;
use crate::hub::http::v1::selected::{SelectorForm, Skipped, read_selector};
use crate::hub::problem::Problem;
use crate::hub::scheduler::inventory::{LabelChange, LabelsRefused};
use crate::hub::state::roles::Permission;
use crate::protocol::schema::{Field, Kind, may, must};
use crate::protocol::{check_label_key, check_label_value};

/// Labels to set or remove.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "it describes the body, which is read by its fields")]
#[serde(deny_unknown_fields)]
pub(super) struct NewLabels {
    /// The agents.
    selector: SelectorForm,
    /// The labels by key; a null removes the operator's label of that key.
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    labels: BTreeMap<String, Option<String>>,
    /// The reason, for people.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

/// What changed.
#[derive(Serialize, ToSchema)]
pub(super) struct LabelsChanged {
    /// The number of agents that are meant.
    matched: usize,
    /// The agents whose labels changed.
    changed: Vec<ChangedAgent>,
    /// The agents that were passed over.
    skipped: Vec<Skipped>,
}

/// An agent whose labels changed.
#[derive(Serialize, ToSchema)]
struct ChangedAgent {
    /// The agent.
    agent_id: String,
    /// What changed.
    changes: Vec<LabelChange>,
}

pub(super) const FIELDS: &[Field] =
    &[may("selector", Kind::Any), must("labels", Kind::Object), may("reason", Kind::Text)];

/// Sets and removes labels of agents. An operator's label wins over the agent's own.
#[utoipa::path(
    post, path = "/api/v1/labels", tag = "agents", operation_id = "set_labels", request_body = NewLabels, security(("token" = [])),
    params(OnceHeader),
    responses(
        (status = 200, description = "what changed", body = LabelsChanged),
        (status = "4XX", description = "nothing was changed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn set(
    State(app): Shared,
    uri: Uri,
    who: Credentials,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = require(&app.snapshot(), &who, Permission::LabelAgents, "label agents")?;
    let asked = Asked::of("POST", &uri, &headers, bytes_of(&body))?;
    let body = read_strict(&headers, body, FIELDS)?.fields;
    let selector = read_selector(&body)?;
    let labels: BTreeMap<String, Option<String>> = body
        .read("labels")
        .ok_or_else(|| Problem::invalid_field("labels", "wrong_type", "expected texts, or null to remove a label"))?;
    check(&labels)?;
    let reason = body.string("reason");
    let author = caller.author();
    act_once(&app, &caller, asked, StatusCode::OK, move |state, now_ms| {
        let selected = state.snapshot().selected(&selector, now_ms);
        let matched = selected.agents.len();
        let mut skipped: Vec<Skipped> = selected.unknown.into_iter().map(Skipped::unknown).collect();
        let mut changed = Vec::new();
        for agent_id in selected.agents {
            match state.acts(&author, now_ms).set_labels(&agent_id, &labels, reason.as_deref(), &selector) {
                Ok(changes) if changes.is_empty() => {}
                Ok(changes) => changed.push(ChangedAgent { agent_id, changes }),
                Err(LabelsRefused::UnknownAgent) => skipped.push(Skipped::never_seen(agent_id)),
                // The labels were checked: there are too many.
                Err(LabelsRefused::BadLabel { .. }) => skipped.push(Skipped::too_many_labels(agent_id)),
            }
        }
        Ok(LabelsChanged { matched, changed, skipped })
    })
    .await
}

fn check(labels: &BTreeMap<String, Option<String>>) -> Result<(), Problem> {
    if labels.is_empty() {
        return Err(Problem::invalid_field("labels", "invalid", "expected at least one label"));
    }
    for (key, value) in labels {
        let bad = |why: &dyn std::fmt::Display| {
            let field = format!("labels.{}", crate::common::text::first_chars(key, 50));
            Problem::invalid_field(&field, "invalid", &why.to_string())
        };
        check_label_key(key).map_err(|why| bad(&why))?;
        value.as_deref().map_or(Ok(()), check_label_value).map_err(|why| bad(&why))?;
    }
    Ok(())
}
