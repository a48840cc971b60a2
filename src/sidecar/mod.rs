//! The sidecar: everything of it that touches the world. What it decides, [`machine`](crate::machine) decides.

pub mod admin;
pub mod agent;
pub mod cli;
pub(crate) mod clock;
pub mod config;
pub mod exit_code;
pub mod hub_connection;
pub mod journal;
pub(crate) mod policy;
pub mod shell;
pub mod supervisor;
