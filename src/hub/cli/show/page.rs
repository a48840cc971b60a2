//! Pages about one thing: a line for each fact, with what it is about.

use std::fmt::Write as _;

use crate::common::text::on_one_line;

/// A page about one thing.
#[derive(Debug, Default)]
pub(in crate::hub::cli) struct Page {
    /// Its lines.
    pub(in crate::hub::cli) text: String,
}

impl Page {
    /// Adds a line.
    pub(in crate::hub::cli) fn row(&mut self, about: &str, said: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{about:<14} {}", on_one_line(said));
    }

    /// Adds a line for each, the first of which says what they are about.
    pub(in crate::hub::cli) fn rows(&mut self, about: &str, said: impl IntoIterator<Item = String>) {
        for (number, said) in said.into_iter().enumerate() {
            self.row(if number == 0 { about } else { "" }, &said);
        }
    }
}
