//! Everything that was said on the double's sockets, with times. Recording only.

use serde_json::Value;

use super::core::ConnectionId;

/// One thing that happened.
#[derive(Debug, Clone)]
pub struct Entry {
    /// By the wall clock, ms since the epoch: comparable with the sidecar's own log.
    pub at_ms: u64,
    pub connection: ConnectionId,
    /// Whoever had identified on the connection by then.
    pub agent: Option<String>,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// The websocket was accepted.
    Opened,
    /// A JSON text frame from the sidecar.
    Sidecar(Value),
    /// A text that is no JSON, or a binary frame, from the sidecar.
    Garbage(String),
    /// A frame to the sidecar. Lost: the connection was half-open.
    Hub { frame: Value, lost: bool },
    /// Something to the sidecar that a test put there.
    Raw(String),
    /// The sidecar closed with a close frame; code and reason, where it gave any.
    SidecarClosed(Option<(u16, String)>),
    /// The connection ended without a close frame from the sidecar.
    Ended,
    /// The hub sent a close frame.
    HubClosed(u16, String),
    /// The hub dropped the TCP connection without one.
    HubDropped,
}

impl Entry {
    /// The sidecar's frame, if this is one of that type.
    pub fn said(&self, kind: &str) -> Option<&Value> {
        let What::Sidecar(frame) = &self.what else { return None };
        (frame["type"] == kind).then_some(frame)
    }

    /// The hub's frame, if this is one of that type.
    pub fn heard(&self, kind: &str) -> Option<&Value> {
        let What::Hub { frame, .. } = &self.what else { return None };
        (frame["type"] == kind).then_some(frame)
    }
}

/// The log as lines a person can read, for the message of a failing test. Tokens are left out.
pub fn story(entries: &[Entry]) -> String {
    let start = entries.first().map_or(0, |entry| entry.at_ms);
    let lines = entries.iter().map(|entry| {
        let what = match &entry.what {
            What::Sidecar(frame) => {
                let mut frame = frame.clone();
                if frame.get("token").is_some() {
                    frame["token"] = "<token>".into();
                }
                format!("-> {frame}")
            }
            What::Hub { frame, lost } => format!("<- {frame}{}", if *lost { "  (lost)" } else { "" }),
            What::Opened | What::Garbage(_) | What::Raw(_) | What::SidecarClosed(_) | What::Ended => {
                format!("{:?}", entry.what)
            }
            What::HubClosed(..) | What::HubDropped => format!("{:?}", entry.what),
        };
        format!("{:>7} #{} {}: {what}", entry.at_ms - start, entry.connection, entry.agent.as_deref().unwrap_or("?"))
    });
    lines.collect::<Vec<_>>().join("\n")
}
