//! The actions of `pm2 trigger`: operator commands, and the status.

use serde::Deserialize;
use serde_json::Value;
use strum::IntoEnumIterator;

use crate::protocol::{Limit, clip};
use crate::sidecar::admin::commands::{CommandResult, OperatorCommand};
use crate::sidecar::admin::handle::AdminHandle;
use crate::sidecar::admin::pm2_channel::line::{Axm, Message, Returned};

/// The requester's name for the log.
const REQUESTER: &str = "pm2 trigger";

/// The reason of a restart if none is given.
const DEFAULT_REASON: &str = "pm2 trigger";

/// An action that is announced to pm2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "kebab-case")]
pub(super) enum Action {
    /// Return the status document.
    Status,
    /// Restart, as on the hub's command. Takes a reason, or `force`, or `{"reason": .., "force": ..}`.
    Restart,
    /// Finish the current task and accept no other.
    Drain,
    /// Accept tasks again.
    Resume,
    /// Cancel a restart that still waits for its task.
    CancelRestart,
}

/// Returns the messages that announce the actions to pm2.
pub(super) fn announcements() -> impl Iterator<Item = Message> {
    Action::iter().map(|action| {
        Message::Axm(Axm::Action {
            action_name: action.into(),
            action_type: "custom",
            arity: u8::from(action == Action::Restart),
        })
    })
}

/// Carries out the action `name` and returns the answer.
pub(super) async fn run(admin: &mut AdminHandle, name: &str, opts: &Value) -> Returned {
    let command = match name.parse() {
        Ok(Action::Status) => return Returned::Status(Box::new(admin.status())),
        Ok(Action::Restart) => parse_restart(opts),
        Ok(Action::Drain) => Ok(OperatorCommand::Drain),
        Ok(Action::Resume) => Ok(OperatorCommand::Resume),
        Ok(Action::CancelRestart) => Ok(OperatorCommand::CancelRestart),
        Err(_) => Err(format!("there is no action of this name; there are {}", names())),
    };
    Returned::CommandResult(match command {
        Ok(command) => {
            admin.ask(command, REQUESTER).await.unwrap_or_else(|gone| CommandResult::refused(gone.to_string()))
        }
        Err(message) => CommandResult::refused(message),
    })
}

fn names() -> String {
    Action::iter().map(<&str>::from).collect::<Vec<_>>().join(", ")
}

fn parse_restart(opts: &Value) -> Result<OperatorCommand, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Opts {
        reason: Option<String>,
        #[serde(default)]
        force: bool,
    }
    let command = |reason: Option<&str>, force| OperatorCommand::Restart {
        reason: clip(reason.filter(|reason| !reason.trim().is_empty()).unwrap_or(DEFAULT_REASON), Limit::Reason),
        force,
    };
    let object = |value: Value| {
        let opts: Opts = serde_json::from_value(value).map_err(|error| {
            format!("restart takes a reason, or force, or {{\"reason\": .., \"force\": ..}}: {error}")
        })?;
        Ok(command(opts.reason.as_deref(), opts.force))
    };
    match opts {
        Value::Null => Ok(command(None, false)),
        Value::String(text) => match (text.trim(), serde_json::from_str(text)) {
            ("force" | "--force", _) => Ok(command(None, true)),
            (_, Ok(value @ Value::Object(_))) => object(value),
            // Any other text is a reason, even if it happens to be JSON.
            (reason, _) => Ok(command(Some(reason), false)),
        },
        value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => object(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asks(reason: &str, force: bool) -> Result<OperatorCommand, String> {
        Ok(OperatorCommand::Restart { reason: reason.into(), force })
    }

    #[test]
    fn the_names_are_those_of_the_command_line() {
        assert_eq!(names(), "status, restart, drain, resume, cancel-restart");
    }

    #[test]
    fn a_restart_takes_a_reason_or_force_or_both() {
        assert_eq!(parse_restart(&Value::Null), asks(DEFAULT_REASON, false));
        assert_eq!(parse_restart(&json!("")), asks(DEFAULT_REASON, false));
        assert_eq!(parse_restart(&json!("force")), asks(DEFAULT_REASON, true));
        assert_eq!(parse_restart(&json!("new version")), asks("new version", false));
        assert_eq!(parse_restart(&json!("7")), asks("7", false));
        assert_eq!(parse_restart(&json!(r#"{"reason":"r","force":true}"#)), asks("r", true));
        assert_eq!(parse_restart(&json!({"reason": "r"})), asks("r", false));
    }

    #[test]
    fn odd_opts_are_refused_with_what_is_allowed() {
        for odd in
            [json!([1]), json!(7), json!(true), json!({"forced": true}), json!({"reason": 1}), json!("{\"x\":1}")]
        {
            let refused = parse_restart(&odd).unwrap_err();
            assert!(refused.contains("restart takes a reason"), "{odd}: {refused}");
        }
    }

    #[test]
    fn a_reason_is_cut_to_what_hubs_take() {
        let Ok(OperatorCommand::Restart { reason, .. }) = parse_restart(&json!("x".repeat(50_000))) else {
            panic!("refused")
        };
        assert_eq!(reason.chars().count(), Limit::Reason.chars());
    }
}
