//! The content of a result, as the outcome of its task, and its size limits.

use serde_json::Value;

use crate::common::logging::Redactor;
use crate::machine::Outcome;
use crate::protocol::{JsonText, Limit, clip};

/// The largest result file that is read, bytes.
pub(crate) const MAX_FILE_BYTES: u64 = 2 << 20;

/// The longest result, as the text that is sent to the hub, bytes. This project's hub accepts frames of 4 MiB and drops
/// the connection for a longer one, which would be sent again and again; a smaller file may become longer, since
/// numbers are written out.
pub(crate) const MAX_RESULT_BYTES: usize = (4 << 20) - (64 << 10);

/// The content of a result file.
#[derive(Debug, Clone, PartialEq)]
pub enum ResultContent {
    /// `{"status":"success", ...}`.
    Success {
        /// The whole object.
        result: JsonText,
    },
    /// Any other object.
    Failure {
        /// Its `reason`, else its `error`, else `"unknown"`; a value that is not a string, as compact JSON.
        reason: String,
    },
    /// Not a JSON object, too large, or not a file, and unchanged for the settling time.
    Unreadable {
        /// What was found, where, and what is expected instead.
        error: String,
    },
}

/// Converts a result's content to the task's outcome, without the token.
pub(crate) fn outcome_of(content: ResultContent, redactor: &Redactor) -> Outcome {
    match content {
        ResultContent::Success { result } => completed(clean(&result, redactor)),
        // At the latest it is cut when it is sent.
        ResultContent::Failure { reason } => Outcome::Failed { reason: clip(&redactor.clean(reason), Limit::Reason) },
        ResultContent::Unreadable { error } => Outcome::Failed { reason: format!("result_parse_error: {error}") },
    }
}

/// Returns the result's text without secrets. A secret of digits may be a part of a number, where a text cannot stand.
fn clean(result: &JsonText, redactor: &Redactor) -> String {
    let cleaned = redactor.clean(result.as_str().to_owned());
    match serde_json::from_str::<serde::de::IgnoredAny>(&cleaned) {
        Ok(_) => cleaned,
        Err(_) => clean_tree(result.read().unwrap_or_default(), redactor).to_string(),
    }
}

fn clean_tree(value: Value, redactor: &Redactor) -> Value {
    match value {
        Value::String(text) => redactor.clean(text).into(),
        Value::Number(number) => {
            let text = number.to_string();
            let cleaned = redactor.clean(text.clone());
            if cleaned == text { Value::Number(number) } else { cleaned.into() }
        }
        Value::Array(items) => items.into_iter().map(|item| clean_tree(item, redactor)).collect(),
        Value::Object(object) => {
            object.into_iter().map(|(key, value)| (redactor.clean(key), clean_tree(value, redactor))).collect()
        }
        Value::Null | Value::Bool(_) => value,
    }
}

fn completed(result: String) -> Outcome {
    match result.len() {
        bytes if bytes > MAX_RESULT_BYTES => Outcome::Failed { reason: too_large(bytes) },
        _ => Outcome::Completed { result: result.into() },
    }
}

/// Returns the reason of the failure that replaces a result of this many bytes.
pub(crate) fn too_large(bytes: usize) -> String {
    format!(
        "result_too_large: it has {bytes} bytes, more than the {MAX_RESULT_BYTES} that a hub takes; leave large output in a file of its own, and name that in the result"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::secret::Secret;

    fn outcome_of(content: ResultContent) -> Outcome {
        super::outcome_of(content, &Redactor::new(&[Secret::new("t0ken")]))
    }

    fn success(text: &str) -> ResultContent {
        ResultContent::of(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_result_that_a_hub_would_not_take_fails() {
        let text = format!(r#"{{"status":"success","output":"{}"}}"#, "x".repeat(MAX_RESULT_BYTES));
        let Outcome::Failed { reason } = outcome_of(success(&text)) else { panic!("it would break the link for ever") };
        assert!(reason.starts_with("result_too_large: it has 4128") && reason.len() < 200, "{reason}");
    }

    #[test]
    fn a_token_of_digits_in_a_number_does_not_break_the_result() {
        let redactor = Redactor::new(&[Secret::new("12345678")]);
        let content = success(r#"{"status":"success","output":"work 12345678","n":[912345678,7]}"#);
        let Outcome::Completed { result } = super::outcome_of(content, &redactor) else { panic!("it is a success") };
        let read: Value = serde_json::from_str(&result).unwrap();
        assert_eq!((&read["status"], &read["n"][1]), (&"success".into(), &7.into()));
        assert!(!result.contains("12345678"), "{result}");
    }

    #[test]
    fn the_token_is_found_however_it_is_written() {
        let Outcome::Completed { result } = outcome_of(success(r#"{"status":"success","output":"\u0074\u0030ken"}"#))
        else {
            panic!("it is a success")
        };
        assert!(!result.contains("t0ken") && !result.contains("\\u0074"), "{result}");
    }

    #[test]
    fn a_result_of_the_largest_file_of_plain_text_completes() {
        let text = format!(r#"{{"status":"success","output":"{}"}}"#, "x".repeat((2 << 20) - 40));
        assert!(matches!(outcome_of(success(&text)), Outcome::Completed { .. }));
    }
}
