//! The agent: how a task is started, and how its result is found.

pub(crate) mod executor;
pub(crate) mod hooks;
pub(crate) mod launch;
pub(crate) mod message_hook;
pub(crate) mod result_hook;
pub mod results;
pub mod side;
pub mod supervised;
pub mod wake;
