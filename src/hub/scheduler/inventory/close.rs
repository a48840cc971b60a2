//! How an agent's connection ended: who ended it, and why.

use serde::{Deserialize, Serialize};

use crate::common::text::first_chars;

/// The largest number of characters that are kept of the reason in a close frame. One has at most 123 bytes.
const MAX_REASON_CHARS: usize = 123;

/// The side that ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosedBy {
    /// The agent closed it by handshake.
    Agent,
    /// The hub closed it, or ended itself.
    Hub,
    /// It broke: the network, a proxy, a process that was killed.
    Nobody,
}

/// The reason why an agent has no connection, or had to change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CloseCause {
    /// The agent closed the connection: it was stopped.
    ClosedByAgent,
    /// The agent had announced a restart of its own.
    RestartAnnounced,
    /// The agent was on a restart that the hub had commanded.
    RestartCommanded,
    /// The connection broke without a word.
    ConnectionLost,
    /// The agent was silent for too long.
    Silent,
    /// A newer connection of the same agent took its place.
    Superseded,
    /// The token was revoked.
    TokenRevoked,
    /// The token expired.
    TokenExpired,
    /// The hub closed the connection for another reason, which the text says.
    ClosedByHub,
    /// The hub was stopped, or killed: the agent may have been well.
    HubRestarted,
    /// A reason that this version does not know.
    #[serde(other)]
    Unknown,
}

impl CloseCause {
    /// Returns the name in the API.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns whether the agent's process was to end.
    pub const fn is_restart(self) -> bool {
        match self {
            Self::RestartAnnounced | Self::RestartCommanded => true,
            Self::ClosedByAgent
            | Self::ConnectionLost
            | Self::Silent
            | Self::Superseded
            | Self::TokenRevoked
            | Self::TokenExpired
            | Self::ClosedByHub
            | Self::HubRestarted
            | Self::Unknown => false,
        }
    }
}

/// How a connection closes, as its socket sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    pub(super) by: ClosedBy,
    pub(super) cause: CloseCause,
    pub(super) code: Option<u16>,
    pub(super) reason: String,
}

impl Closing {
    /// Returns the reason, as text for people.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Creates the end of a connection that broke.
    pub fn broken() -> Self {
        Self::new(ClosedBy::Nobody, CloseCause::ConnectionLost, None, "")
    }

    /// Creates the end of a connection that the agent closed by handshake.
    pub fn by_agent(code: Option<u16>, reason: &str) -> Self {
        Self::new(ClosedBy::Agent, CloseCause::ClosedByAgent, code, reason)
    }

    /// Creates the end of a connection that was silent for too long.
    pub fn silent(code: u16, reason: &str) -> Self {
        Self::new(ClosedBy::Hub, CloseCause::Silent, Some(code), reason)
    }

    /// Creates the end of a connection that the hub closed for another reason.
    pub fn by_hub(code: u16, reason: &str) -> Self {
        Self::new(ClosedBy::Hub, CloseCause::ClosedByHub, Some(code), reason)
    }

    /// Creates the end of a connection whose token was revoked.
    pub fn revoked() -> Self {
        Self::new(ClosedBy::Hub, CloseCause::TokenRevoked, Some(1008), "the token was revoked")
    }

    /// Creates the end of a connection whose token expired.
    pub fn expired() -> Self {
        Self::new(ClosedBy::Hub, CloseCause::TokenExpired, Some(1008), "the token has expired")
    }

    /// Creates the end of a connection whose place a newer one took.
    pub fn superseded(code: u16, reason: &str) -> Self {
        Self::new(ClosedBy::Hub, CloseCause::Superseded, Some(code), reason)
    }

    fn new(by: ClosedBy, cause: CloseCause, code: Option<u16>, reason: &str) -> Self {
        let reason = first_chars(reason, MAX_REASON_CHARS).to_owned();
        Self { by, cause, code, reason }
    }

    /// Returns the same end as it is recorded. An agent that is `restarting` left for that, however its connection ended.
    pub(super) fn record(&self, restarting: Option<CloseCause>, at: u64) -> LastClose {
        let cause = match self.cause {
            CloseCause::TokenRevoked | CloseCause::TokenExpired | CloseCause::Superseded | CloseCause::HubRestarted => {
                self.cause
            }
            CloseCause::ClosedByAgent
            | CloseCause::RestartAnnounced
            | CloseCause::RestartCommanded
            | CloseCause::ConnectionLost
            | CloseCause::Silent
            | CloseCause::ClosedByHub
            | CloseCause::Unknown => restarting.unwrap_or(self.cause),
        };
        LastClose { at, why: cause, by: self.by, code: self.code, reason: self.reason.as_str().into() }
    }
}

/// The end of an agent's last connection that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastClose {
    /// The time, in ms since the epoch.
    pub at: u64,
    /// The reason.
    pub why: CloseCause,
    /// The side that ended it.
    pub by: ClosedBy,
    /// The WebSocket close code, if there was a close frame.
    pub code: Option<u16>,
    /// The reason in the close frame, as text for people.
    pub reason: Box<str>,
}

impl LastClose {
    /// Returns the end of a connection that was open when the hub ended.
    pub(super) fn hub_restarted(at: u64) -> Self {
        Self { at, why: CloseCause::HubRestarted, by: ClosedBy::Hub, code: None, reason: Box::default() }
    }
}
