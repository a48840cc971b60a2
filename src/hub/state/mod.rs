//! The state that outlives the process: the store, and the tokens and settings in it.

pub mod idempotency;
pub mod settings;
pub mod store;
pub mod tokens;
