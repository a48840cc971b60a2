//! The state that outlives the process: the store with its copies, and the tokens and settings in it.

pub mod backup;
pub mod restore;
pub mod settings;
pub mod store;
pub mod tokens;
