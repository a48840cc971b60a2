//! What the command lines of both programs share: completions and the manual, written from their clap trees, and what
//! `check` found.

pub mod completions;
pub mod finding;
pub mod man;
