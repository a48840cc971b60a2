//! Tables: a line of headings and a line for each row, in columns. Where the terminal is too narrow, the widest columns are
//! cut; the first one, which names a row, comes last.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::common::text::on_one_line;

/// The space between two columns.
const GAP: usize = 2;
/// The width to which a column may be cut.
const MIN_WIDTH: usize = 6;

/// A table.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table without rows, whose first column names a row.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row, with as many cells as there are headings. Whatever is in a cell, it stays on its line.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| on_one_line(&cell)).collect());
    }

    /// Returns the lines, each of at most `columns` columns, if there is a limit.
    pub fn render(&self, columns: Option<usize>) -> String {
        let widths = self.widths(columns);
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let cell = cut(cell, *width);
                let padding = width - cell.width() + GAP;
                line.push_str(&cell);
                line.extend(std::iter::repeat_n(' ', padding));
            }
            text.push_str(&columns.map_or_else(|| line.trim_end().to_owned(), |most| cut(line.trim_end(), most)));
            text.push('\n');
        }
        text
    }

    /// Returns the width of each column.
    fn widths(&self, columns: Option<usize>) -> Vec<usize> {
        let count = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
        let mut widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
        let Some(columns) = columns else { return widths };
        let for_cells = columns.saturating_sub(GAP * count.saturating_sub(1));
        let mut excess = widths.iter().sum::<usize>().saturating_sub(for_cells);
        let (names, others) = widths.split_at_mut(count.min(1));
        for part in [others, names] {
            excess = shrink(part, excess);
        }
        widths
    }
}

/// Takes `excess` from the widest of the widths, and returns what could not be taken.
fn shrink(widths: &mut [usize], mut excess: usize) -> usize {
    while excess > 0 {
        // The last of the widest: what stands last says least.
        let widest = widths.iter_mut().max_by_key(|width| **width);
        let Some(widest) = widest.filter(|width| **width > MIN_WIDTH) else { break };
        *widest -= 1;
        excess -= 1;
    }
    excess
}

/// Returns the text if it takes at most `columns` columns, else its beginning with `…`.
pub fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut left = columns.saturating_sub(1);
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        if width > left {
            break;
        }
        left -= width;
        kept.push(c);
    }
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "WHY"]);
        table.row(["a".to_owned(), "connection_lost\u{1b}[2J\nand more".to_owned()]);
        table.row(["日本".to_owned(), String::new()]);
        table
    }

    #[test]
    fn columns_stand_below_their_headings() {
        assert_eq!(table().render(None), "NAME  WHY\na     connection_lost [2J and more\n日本\n");
    }

    #[test]
    fn a_narrow_terminal_gets_the_widest_columns_cut() {
        assert_eq!(table().render(Some(20)), "NAME  WHY\na     connection_lo…\n日本\n");
        for columns in 1..40 {
            assert!(table().render(Some(columns)).lines().all(|line| line.width() <= columns.max(1)), "{columns}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let cuts = [cut("日本", 4), cut("日本", 3), cut("日本", 2), cut("äöü", 2), cut("", 0), cut("a", 0)];
        assert_eq!(cuts, ["日本", "日…", "…", "ä…", "", "…"]);
    }
}
