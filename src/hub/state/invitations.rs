//! Invitations: codes with which agents register where they otherwise could not, as SHA-256 only. Random bytes and
//! storage are the caller's part.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::hub::state::tokens::{SECRET_BYTES, hash_of, hex, id_of};

/// The number of invitations that a hub keeps. Where there are as many, one that is used up or has expired makes room.
pub const MAX_INVITATIONS: usize = 10_000;
/// The largest number of agents that one invitation is for.
pub const MAX_USES: u64 = 10_000;
/// The time for which an invitation is valid if nothing else is said, in ms: a day.
pub const DEFAULT_LIFE_MS: u64 = 86_400_000;
/// What a code begins with, so that it is not taken for a token.
const CODE_PREFIX: &str = "inv-";

/// One invitation, without its code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Its id: the first 12 hex digits of its code's hash.
    pub id: String,
    /// The SHA-256 of its code, in hex.
    hash: String,
    /// The only agent that may use it; `None` if any may.
    #[serde(default)]
    pub agent_id: Option<String>,
    /// The number of agents that it is for.
    pub uses: u64,
    /// The number of agents that may still use it.
    pub uses_left: u64,
    /// The time of issue, in ms since the epoch.
    pub created_at: u64,
    /// The time from which on it is worth nothing, in ms since the epoch.
    pub expires_at: u64,
    /// Who made it.
    pub created_by: String,
}

/// An invitation as it is listed: without its code, and without its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationSummary {
    /// Its id.
    pub id: String,
    /// The only agent that may use it; `None` if any may.
    pub agent_id: Option<String>,
    /// The number of agents that it is for.
    pub uses: u64,
    /// The number of agents that may still use it.
    pub uses_left: u64,
    /// The time of issue, in ms since the epoch.
    pub created_at: u64,
    /// The time from which on it is worth nothing, in ms since the epoch.
    pub expires_at: u64,
    /// Who made it.
    pub created_by: String,
}

impl Invitation {
    /// Returns what is shown of it.
    pub fn summary(&self) -> InvitationSummary {
        InvitationSummary {
            id: self.id.clone(),
            agent_id: self.agent_id.clone(),
            uses: self.uses,
            uses_left: self.uses_left,
            created_at: self.created_at,
            expires_at: self.expires_at,
            created_by: self.created_by.clone(),
        }
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.uses_left == 0 || self.expires_at <= now_ms
    }
}

/// What a new invitation is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationRequest {
    /// The only agent that may use it; `None` if any may.
    pub agent_id: Option<String>,
    /// The number of agents that it is for.
    pub uses: u64,
    /// The time for which it is valid, in ms.
    pub expires_in_ms: u64,
}

/// The reason why a code does not let an agent register. The names are those of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum NotInvited {
    /// No invitation has this code: it is mistyped, or was withdrawn.
    InvitationUnknown,
    /// Its time is over.
    InvitationExpired,
    /// As many agents have used it as it is for.
    InvitationUsedUp,
    /// It is for an agent of another name.
    InvitationForAnother,
}

/// There are [`MAX_INVITATIONS`] that may still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyInvitations;

/// Invitations by id. A copy shares them with the original and costs nothing.
pub type InvitationTable = OrdMap<String, Invitation>;

/// An invitation to store, by id, or (`None`) to delete.
pub type Change = (String, Option<Invitation>);

/// All invitations, and what is to be stored of them.
#[derive(Debug, Default)]
pub struct Invitations {
    all: InvitationTable,
    dirty: Vec<Change>,
}

impl Invitations {
    /// Restores the invitations from what was stored.
    pub fn load(stored: Vec<Invitation>) -> Self {
        Self { all: stored.into_iter().map(|one| (one.id.clone(), one)).collect(), dirty: Vec::new() }
    }

    /// Returns all invitations.
    pub fn all(&self) -> &InvitationTable {
        &self.all
    }

    /// Turns random bytes into the code of a new invitation; returns it with the invitation's id.
    ///
    /// # Errors
    /// Returns [`TooManyInvitations`].
    pub fn make(
        &mut self,
        secret: [u8; SECRET_BYTES],
        request: InvitationRequest,
        created_by: &str,
        now_ms: u64,
    ) -> Result<(String, InvitationSummary), TooManyInvitations> {
        self.make_room(now_ms)?;
        let code = format!("{CODE_PREFIX}{}", hex(&secret[..16]));
        let hash = hash_of(&code);
        let invitation = Invitation {
            id: id_of(&hash),
            hash: hex(&hash),
            agent_id: request.agent_id,
            uses: request.uses,
            uses_left: request.uses,
            created_at: now_ms,
            expires_at: now_ms.saturating_add(request.expires_in_ms),
            created_by: created_by.to_owned(),
        };
        let summary = invitation.summary();
        self.put(invitation);
        Ok((code, summary))
    }

    fn make_room(&mut self, now_ms: u64) -> Result<(), TooManyInvitations> {
        if self.all.len() < MAX_INVITATIONS {
            return Ok(());
        }
        let over = self.all.values().filter(|one| one.is_over(now_ms)).min_by_key(|one| (one.expires_at, &one.id));
        let id = over.map(|one| one.id.clone()).ok_or(TooManyInvitations)?;
        self.revoke(&id);
        Ok(())
    }

