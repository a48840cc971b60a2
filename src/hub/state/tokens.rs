//! The tokens of agents and operators, as SHA-256 only. Random bytes and storage are the caller's part.
//!
//! A token is 256 random bits in hex, so a plain hash is enough: there is nothing to guess.

use std::ops::Bound;
use std::sync::Arc;

use imbl::{HashMap, OrdSet};
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
    /// The time since which the name has had a token at any moment, in ms since the epoch: it has the same owner since.
    #[serde(default)]
    pub owned_since: u64,
}

impl Principal {
    /// Creates the identity of a token that is issued at this time. It counts as the name's first until it is issued.
    pub fn new(name: &str, admin: bool, created_at: u64) -> Self {
        Self { name: name.to_owned(), admin, created_at, owned_since: created_at }
    }
}

/// The largest number of tokens that a hub keeps. Registration is open, and must not fill the disk: a token takes about
/// 200 bytes of it.
pub const MAX_TOKENS: usize = 200_000;

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

/// The place of a token in a list: its name, its time of issue in ms since the epoch, and its hash.
pub type TokenPlace = (Arc<str>, u64, TokenHash);

/// The valid tokens. A copy shares them with the original and costs nothing, so that readers get one for each state of
/// the hub.
#[derive(Debug, Clone, Default)]
pub struct TokenTable {
    /// Tokens by the first bytes of the hash; the rest is compared in constant time.
    by_prefix: HashMap<[u8; 8], Vec<(TokenHash, Arc<Principal>)>>,
    /// Tokens by name and time of issue.
    by_name: OrdSet<TokenPlace>,
}

impl TokenTable {
    /// Returns the hash of a valid token and the identity that it proves.
    pub fn find(&self, token: &str) -> Option<(TokenHash, &Principal)> {
        let hash = hash_of(token);
        let candidates = self.by_prefix.get(&prefix(&hash))?;
        let (_, principal) = candidates.iter().find(|(stored, _)| bool::from(stored.ct_eq(&hash)))?;
        Some((hash, principal))
    }

    /// Returns the identity that the token with this hash proves, if it is valid.
    pub fn get(&self, hash: &TokenHash) -> Option<&Principal> {
        let candidates = self.by_prefix.get(&prefix(hash))?;
        candidates.iter().find(|(stored, _)| stored == hash).map(|(_, principal)| &**principal)
    }

    /// Returns whether the name has a token.
    pub fn holds(&self, name: &str) -> bool {
        self.of(name).next().is_some()
    }

    /// Returns whether one of the name's tokens is selected.
    pub fn has_any(&self, name: &str, which: &TokenSelector) -> bool {
        self.of(name).any(|hash| self.is_selected(hash, which))
    }

    fn is_selected(&self, hash: &TokenHash, which: &TokenSelector) -> bool {
        match which {
            TokenSelector::All => true,
            TokenSelector::Agents => self.get(hash).is_some_and(|principal| !principal.admin),
            TokenSelector::One(id) => *id == id_of(hash),
        }
    }

    /// Returns the time since which the name has its present owner, in ms since the epoch; `None` if it has no token.
    pub fn owned_since(&self, name: &str) -> Option<u64> {
        self.of(name).next().and_then(|hash| self.get(hash)).map(|principal| principal.owned_since)
    }

    /// Returns the tokens after this place, by name and age, each with its own place.
    pub fn list_after(&self, after: Option<&TokenPlace>) -> impl Iterator<Item = (&TokenPlace, TokenSummary)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_name.range::<_, TokenPlace>((from, Bound::Unbounded)).filter_map(|place| {
            let (_, _, hash) = place;
            let principal = self.get(hash)?;
            let summary = TokenSummary {
                id: id_of(hash),
                agent_id: principal.name.clone(),
                admin: principal.admin,
                created_at: principal.created_at,
            };
            Some((place, summary))
        })
    }

    /// Returns all tokens, by name and age.
    pub fn list(&self) -> impl Iterator<Item = TokenSummary> {
        self.list_after(None).map(|(_, summary)| summary)
    }

    /// Returns the tokens of a name, the oldest first.
    fn of(&self, name: &str) -> impl Iterator<Item = &TokenHash> {
        let name: Arc<str> = name.into();
        let range = (name.clone(), 0, [0; 32])..=(name, u64::MAX, [u8::MAX; 32]);
        self.by_name.range(range).map(|(_, _, hash)| hash)
    }

    fn insert(&mut self, hash: TokenHash, principal: Principal) {
        self.by_name.insert((principal.name.as_str().into(), principal.created_at, hash));
        self.by_prefix.entry(prefix(&hash)).or_default().push((hash, Arc::new(principal)));
    }

    fn remove(&mut self, hash: &TokenHash) {
        let Some(principal) = self.get(hash) else { return };
        let entry = (principal.name.as_str().into(), principal.created_at, *hash);
        self.by_name.remove(&entry);
        if let Some(same_prefix) = self.by_prefix.get_mut(&prefix(hash)) {
            same_prefix.retain(|(stored, _)| stored != hash);
            if same_prefix.is_empty() {
                self.by_prefix.remove(&prefix(hash));
            }
        }
    }
}

/// All tokens, and what is to be stored of them.
#[derive(Debug, Default)]
pub struct Tokens {
    valid: TokenTable,
    dirty: Vec<Change>,
}

