//! What the commands print: tables that fit the terminal, times, and texts from outside on one line.

pub(super) mod fields;
pub(super) mod output;
pub(super) mod table;
pub(super) mod terminal;
