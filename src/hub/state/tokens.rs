//! The tokens of agents and operators, as SHA-256 only. Random bytes and storage are the caller's part.
//!
//! A token is 256 random bits in hex, so a plain hash is enough: there is nothing to guess.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The length of a token's random bytes.
pub const SECRET_BYTES: usize = 32;

/// A token's SHA-256.
pub type TokenHash = [u8; 32];

/// The identity that a token proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// The name of the agent or operator.
    pub name: String,
    /// Whether the token is an admin's, which may do everything.
    pub admin: bool,
    /// The time of issue, in ms since the epoch.
    pub created_at: u64,
}

/// The largest number of tokens that a hub keeps. Registration is open, and must not fill the disk.
pub const MAX_TOKENS: usize = 10_000;

/// The reason why no token was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotIssued {
    /// The name has a token already.
    NameTaken,
    /// There are [`MAX_TOKENS`] tokens.
    Full,
}

/// A token as it is listed: without the token itself, and without its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSummary {
    /// The token's id: the first 12 hex digits of its hash.
    pub id: String,
    /// The name of the agent or operator.
    pub agent_id: String,
    /// Whether the token is an admin's, which may do everything.
    pub admin: bool,
    /// The time of issue, in ms since the epoch.
    pub created_at: u64,
}

/// A selection among the tokens of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSelector {
    /// All tokens.
    All,
    /// The tokens that are no admin's.
    Agents,
    /// The token with this id.
    One(String),
}

/// A token to store, or (`None`) to delete.
pub type Change = (TokenHash, Option<Principal>);

/// All tokens.
#[derive(Debug, Default)]
pub struct Tokens {
    /// Tokens by the first bytes of the hash; the rest is compared in constant time.
    by_prefix: HashMap<[u8; 8], Vec<(TokenHash, Principal)>>,
    /// The number of tokens of each name.
    names: HashMap<String, usize>,
    dirty: Vec<Change>,
}

impl Tokens {
    /// Restores the tokens from what was stored.
    pub fn load(stored: Vec<(TokenHash, Principal)>) -> Self {
        let mut tokens = Self::default();
        for (hash, principal) in stored {
            tokens.insert(hash, principal);
        }
        tokens
    }

    /// Turns random bytes into a new token for the name. A name may have several; with `only_if_new` it must have
    /// none. The same bytes give the same token, which is kept once.
    ///
    /// # Errors
    /// Returns [`NotIssued::NameTaken`] (only with `only_if_new`) or [`NotIssued::Full`].
    pub fn issue(
        &mut self,
        secret: [u8; SECRET_BYTES],
        principal: Principal,
        only_if_new: bool,
    ) -> Result<String, NotIssued> {
        if only_if_new && self.holds(&principal.name) {
            return Err(NotIssued::NameTaken);
        }
        let token = hex(&secret);
        let hash = hash_of(&token);
        if self.contains(&hash) {
            return Ok(token);
        }
        if self.names.values().sum::<usize>() >= MAX_TOKENS {
            return Err(NotIssued::Full);
        }
        self.dirty.push((hash, Some(principal.clone())));
        self.insert(hash, principal);
        Ok(token)
    }

    /// Returns whether the name has a token.
    pub fn holds(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Revokes tokens of the name and returns how many.
    pub fn revoke(&mut self, name: &str, which: &TokenSelector) -> usize {
        let selected = |hash: &TokenHash, principal: &Principal| {
            let of_kind = match which {
                TokenSelector::All => true,
                TokenSelector::Agents => !principal.admin,
                TokenSelector::One(id) => *id == id_of(hash),
            };
            of_kind && principal.name == name
        };
        let before = self.dirty.len();
        for tokens in self.by_prefix.values_mut() {
            let removed = tokens.extract_if(.., |(hash, principal)| selected(hash, principal));
            self.dirty.extend(removed.map(|(hash, _)| (hash, None)));
        }
        self.by_prefix.retain(|_, tokens| !tokens.is_empty());
        let revoked = self.dirty.len() - before;
        if let Some(left) = self.names.get_mut(name) {
            *left -= revoked;
            if *left == 0 {
                self.names.remove(name);
            }
        }
        revoked
    }

    /// Returns whether this is the hash of a valid token.
    pub fn contains(&self, hash: &TokenHash) -> bool {
        let candidates = self.by_prefix.get(&prefix(hash));
        candidates.is_some_and(|candidates| candidates.iter().any(|(stored, _)| stored == hash))
    }

    /// Returns all tokens, by name and age.
    pub fn list(&self) -> Vec<TokenSummary> {
        let shown = |(hash, principal): &(TokenHash, Principal)| TokenSummary {
            id: id_of(hash),
            agent_id: principal.name.clone(),
            admin: principal.admin,
            created_at: principal.created_at,
        };
        let mut all: Vec<TokenSummary> = self.by_prefix.values().flatten().map(shown).collect();
        all.sort_by(|a, b| (&a.agent_id, a.created_at, &a.id).cmp(&(&b.agent_id, b.created_at, &b.id)));
        all
    }

    /// Returns the hash of a valid token and the identity that it proves.
    pub fn find(&self, token: &str) -> Option<(TokenHash, &Principal)> {
        let hash = hash_of(token);
        let candidates = self.by_prefix.get(&prefix(&hash))?;
        let (_, principal) = candidates.iter().find(|(stored, _)| bool::from(stored.ct_eq(&hash)))?;
        Some((hash, principal))
    }

    /// Returns the identity that a token proves, if it is valid.
    pub fn verify(&self, token: &str) -> Option<&Principal> {
        self.find(token).map(|(_, principal)| principal)
    }

    /// Returns the tokens to store or to delete since the last call.
    pub fn take_dirty(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.dirty)
    }

