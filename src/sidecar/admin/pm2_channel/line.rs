//! What is said to pm2, as types, and the lines they become. It writes nothing.
//!
//! pm2 runs every line through `JSON.parse` and reads properties of what comes out: one line that is no JSON, or `null`,
//! ends the pm2 daemon and every app below it (measured on 7.0.4; `God/ForkMode.js`). So a [`ChannelLine`] is made here only,
//! from a type, and checked as text before it exists.

use core::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::sidecar::admin::commands::CommandResult;
use crate::sidecar::admin::pm2_channel::figures::Monitor;
use crate::sidecar::admin::status::Status;

/// The longest line, bytes. A status with everything at its bounds takes a tenth of it.
pub(super) const MAX_LINE_BYTES: usize = 256 * 1024;

/// What releases pm2's `wait_ready`.
const READY: &str = "\"ready\"";

/// Something to say.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// We serve.
    Ready,
    /// Anything else.
    Axm(Axm),
}

/// pm2's objects (`Daemon.js`, `God.bus.on('axm:...')`). None has a `cmd`, which Node would take for its own, nor the
/// type `error`, which an event emitter throws.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", content = "data")]
pub(super) enum Axm {
    /// Something that `pm2 trigger` may ask for.
    #[serde(rename = "axm:action")]
    Action {
        /// Its name on the command line.
        action_name: &'static str,
        /// `custom`.
        action_type: &'static str,
        /// How many arguments it takes.
        arity: u8,
    },
    /// Figures for `pm2 show` and `pm2 monit`.
    #[serde(rename = "axm:monitor")]
    Monitor(Box<Monitor>),
    /// A table for `pm2 show`.
    #[serde(rename = "axm:option:configuration")]
    Table {
        /// Rows of two.
        human_info: Vec<(&'static str, String)>,
    },
    /// The answer to a `pm2 trigger`.
    #[serde(rename = "axm:reply")]
    Reply {
        /// What was asked for; it comes from outside.
        action_name: String,
        /// What became of it.
        #[serde(rename = "return")]
        returned: Returned,
    },
}

/// What an action answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Returned {
    /// What became of a wish.
    CommandResult(CommandResult),
    /// The sidecar as it stands.
    Status(Box<Status>),
}

/// One whole line for pm2's channel, its newline included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChannelLine(Vec<u8>);

/// Why a text must not be sent to pm2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BadLine {
    /// It could not be written as JSON.
    NotWritten(String),
    /// It is longer than [`MAX_LINE_BYTES`].
    TooLong {
        /// How long.
        bytes: usize,
    },
    /// It has a control character in it, perhaps a newline.
    ControlCharacter {
        /// Where, bytes.
        at: usize,
    },
    /// It is not one of the shapes that pm2 knows.
    Shape(String),
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWritten(error) => write!(f, "it cannot be written as JSON: {error}"),
            Self::TooLong { bytes } => write!(f, "it has {bytes} bytes, of at most {MAX_LINE_BYTES}"),
            Self::ControlCharacter { at } => write!(f, "it has a control character at byte {at}"),
            Self::Shape(found) => write!(f, "pm2 knows no message of its shape: {found}"),
        }
    }
}

impl ChannelLine {
    /// The line of a message.
    ///
    /// # Errors
    /// [`BadLine`]: it must not be sent.
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

    /// Its bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Whether pm2 survives this text as a line, whoever wrote it.
pub(super) fn check(text: &str) -> Result<(), BadLine> {
    const TYPES: [&str; 4] = ["axm:action", "axm:monitor", "axm:option:configuration", "axm:reply"];
    if text.len() > MAX_LINE_BYTES {
        return Err(BadLine::TooLong { bytes: text.len() });
    }
    // JSON writes them as escapes; as they are, they stand only between tokens, where we write none.
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
        // `data.name` and `data.pid` would make pm2 take us for another app.
        (true, Some(_), 2) => shape("data that is no object, or renames the app"),
        (true, _, _) => shape("not exactly type and data"),
        (false, _, _) => shape("an unknown type"),
    }
}

#[cfg(test)]
mod tests;
