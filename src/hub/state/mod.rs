//! What outlives the process: the store, and what is kept in it beside tasks and restarts.

pub mod settings;
pub mod store;
pub mod tokens;
