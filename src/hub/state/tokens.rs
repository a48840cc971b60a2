//! The tokens of agents and operators, as SHA-256 only. Random bytes and storage are the caller's part.
//!
//! A token is 256 random bits in hex, so a plain hash is enough: there is nothing to guess.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use imbl::{HashMap, OrdSet};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use crate::hub::state::principal::Principal;
use crate::hub::state::roles::Role;

/// The length of a token's random bytes.
pub const SECRET_BYTES: usize = 32;

/// A token's SHA-256.
pub type TokenHash = [u8; 32];

/// The number of characters of a token that are kept to tell it apart, of 64: they prove nothing.
const PREFIX_CHARS: usize = 6;

/// The largest number of tokens that a hub keeps beside those of agents that registered openly. A token takes about 200 bytes
/// of the disk.
pub const MAX_TOKENS: usize = 200_000;
/// The largest number of tokens of agents that registered openly. They have a room of their own: however many strangers
/// register, an admin can make tokens.
pub const MAX_OPEN_TOKENS: usize = 100_000;
/// The time after which a token of an agent that registered openly is dropped if it was never used, in ms: 7 days.
pub const UNCLAIMED_LIFE_MS: u64 = 7 * 86_400_000;

/// The reason why no token was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotIssued {
    /// The name has a token already.
    NameTaken,
    /// The bytes are those of a token that is there.
    SecretInUse,
    /// There are [`MAX_TOKENS`] tokens.
    Full,
    /// There are [`MAX_OPEN_TOKENS`] tokens of agents that registered openly, and all of them are used.
    FullOfStrangers,
    /// An agent that registered openly uses the name: whoever it is would share what is given to the name.
    HeldOpenly,
}

/// The number of bytes of a hash that are the token's id.
const ID_BYTES: usize = 6;

/// A token as it is listed: without the token itself, and without its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenSummary {
    /// The token's id: the first 12 hex digits of its hash.
    pub id: String,
    /// The name of the agent or operator.
    pub agent_id: String,
    /// The role.
    pub role: Role,
    /// Whether the token is an admin's, which may do everything.
    pub admin: bool,
    /// The time of issue, in ms since the epoch.
    pub created_at: u64,
    /// The time from which on the token is worth nothing, in ms since the epoch.
    #[serde(default)]
    pub expires_at: Option<u64>,
    /// The time of its last use, in ms since the epoch, to within an hour.
    #[serde(default)]
    pub last_used_at: Option<u64>,
    /// The first characters of the token.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Who made the token.
    #[serde(default)]
    pub created_by: Option<String>,
    /// Whether its agent registered without an admin and without an invitation: it may only do what is its own.
    #[serde(default)]
    pub registered_openly: bool,
}

impl TokenSummary {
    fn new(hash: &TokenHash, principal: &Principal) -> Self {
        Self {
            id: id_of(hash),
            agent_id: principal.name.clone(),
            role: principal.role,
            admin: principal.role == Role::Admin,
            created_at: principal.created_at,
            expires_at: principal.expires_at,
            last_used_at: principal.last_used_at,
            prefix: principal.prefix.clone(),
            created_by: principal.created_by.clone(),
            registered_openly: principal.registered_openly,
        }
    }
}

/// A selection among the tokens of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSelector {
    /// All tokens.
    All,
    /// The tokens whose role is that of an agent.
    Agents,
    /// The token with this id.
    One(String),
}

/// A token to store, or (`None`) to delete.
pub type Change = (TokenHash, Option<Principal>);

/// The place of a token in a list: its name, its time of issue in ms since the epoch, and its hash.
pub type TokenPlace = (Arc<str>, u64, TokenHash);

/// The tokens that were not revoked, those that have expired among them. A copy shares them with the original and costs nothing, so that readers get one for each state of
/// the hub.
#[derive(Debug, Clone, Default)]
pub struct TokenTable {
    /// Tokens by the first bytes of the hash; the rest is compared in constant time.
    by_prefix: HashMap<[u8; 8], Vec<(TokenHash, Arc<Principal>)>>,
    /// Tokens by name and time of issue.
    by_name: OrdSet<TokenPlace>,
}

