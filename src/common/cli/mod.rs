//! What the command lines of both programs share: completions and the manual, written from their clap trees.

pub mod completions;
pub mod man;
