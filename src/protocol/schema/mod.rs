//! Checks received frames and bodies field by field, and reports errors in the legacy hub's words. It checks shapes
//! only: not whether a task exists or a token is valid.
//!
//! Source: the legacy hub's schema listing (`GET /api/schemas` there) and its answers on the wire.

mod field;
pub(crate) mod frames;

use serde_json::{Map, Value, json};

use crate::common::text::first_chars;
pub use crate::protocol::schema::field::{Field, Kind, may, must};
use crate::protocol::schema::frames::{frame_fields, known_types};
use crate::protocol::{JsonError, Limit, MAX_JSON_DEPTH, Refusal, SidecarFrame, from_object, kind_of, read_object};

/// Returns the maximum number of characters in a field, if it has a limit.
fn limit(field: &str) -> Option<usize> {
    match field {
        "agent_id" | "task_id" => Some(Limit::AgentId.chars()),
        "description" => Some(Limit::Description.chars()),
        "status" | "token" | "name" => Some(Limit::Status.chars()),
        "error" | "reason" | "detail" => Some(Limit::Reason.chars()),
        // The ledger and the registry store these.
        "command_id" | "boot_id" | "version" | "client_type" => Some(256),
        "repo" | "ollama_url" => Some(512),
        _ => None,
    }
}

/// Returns one error entry for each invalid field.
pub fn check(object: &Map<String, Value>, fields: &[Field]) -> Vec<Value> {
    fields.iter().filter_map(|field| check_field(object.get(field.name), field)).collect()
}

fn check_field(value: Option<&Value>, field: &Field) -> Option<Value> {
    let Field { name, kind, required } = *field;
    let value = match value {
        None | Some(Value::Null) if required => {
            return Some(json!({"field": name, "error": "required", "detail": "field is required"}));
        }
        None | Some(Value::Null) => return None,
        Some(value) => value,
    };
    if !kind.fits(value) {
        return Some(wrong_type(name.to_owned(), kind, value));
    }
    if let (Some(item), Some(items)) = (kind.item(), value.as_array())
        && let Some((at, bad)) = items.iter().enumerate().find(|(_, value)| !item.fits(value))
    {
        return Some(wrong_type(format!("{name}[{at}]"), item, bad));
    }
    let max = limit(name)?;
    let text = value.as_str()?;
    // Bytes first: a text with no more bytes than `max` needs no counting of characters.
    if text.len() <= max || text.chars().count() <= max {
        return None;
    }
    let start = first_chars(text, 50);
    let detail = format!("exceeds maximum length of {max} characters");
    Some(json!({"field": name, "error": "too_long", "detail": detail, "value": format!("{start}...")}))
}

/// Returns the error entry for refused JSON; `whole` is the field's name for a refusal that names no field.
pub(crate) fn refusal_error(whole: &str, refusal: &Refusal) -> Value {
    json!({"field": refusal.field().unwrap_or(whole), "error": refusal.name(), "detail": refusal.to_string()})
}

fn wrong_type(field: String, kind: Kind, value: &Value) -> Value {
    let detail = format!("expected {}, got {}", kind.name(), type_name(value));
    json!({"field": field, "error": "wrong_type", "detail": detail, "value": shorten(value)})
}

