//! Checks received frames and bodies field by field, and reports errors in the legacy hub's words. It checks shapes
//! only: not whether a task exists or a token is valid.
//!
//! Source: the legacy hub's schema listing (`GET /api/schemas` there) and its answers on the wire.

mod field;
pub(crate) mod frames;

use serde_json::{Value, json};

use crate::common::text::first_chars;
pub use crate::protocol::schema::field::{Field, Kind, may, must};
use crate::protocol::schema::frames::{frame_fields, known_types};
use crate::protocol::{
    Document, Identify, JsonError, JsonFields, JsonText, JsonType, Labels, Limit, MAX_JSON_DEPTH, MAX_LABEL_CHARS,
    MAX_LABELS, Refusal, SidecarFrame, check_label_key, check_label_value, kind_of,
};

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

/// The maximum number of characters of a number.
const MAX_NUMBER_CHARS: usize = 64;

/// The maximum number of items of an array, and of the bytes of its JSON.
const MAX_LIST: (usize, usize) = (128, 16 << 10);

/// Returns the maximum number of items in an array, and of the bytes of its JSON or an object's, if it has a limit:
/// what is kept beyond the frame or the task that it came with.
fn list_limit(field: &str) -> Option<(usize, usize)> {
    matches!(field, "capabilities" | "needed_capabilities" | "features" | "restarted").then_some(MAX_LIST)
}

/// Returns one error entry for each invalid field.
pub fn check(object: &JsonFields, fields: &[Field]) -> Vec<Value> {
    fields.iter().filter_map(|field| check_field(object.get(field.name), field)).collect()
}

fn check_field(value: Option<&JsonText>, field: &Field) -> Option<Value> {
    let Field { name, kind, required } = *field;
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return required.then(|| json!({"field": name, "error": "required", "detail": "field is required"}));
    };
    if !kind.fits(value.as_str()) {
        return Some(wrong_type(name.to_owned(), kind, value.as_str()));
    }
    if value.json_type() == JsonType::Number && value.as_str().len() > MAX_NUMBER_CHARS {
        let detail = format!("exceeds maximum length of {MAX_NUMBER_CHARS} characters");
        return Some(json!({"field": name, "error": "too_long", "detail": detail}));
    }
    if let Some((max_items, max_bytes)) = list_limit(name) {
        let detail = match value.as_str().len() > max_bytes {
            true => Some(format!("exceeds maximum length of {max_bytes} bytes")),
            false => value
                .find_item(|at, _| (at == max_items).then(|| format!("exceeds maximum number of {max_items} items"))),
        };
        if let Some(detail) = detail {
            return Some(json!({"field": name, "error": "too_long", "detail": detail}));
        }
    }
    if let Some(item) = kind.item() {
        let wrong = |at, found: &str| wrong_type(format!("{name}[{at}]"), item, found);
        return value.find_item(|at, found| (!item.fits(found)).then(|| wrong(at, found)));
    }
    let max = limit(name)?;
    // Bytes first: a text with no more bytes than `max` needs no counting of characters.
    if value.as_str().len() <= max {
        return None;
    }
    let text = value.string()?;
    if text.chars().count() <= max {
        return None;
    }
    let start = first_chars(&text, 50);
    let detail = format!("exceeds maximum length of {max} characters");
    Some(json!({"field": name, "error": "too_long", "detail": detail, "value": format!("{start}...")}))
}

/// Returns the error entry for refused JSON; `whole` is the field's name for a refusal that names no field.
pub(crate) fn refusal_error(whole: &str, refusal: &Refusal) -> Value {
    json!({"field": refusal.field().unwrap_or(whole), "error": refusal.name(), "detail": refusal.to_string()})
}

fn wrong_type(field: String, kind: Kind, found: &str) -> Value {
    let detail = format!("expected {}, got {}", kind.name(), type_name(found));
    json!({"field": field, "error": "wrong_type", "detail": detail, "value": shorten(found)})
}

/// Returns the value with this JSON text as an error echoes it: shortened if it is large, so that an error cannot make
/// the hub send a megabyte.
fn shorten(text: &str) -> Value {
    match JsonType::of(text) {
        JsonType::Array => json!([]),
        JsonType::Object => json!({}),
        JsonType::String | JsonType::Null | JsonType::Boolean | JsonType::Number => match serde_json::from_str(text) {
            Ok(Value::String(text)) if text.len() > 50 => json!(format!("{}...", first_chars(&text, 50))),
            Ok(value) => value,
            Err(_) => Value::Null,
        },
    }
}

