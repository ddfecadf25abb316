use std::fmt::{self, Write};

use arrow_cast::display::{ArrayFormatter, FormatOptions};

use super::Table;

/// Rows shown.
const SHOWN: usize = 20;

impl Table {
    /// The first rows as an HTML table, for notebooks.
    pub fn html(&self) -> String {
        let cells = |tag: &str, row: &[String]| {
            let cells = row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)));
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        let names: Vec<String> = self.columns().into_iter().map(String::from).collect();
        let rows: String = self.cells().iter().map(|row| cells("td", row)).collect();
        let (head, size) = (cells("th", &names), self.size());
        format!("<table>\n<thead>\n{head}</thead>\n<tbody>\n{rows}</tbody>\n</table>\n<p>{size}</p>\n")
    }

    fn size(&self) -> String {
        let count = |n: usize, thing: &str| format!("{n} {thing}{}", if n == 1 { "" } else { "s" });
        let size = format!("{} × {}", count(self.rows(), "row"), count(self.columns().len(), "column"));
        match self.rows() > SHOWN {
            true => format!("{size}, the first {SHOWN} shown"),
            false => size,
        }
    }

    /// The texts of the rows shown.
    fn cells(&self) -> Vec<Vec<String>> {
        let options = FormatOptions::default().with_display_error(true);
        let columns: Vec<_> = self
            .0
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect();
        let cell = |row: usize, column: &Result<ArrayFormatter<'_>, _>| match column {
            Ok(column) => column.value(row).to_string(),
            Err(_) => "?".to_string(),
        };
        (0..self.rows().min(SHOWN))
            .map(|row| columns.iter().map(|column| cell(row, column)).collect())
            .collect()
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl fmt::Display for Table {
    /// The first rows in columns of equal width, numbers to the right, and how many there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![self.columns().into_iter().map(String::from).collect::<Vec<_>>()];
        lines.extend(self.cells());
        let numeric: Vec<bool> = self
            .0
            .columns()
            .iter()
            .map(|column| column.data_type().is_numeric())
            .collect();
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..numeric.len()).map(width).collect();
        for line in &lines {
            let mut text = String::new();
            for ((cell, width), numeric) in line.iter().zip(&widths).zip(&numeric) {
                match numeric {
                    true => write!(text, "{cell:>width$}  ")?,
                    false => write!(text, "{cell:<width$}  ")?,
                }
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        writeln!(f, "{}", self.size())
    }
}
