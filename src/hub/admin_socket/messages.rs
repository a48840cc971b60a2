//! The requests and responses of the admin socket, one line of JSON each.

use serde::{Deserialize, Serialize};

use crate::hub::state::audit::{Filter, Page};
use crate::hub::state::invitations::InvitationSummary;
use crate::hub::state::roles::Role;
use crate::hub::state::store::UnreadRecord;
use crate::hub::state::tokens::{SECRET_BYTES, TokenSummary};

/// A request of an operator command.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Make a new token.
    Token {
        /// The name of the agent or the operator.
        name: String,
        /// Whether the token may do everything; `role` counts where there is one.
        #[serde(default)]
        admin: bool,
        /// The role of the token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
        /// The time for which the token is valid, in ms; absent if it does not expire.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_in_ms: Option<u64>,
        /// Whether all other tokens of the name are revoked.
        #[serde(default)]
        replace: bool,
        /// The token's random bytes, if the caller generated and stored them before asking; else the hub generates
        /// them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<[u8; SECRET_BYTES]>,
    },
    /// List all tokens.
    List,
    /// Revoke all tokens of a name, or the one with this id.
    Revoke {
        /// The name of the agent or the operator.
        name: String,
        /// The token's id, as in the list.
        #[serde(default)]
        id: Option<String>,
    },
    /// Make an invitation.
    Invite {
        /// The only agent that may use it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The number of agents that it is for.
        uses: u64,
        /// The time for which it is valid, in ms.
        expires_in_ms: u64,
    },
    /// List all invitations.
    ListInvitations,
    /// Withdraw an invitation.
    RevokeInvitation {
        /// Its id, as in the list.
        id: String,
    },
    /// Read a page of the audit.
    Audit {
        /// What is asked for.
        filter: Filter,
        /// The number before which the page begins.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
        /// The largest number of entries.
        limit: usize,
    },
    /// List the records of the store that cannot be read.
    CheckStore,
}

/// The response: the result of the request, or an error.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Response {
    /// The new token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The role of the new token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// All tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<TokenSummary>>,
    /// The code of the new invitation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation: Option<String>,
    /// All invitations, or the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitations: Option<Vec<InvitationSummary>>,
    /// A page of the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Page>,
    /// The number of tokens or invitations revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<usize>,
    /// The records of the store that cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<Vec<UnreadRecord>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Response {
    pub(super) fn error(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }
}