/// Returns the value as an error echoes it: shortened if it is large, so that an error cannot make the hub send a
/// megabyte.
fn shorten(value: &Value) -> Value {
    match value {
        Value::String(text) if text.len() > 50 => json!(format!("{}...", first_chars(text, 50))),
        Value::Array(items) if !items.is_empty() => json!([]),
        Value::Object(map) if !map.is_empty() => json!({}),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            value.clone()
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The result of reading a text frame.
#[derive(Debug)]
pub enum Incoming {
    /// A frame to act on.
    Frame(SidecarFrame),
    /// A frame that a legacy sidecar may send and this hub has no use for.
    Ignored,
    /// A text that is not JSON.
    NotJson,
    /// JSON that is not a valid frame.
    Invalid {
        /// The frame's `type`, if it has one.
        message_type: Option<String>,
        /// One entry per invalid field.
        errors: Vec<Value>,
    },
}

/// Reads a text frame.
pub fn read_frame(text: &str) -> Incoming {
    let mut object = match read_object(text.as_bytes(), MAX_JSON_DEPTH) {
        Ok(object) => object,
        Err(JsonError::NotJson(_)) => return Incoming::NotJson,
        Err(JsonError::NotAnObject) => {
            let detail = json!({"field": "message", "error": "wrong_type", "detail": "expected JSON object"});
            return Incoming::Invalid { message_type: None, errors: vec![detail] };
        }
        Err(JsonError::Refused(refusal)) => {
            return Incoming::Invalid { message_type: kind_of(text), errors: vec![refusal_error("message", &refusal)] };
        }
    };
    let kind = match object.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        other => {
            let error = check_field(other, &must("type", Kind::Text));
            return Incoming::Invalid { message_type: None, errors: error.into_iter().collect() };
        }
    };
    let Some(fields) = frame_fields(&kind) else {
        let detail = format!("unknown message type '{}'", first_chars(&kind, 50));
        let known = known_types();
        let error = json!({"field": "type", "error": "unknown_message_type", "detail": detail, "known_types": known});
        return Incoming::Invalid { message_type: Some(kind), errors: vec![error] };
    };
    let errors = check(&object, fields);
    if !errors.is_empty() {
        return Incoming::Invalid { message_type: Some(kind), errors };
    }
    if kind == "ollama_report" {
        return Incoming::Ignored;
    }
    object.retain(|_, value| !value.is_null());
    if let Some(Value::Object(info)) = object.get_mut("pm2_info") {
        remove_invalid_fields(info);
    }
    match from_object::<SidecarFrame>(object) {
        Ok(frame) => Incoming::Frame(frame),
        Err(detail) => {
            let error = json!({"field": "message", "error": "wrong_type", "detail": detail});
            Incoming::Invalid { message_type: Some(kind), errors: vec![error] }
        }
    }
}

/// Removes unknown and invalid fields. pm2's figures are for people only, so an invalid one must not keep the agent
/// out: a wall clock that was set back makes a legacy sidecar's uptime negative, for instance.
fn remove_invalid_fields(pm2_info: &mut Map<String, Value>) {
    const PM2_INFO: &[Field] = &[
        may("name", Kind::Text),
        may("status", Kind::Text),
        may("uptime_ms", Kind::Count),
        may("restart_count", Kind::Count),
        may("memory_bytes", Kind::Count),
    ];
    pm2_info
        .retain(|key, value| PM2_INFO.iter().any(|field| field.is(key) && check_field(Some(value), field).is_none()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors_of(text: &str) -> Vec<Value> {
        let read = read_frame(text);
        let Incoming::Invalid { errors, .. } = read else { panic!("{read:?}") };
        errors
    }

    #[test]
    fn a_wrong_type_names_the_field_and_both_types() {
        let errors = errors_of(r#"{"type":"task_complete","task_id":7,"generation":1}"#);
        assert_eq!(errors[0]["field"], "task_id");
        assert_eq!(errors[0]["error"], "wrong_type");
        assert_eq!(errors[0]["detail"], "expected string, got integer");
    }

    #[test]
    fn a_missing_field_is_required() {
        assert_eq!(errors_of(r#"{"type":"task_failed","task_id":"t"}"#)[0]["field"], "generation");
    }

    #[test]
    fn null_counts_as_absent() {
        let text = r#"{"type":"task_complete","task_id":"t","generation":1,"verification_history":null}"#;
        assert!(matches!(read_frame(text), Incoming::Frame(SidecarFrame::TaskComplete(_))));
    }

    #[test]
    fn an_unknown_type_is_answered_with_the_known_ones() {
        let errors = errors_of(r#"{"type":"dance"}"#);
        assert_eq!(errors[0]["error"], "unknown_message_type");
        assert!(errors[0]["known_types"].as_array().unwrap().contains(&json!("task_rejected")));
    }

    #[test]
    fn an_array_is_not_a_frame_and_nonsense_is_not_json() {
        assert_eq!(errors_of("[1]")[0]["detail"], "expected JSON object");
        assert!(matches!(read_frame("{"), Incoming::NotJson));
    }

    #[test]
    fn a_word_outside_its_list_is_invalid() {
        let errors = errors_of(r#"{"type":"restart_ack","command_id":"c","outcome":"perhaps"}"#);
        assert!(errors[0]["detail"].as_str().unwrap().contains("perhaps"), "{errors:?}");
    }

    #[test]
    fn the_limits_count_characters_not_bytes() {
        let fits = json!({"type": "status", "status": "é".repeat(256)}).to_string();
        assert!(matches!(read_frame(&fits), Incoming::Frame(_)));
        let long = json!({"type": "status", "status": "é".repeat(257)}).to_string();
        assert_eq!(errors_of(&long)[0]["error"], "too_long");
    }

    #[test]
    fn what_pm2_says_never_keeps_an_agent_out() {
        // A wall clock that was set back makes the Node sidecar's uptime negative.
        let pm2_info = json!({"name": "s", "status": 3, "uptime_ms": -5, "restart_count": 2, "memory_bytes": 1.5});
        let text = json!({"type": "identify", "agent_id": "a", "token": "t", "pm2_info": pm2_info}).to_string();
        let read = read_frame(&text);
        let Incoming::Frame(SidecarFrame::Identify(identify)) = read else { panic!("{read:?}") };
        let info = identify.pm2_info.unwrap();
        assert_eq!((info.name.as_deref(), info.restart_count), (Some("s"), Some(2)));
        assert_eq!((info.status, info.uptime_ms, info.memory_bytes), (None, None, None));
    }

    #[test]
    fn what_the_ledger_and_the_registry_keep_of_a_frame_has_a_limit() {
        let long = "x".repeat(2_001);
        let ack = json!({"type": "restart_ack", "command_id": "c", "outcome": "accepted", "detail": long}).to_string();
        assert_eq!(errors_of(&ack)[0]["field"], "detail");
        for field in ["boot_id", "version", "client_type"] {
            let mut identify = json!({"type": "identify", "agent_id": "a", "token": "t"});
            identify[field] = json!(long);
            assert_eq!(errors_of(&identify.to_string())[0]["field"], field);
        }
    }

    #[test]
    fn a_whole_number_may_be_negative_or_large_but_not_broken() {
        let fits = |kind: Kind| [json!(-1), json!(1), json!(u64::MAX), json!(1.5)].map(|value| kind.fits(&value));
        assert_eq!(fits(Kind::Integer), [true, true, true, false]);
        assert_eq!(fits(Kind::Count), [false, true, true, false]);
        assert_eq!(fits(Kind::Number), [true, true, true, true]);
    }

    #[test]
    fn the_items_of_an_array_have_a_kind_of_their_own() {
        let body = json!({"words": ["a", 2], "things": [{}, "b"], "fine": ["a"], "any": [1, "a"]});
        let fields = [
            must("words", Kind::Texts),
            must("things", Kind::Objects),
            must("fine", Kind::Texts),
            must("any", Kind::List),
        ];
        let errors = check(body.as_object().unwrap(), &fields);
        let told: Vec<_> = errors.iter().map(|error| (error["field"].clone(), error["detail"].clone())).collect();
        let wanted = [
            (json!("words[1]"), json!("expected string, got integer")),
            (json!("things[1]"), json!("expected object, got string")),
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn each_field_has_its_own_limit() {
        let limits = [("agent_id", 128), ("task_id", 128), ("description", 10_000), ("repo", 512), ("ollama_url", 512)];
        for (name, max) in limits {
            let says = |count: usize| {
                let value = json!("x".repeat(count));
                check_field(Some(&value), &may(name, Kind::Text)).map(|error| error["error"].clone())
            };
            assert_eq!((says(max), says(max + 1)), (None, Some(json!("too_long"))), "{name}");
        }
    }

    #[test]
    fn a_wrong_value_is_echoed_only_where_it_is_small() {
        let (small, large) = ("x".repeat(50), "x".repeat(51));
        assert_eq!(shorten(&json!(small)), json!(small));
        assert_eq!(shorten(&json!(large)), json!(format!("{small}...")));
        assert_eq!([shorten(&json!([1])), shorten(&json!({"a": 1}))], [json!([]), json!({})]);
        assert_eq!([shorten(&json!(7)), shorten(&json!(null))], [json!(7), json!(null)]);
    }

    #[test]
    fn a_broken_number_is_told_from_a_whole_one() {
        assert_eq!([json!(1.5), json!(1)].map(|value| type_name(&value)), ["float", "integer"]);
    }

    #[test]
    fn every_frame_a_sidecar_can_say_has_fields_here() {
        for kind in <SidecarFrame as strum::VariantNames>::VARIANTS {
            assert!(frame_fields(kind).is_some(), "{kind}");
        }
    }
}
