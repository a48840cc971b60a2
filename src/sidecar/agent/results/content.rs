//! Reads one result file and tells whether it is complete, still being written, or invalid. It never waits: the caller
//! looks again at a file that is undecided.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::common::fs::regular_file::{self, Unsuitable};
use crate::common::fs::same_file;
use crate::protocol::{Document, JsonError, JsonFields, JsonText, MAX_RESULT_DEPTH, Refusal, stored_fields};
use crate::sidecar::agent::results::ResultsConfig;
use crate::sidecar::agent::results::aside::{self, PrivateFile};
use crate::sidecar::agent::results::outcome::ResultContent;
use crate::sidecar::agent::supervised::REPLACED;

impl ResultContent {
    /// Returns the failure that replaces a result that no hub would accept; `place` says where the result is.
    pub(crate) fn refused(place: impl core::fmt::Display, refusal: &Refusal) -> Self {
        let advice = "leave what is so in a file of its own, and name that in the result";
        Self::Failure { reason: format!("result_{}: {place}: {refusal}; or {advice}", refusal.name()) }
    }

    /// Interprets a result object.
    pub fn of(object: JsonText) -> Self {
        classify(object)
    }

    /// Returns the content as an object, for hooks; a failure as its status and reason.
    pub fn to_object(&self) -> JsonFields {
        let failed = |reason: String| {
            JsonFields::from_iter([("status", JsonText::of("failed")), ("reason", JsonText::of(&reason))])
        };
        match self {
            Self::Success { result } => stored_fields(result.as_str()),
            Self::Failure { reason } => failed(reason.clone()),
            Self::Unreadable { error } => failed(format!("result_parse_error: {error}")),
        }
    }
}

/// The outcome of one look at a result file.
#[derive(Debug)]
pub(super) enum Look {
    Done {
        content: ResultContent,
        /// The file that was looked at.
        version: FileVersion,
        /// Whether it was read as a result.
        taken: bool,
    },
    /// The file may still be being written, or made readable.
    Unsettled(Candidate),
}

/// A file that is not a valid result yet.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    signature: Signature,
    /// Since when it has been unchanged.
    since: Instant,
    hindrance: Hindrance,
}

/// Why a file is undecided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hindrance {
    /// It was read, and is no result as it stands.
    Content,
    /// This user may not read it yet: a session may write it under another user's name or without permissions, and give
    /// it away afterwards.
    Permission,
    /// A fault of this machine.
    Fault,
}

impl Candidate {
    /// Returns the time until it is judged if it does not change, or `None` if it is not.
    pub(super) fn judged_in(&self, config: &ResultsConfig) -> Option<Duration> {
        let limit_ms = match self.hindrance {
            Hindrance::Content => config.settle_ms,
            Hindrance::Permission => config.permission_ms,
            Hindrance::Fault => return None,
        };
        Some(Duration::from_millis(limit_ms).saturating_sub(self.since.elapsed()))
    }
}

/// The metadata that changes when a file is written, replaced or given other permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    version: FileVersion,
    changed: (i64, i64),
    is_file: bool,
}

impl Signature {
    fn of(found: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let changed = (found.ctime(), found.ctime_nsec());
        Self { version: FileVersion::of(found), changed, is_file: found.is_file() }
    }
}

/// One state of one file: what is written to it later, or put in its place, is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileVersion {
    identity: (u64, u64),
    length: u64,
    modified: Option<SystemTime>,
}

impl FileVersion {
    pub(super) fn of(found: &Metadata) -> Self {
        Self { identity: same_file::identity(found), length: found.len(), modified: found.modified().ok() }
    }
}