impl TokenTable {
    /// Returns the hash of a token and the identity that it proves, unless it [has expired](Principal::has_expired).
    pub fn find(&self, token: &str) -> Option<(TokenHash, &Principal)> {
        let hash = hash_of(token);
        let candidates = self.by_prefix.get(&prefix(&hash))?;
        let (_, principal) = candidates.iter().find(|(stored, _)| bool::from(stored.ct_eq(&hash)))?;
        Some((hash, principal))
    }

    /// Returns the identity that the token with this hash proves, unless it [has expired](Principal::has_expired).
    pub fn get(&self, hash: &TokenHash) -> Option<&Principal> {
        let candidates = self.by_prefix.get(&prefix(hash))?;
        candidates.iter().find(|(stored, _)| stored == hash).map(|(_, principal)| &**principal)
    }

    /// Returns whether the token with this hash is worth something at this time, in ms since the epoch.
    pub fn is_valid(&self, hash: &TokenHash, now_ms: u64) -> bool {
        self.get(hash).is_some_and(|principal| !principal.has_expired(now_ms))
    }

    /// Returns whether one of the name's tokens is worth something at this time, in ms since the epoch.
    pub fn holds_valid(&self, name: &str, now_ms: u64) -> bool {
        self.of(name).any(|hash| self.is_valid(hash, now_ms))
    }

