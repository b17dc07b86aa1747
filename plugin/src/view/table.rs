//! Tables as kubectl prints them: padded columns three blanks apart, headings in capitals, no lines.
//!
//! In come rows of text, out goes text. [`Table`] knows all its rows; [`Stream`] prints a table of any length and looks
//! at a thousand rows at a time for its widths, as kubectl does with pages.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use super::plain;

/// Blanks between columns.
const GAP: usize = 3;

/// Rows that are held back before their widths are fixed.
const WINDOW: usize = 1000;

/// What stands in an empty cell.
const EMPTY: &str = "<none>";

/// A table with all its rows.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self {
            headings: headings.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; it has as many cells as there are headings.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        debug_assert_eq!(row.len(), self.headings.len());
        self.rows.push(row);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut stream = Stream::new(out, &self.headings);
        stream.rows.clone_from(&self.rows);
        stream.finish()
    }
}

/// A table that is printed while its rows come.
#[derive(Debug)]
pub(crate) struct Stream<W> {
    out: W,
    headings: Option<Vec<&'static str>>,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl<W: Write> Stream<W> {
    pub(crate) fn new(out: W, headings: &[&'static str]) -> Self {
        Self {
            out,
            widths: headings.iter().map(|heading| heading.width()).collect(),
            headings: Some(headings.to_vec()),
            rows: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() >= WINDOW {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Prints what is held back. A table without rows prints nothing, not even its headings.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.out.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let rows: Vec<Vec<String>> = std::mem::take(&mut self.rows).into_iter().map(cells).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        if let Some(headings) = self.headings.take() {
            let headings: Vec<String> = headings.into_iter().map(str::to_owned).collect();
            self.line(&headings)?;
        }
        for row in &rows {
            self.line(row)?;
        }
        Ok(())
    }

    fn line(&mut self, row: &[String]) -> io::Result<()> {
        let mut line = String::new();
        let mut missing = 0;
        for (cell, width) in row.iter().zip(&self.widths) {
            line.extend(std::iter::repeat_n(' ', missing));
            line.push_str(cell);
            missing = width.saturating_sub(cell.width()) + GAP;
        }
        line.push('\n');
        self.out.write_all(line.as_bytes())
    }
}

fn cells(row: Vec<String>) -> Vec<String> {
    row.into_iter()
        .map(|cell| {
            if cell.is_empty() {
                EMPTY.to_owned()
            } else {
                plain(&cell).into_owned()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(table: &Table) -> String {
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_are_three_blanks_apart_and_lines_end_with_text() {
        let mut table = Table::new(&["NAME", "STATUS", "SIZE"]);
        table.push(row(&["nightly-20261122010000", "Completed", "1.2MiB"]));
        table.push(row(&["a", "", "3B"]));
        let expected = "\
NAME                     STATUS      SIZE
nightly-20261122010000   Completed   1.2MiB
a                        <none>      3B
";
        assert_eq!(text(&table), expected);
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let mut table = Table::new(&["NAME", "X"]);
        table.push(row(&["日本語", "1"]));
        table.push(row(&["abcdef", "2"]));
        assert_eq!(text(&table), "NAME     X\n日本語   1\nabcdef   2\n");
    }

    #[test]
    fn a_cell_cannot_break_a_line() {
        let mut table = Table::new(&["NAME", "X"]);
        table.push(row(&["a\nb\x1b[1m", "1"]));
        assert_eq!(text(&table).lines().count(), 2);
        assert!(!text(&table).contains('\x1b'));
    }

    #[test]
    fn a_table_without_rows_prints_nothing() {
        assert_eq!(text(&Table::new(&["NAME"])), "");
    }

    #[test]
    fn a_long_table_is_printed_in_windows() {
        let mut out = Vec::new();
        let mut stream = Stream::new(&mut out, &["N", "X"]);
        for number in 0..=WINDOW {
            let name = if number == WINDOW {
                "a-longer-name".to_owned()
            } else {
                number.to_string()
            };
            stream.push(vec![name, "x".to_owned()]).unwrap();
        }
        stream.finish().unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), WINDOW + 2);
        assert_eq!(lines[0], "N     X");
        assert_eq!(lines[1], "0     x");
        assert_eq!(lines[WINDOW + 1], "a-longer-name   x");
    }
}
