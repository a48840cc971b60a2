//! What a token proves: whose it is, its role, and until when.

use serde::{Deserialize, Serialize};

use crate::hub::state::roles::{Permission, Role};

/// The time after which a use of a token is noted again, in ms: an hour.
pub const USE_NOTED_EVERY_MS: u64 = 3_600_000;

/// The identity that a token proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredPrincipal")]
pub struct Principal {
    /// The name of the agent or operator.
    pub name: String,
    /// The role, which says what the token may do.
    pub role: Role,
    /// The time of issue, in ms since the epoch.
    pub created_at: u64,
    /// The time since which the name has had a token at any moment, in ms since the epoch: it has the same owner since.
    pub owned_since: u64,
    /// The time from which on the token is worth nothing, in ms since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// The time of its last use, in ms since the epoch, to within [`USE_NOTED_EVERY_MS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<u64>,
    /// The first characters of the token, by which a person tells tokens apart; `None` for a token of an older hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Who made the token; `None` for a token of an older hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Whether its agent registered without an admin and without an invitation; never for a token of an older hub.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub registered_openly: bool,
    /// How far the machine's clock was set while it was [unclaimed](Self::is_unclaimed), in ms.
    #[serde(skip_serializing_if = "is_zero")]
    pub clock_moved_ms: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field so")]
const fn is_zero(ms: &i64) -> bool {
    *ms == 0
}

impl Principal {
    /// Creates the identity of a token that is issued at this time and does not expire. It counts as the name's first
    /// until it is issued.
    pub fn new(name: &str, role: Role, created_at: u64) -> Self {
        Self {
            name: name.to_owned(),
            role,
            created_at,
            owned_since: created_at,
            expires_at: None,
            last_used_at: None,
            prefix: None,
            created_by: None,
            registered_openly: false,
            clock_moved_ms: 0,
        }
    }

    /// Returns whether the token has the permission.
    pub const fn may(&self, permission: Permission) -> bool {
        self.role.may(permission) && (!self.registered_openly || permission.is_of_the_openly_registered())
    }

    /// Returns whether nobody vouched for its agent, and nobody has used it.
    pub const fn is_unclaimed(&self) -> bool {
        self.registered_openly && self.last_used_at.is_none()
    }

    /// Returns since when it has been unclaimed by the clock as it is now, in ms since the epoch, if it is.
    pub fn unclaimed_since(&self) -> Option<u64> {
        self.is_unclaimed().then(|| self.created_at.saturating_add_signed(self.clock_moved_ms))
    }

    /// Moves the time for which it has been unclaimed, if it is.
    pub fn move_by(&mut self, ms: i64) {
        if self.is_unclaimed() {
            self.clock_moved_ms = self.clock_moved_ms.saturating_add(ms);
        }
    }

    /// Returns whether the token is worth nothing any more at this time, in ms since the epoch.
    pub fn has_expired(&self, now_ms: u64) -> bool {
        self.expires_at.is_some_and(|at| at <= now_ms)
    }

    /// Returns whether a use at this time (ms since the epoch) is to be noted. Where the clock was set back, the last one lies
    /// ahead.
    pub fn use_is_news(&self, now_ms: u64) -> bool {
        self.last_used_at.is_none_or(|last| last.saturating_add(USE_NOTED_EVERY_MS) <= now_ms || last > now_ms)
    }
}

/// A [`Principal`] as it is stored, also by a hub that knew no roles.
#[derive(Deserialize)]
struct StoredPrincipal {
    name: String,
    role: Option<Role>,
    admin: Option<bool>,
    created_at: u64,
    #[serde(default)]
    owned_since: u64,
    expires_at: Option<u64>,
    last_used_at: Option<u64>,
    prefix: Option<String>,
    created_by: Option<String>,
    #[serde(default)]
    registered_openly: bool,
    #[serde(default)]
    clock_moved_ms: i64,
}

impl TryFrom<StoredPrincipal> for Principal {
    type Error = &'static str;

    fn try_from(stored: StoredPrincipal) -> Result<Self, Self::Error> {
        let role = match (stored.role, stored.admin) {
            (Some(role), _) => role,
            (None, Some(true)) => Role::Admin,
            (None, Some(false)) => Role::Agent,
            (None, None) => return Err("missing field `role`"),
        };
        Ok(Self {
            name: stored.name,
            role,
            created_at: stored.created_at,
            owned_since: stored.owned_since,
            expires_at: stored.expires_at,
            last_used_at: stored.last_used_at,
            prefix: stored.prefix,
            created_by: stored.created_by,
            registered_openly: stored.registered_openly,
            clock_moved_ms: stored.clock_moved_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_hub_without_roles_is_an_admins_or_an_agents() {
        for (admin, role) in [(true, Role::Admin), (false, Role::Agent)] {
            let text = format!(r#"{{"name":"a","admin":{admin},"created_at":7,"owned_since":5}}"#);
            // It is not taken for one that registered openly: it keeps its rights.
            let expected = Principal { owned_since: 5, registered_openly: false, ..Principal::new("a", role, 7) };
            assert_eq!(serde_json::from_str::<Principal>(&text).unwrap(), expected);
        }
        let refused = serde_json::from_str::<Principal>(r#"{"name":"a","created_at":7}"#).unwrap_err();
        assert!(refused.to_string().contains("missing field `role`"), "{refused}");
        assert!(serde_json::from_str::<Principal>(r#"{"name":"a","role":"king","created_at":7}"#).is_err());
    }

    #[test]
    fn a_record_is_read_back() {
        let full = Principal {
            expires_at: Some(9),
            last_used_at: Some(8),
            prefix: Some("12ab".into()),
            created_by: Some("ops".into()),
            registered_openly: true,
            clock_moved_ms: -3,
            ..Principal::new("a", Role::Viewer, 7)
        };
        for principal in [full, Principal::new("a", Role::Operator, 7)] {
            let text = serde_json::to_string(&principal).unwrap();
            assert_eq!(serde_json::from_str::<Principal>(&text).unwrap(), principal, "{text}");
        }
    }

    #[test]
    fn a_use_is_noted_once_an_hour() {
        let mut principal = Principal::new("a", Role::Agent, 7);
        assert!(principal.use_is_news(7));
        principal.last_used_at = Some(7);
        assert!(!principal.use_is_news(3_600_006) && principal.use_is_news(3_600_007));
    }
}
