//! Reads one result file and tells whether it is complete, still being written, or invalid. It never waits: the caller
//! looks again at a file that is undecided.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value};

use crate::common::fs::regular_file::{self, Unsuitable};
use crate::protocol::{JsonError, MAX_RESULT_DEPTH, Refusal, read_object};
use crate::sidecar::agent::results::outcome::{MAX_RESULT_BYTES, ResultContent, too_large};
use crate::sidecar::agent::results::{ResultsConfig, refused};

impl ResultContent {
    /// Returns the failure that replaces a result that no hub would accept; `place` says where the result is.
    pub(crate) fn refused(place: impl core::fmt::Display, refusal: &Refusal) -> Self {
        let advice = "leave what is so in a file of its own, and name that in the result";
        Self::Failure { reason: format!("result_{}: {place}: {refusal}; or {advice}", refusal.name()) }
    }

    /// Interprets a result object.
    pub fn of(object: Map<String, Value>) -> Self {
        classify(object)
    }

    /// Returns the content as an object, for hooks; a failure as its status and reason.
    pub fn to_object(&self) -> Map<String, Value> {
        let failed = |reason: String| {
            let pairs = [("status", "failed".to_owned()), ("reason", reason)];
            pairs.into_iter().map(|(key, text)| (key.to_owned(), text.into())).collect()
        };
        match self {
            Self::Success { result } => result.clone(),
            Self::Failure { reason } => failed(reason.clone()),
            Self::Unreadable { error } => failed(format!("result_parse_error: {error}")),
        }
    }
}

/// The outcome of one look at a result file.
#[derive(Debug)]
pub(super) enum Look {
    Done(ResultContent),
    /// The file may still be being written.
    Unsettled(Candidate),
}

/// A file that is not a valid result yet.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    signature: Signature,
    /// Since when it has been unchanged.
    pub(super) since: Instant,
}

/// The metadata that changes when a file is written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    length: u64,
    modified: Option<SystemTime>,
    is_file: bool,
}

impl Signature {
    fn of(metadata: &Metadata) -> Self {
        Self { length: metadata.len(), modified: metadata.modified().ok(), is_file: metadata.is_file() }
    }
}

/// Looks at `path`, given what the last look found. Returns `None` if nothing is there.
pub(super) fn look(path: &Path, before: Option<&Candidate>, config: &ResultsConfig, now: Instant) -> Option<Look> {
    // Follows symbolic links. A dangling link counts as no file, and so does a path that cannot be reached: that is no
    // verdict.
    let signature = Signature::of(&fs::metadata(path).ok()?);
    let same = before.filter(|before| before.signature == signature);
    let settled =
        same.is_some_and(|before| now.duration_since(before.since) >= Duration::from_millis(config.settle_ms));
    // A file that did not parse is not read again until it changes or is about to be given up: file times are coarse,
    // and a change within one tick must not be missed.
    if same.is_some() && !settled {
        return same.cloned().map(Look::Unsettled);
    }
    match read(path, config.max_bytes) {
        Ok(content) => Some(Look::Done(content)),
        Err(ReadFailure::Missing) => None,
        Err(ReadFailure::Invalid(what)) if settled => {
            let place = if signature.is_file && signature.length > 0 { keep_copy(path) } else { path.to_owned() };
            let error =
                format!("{}: {what}; expected one JSON object such as {{\"status\":\"success\"}}", place.display());
            Some(Look::Done(ResultContent::Unreadable { error }))
        }
        // The object is complete: further writes would not mend it.
        Err(ReadFailure::Refused(refusal)) => {
            Some(Look::Done(ResultContent::refused(keep_copy(path).display(), &refusal)))
        }
        Err(ReadFailure::TooLarge(bytes)) => {
            let reason = format!("{}; it is kept in {}", too_large(bytes), keep_copy(path).display());
            Some(Look::Done(ResultContent::Failure { reason }))
        }
        Err(ReadFailure::Invalid(_)) => {
            let since = same.map_or(now, |before| before.since);
            Some(Look::Unsettled(Candidate { signature, since }))
        }
        Err(ReadFailure::Io(error)) => {
            tracing::warn!(file = %path.display(), %error, "cannot read a result now; it will be tried again");
            Some(Look::Unsettled(Candidate { signature, since: now }))
        }
    }
}