impl Tokens {
    /// Restores the tokens from what was stored.
    pub fn load(stored: Vec<(TokenHash, Principal)>) -> Self {
        let mut tokens = Self::default();
        for (hash, principal) in stored {
            tokens.valid.insert(hash, principal);
        }
        tokens
    }

    /// Returns the valid tokens.
    pub fn valid(&self) -> &TokenTable {
        &self.valid
    }

    /// Turns random bytes into a new token for the name. A name may have several, all of the same owner; with
    /// `only_if_new` it must have none. The same bytes give the same token, which is kept once.
    ///
    /// # Errors
    /// Returns [`NotIssued::NameTaken`] (only with `only_if_new`) or [`NotIssued::Full`].
    pub fn issue(
        &mut self,
        secret: [u8; SECRET_BYTES],
        mut principal: Principal,
        only_if_new: bool,
    ) -> Result<String, NotIssued> {
        if only_if_new && self.valid.holds(&principal.name) {
            return Err(NotIssued::NameTaken);
        }
        let token = hex(&secret);
        let hash = hash_of(&token);
        if self.valid.get(&hash).is_some() {
            return Ok(token);
        }
        if self.valid.by_name.len() >= MAX_TOKENS {
            return Err(NotIssued::Full);
        }
        principal.owned_since = self.valid.owned_since(&principal.name).unwrap_or(principal.owned_since);
        self.dirty.push((hash, Some(principal.clone())));
        self.valid.insert(hash, principal);
        Ok(token)
    }

    /// Revokes tokens of the name and returns how many.
    pub fn revoke(&mut self, name: &str, which: &TokenSelector) -> usize {
        let selected = |hash: &&TokenHash| self.valid.is_selected(hash, which);
        let revoked: Vec<TokenHash> = self.valid.of(name).filter(selected).copied().collect();
        for hash in &revoked {
            self.valid.remove(hash);
            self.dirty.push((*hash, None));
        }
        revoked.len()
    }

    /// Returns the tokens to store or to delete since the last call.
    pub fn take_dirty(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.dirty)
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
        Principal::new(name, false, 1)
    }

    fn proves<'a>(tokens: &'a Tokens, token: &str) -> Option<&'a str> {
        tokens.valid().find(token).map(|(_, principal)| principal.name.as_str())
    }

    #[test]
    fn a_token_proves_its_name_and_no_other_token_does() {
        let mut tokens = Tokens::default();
        let token = tokens.issue([7; 32], principal("a"), true).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(proves(&tokens, &token), Some("a"));
        assert_eq!(proves(&tokens, &token[..63]), None);
        assert_eq!(proves(&tokens, ""), None);
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
        assert_eq!(
            (tokens.valid().list().count(), tokens.revoke("a", &TokenSelector::All), tokens.valid().holds("a")),
            (1, 1, false)
        );
    }

    #[test]
    fn what_is_stored_is_enough_to_verify_and_is_not_the_token() {
        let mut tokens = Tokens::default();
        let token = tokens.issue([7; 32], principal("a"), true).unwrap();
        let stored = tokens.take_dirty();
        assert!(!format!("{stored:?}").contains(&token));
        assert_eq!(hex(&stored[0].0).len(), 64);
        let stored = stored.into_iter().filter_map(|(hash, principal)| Some((hash, principal?))).collect();
        assert!(proves(&Tokens::load(stored), &token) == Some("a"));
    }

    #[test]
    fn a_revoked_token_proves_nobody_and_its_name_is_free_again() {
        let mut tokens = Tokens::default();
        let (one, other) = (tokens.issue([7; 32], principal("a"), true), tokens.issue([8; 32], principal("b"), true));
        let stored = tokens.take_dirty();
        assert_eq!(tokens.revoke("a", &TokenSelector::All), 1);
        assert_eq!(tokens.take_dirty(), [(stored[0].0, None)]);
        assert_eq!(proves(&tokens, &one.unwrap()), None);
        assert_eq!(proves(&tokens, &other.unwrap()), Some("b"));
        assert!(tokens.issue([9; 32], principal("a"), true).is_ok());
        assert_eq!(tokens.revoke("nobody", &TokenSelector::All), 0);
    }

    #[test]
    fn one_of_several_tokens_is_revoked_by_its_id_and_an_admins_only_when_it_is_meant() {
        let mut tokens = Tokens::default();
        let old = tokens.issue([7; 32], principal("a"), false).unwrap();
        let new = tokens.issue([8; 32], Principal { created_at: 2, ..principal("a") }, false).unwrap();
        let admin = tokens.issue([9; 32], Principal { admin: true, ..principal("a") }, false).unwrap();
        let oldest = tokens.valid().list().find(|shown| shown.created_at == 1 && !shown.admin).unwrap();
        assert_eq!(tokens.revoke("b", &TokenSelector::One(oldest.id.clone())), 0, "it is not b's");
        assert_eq!(tokens.revoke("a", &TokenSelector::One(oldest.id)), 1);
        assert!(proves(&tokens, &old).is_none() && proves(&tokens, &new).is_some());
        assert_eq!(tokens.revoke("a", &TokenSelector::Agents), 1);
        assert!(proves(&tokens, &new).is_none() && proves(&tokens, &admin).is_some());
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