fn type_name(text: &str) -> &'static str {
    match JsonType::of(text) {
        JsonType::Null => "null",
        JsonType::Boolean => "boolean",
        JsonType::Number if Kind::Integer.fits(text) => "integer",
        JsonType::Number => "float",
        JsonType::String => "string",
        JsonType::Array => "array",
        JsonType::Object => "object",
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

/// Reads a text frame, and returns also the number of its characters that were replaced because they are not Unicode.
pub fn read_frame(text: &str) -> (Incoming, usize) {
    match Document::check(text.as_bytes(), MAX_JSON_DEPTH) {
        Ok(document) => (read_document(&document), document.replaced()),
        Err(JsonError::NotJson(_)) => (Incoming::NotJson, 0),
        Err(JsonError::NotAnObject) => {
            let detail = json!({"field": "message", "error": "wrong_type", "detail": "expected JSON object"});
            (Incoming::Invalid { message_type: None, errors: vec![detail] }, 0)
        }
        Err(JsonError::Refused(refusal)) => {
            let errors = vec![refusal_error("message", &refusal)];
            (Incoming::Invalid { message_type: kind_of(text), errors }, 0)
        }
    }
}

fn read_document(document: &Document<'_>) -> Incoming {
    let named = document.fields_that(|name| name == "type");
    let Some(kind) = named.string("type") else {
        let error = check_field(named.get("type"), &must("type", Kind::Text));
        return Incoming::Invalid { message_type: None, errors: error.into_iter().collect() };
    };
    let Some(known) = frame_fields(&kind) else {
        let detail = format!("unknown message type '{}'", first_chars(&kind, 50));
        let known = known_types();
        let error = json!({"field": "type", "error": "unknown_message_type", "detail": detail, "known_types": known});
        return Incoming::Invalid { message_type: Some(kind), errors: vec![error] };
    };
    // What this hub has no use for is not read, however much it is.
    let mut fields = document.fields_that(|name| known.iter().any(|field| field.is(name)));
    if kind == "identify"
        && let Some(bounded) = fields.get("capabilities").and_then(bounded_list)
    {
        fields.insert("capabilities", bounded);
    }
    let errors = check(&fields, known);
    if !errors.is_empty() {
        return Incoming::Invalid { message_type: Some(kind), errors };
    }
    if kind == "ollama_report" {
        return Incoming::Ignored;
    }
    fields.retain(|_, value| !value.is_null());
    if let Some(mut info) = fields.read::<JsonFields>("pm2_info") {
        remove_invalid_fields(&mut info);
        fields.insert("pm2_info", info.to_text());
    }
    let dropped_labels = if kind == "identify" { drop_invalid_labels(&mut fields) } else { Vec::new() };
    match SidecarFrame::read(&kind, fields) {
        Ok(SidecarFrame::Identify(identify)) => {
            Incoming::Frame(SidecarFrame::Identify(Box::new(Identify { dropped_labels, ..*identify })))
        }
        Ok(frame) => Incoming::Frame(frame),
        Err(detail) => {
            let error = json!({"field": "message", "error": "wrong_type", "detail": detail});
            Incoming::Invalid { message_type: Some(kind), errors: vec![error] }
        }
    }
}

/// Returns the first items of a list that is too long; `None` if it is not. An agent with more capabilities than are kept
/// must not be kept out.
fn bounded_list(list: &JsonText) -> Option<JsonText> {
    let (max_items, max_bytes) = MAX_LIST;
    let mut kept: Vec<JsonText> = Vec::new();
    let mut bytes = 2;
    let cut = list.find_item(|at, item| {
        bytes += item.len() + 1;
        if at >= max_items || bytes > max_bytes {
            return Some(());
        }
        kept.extend(serde_json::from_str::<JsonText>(item));
        None
    });
    cut.map(|()| JsonText::of(&kept))
}

/// Removes the labels that are not allowed, and returns their keys, shortened. A label must not keep an agent out.
fn drop_invalid_labels(identify: &mut JsonFields) -> Vec<String> {
    let Some(sent) = identify.remove("labels") else { return Vec::new() };
    let Ok(sent) = sent.read::<JsonFields>() else { return vec!["labels".to_owned()] };
    let mut labels = Labels::new();
    let mut dropped = Vec::new();
    for (key, value) in sent.iter() {
        match value.string() {
            Some(value)
                if labels.len() < MAX_LABELS && check_label_key(key).is_ok() && check_label_value(&value).is_ok() =>
            {
                labels.insert(key.to_owned(), value);
            }
            Some(_) | None if dropped.len() < MAX_LABELS => dropped.push(first_chars(key, MAX_LABEL_CHARS).to_owned()),
            Some(_) | None => {}
        }
    }
    identify.set("labels", &labels);
    dropped
}

/// Removes unknown and invalid fields. pm2's figures are for people only, so an invalid one must not keep the agent
/// out: a wall clock that was set back makes a legacy sidecar's uptime negative, for instance.
fn remove_invalid_fields(pm2_info: &mut JsonFields) {
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
        let (read, _) = read_frame(text);
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
        assert!(matches!(read_frame(text).0, Incoming::Frame(SidecarFrame::TaskComplete(_))));
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
        assert!(matches!(read_frame("{").0, Incoming::NotJson));
    }

    #[test]
    fn a_word_outside_its_list_is_invalid() {
        let errors = errors_of(r#"{"type":"restart_ack","command_id":"c","outcome":"perhaps"}"#);
        assert!(errors[0]["detail"].as_str().unwrap().contains("perhaps"), "{errors:?}");
    }

    #[test]
    fn the_limits_count_characters_not_bytes() {
        let fits = json!({"type": "status", "status": "é".repeat(256)}).to_string();
        assert!(matches!(read_frame(&fits).0, Incoming::Frame(_)));
        let long = json!({"type": "status", "status": "é".repeat(257)}).to_string();
        assert_eq!(errors_of(&long)[0]["error"], "too_long");
    }

    #[test]
    fn what_pm2_says_never_keeps_an_agent_out() {
        // A wall clock that was set back makes the Node sidecar's uptime negative.
        let pm2_info = json!({"name": "s", "status": 3, "uptime_ms": -5, "restart_count": 2, "memory_bytes": 1.5});
        let text = json!({"type": "identify", "agent_id": "a", "token": "t", "pm2_info": pm2_info}).to_string();
        let (read, _) = read_frame(&text);
        let Incoming::Frame(SidecarFrame::Identify(identify)) = read else { panic!("{read:?}") };
        let info = identify.pm2_info.unwrap();
        assert_eq!((info.name.as_deref(), info.restart_count), (Some("s"), Some(2)));
        assert_eq!((info.status, info.uptime_ms, info.memory_bytes), (None, None, None));
    }

    #[test]
    fn a_label_that_is_not_allowed_is_left_out_and_keeps_nobody_out() {
        let read = |labels: Value| {
            let text = json!({"type": "identify", "agent_id": "a", "token": "t", "labels": labels}).to_string();
            let (read, _) = read_frame(&text);
            let Incoming::Frame(SidecarFrame::Identify(identify)) = read else { panic!("{read:?}") };
            (identify.labels, identify.dropped_labels)
        };
        let labels = |pairs: &[(&str, &str)]| Labels::from_iter(pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())));
        assert_eq!(read(json!({"pool": "gpu", "site": "x"})).0, labels(&[("pool", "gpu"), ("site", "x")]));
        assert_eq!(read(json!(null)), (labels(&[]), Vec::new()));
        assert_eq!(read(json!(["pool"])), (labels(&[]), vec!["labels".to_owned()]));
        let long = "v".repeat(65);
        let (kept, dropped) = read(json!({"Pool": "gpu", "n": 7, "o": {}, "long": long, "fine": "yes"}));
        assert_eq!((kept, dropped.join(" ")), (labels(&[("fine", "yes")]), "Pool long n o".to_owned()));
        let many: Value = (0..40).map(|n| (format!("k{n:02}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
        let (kept, dropped) = read(many);
        assert_eq!((kept.len(), dropped.len()), (16, 16));
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
        let fits = |kind: Kind| ["-1", "1", "18446744073709551615", "1.5"].map(|text| kind.fits(text));
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
        let errors = check(&JsonText::of(&body).read().unwrap(), &fields);
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
                check_field(Some(&JsonText::of(&value)), &may(name, Kind::Text)).map(|error| error["error"].clone())
            };
            assert_eq!((says(max), says(max + 1)), (None, Some(json!("too_long"))), "{name}");
        }
    }

    #[test]
    fn a_wrong_value_is_echoed_only_where_it_is_small() {
        let (small, large) = ("x".repeat(50), "x".repeat(51));
        let shorten = |value: Value| shorten(&value.to_string());
        assert_eq!(shorten(json!(small)), json!(small));
        assert_eq!(shorten(json!(large)), json!(format!("{small}...")));
        assert_eq!([shorten(json!([1])), shorten(json!({"a": 1}))], [json!([]), json!({})]);
        assert_eq!([shorten(json!(7)), shorten(json!(null))], [json!(7), json!(null)]);
    }

    #[test]
    fn an_agent_with_too_many_capabilities_comes_in_with_the_first_of_them() {
        let names: Vec<String> = (0..200).map(|n| format!("c{n}")).collect();
        let large = vec!["x".repeat(1_000); 20];
        for (capabilities, kept) in [(&names, 128), (&large, 16)] {
            let text = json!({"type": "identify", "agent_id": "a", "token": "t", "capabilities": capabilities});
            let (read, _) = read_frame(&text.to_string());
            let Incoming::Frame(SidecarFrame::Identify(identify)) = read else { panic!("{read:?}") };
            assert_eq!(identify.capabilities.len(), kept);
            assert_eq!(identify.capabilities[0].string().as_ref(), Some(&capabilities[0]));
        }
    }

    #[test]
    fn a_number_has_a_limit() {
        let text = format!(r#"{{"type":"resource_report","cpu_percent":{}}}"#, "1".repeat(65));
        assert_eq!(errors_of(&text)[0]["error"], "too_long");
    }

    #[test]
    fn a_broken_number_is_told_from_a_whole_one() {
        assert_eq!([json!(1.5), json!(1)].map(|value| type_name(&value.to_string())), ["float", "integer"]);
    }

    #[test]
    fn every_frame_a_sidecar_can_say_has_fields_here() {
        for kind in <SidecarFrame as strum::VariantNames>::VARIANTS {
            assert!(frame_fields(kind).is_some(), "{kind}");
        }
    }
}
