//! What the existing hub calls a valid frame: its own schema listing (`tests/transcripts/hub-frames.json`), strict types
//! and length limits, with its error texts. It knows nothing of who sent the frame.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Value, json};

type Fields = BTreeMap<String, String>;

#[derive(serde::Deserialize)]
struct Schema {
    required: Fields,
    optional: Fields,
}

fn schemas() -> &'static BTreeMap<String, Schema> {
    static SCHEMAS: OnceLock<BTreeMap<String, Schema>> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        serde_json::from_str(include_str!("../../transcripts/hub-frames.json"))
            .expect("hub-frames.json is a schema map")
    })
}

/// The frame's `type` if it is valid, or the `errors` array of the hub's answer.
pub fn check(frame: &Value) -> Result<String, Vec<Value>> {
    let kind = match frame.get("type") {
        None => return Err(vec![error("type", "required", "field is required".into())]),
        Some(Value::String(kind)) => kind,
        Some(other) => return Err(vec![wrong_type("type", "string", other)]),
    };
    let Some(schema) = schemas().get(kind) else {
        let mut unknown = error("type", "unknown_message_type", format!("unknown message type '{kind}'"));
        unknown["known_types"] = schemas().keys().cloned().collect();
        return Err(vec![unknown]);
    };
    let mut errors = Vec::new();
    for (field, expected) in &schema.required {
        match frame.get(field) {
            None | Some(Value::Null) => errors.push(error(field, "required", "field is required".into())),
            Some(value) => check_field(field, expected, value, &mut errors),
        }
    }
    for (field, expected) in &schema.optional {
        match frame.get(field) {
            None | Some(Value::Null) => {}
            Some(value) => check_field(field, expected, value, &mut errors),
        }
    }
    if errors.is_empty() { Ok(kind.clone()) } else { Err(errors) }
}

fn check_field(field: &str, expected: &str, value: &Value, errors: &mut Vec<Value>) {
    if let Some(item) = expected.strip_prefix("array<").and_then(|rest| rest.strip_suffix('>')) {
        match value.as_array() {
            None => errors.push(wrong_type(field, "array", value)),
            Some(items) => {
                if let Some((at, bad)) = items.iter().enumerate().find(|(_, it)| !is_a(it, item)) {
                    errors.push(wrong_type(&format!("{field}[{at}]"), item, bad));
                }
            }
        }
    } else if !is_a(value, expected) {
        errors.push(wrong_type(field, expected, value));
    }
    if let (Some(text), Some(limit)) = (value.as_str(), length_limit(field))
        && text.chars().count() > limit
    {
        let mut long = error(field, "too_long", format!("exceeds maximum length of {limit} characters"));
        long["value"] = json!(format!("{}...", text.chars().take(50).collect::<String>()));
        errors.push(long);
    }
}

fn is_a(value: &Value, expected: &str) -> bool {
    match expected {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "boolean" => value.is_boolean(),
        other => panic!("hub-frames.json names a type this double does not know: {other}"),
    }
}

/// In characters. By field name, whatever the frame.
fn length_limit(field: &str) -> Option<usize> {
    match field {
        "agent_id" => Some(128),
        "description" => Some(10_000),
        "status" | "token" | "name" => Some(256),
        "ollama_url" => Some(512),
        "error" | "reason" => Some(2_000),
        _ => None,
    }
}

fn wrong_type(field: &str, expected: &str, found: &Value) -> Value {
    let name = match found {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "float",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let mut error = error(field, "wrong_type", format!("expected {expected}, got {name}"));
    error["value"] = found.clone();
    error
}

fn error(field: &str, error: &str, detail: String) -> Value {
    json!({"field": field, "error": error, "detail": detail})
}
