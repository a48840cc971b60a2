//! What the command lines of both programs share: completions and the manual, written from their clap trees, the findings
//! of `check`, and tables that fit the terminal.

pub mod completions;
pub mod finding;
pub mod man;
pub mod table;
pub mod terminal;
