//! Decodes pm2's messages: lines of JSON that arrive in arbitrary pieces.

use serde_json::Value;

use crate::common::text::first_chars;

/// The longest line that is read, in bytes.
pub(super) const LINE_CAP: usize = 64 * 1024;

/// The longest action name that is kept, in characters.
const NAME_CAP: usize = 64;

/// A message from pm2.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ChannelMessage {
    /// The order to stop (pm2's `shutdown_with_message`).
    Shutdown,
    /// An action of `pm2 trigger`.
    Trigger {
        /// The action's name.
        name: String,
        /// pm2's `opts`: a string from the command line, any value from a program, null if absent.
        opts: Value,
    },
    /// A line longer than [`LINE_CAP`].
    TooLong,
    /// A line without a meaning here.
    Nothing,
}

/// Splits the received pieces into lines.
#[derive(Debug, Default)]
pub(super) struct ChannelReader {
    line: Vec<u8>,
    skipping: bool,
}

impl ChannelReader {
    /// Reads the next piece and returns the messages that it completes.
    pub(super) fn receive(&mut self, piece: &[u8]) -> Vec<ChannelMessage> {
        let mut messages = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            self.skipping |= self.line.len() + text.len() > LINE_CAP;
            if self.skipping {
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(text);
            }
            if ends {
                messages.push(if self.skipping { ChannelMessage::TooLong } else { parse(&self.line) });
                self.line.clear();
                self.skipping = false;
            }
        }
        messages
    }
}

/// Decodes a line: `"drain"` for an action without options, else `{"msg": "drain", "opts": ..., ...}`
/// (`God.msgProcess`).
fn parse(line: &[u8]) -> ChannelMessage {
    match serde_json::from_slice::<Value>(line) {
        Ok(Value::String(text)) if text == "shutdown" => ChannelMessage::Shutdown,
        Ok(Value::String(name)) => ChannelMessage::Trigger { name: clipped(&name), opts: Value::Null },
        Ok(Value::Object(mut object)) => match (object.remove("msg"), object.remove("opts")) {
            (Some(Value::String(name)), opts) => {
                ChannelMessage::Trigger { name: clipped(&name), opts: opts.unwrap_or(Value::Null) }
            }
            _ => ChannelMessage::Nothing,
        },
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | Err(_) => ChannelMessage::Nothing,
    }
}

fn clipped(name: &str) -> String {
    first_chars(name, NAME_CAP).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn heard(text: &str) -> Vec<ChannelMessage> {
        ChannelReader::default().receive(text.as_bytes())
    }

    fn trigger(name: &str, opts: Value) -> ChannelMessage {
        ChannelMessage::Trigger { name: name.into(), opts }
    }

    #[test]
    fn pm2s_messages_are_told_apart() {
        let lines =
            "\"shutdown\"\n\"drain\"\n{\"msg\":\"restart\",\"opts\":\"force\",\"name\":\"alice\"}\n{\"msg\":7}\n";
        let expected = [ChannelMessage::Shutdown, trigger("drain", Value::Null), trigger("restart", json!("force"))];
        assert_eq!(heard(lines)[..3], expected);
        assert_eq!(heard(lines)[3..], [ChannelMessage::Nothing]);
    }

    #[test]
    fn whatever_is_no_message_means_nothing() {
        for line in ["", "null", "[]", "7", "{", "\"open", "\u{fffd}", "{\"opts\":1}"] {
            assert_eq!(heard(&format!("{line}\n")), [ChannelMessage::Nothing], "{line}");
        }
    }

    #[test]
    fn a_line_may_come_in_pieces() {
        let mut reader = ChannelReader::default();
        assert_eq!(reader.receive(b"\"shut"), []);
        assert_eq!(reader.receive(b"down\"\n\"dra"), [ChannelMessage::Shutdown]);
        assert_eq!(reader.receive(b"in\"\n"), [trigger("drain", Value::Null)]);
    }

    #[test]
    fn a_line_too_long_is_left_out_whole_and_the_next_one_heard() {
        let mut reader = ChannelReader::default();
        assert_eq!(reader.receive(&vec![b'"'; LINE_CAP]), []);
        assert_eq!(reader.receive(&vec![b'x'; LINE_CAP]), []);
        assert_eq!(reader.receive(b"shutdown\"\n\"shutdown\"\n"), [ChannelMessage::TooLong, ChannelMessage::Shutdown]);
        assert!(reader.line.capacity() <= LINE_CAP);
    }
}