    /// Returns the id of the invitation with this code, if the agent may use it.
    ///
    /// # Errors
    /// Returns [`NotInvited`].
    pub fn check(&self, code: &str, agent_id: &str, now_ms: u64) -> Result<String, NotInvited> {
        let hash = hash_of(code.trim());
        let same = |one: &&Invitation| bool::from(one.hash.as_bytes().ct_eq(hex(&hash).as_bytes()));
        let one = self.all.get(&id_of(&hash)).filter(same).ok_or(NotInvited::InvitationUnknown)?;
        if one.expires_at <= now_ms {
            return Err(NotInvited::InvitationExpired);
        }
        if one.uses_left == 0 {
            return Err(NotInvited::InvitationUsedUp);
        }
        if one.agent_id.as_ref().is_some_and(|only| only != agent_id) {
            return Err(NotInvited::InvitationForAnother);
        }
        Ok(one.id.clone())
    }

    /// Takes one use of the invitation and returns how many are left.
    pub fn use_once(&mut self, id: &str) -> u64 {
        let Some(mut one) = self.all.get(id).cloned() else { return 0 };
        one.uses_left = one.uses_left.saturating_sub(1);
        let left = one.uses_left;
        self.put(one);
        left
    }

    /// Withdraws the invitation and returns it, if there is one.
    pub fn revoke(&mut self, id: &str) -> Option<Invitation> {
        let revoked = self.all.remove(id)?;
        self.dirty.push((id.to_owned(), None));
        Some(revoked)
    }

    fn put(&mut self, invitation: Invitation) {
        self.dirty.push((invitation.id.clone(), Some(invitation.clone())));
        self.all.insert(invitation.id.clone(), invitation);
    }

    /// Returns the invitations to store or to delete since the last call, in the order of the changes.
    pub fn take_dirty(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.dirty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(agent_id: Option<&str>, uses: u64) -> InvitationRequest {
        InvitationRequest { agent_id: agent_id.map(str::to_owned), uses, expires_in_ms: 100 }
    }

    #[test]
    fn a_code_is_good_for_as_many_agents_as_it_says_and_until_its_time() {
        let mut invitations = Invitations::default();
        let (code, made) = invitations.make([7; 32], request(None, 2), "ops", 10).unwrap();
        assert!(code.starts_with("inv-") && code.len() == 36, "{code}");
        let id = invitations.check(&format!(" {code}\n"), "a", 109).unwrap();
        assert_eq!((id == made.id, invitations.use_once(&id), invitations.use_once(&id)), (true, 1, 0));
        assert_eq!(invitations.check(&code, "a", 109), Err(NotInvited::InvitationUsedUp));
        assert_eq!(invitations.check(&code, "a", 110), Err(NotInvited::InvitationExpired));
        assert_eq!(invitations.check("inv-0", "a", 10), Err(NotInvited::InvitationUnknown));
    }

    #[test]
    fn an_invitation_for_one_name_is_for_no_other() {
        let mut invitations = Invitations::default();
        let (code, _) = invitations.make([7; 32], request(Some("a"), 1), "ops", 10).unwrap();
        assert_eq!(invitations.check(&code, "b", 10), Err(NotInvited::InvitationForAnother));
        assert!(invitations.check(&code, "a", 10).is_ok());
    }

    #[test]
    fn what_is_stored_is_enough_and_is_not_the_code() {
        let mut invitations = Invitations::default();
        let (code, made) = invitations.make([7; 32], request(None, 1), "ops", 10).unwrap();
        let stored = serde_json::to_string(&invitations.take_dirty()[0].1).unwrap();
        assert!(!stored.contains(&code) && !stored.contains(&code[4..]));
        let mut again = Invitations::load(vec![serde_json::from_str(&stored).unwrap()]);
        assert_eq!(again.check(&code, "a", 10), Ok(made.id.clone()));
        assert!(again.revoke(&made.id).is_some() && again.revoke(&made.id).is_none());
        assert_eq!(again.check(&code, "a", 10), Err(NotInvited::InvitationUnknown));
        assert_eq!(again.take_dirty(), [(made.id, None)]);
    }

    #[test]
    fn those_that_are_over_make_room_and_others_do_not() {
        let mut invitations = Invitations::default();
        let secret = |n: usize| {
            let mut secret = [0; SECRET_BYTES];
            secret[..8].copy_from_slice(&n.to_le_bytes());
            secret
        };
        for n in 0..MAX_INVITATIONS {
            invitations.make(secret(n), request(None, 1), "ops", 10).unwrap();
        }
        assert_eq!(invitations.make(secret(MAX_INVITATIONS), request(None, 1), "ops", 10), Err(TooManyInvitations));
        assert!(invitations.make(secret(MAX_INVITATIONS), request(None, 1), "ops", 110).is_ok());
        assert_eq!(invitations.all().len(), MAX_INVITATIONS);
    }
}
