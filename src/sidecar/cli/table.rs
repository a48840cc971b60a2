//! Tables for a terminal: columns as wide as what they hold, the last one cut where the line would not fit.

use std::fmt::Write as _;
use std::io;

use crate::common::text::{first_chars, on_one_line};

/// The least width of the last column, in characters, however narrow the terminal is.
const LEAST_LAST: usize = 20;
/// The space between two columns.
const GAP: &str = "  ";

/// Returns the width of the terminal that stdout is, in characters; `None` where it is none: then nothing is cut.
pub(super) fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// Returns the rows below the header, each on one line.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]], width: Option<usize>) -> String {
    let header = header.map(str::to_owned);
    let rows: Vec<[String; N]> = std::iter::once(&header)
        .chain(rows)
        .map(|row| row.each_ref().map(|cell| on_one_line(cell).trim().to_owned()))
        .collect();
    let length = |cell: &str| cell.chars().count();
    let widths: Vec<usize> = (0..N)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| length(cell)).max().unwrap_or(0))
        .collect();
    let before_last: usize = widths.iter().take(N.saturating_sub(1)).map(|width| width + GAP.len()).sum();
    let last = width.map(|width| width.saturating_sub(before_last).max(LEAST_LAST));
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a String cannot fail.
            let _ = match last.filter(|last| at + 1 == N && length(cell) > *last) {
                Some(last) => write!(line, "{}…", first_chars(cell, last - 1)),
                None => write!(line, "{cell:<width$}{GAP}"),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<[String; 2]> {
        vec![["a".into(), "short".into()], ["äöü".into(), "x".repeat(40) + "\n\u{1b}[2J"]]
    }

    #[test]
    fn columns_stand_below_each_other_on_a_line_each() {
        let wanted = format!("N    WHAT\na    short\näöü  {} [2J\n", "x".repeat(40) + " ");
        assert_eq!(table(["N", "WHAT"], &rows(), None), wanted);
    }

    #[test]
    fn the_last_column_is_cut_to_the_terminal() {
        let text = table(["N", "WHAT"], &rows(), Some(30));
        assert_eq!(text.lines().last().unwrap(), format!("äöü  {}…", "x".repeat(24)));
        assert!(text.lines().all(|line| line.chars().count() <= 30), "{text}");
        assert_eq!(table(["N", "WHAT"], &rows(), Some(3)).lines().last().unwrap(), format!("äöü  {}…", "x".repeat(19)));
    }
}
