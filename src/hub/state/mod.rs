//! The state that outlives the process: the store with its copies, and the tokens, invitations, settings and audit in it.

pub mod audit;
pub mod backup;
pub mod bucket;
pub mod clock_mark;
pub mod idempotency;
pub mod invitations;
pub mod lifetime;
pub mod principal;
pub mod restore;
pub mod roles;
pub mod settings;
pub mod store;
pub mod tokens;