    fn insert(&mut self, hash: TokenHash, principal: Principal) {
        *self.names.entry(principal.name.clone()).or_default() += 1;
        self.by_prefix.entry(prefix(&hash)).or_default().push((hash, principal));
    }
}

/// Returns the bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn id_of(hash: &TokenHash) -> String {
    hex(&hash[..6])
}

fn hash_of(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

fn prefix(hash: &TokenHash) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(name: &str) -> Principal {
        Principal { name: name.into(), admin: false, created_at: 1 }
    }

    #[test]
    fn a_token_proves_its_name_and_no_other_token_does() {
        let mut tokens = Tokens::default();
        let token = tokens.issue([7; 32], principal("a"), true).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(tokens.verify(&token).map(|p| p.name.as_str()), Some("a"));
        assert_eq!(tokens.verify(&token[..63]), None);
        assert_eq!(tokens.verify(""), None);
    }

    #[test]
    fn the_first_registration_wins() {
        let mut tokens = Tokens::default();
        tokens.issue([7; 32], principal("a"), true).unwrap();
        assert_eq!(tokens.issue([8; 32], principal("a"), true), Err(NotIssued::NameTaken));
        assert!(tokens.issue([9; 32], principal("a"), false).is_ok());
    }

    #[test]
    fn a_token_that_is_asked_for_again_is_there_once() {
        let mut tokens = Tokens::default();
        let first = tokens.issue([7; 32], principal("a"), false);
        assert_eq!(tokens.issue([7; 32], principal("a"), false), first);
        assert_eq!((tokens.list().len(), tokens.revoke("a", &TokenSelector::All), tokens.holds("a")), (1, 1, false));
    }

    #[test]
    fn what_is_stored_is_enough_to_verify_and_is_not_the_token() {
        let mut tokens = Tokens::default();
        let token = tokens.issue([7; 32], principal("a"), true).unwrap();
        let stored = tokens.take_dirty();
        assert!(!format!("{stored:?}").contains(&token));
        assert_eq!(hex(&stored[0].0).len(), 64);
        let stored = stored.into_iter().filter_map(|(hash, principal)| Some((hash, principal?))).collect();
        assert!(Tokens::load(stored).verify(&token).is_some());
    }

    #[test]
    fn a_revoked_token_proves_nobody_and_its_name_is_free_again() {
        let mut tokens = Tokens::default();
        let (one, other) = (tokens.issue([7; 32], principal("a"), true), tokens.issue([8; 32], principal("b"), true));
        let stored = tokens.take_dirty();
        assert_eq!(tokens.revoke("a", &TokenSelector::All), 1);
        assert_eq!(tokens.take_dirty(), [(stored[0].0, None)]);
        assert_eq!(tokens.verify(&one.unwrap()), None);
        assert!(tokens.verify(&other.unwrap()).is_some());
        assert!(tokens.issue([9; 32], principal("a"), true).is_ok());
        assert_eq!(tokens.revoke("nobody", &TokenSelector::All), 0);
    }

    #[test]
    fn one_of_several_tokens_is_revoked_by_its_id_and_an_admins_only_when_it_is_meant() {
        let mut tokens = Tokens::default();
        let old = tokens.issue([7; 32], principal("a"), false).unwrap();
        let new = tokens.issue([8; 32], Principal { created_at: 2, ..principal("a") }, false).unwrap();
        let admin = tokens.issue([9; 32], Principal { admin: true, ..principal("a") }, false).unwrap();
        let oldest = tokens.list().into_iter().find(|shown| shown.created_at == 1 && !shown.admin).unwrap();
        assert_eq!(tokens.revoke("b", &TokenSelector::One(oldest.id.clone())), 0, "it is not b's");
        assert_eq!(tokens.revoke("a", &TokenSelector::One(oldest.id)), 1);
        assert!(tokens.verify(&old).is_none() && tokens.verify(&new).is_some());
        assert_eq!(tokens.revoke("a", &TokenSelector::Agents), 1);
        assert!(tokens.verify(&new).is_none() && tokens.verify(&admin).is_some());
    }

    #[test]
    fn registration_cannot_fill_the_disk() {
        let mut tokens = Tokens::default();
        for n in 0..MAX_TOKENS {
            let mut secret = [0; SECRET_BYTES];
            secret[..8].copy_from_slice(&n.to_le_bytes());
            tokens.issue(secret, principal(&format!("a{n}")), true).unwrap();
        }
        assert_eq!(tokens.issue([9; 32], principal("one more"), true), Err(NotIssued::Full));
    }
}
