//! The fields of the API's answers, as texts. A hub of another version may lack some: they are shown as `-`.

use serde_json::Value;

use crate::common::wall_clock::now_ms;
use crate::hub::state::lifetime::show_duration;

/// What is shown for a value that is not there.
pub(in crate::hub::cli) const NONE: &str = "-";

/// Returns a text or number, `-` if there is none.
pub(in crate::hub::cli) fn text(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => NONE.to_owned(),
        Value::String(text) => text.clone(),
        Value::Null => NONE.to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Returns how long ago a time was: `3 h ago`.
pub(in crate::hub::cli) fn ago(at_ms: &Value) -> String {
    at_ms.as_u64().map_or_else(|| NONE.to_owned(), |at| format!("{} ago", age(at)))
}

/// Returns for how long something has been so: `3 h`.
pub(in crate::hub::cli) fn age(since_ms: u64) -> String {
    show_duration(now_ms().saturating_sub(since_ms))
}

/// Returns a duration in ms, as precisely as matters: `36 ms`, `1.3 s`, `12 s`, `3 m`.
pub(in crate::hub::cli) fn took(ms: &Value) -> String {
    match ms.as_u64() {
        None => NONE.to_owned(),
        Some(ms) if ms < 1_000 => format!("{ms} ms"),
        Some(ms) if ms < 10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        Some(ms) => show_duration(ms),
    }
}

/// Returns labels as `key=value`, with commas between them.
pub(in crate::hub::cli) fn labels(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    let all: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", text(value))).collect();
    if all.is_empty() { NONE.to_owned() } else { all.join(",") }
}

/// Returns a task's priority by its name.
pub(in crate::hub::cli) fn priority(value: &Value) -> String {
    let name = value.as_u64().and_then(|lane| ["urgent", "high", "normal", "low"].get(usize::try_from(lane).ok()?));
    name.map_or_else(|| text(value), |name| (*name).to_owned())
}

/// Returns a list of texts, with commas between them.
pub(in crate::hub::cli) fn list(value: &Value) -> String {
    let all: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
    if all.is_empty() { NONE.to_owned() } else { all.join(", ") }
}