    /// Returns whether the name has a token, be it one that has expired.
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
            TokenSelector::Agents => self.get(hash).is_some_and(|principal| principal.role == Role::Agent),
            TokenSelector::One(id) => *id == id_of(hash),
        }
    }

    /// Returns whether an agent of the name is to be expected: it has an agent's token that somebody vouched for, or that was
    /// used.
    pub fn expects(&self, name: &str) -> bool {
        self.of(name).any(|hash| self.get(hash).is_some_and(Self::is_expected))
    }

    /// A flood of registrations makes no agents.
    fn is_expected(principal: &Principal) -> bool {
        principal.role == Role::Agent && !principal.is_unclaimed()
    }

    /// Returns whether an agent that registered openly holds the name, and if so, whether its token was used.
    pub fn held_openly(&self, name: &str) -> Option<bool> {
        let mut openly = self.of(name).filter_map(|hash| self.get(hash)).filter(|it| it.registered_openly).peekable();
        openly.peek()?;
        Some(openly.any(|principal| !principal.is_unclaimed()))
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
            Some((place, TokenSummary::new(hash, self.get(hash)?)))
        })
    }

    /// Returns the names after this one of agents that are to be [expected](Self::expects), in order, each once.
    pub fn agents_after<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = &'a str> {
        // After the last token that the name could have.
        let from = after.map(|name| -> TokenPlace { (name.into(), u64::MAX, [u8::MAX; 32]) });
        let from = from.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last: Option<&str> = None;
        self.by_name.range::<_, TokenPlace>((from, Bound::Unbounded)).filter_map(move |(name, _, hash)| {
            let is_next = last != Some(&**name) && self.get(hash).is_some_and(Self::is_expected);
            is_next.then(|| *last.insert(name))
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

    fn get_mut(&mut self, hash: &TokenHash) -> Option<&mut Principal> {
        let candidates = self.by_prefix.get_mut(&prefix(hash))?;
        candidates.iter_mut().find(|(stored, _)| stored == hash).map(|(_, principal)| Arc::make_mut(principal))
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
    /// The tokens that will expire, by that time in ms since the epoch.
    expiring: BTreeSet<(u64, TokenHash)>,
    /// The tokens whose use is noted and not stored.
    used: BTreeSet<TokenHash>,
    /// The number of tokens of agents that registered openly.
    open: usize,
    /// Those of them that were never used, by the time since when, in ms since the epoch.
    unclaimed: BTreeSet<(u64, TokenHash)>,
}

impl Tokens {
    /// Restores the tokens from what was stored.
    pub fn load(stored: Vec<(TokenHash, Principal)>) -> Self {
        let mut tokens = Self::default();
        for (hash, principal) in stored {
            tokens.add(hash, principal);
        }
        tokens
    }

    fn add(&mut self, hash: TokenHash, principal: Principal) {
        self.expiring.extend(principal.expires_at.map(|at| (at, hash)));
        self.open += usize::from(principal.registered_openly);
        self.unclaimed.extend(principal.unclaimed_since().map(|since| (since, hash)));
        self.valid.insert(hash, principal);
    }

    /// Returns the tokens that were not revoked.
    pub fn valid(&self) -> &TokenTable {
        &self.valid
    }

    /// Returns the token that these bytes were turned into before, if it was for the same.
    pub fn issued_before(&self, secret: &[u8; SECRET_BYTES], principal: &Principal) -> Option<String> {
        let token = hex(secret);
        let known = self.valid.get(&hash_of(&token))?;
        let is_same = (known.name == principal.name && known.role == principal.role)
            && known.expires_at.is_some() == principal.expires_at.is_some();
        is_same.then_some(token)
    }

    /// Turns random bytes into a new token for the name. A name may have several, all of the same owner; with
    /// `only_if_new` it must have none.
    ///
    /// # Errors
    /// Returns [`NotIssued::NameTaken`] (only with `only_if_new`), or those of [`Self::check_room`].
    pub fn issue(
        &mut self,
        secret: [u8; SECRET_BYTES],
        mut principal: Principal,
        only_if_new: bool,
    ) -> Result<String, NotIssued> {
        if only_if_new && self.valid.holds(&principal.name) {
            return Err(NotIssued::NameTaken);
        }
        self.check_room(&secret, principal.registered_openly)?;
        let token = hex(&secret);
        let hash = hash_of(&token);
        principal.owned_since = self.valid.owned_since(&principal.name).unwrap_or(principal.owned_since);
        principal.prefix = Some(token[..PREFIX_CHARS].to_owned());
        self.dirty.push((hash, Some(principal.clone())));
        self.add(hash, principal);
        Ok(token)
    }

    /// Checks that there is room for a token of these bytes.
    ///
    /// # Errors
    /// Returns [`NotIssued::SecretInUse`], [`NotIssued::Full`] or, for an agent that registers openly,
    /// [`NotIssued::FullOfStrangers`].
    pub fn check_room(&self, secret: &[u8; SECRET_BYTES], registered_openly: bool) -> Result<(), NotIssued> {
        if self.valid.get(&hash_of(&hex(secret))).is_some() {
            return Err(NotIssued::SecretInUse);
        }
        match registered_openly {
            true if self.open >= MAX_OPEN_TOKENS => Err(NotIssued::FullOfStrangers),
            false if self.valid.by_name.len() - self.open >= MAX_TOKENS => Err(NotIssued::Full),
            true | false => Ok(()),
        }
    }

    /// Returns the name of the unclaimed token that makes room for another one, if there is none without it.
    pub fn makes_room(&self) -> Option<String> {
        let (_, oldest) = self.unclaimed.first().filter(|_| self.open >= MAX_OPEN_TOKENS)?;
        self.valid.get(oldest).map(|principal| principal.name.clone())
    }

    /// Returns the names, at most so many, whose token was registered openly, was never used, and is to be dropped by now.
    pub fn overdue_unclaimed(&self, most: usize, now_ms: u64) -> Vec<String> {
        let overdue = self.unclaimed.iter().take_while(|(at, _)| at.saturating_add(UNCLAIMED_LIFE_MS) <= now_ms);
        overdue.take(most).filter_map(|(_, hash)| Some(self.valid.get(hash)?.name.clone())).collect()
    }

    /// Revokes tokens of the name and returns their ids.
    pub fn revoke(&mut self, name: &str, which: &TokenSelector) -> Vec<String> {
        let selected = |hash: &&TokenHash| self.valid.is_selected(hash, which);
        let revoked: Vec<TokenHash> = self.valid.of(name).filter(selected).copied().collect();
        for hash in &revoked {
            if let Some(principal) = self.valid.get(hash) {
                if let Some(expires_at) = principal.expires_at {
                    self.expiring.remove(&(expires_at, *hash));
                }
                self.open -= usize::from(principal.registered_openly);
                if let Some(since) = principal.unclaimed_since() {
                    self.unclaimed.remove(&(since, *hash));
                }
            }
            self.used.remove(hash);
            self.valid.remove(hash);
            self.dirty.push((*hash, None));
        }
        revoked.iter().map(id_of).collect()
    }

    /// Returns when the next token expires or is to be dropped, in ms since the epoch.
    pub fn next_expiry(&self) -> Option<u64> {
        let drop = self.unclaimed.first().map(|(at, _)| at.saturating_add(UNCLAIMED_LIFE_MS));
        self.expiring.first().map(|(at, _)| *at).into_iter().chain(drop).min()
    }

    /// Returns the names and hashes of the tokens that have expired since the last call.
    pub fn take_expired(&mut self, now_ms: u64) -> Vec<(String, TokenHash)> {
        let mut expired = Vec::new();
        while let Some((at, hash)) = self.expiring.pop_first() {
            if at > now_ms {
                self.expiring.insert((at, hash));
                break;
            }
            expired.extend(self.valid.get(&hash).map(|principal| (principal.name.clone(), hash)));
        }
        expired
    }

    /// Notes that the token was used. It is stored with [`Self::take_used`], not at once, but for the first use of one that
    /// was registered openly.
    pub fn note_use(&mut self, hash: &TokenHash, now_ms: u64) {
        let Some(principal) = self.valid.get(hash).filter(|principal| principal.use_is_news(now_ms)) else { return };
        let is_first = principal.unclaimed_since().is_some_and(|since| self.unclaimed.remove(&(since, *hash)));
        let Some(principal) = self.valid.get_mut(hash) else { return };
        principal.last_used_at = Some(now_ms);
        if is_first {
            // What is done with it must not outlive that it was used: the name would be taken for one that left nothing.
            self.dirty.push((*hash, Some(principal.clone())));
        } else {
            self.used.insert(*hash);
        }
    }

    /// Moves the times of those that are unclaimed `ms` later, or earlier if that is negative, because the clock was set.
    pub fn move_by(&mut self, ms: i64) {
        for (_, hash) in std::mem::take(&mut self.unclaimed) {
            let Some(principal) = self.valid.get_mut(&hash) else { continue };
            principal.move_by(ms);
            self.unclaimed.extend(principal.unclaimed_since().map(|since| (since, hash)));
            self.dirty.push((hash, Some(principal.clone())));
        }
    }

    /// Returns at most so many tokens that are to be stored because they were used.
    pub fn take_used(&mut self, most: usize) -> Vec<Change> {
        let used: Vec<TokenHash> = std::iter::from_fn(|| self.used.pop_first()).take(most).collect();
        let record = |hash: TokenHash| Some((hash, Some(self.valid.get(&hash)?.clone())));
        used.into_iter().filter_map(record).collect()
    }

    /// Returns the tokens to store or to delete since the last call.
    pub fn take_dirty(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.dirty)
    }
}

/// Returns the bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// Returns the random bytes of a token that is written in lower-case hex; `None` if it is not.
pub(crate) fn secret_of(token: &str) -> Option<[u8; SECRET_BYTES]> {
    HEXLOWER.decode(token.as_bytes()).ok()?.try_into().ok()
}

/// Returns the id of the token or code with this hash: what may be shown of it.
pub fn id_of(hash: &TokenHash) -> String {
    hex(&hash[..ID_BYTES])
}

/// Returns the last hash in order that has this id; `None` if the text is no id.
pub(crate) fn last_hash_of(id: &str) -> Option<TokenHash> {
    let mut hash = [u8::MAX; 32];
    let bytes = HEXLOWER.decode(id.as_bytes()).ok().filter(|bytes| bytes.len() == ID_BYTES)?;
    hash[..ID_BYTES].copy_from_slice(&bytes);
    Some(hash)
}

/// Returns the SHA-256 of a token or code.
pub(crate) fn hash_of(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

fn prefix(hash: &TokenHash) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    first
}

#[cfg(test)]
mod tests;
