//! How wide the output may be, and what a terminal is told beside text.

use std::io::{IsTerminal as _, stdout};

/// Returns the number of columns that a line may take: what `COLUMNS` says, else the terminal's width; `None` where stdout
/// is no terminal.
pub fn columns() -> Option<usize> {
    let named = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let found = || {
        let size = rustix::termios::tcgetwinsize(stdout()).ok()?;
        Some(usize::from(size.ws_col))
    };
    named.or_else(found).filter(|columns| *columns > 0)
}

/// What takes a terminal back to the beginning of a line that is empty then.
pub const EMPTY_LINE: &str = "\r\u{1b}[K";

/// Returns whether stdout is a terminal.
pub fn is_terminal() -> bool {
    stdout().is_terminal()
}

/// Returns what comes before a page that takes the place of the one before: it clears a terminal, and is an empty line where
/// stdout is none.
pub fn new_page() -> &'static str {
    if is_terminal() { "\u{1b}[H\u{1b}[2J" } else { "\n" }
}