/// Copies the file to where it can be found after the failed task's files are removed; returns the copy's path.
fn keep_copy(path: &Path) -> PathBuf {
    refused::keep_file(path).unwrap_or_else(|error| {
        tracing::error!(file = %path.display(), %error, "a result that cannot be taken is kept nowhere else");
        path.to_owned()
    })
}

/// Why a file yielded no object.
enum ReadFailure {
    /// The file was removed meanwhile.
    Missing,
    /// The file is not a result.
    Invalid(String),
    /// It is an object that no hub would accept.
    Refused(Refusal),
    /// It is an object of this many bytes, more than a hub accepts.
    TooLarge(usize),
    /// A fault of this machine (no more open files, a disk error), which says nothing about the result.
    Io(io::Error),
}

impl From<io::Error> for ReadFailure {
    fn from(e: io::Error) -> Self {
        if let Some(unfit) = Unsuitable::of(&e) {
            Self::Invalid(unfit.to_string())
        } else if e.kind() == io::ErrorKind::NotFound {
            Self::Missing
        } else if e.kind() == io::ErrorKind::PermissionDenied {
            Self::Invalid(format!("cannot be read: {e}"))
        } else {
            Self::Io(e)
        }
    }
}

fn read(path: &Path, max_bytes: u64) -> Result<ResultContent, ReadFailure> {
    let bytes = regular_file::read(path, max_bytes)?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(ReadFailure::Invalid("is empty".into()));
    }
    match read_object(text, MAX_RESULT_DEPTH) {
        Ok(object) => match excess_size(&object, text.len()) {
            Some(bytes) => Err(ReadFailure::TooLarge(bytes)),
            None => Ok(classify(object)),
        },
        Err(JsonError::Refused(refusal)) => Err(ReadFailure::Refused(refusal)),
        Err(JsonError::NotAnObject) => Err(ReadFailure::Invalid("is JSON but not an object".into())),
        Err(JsonError::NotJson(e)) => Err(ReadFailure::Invalid(format!("is not JSON: {e}"))),
    }
}

/// Returns the size of the object as it is passed on, in bytes, if that is more than a hub accepts: a number may be
/// written with a fifth of the characters.
fn excess_size(object: &Map<String, Value>, bytes_read: usize) -> Option<usize> {
    let bytes = || serde_json::to_string(object).map_or(0, |text| text.len());
    (bytes_read > MAX_RESULT_BYTES / 5).then(bytes).filter(|bytes| *bytes > MAX_RESULT_BYTES)
}

fn classify(object: Map<String, Value>) -> ResultContent {
    if object.get("status").and_then(Value::as_str) == Some("success") {
        return ResultContent::Success { result: object };
    }
    let given = ["reason", "error"].iter().find_map(|key| object.get(*key).filter(|value| is_given(value)));
    let reason = match given {
        None => "unknown".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    ResultContent::Failure { reason }
}

/// Returns whether a reason is given: an empty or null one is not.
fn is_given(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reason_of(value: Value) -> String {
        let content = classify(value.as_object().unwrap().clone());
        let ResultContent::Failure { reason } = content else { panic!("expected a failure, got {content:?}") };
        reason
    }

    #[test]
    fn success_keeps_the_whole_object() {
        let object = json!({"status": "success", "output": "done", "n": 1});
        let expected = ResultContent::Success { result: object.as_object().unwrap().clone() };
        assert_eq!(classify(object.as_object().unwrap().clone()), expected);
    }

    #[test]
    fn a_failure_says_its_reason_before_its_error() {
        assert_eq!(reason_of(json!({"status": "failed", "reason": "a", "error": "b"})), "a");
        assert_eq!(reason_of(json!({"status": "failed", "reason": null, "error": "b"})), "b");
        assert_eq!(reason_of(json!({"status": 1})), "unknown");
    }

    #[test]
    fn a_reason_that_is_no_string_is_compact_json() {
        assert_eq!(reason_of(json!({"error": {"code": 7, "why": ["x"]}})), r#"{"code":7,"why":["x"]}"#);
    }
}
