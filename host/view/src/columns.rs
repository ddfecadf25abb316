//! Text in columns.

use std::fmt;

use anstyle::Style;
pub use comfy_table::CellAlignment as Align;
use comfy_table::{Table, presets};

/// A table whose columns are two spaces apart. A header is bold.
pub struct Columns {
    header: Vec<String>,
    subheader: Vec<String>,
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
    indent: u16,
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
    pub fn indented(mut self, indent: u16) -> Self {
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
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = [(&self.header, Style::new().bold()), (&self.subheader, Style::new().dimmed())];
        let heads: Vec<_> = heads.into_iter().filter(|(cells, _)| !cells.is_empty()).collect();
        let cells = heads.iter().map(|(cells, _)| *cells).chain(&self.rows);
        let mut table = Table::new();
        table.load_style(presets::NOTHING).add_rows(cells.clone());
        for (at, column) in table.column_iter_mut().enumerate() {
            // an empty column is one space wide, which is a space of its padding then
            let is_empty = cells.clone().all(|row| row.get(at).is_none_or(String::is_empty));
            column.set_padding((if at == 0 { self.indent } else { 0 }, if is_empty { 1 } else { 2 }));
            column.set_cell_alignment(self.aligns.get(at).copied().unwrap_or(Align::Left));
        }
        let styles = heads.iter().map(|(_, style)| *style).chain(std::iter::repeat(Style::new()));
        table
            .lines()
            .zip(styles)
            .try_for_each(|(line, style)| writeln!(f, "{style}{}{style:#}", line.trim_end()))
    }
}

fn width_of(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}

/// Returns whether a character can't be seen, or changes the direction of the text after it. The joiners of emoji and of Persian are not
/// among them.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        )
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns `text` with all characters escaped that are invisible, have no width, or are white space other than U+0020.
pub fn exact(text: &str) -> String {
    let mut exact = String::new();
    for c in text.chars() {
        let width = unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
        match width == 0 || is_hidden(c) || c.is_whitespace() && c != ' ' {
            true => exact.extend(c.escape_default()),
            false => exact.push(c),
        }
    }
    exact
}

/// Returns `text` on one line, truncated to `width` columns with an ellipsis. Escapes characters that are invisible or control the
/// terminal.
pub fn fit(text: &str, width: usize) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if is_hidden(c) {
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
    fn an_empty_column_takes_no_width() {
        let mut columns = Columns::plain();
        columns.row(["input", "", "rows"]);
        assert_eq!(columns.to_string(), "input    rows\n");
    }

    #[test]
    fn cells_are_one_line_and_can_not_steer_the_terminal() {
        assert_eq!(fit("a\n\u{1b}[2J", 20), "a\\n\\u{1b}[2J");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("\u{feff}id\u{202e}", 20), "\\u{feff}id\\u{202e}");
        assert_eq!(
            (fit("👩\u{200d}🔬", 20), fit("e\u{301}", 20)),
            ("👩\u{200d}🔬".into(), "e\u{301}".into())
        );
        assert_eq!(exact("a\u{a0}e\u{301} \t"), "a\\u{a0}e\\u{301} \\t");
    }
}