/// Looks at `path`, given what the last look found. Returns `None` if nothing is there.
pub(super) fn look(path: &Path, before: Option<&Candidate>, config: &ResultsConfig, now: Instant) -> Option<Look> {
    // Follows symbolic links. A dangling link counts as no file, and so does a path that cannot be reached: that is no
    // verdict. Nor is a file that is gone for the moment in which a writer puts another one in its place.
    let signature = Signature::of(&fs::metadata(path).ok()?);
    let same = before.filter(|before| before.signature == signature);
    let age = same.map_or(Duration::ZERO, |before| now.duration_since(before.since));
    let settled = age >= Duration::from_millis(config.settle_ms);
    // A file that did not parse is not read again until it changes or is about to be given up: file times are coarse,
    // and a change within one tick must not be missed.
    if let Some(before) = same.filter(|before| before.hindrance == Hindrance::Content && !settled) {
        return Some(Look::Unsettled(before.clone()));
    }
    let unsettled = |hindrance| {
        // A fault says nothing about the file: what it holds is judged from the fault's end on.
        let before = same.filter(|before| before.hindrance == hindrance && hindrance != Hindrance::Fault);
        let since = before.map_or(now, |before| before.since);
        Some(Look::Unsettled(Candidate { signature: signature.clone(), since, hindrance }))
    };
    let not_taken = |content| Some(Look::Done { content, version: signature.version, taken: false });
    let keep = || keep(path, &config.kept_in());
    match read(path, config.max_bytes) {
        Ok((content, version)) => Some(Look::Done { content, version, taken: true }),
        Err(ReadFailure::Missing) => None,
        Err(ReadFailure::Invalid(what)) if settled => {
            let place = if signature.is_file { keep() } else { path.to_owned() };
            let error =
                format!("{}: {what}; expected one JSON object such as {{\"status\":\"success\"}}", place.display());
            not_taken(ResultContent::Unreadable { error })
        }
        Err(ReadFailure::Invalid(_)) => unsettled(Hindrance::Content),
        Err(ReadFailure::NotPermitted(error)) if age >= Duration::from_millis(config.permission_ms) => {
            let (place, tried_s) = (keep(), age.as_secs());
            let error = format!("{}: could not be read for {tried_s} s: {error}", place.display());
            not_taken(ResultContent::Unreadable { error })
        }
        Err(ReadFailure::NotPermitted(error)) => {
            if same.is_none() {
                tracing::warn!(file = %path.display(), %error, "a result may not be read yet; it is tried again");
            }
            unsettled(Hindrance::Permission)
        }
        // The object is complete: further writes would not mend it.
        Err(ReadFailure::Refused(refusal)) => not_taken(ResultContent::refused(keep().display(), &refusal)),
        Err(ReadFailure::Io(error)) => {
            if same.is_none_or(|before| before.hindrance != Hindrance::Fault) {
                tracing::warn!(file = %path.display(), %error, "cannot read a result now; it will be tried again");
            }
            unsettled(Hindrance::Fault)
        }
    }
}

/// Returns the content of the file at `path` if it is a result that can be taken.
pub(super) fn of(path: &Path, max_bytes: u64) -> Option<ResultContent> {
    read(path, max_bytes).ok().map(|(content, _)| content)
}

/// Puts the file to where it can be found after the failed task's files are removed; returns its path there. One that
/// can be neither linked nor copied is moved there, or else stays where it is.
fn keep(path: &Path, folders: &[PathBuf]) -> PathBuf {
    let kept = aside::keep_file(path, folders).or_else(|_| match PrivateFile::take(path)? {
        Some(taken) => taken.keep(folders).map(|kept| kept.unwrap_or(path.into())),
        None => Ok(path.into()),
    });
    kept.unwrap_or_else(|error| {
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
    /// This user may not read the file.
    NotPermitted(io::Error),
    /// It is an object that no hub would accept.
    Refused(Refusal),
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
            Self::NotPermitted(e)
        } else {
            Self::Io(e)
        }
    }
}

fn read(path: &Path, max_bytes: u64) -> Result<(ResultContent, FileVersion), ReadFailure> {
    let mut file = regular_file::open(path)?;
    let version = FileVersion::of(&file.metadata()?);
    let bytes = regular_file::read_open(&mut file, max_bytes)?;
    if bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).trim_ascii().is_empty() {
        return Err(ReadFailure::Invalid("is empty".into()));
    }
    match Document::check(&bytes, MAX_RESULT_DEPTH) {
        Ok(document) => {
            // The supervisor of a command has replaced them already, and has no log.
            let in_output: Option<usize> = document.fields_that(|name| name == REPLACED).read(REPLACED);
            let count = document.replaced() + in_output.unwrap_or_default();
            if count > 0 {
                tracing::warn!(file = %path.display(), count, "a result or output has characters that are not Unicode: read as U+FFFD");
            }
            Ok((classify(document.to_text()), version))
        }
        Err(JsonError::Refused(refusal)) => Err(ReadFailure::Refused(refusal)),
        Err(JsonError::NotAnObject) => Err(ReadFailure::Invalid("is JSON but not an object".into())),
        Err(JsonError::NotJson(e)) => Err(ReadFailure::Invalid(format!("is not JSON: {e}"))),
    }
}

fn classify(object: JsonText) -> ResultContent {
    let fields = JsonFields::of_unchecked(object.as_str(), |name| matches!(name, "status" | "reason" | "error"));
    if fields.string("status").as_deref() == Some("success") {
        return ResultContent::Success { result: object };
    }
    let given = ["reason", "error"].iter().find_map(|key| fields.get(key).filter(|value| is_given(value)));
    let reason = given.map(|given| given.string().unwrap_or_else(|| given.to_string()));
    ResultContent::Failure { reason: reason.unwrap_or_else(|| "unknown".to_owned()) }
}

/// Returns whether a reason is given: an empty or null one is not.
fn is_given(value: &JsonText) -> bool {
    !value.is_null() && value.as_str() != "\"\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reason_of(value: serde_json::Value) -> String {
        let content = classify(JsonText::of(&value));
        let ResultContent::Failure { reason } = content else { panic!("expected a failure, got {content:?}") };
        reason
    }

    #[test]
    fn success_keeps_the_whole_object() {
        let object = JsonText::of(&json!({"status": "success", "output": "done", "n": 1}));
        assert_eq!(classify(object.clone()), ResultContent::Success { result: object });
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
