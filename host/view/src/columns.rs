//! Text in columns.

use std::fmt;

use anstyle::Style;

/// The alignment of text in a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Pad on the right.
    Left,
    /// Pad on the left, as for numbers.
    Right,
}

/// A table whose columns are two spaces apart. A header is bold.
pub struct Columns {
    header: Vec<String>,
    subheader: Vec<String>,
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
    indent: usize,
}

impl Columns {
    /// Creates a table with a header.
    pub fn headed(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(|name| (*name).to_owned()).collect(),
            ..Self::plain()
        }
    }

    /// Creates a table without a header.
    pub fn plain() -> Self {
        Self {
            header: Vec::new(),
            subheader: Vec::new(),
            aligns: Vec::new(),
            rows: Vec::new(),
            indent: 0,
        }
    }

    /// Adds a second, dim line below the header.
    pub fn subheaded(mut self, cells: impl IntoIterator<Item = String>) -> Self {
        self.subheader = cells.into_iter().collect();
        self
    }

    /// Sets the alignment of columns. Further columns are aligned left.
    pub fn aligned(mut self, aligns: impl IntoIterator<Item = Align>) -> Self {
        self.aligns = aligns.into_iter().collect();
        self
    }

    /// Indents all lines by `indent` spaces.
    pub fn indented(mut self, indent: usize) -> Self {
        self.indent = indent;
        self
    }

    /// Adds a row.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in [&self.header, &self.subheader].into_iter().chain(&self.rows) {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(width_of(cell));
            }
        }
        widths
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = " ".repeat(self.indent);
        for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
            if i > 0 {
                line.push_str("  ");
            }
            let padding = " ".repeat(width - width_of(cell));
            match self.aligns.get(i) {
                Some(Align::Right) => line.extend([padding.as_str(), cell]),
                _ => line.extend([cell.as_str(), &padding]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for (cells, style) in [(&self.header, Style::new().bold()), (&self.subheader, Style::new().dimmed())] {
            if !cells.is_empty() {
                writeln!(f, "{style}{}{style:#}", self.line(cells, &widths))?;
            }
        }
        self.rows
            .iter()
            .try_for_each(|row| writeln!(f, "{}", self.line(row, &widths)))
    }
}

fn width_of(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}

/// Returns `text` on one line, truncated to `width` columns with an ellipsis. Escapes control characters, so that guests can't control the
/// terminal.
pub fn fit(text: &str, width: usize) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
        if line.len() > 8 * width {
            break;
        }
    }
    if width_of(&line) <= width {
        return line;
    }
    while width_of(&line) >= width && line.pop().is_some() {}
    line.push('…');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_where_they_end() {
        let mut columns = Columns::headed(&["name", "size"])
            .aligned([Align::Left, Align::Right])
            .indented(2);
        columns.row(["rows", "12"]);
        columns.row(["größe", ""]);
        let plain = anstream::adapter::strip_str(&columns.to_string()).to_string();
        assert_eq!(plain, "  name   size\n  rows     12\n  größe\n");
    }

    #[test]
    fn cells_are_one_line_and_can_not_steer_the_terminal() {
        assert_eq!(fit("a\n\u{1b}[2J", 20), "a\\n\\u{1b}[2J");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("日本語", 4), "日…");
    }
}
