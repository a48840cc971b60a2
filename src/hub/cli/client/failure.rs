//! Why a command fails, and its exit code: what the hub answers, or that it does not.

use serde_json::Value;

use crate::common::http_client::AskError;
use crate::common::text::{first_chars, on_one_line};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::options::ServeError;
use crate::hub::state::store::{DatabaseError, StoreError};

/// The most that is shown of a text of the hub, in characters.
const MAX_CHARS: usize = 2_000;

/// The reason why a command fails.
#[derive(Debug)]
pub(in crate::hub::cli) struct Failure {
    /// The exit code.
    pub(in crate::hub::cli) code: ExitCode,
    /// The message for stderr; empty if everything was said.
    pub(in crate::hub::cli) message: String,
    /// The hub's HTTP status, if it answered.
    pub(in crate::hub::cli) status: Option<u16>,
    /// The code of the hub's problem, if it answered with one.
    pub(in crate::hub::cli) problem: Option<String>,
    /// Whether the hub was asked and no answer came: it may have done what was asked, or do it yet.
    pub(in crate::hub::cli) unanswered: bool,
    /// Whether the same request may succeed in a moment: the hub ends, or another one begins.
    pub(super) passes: bool,
}

impl Failure {
    /// Creates a failure for which the hub has not been asked.
    pub(in crate::hub::cli) fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), status: None, problem: None, unanswered: false, passes: false }
    }

    /// Returns the same with another message.
    #[must_use]
    pub(in crate::hub::cli) fn saying(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }

    /// Returns whether the hub may be there again in a moment.
    pub(in crate::hub::cli) fn is_away(&self) -> bool {
        match self.code {
            ExitCode::Busy | ExitCode::Unavailable => true,
            ExitCode::Done
            | ExitCode::No
            | ExitCode::Usage
            | ExitCode::Unread
            | ExitCode::Internal
            | ExitCode::NoResources
            | ExitCode::Disk
            | ExitCode::Deposed
            | ExitCode::NotAllowed
            | ExitCode::Unusable
            | ExitCode::TimedOut
            | ExitCode::Interrupted
            | ExitCode::Terminated => false,
        }
    }

    /// Creates the end of a command that has said everything.
    pub(in crate::hub::cli) fn silent(code: ExitCode) -> Self {
        Self::new(code, "")
    }

    /// Creates the failure for an error answer of the hub at `place`.
    pub(super) fn refused(place: &str, status: u16, body: &Value, has_token: bool) -> Self {
        let Some(code) = body["code"].as_str() else {
            let message =
                format!("{place} answers HTTP {status}, and not as an agentcom-hub does: is the address right?");
            // What a proxy says of a hub that it may have reached.
            let unanswered = matches!(status, 408 | 502 | 504);
            return Self { status: Some(status), unanswered, ..Self::new(ExitCode::Unavailable, message) };
        };
        let text = |value: &Value| on_one_line(first_chars(value.as_str().unwrap_or_default(), MAX_CHARS));
        let exit = exit_code(status, code);
        let mut message = text(&body["detail"]);
        for error in body["errors"].as_array().into_iter().flatten() {
            message = format!("{message}\n  {}: {}", text(&error["field"]), text(&error["detail"]));
        }
        match (exit, status) {
            (ExitCode::Internal, 404 | 405) => {
                message = format!(
                    "the hub at {place} does not know what this program asks ({message}): it is of another version; \
                     update it and restart it"
                );
            }
            (ExitCode::NotAllowed, 401) if !has_token => {
                message = format!(
                    "{place} asks for a token: name its file with --token-file (on the hub's machine, agentcom-hub token \
                     NAME makes one)"
                );
            }
            (ExitCode::NotAllowed, 401) if code == "unauthorized" => {
                message = format!(
                    "{place} does not know the token that was given: name the right one's file with --token-file (on the \
                     hub's machine, agentcom-hub token NAME makes one)"
                );
            }
            _ => {}
        }
        // It gave the request up, and may have begun with it.
        let unanswered = status == 408;
        let problem = Some(code.to_owned());
        let passes = unanswered || matches!(code, "stopping" | "no_leader");
        Self { status: Some(status), problem, unanswered, passes, ..Self::new(exit, message) }
    }
}

