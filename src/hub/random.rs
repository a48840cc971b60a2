//! Random ids and secrets from the operating system. It keeps none of them.

use crate::hub::state::tokens::{SECRET_BYTES, hex};

/// The error that the operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes ({0}): check that getrandom(2) is allowed here")]
pub struct NoRandomBytes(getrandom::Error);

/// Returns the random bytes of a new token.
///
/// # Errors
/// [`NoRandomBytes`].
pub fn secret() -> Result<[u8; SECRET_BYTES], NoRandomBytes> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(NoRandomBytes)?;
    Ok(bytes)
}

/// Returns a random id of 16 hex digits, as in the legacy hub's task ids.
///
/// # Errors
/// [`NoRandomBytes`].
pub fn id() -> Result<String, NoRandomBytes> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(NoRandomBytes)?;
    Ok(hex(&bytes))
}
