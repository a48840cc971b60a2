//! Tokens: who holds which, as SHA-256 only. It neither draws randomness nor stores anything; its caller does both.
//!
//! A token is 256 random bits in hex, so a plain hash is enough: there is nothing to guess.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The random bits of a token, in bytes.
pub const SECRET_BYTES: usize = 32;

/// A token's SHA-256.
pub type TokenHash = [u8; 32];

/// What a token proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// The agent, or the operator.
    pub name: String,
    /// Whether it may do everything.
    pub admin: bool,
    /// ms since the epoch.
    pub created_at: u64,
}

/// The name has a token already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameTaken;

/// All tokens.
#[derive(Debug, Default)]
pub struct Tokens {
    /// By the first bytes of the hash; the rest is compared in constant time.
    by_prefix: HashMap<[u8; 8], Vec<(TokenHash, Principal)>>,
    names: HashSet<String>,
    dirty: Vec<(TokenHash, Principal)>,
}

impl Tokens {
    /// The tokens as they were stored.
    pub fn load(stored: Vec<(TokenHash, Principal)>) -> Self {
        let mut tokens = Self::default();
        for (hash, principal) in stored {
            tokens.insert(hash, principal);
        }
        tokens
    }

    /// Turns random bytes into a new token for the name. A name may hold several; `only_if_new` wants it to hold none.
    ///
    /// # Errors
    /// [`NameTaken`], only with `only_if_new`.
    pub fn issue(
        &mut self,
        secret: [u8; SECRET_BYTES],
        principal: Principal,
        only_if_new: bool,
    ) -> Result<String, NameTaken> {
        if only_if_new && self.names.contains(&principal.name) {
            return Err(NameTaken);
        }
        let token = hex(&secret);
        let hash = hash_of(&token);
        self.dirty.push((hash, principal.clone()));
        self.insert(hash, principal);
        Ok(token)
    }

    /// Whose token it is.
    pub fn verify(&self, token: &str) -> Option<&Principal> {
        let hash = hash_of(token);
        let candidates = self.by_prefix.get(&prefix(&hash))?;
        candidates.iter().find(|(stored, _)| bool::from(stored.ct_eq(&hash))).map(|(_, principal)| principal)
    }

    /// The tokens to store since the last call.
    pub fn take_dirty(&mut self) -> Vec<(TokenHash, Principal)> {
        std::mem::take(&mut self.dirty)
    }

    fn insert(&mut self, hash: TokenHash, principal: Principal) {
        self.names.insert(principal.name.clone());
        self.by_prefix.entry(prefix(&hash)).or_default().push((hash, principal));
    }
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
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
        assert_eq!(tokens.issue([8; 32], principal("a"), true), Err(NameTaken));
        assert!(tokens.issue([9; 32], principal("a"), false).is_ok());
    }

    #[test]
    fn what_is_stored_is_enough_to_verify_and_is_not_the_token() {
        let mut tokens = Tokens::default();
        let token = tokens.issue([7; 32], principal("a"), true).unwrap();
        let stored = tokens.take_dirty();
        assert!(!format!("{stored:?}").contains(&token));
        assert_eq!(hex(&stored[0].0).len(), 64);
        assert!(Tokens::load(stored).verify(&token).is_some());
    }
}
