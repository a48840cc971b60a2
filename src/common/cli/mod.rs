//! What the command lines of both programs share: completions, help and the manual, written from their clap trees, the
//! findings of `check`, tables that fit the terminal, and words for a shell.

pub mod completions;
pub mod finding;
pub mod man;
pub mod pager;
pub mod quoted;
pub mod reference;
pub mod table;
pub mod terminal;