/// Returns the exit code for an error answer.
fn exit_code(status: u16, code: &str) -> ExitCode {
    match (status, code) {
        (404, "not_found") | (405, _) => ExitCode::Internal,
        (404 | 409 | 410, _) => ExitCode::No,
        // The last: by a name that the hub does not know, with a token that it does not know.
        (401 | 403 | 421, _) => ExitCode::NotAllowed,
        (408 | 429 | 503, _) => ExitCode::Busy,
        (400..=499, _) => ExitCode::Usage,
        _ => ExitCode::Internal,
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let message = error.to_string();
        match error {
            AskError::Name(_) | AskError::Tcp(_) | AskError::Tls(_) | AskError::Http(_) => {
                Self::new(ExitCode::Unavailable, message)
            }
            AskError::Closed(_) => Self { unanswered: true, passes: true, ..Self::new(ExitCode::Busy, message) },
            AskError::TimedOut(_) => Self { unanswered: true, ..Self::new(ExitCode::Busy, message) },
        }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let code = match &error {
            ServeError::Store(StoreError::Locked(_)) => ExitCode::Busy,
            ServeError::Store(StoreError::Database(error)) | ServeError::Leadership(error) => of_database(error),
            ServeError::Store(error) if error.is_the_disks() => ExitCode::Disk,
            ServeError::DataDir { .. }
            | ServeError::Store(_)
            | ServeError::Listen { .. }
            | ServeError::Cluster(_)
            | ServeError::Certificate(_) => ExitCode::Unusable,
            ServeError::AddressInUse(_) => ExitCode::Unavailable,
            ServeError::Commit(_) | ServeError::TakenAway(_) => ExitCode::Disk,
            ServeError::ActorDied(_) => ExitCode::Internal,
        };
        Self::new(code, error.to_string())
    }
}

/// Returns the exit code for a database that cannot be used, or by which this process leads no more.
pub(in crate::hub::cli) fn of_database(error: &DatabaseError) -> ExitCode {
    match error {
        DatabaseError::Address(_) => ExitCode::Usage,
        DatabaseError::Refused { .. } | DatabaseError::Newer { .. } => ExitCode::Unusable,
        DatabaseError::Failed { .. } => ExitCode::Disk,
        DatabaseError::Away { .. } => ExitCode::Busy,
        DatabaseError::Deposed { .. } | DatabaseError::LeaseEnded { .. } | DatabaseError::WentBack { .. } => {
            ExitCode::Deposed
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_hub_gave_up_it_may_have_done() {
        for (status, code, expected) in [
            (408, "too_slow", (ExitCode::Busy, true, true)),
            (503, "stopping", (ExitCode::Busy, false, true)),
            (503, "queue_full", (ExitCode::Busy, false, false)),
            (422, "invalid", (ExitCode::Usage, false, false)),
        ] {
            let failure = Failure::refused("h", status, &json!({"code": code, "detail": "d"}), true);
            assert_eq!((failure.code, failure.unanswered, failure.passes), expected, "{code}");
        }
        let proxy = Failure::refused("h", 504, &Value::Null, true);
        assert_eq!((proxy.code, proxy.unanswered, proxy.passes), (ExitCode::Unavailable, true, false));
    }

    #[test]
    fn a_token_that_is_missing_or_wrong_is_told_apart() {
        let said =
            |has_token| Failure::refused("http://h", 401, &json!({"code": "unauthorized", "detail": "d"}), has_token);
        for (has_token, expected) in
            [(false, "http://h asks for a token: "), (true, "http://h does not know the token that was given: ")]
        {
            let failure = said(has_token);
            assert_eq!(failure.code, ExitCode::NotAllowed);
            assert!(failure.message.starts_with(expected), "{}", failure.message);
            assert!(failure.message.contains("with --token-file"), "{}", failure.message);
        }
    }

    #[test]
    fn a_disk_that_fails_has_one_code() {
        let failed = |error: ServeError| Failure::from(error).code;
        let full = StoreError::File { path: "hub.redb".into(), detail: "no space".to_owned() };
        assert_eq!(failed(ServeError::Commit(full)), ExitCode::Disk);
    }
}
