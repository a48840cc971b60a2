//! The messages to pm2, and their encoding as lines.
//!
//! pm2 passes every line to `JSON.parse` and reads properties of the result: one line that is not JSON, or is `null`,
//! ends the pm2 daemon and every app under it (measured on 7.0.4; `God/ForkMode.js`). So a [`ChannelLine`] can only be
//! created here, from a typed message, and its text is checked first.

use serde::Serialize;
use serde_json::Value;

use crate::sidecar::admin::commands::CommandResult;
use crate::sidecar::admin::pm2_channel::figures::Monitor;
use crate::sidecar::admin::status::Status;

/// The longest line, in bytes. A status with everything at its limits takes a tenth of it.
pub(super) const MAX_LINE_BYTES: usize = 256 * 1024;

/// The line that ends pm2's `wait_ready`.
const READY: &str = "\"ready\"";

/// A message to pm2.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// The process is ready.
    Ready,
    /// Any other message.
    Axm(Axm),
}

/// pm2's message objects (`Daemon.js`, `God.bus.on('axm:...')`). None has a `cmd`, which Node would take for a message
/// of its own, nor the type `error`, which an event emitter throws.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", content = "data")]
pub(super) enum Axm {
    /// The announcement of an action of `pm2 trigger`.
    #[serde(rename = "axm:action")]
    Action {
        /// The action's name on the command line.
        action_name: &'static str,
        /// Always `custom`.
        action_type: &'static str,
        /// The number of arguments.
        arity: u8,
    },
    /// The metrics for `pm2 show` and `pm2 monit`.
    #[serde(rename = "axm:monitor")]
    Monitor(Box<Monitor>),
    /// The table for `pm2 show`.
    #[serde(rename = "axm:option:configuration")]
    Table {
        /// The rows: name and text.
        human_info: Vec<(&'static str, String)>,
    },
    /// The answer to a `pm2 trigger`.
    #[serde(rename = "axm:reply")]
    Reply {
        /// The triggered action's name, as pm2 sent it.
        action_name: String,
        /// The action's answer.
        #[serde(rename = "return")]
        returned: Returned,
    },
}

/// The answer to an action.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Returned {
    /// The outcome of an operator command.
    CommandResult(CommandResult),
    /// The status document.
    Status(Box<Status>),
}

/// A complete line for pm2's channel, including its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChannelLine(Vec<u8>);

/// The reason why a text must not be sent to pm2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadLine {
    /// It cannot be encoded as JSON.
    #[error("it cannot be written as JSON: {0}")]
    NotWritten(String),
    /// It is longer than [`MAX_LINE_BYTES`].
    #[error("it has {bytes} bytes, of at most {MAX_LINE_BYTES}")]
    TooLong {
        /// The line's length, in bytes.
        bytes: usize,
    },
    /// It contains a control character, for instance a newline.
    #[error("it has a control character at byte {at}")]
    ControlCharacter {
        /// The character's offset, in bytes.
        at: usize,
    },
    /// It does not have the shape of a message that pm2 knows.
    #[error("pm2 knows no message of its shape: {0}")]
    Shape(String),
}

impl ChannelLine {
    /// Encodes a message as a line.
    ///
    /// # Errors
    /// [`BadLine`]: the message must not be sent.
    pub(super) fn of(message: &Message) -> Result<Self, BadLine> {
        let text = match message {
            Message::Ready => READY.to_owned(),
            Message::Axm(axm) => serde_json::to_string(axm).map_err(|error| BadLine::NotWritten(error.to_string()))?,
        };
        check(&text)?;
        let mut bytes = text.into_bytes();
        bytes.push(b'\n');
        Ok(Self(bytes))
    }

    /// Returns the line's bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Checks that pm2 survives this text as a line, whatever its source.
pub(super) fn check(text: &str) -> Result<(), BadLine> {
    const TYPES: [&str; 4] = ["axm:action", "axm:monitor", "axm:option:configuration", "axm:reply"];
    if text.len() > MAX_LINE_BYTES {
        return Err(BadLine::TooLong { bytes: text.len() });
    }
    // In JSON strings they are escaped; unescaped they may stand between tokens only, where we write none.
    if let Some(at) = text.bytes().position(|byte| byte < b' ') {
        return Err(BadLine::ControlCharacter { at });
    }
    if text == READY {
        return Ok(());
    }
    let shape = |found: &str| Err(BadLine::Shape(found.to_owned()));
    let value = serde_json::from_str::<Value>(text).map_err(|error| BadLine::Shape(error.to_string()))?;
    let Value::Object(object) = value else { return shape("not an object") };
    let known = object.get("type").and_then(Value::as_str).is_some_and(|kind| TYPES.contains(&kind));
    match (known, object.get("data"), object.len()) {
        (true, Some(Value::Object(data)), 2) if !data.contains_key("name") && !data.contains_key("pid") => Ok(()),
        // With `data.name` or `data.pid`, pm2 would attribute the message to another app.
        (true, Some(_), 2) => shape("data that is no object, or renames the app"),
        (true, _, _) => shape("not exactly type and data"),
        (false, _, _) => shape("an unknown type"),
    }
}

#[cfg(test)]
mod tests;
