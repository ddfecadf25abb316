use std::fmt::{self, Write};
use std::ops::Range;

use arrow_array::{Array, ArrayRef};
use arrow_schema::Field;

use super::Table;
use super::display::{Shown, has_text};
use crate::show::{DIM, Escaped, cut};

/// Number of rows in text, and on the first page of HTML.
const FIRST: usize = 20;
/// Number of rows on each further page of HTML.
const PAGE: usize = 60;
/// Number of rows on all consecutive pages; the last rows of the table are on an additional page.
const PAGED: usize = 200;
/// Maximum number of columns in HTML.
const COLUMNS: usize = 40;
/// Maximum size of HTML in bytes, except for the row that exceeds it.
const MOST: usize = 128 * 1024;
/// Maximum length of a cell in HTML, in characters.
const CELL: usize = 200;
/// Maximum length of a line of text, in characters.
const LINE: usize = 100;
/// Maximum length of a cell in text, in characters.
const TEXT: usize = 30;
/// Number of spaces between columns in text.
const GAP: usize = 2;

impl Table {
    /// Formats the table as HTML, for notebooks: the first rows, and up to some hundred more on collapsible pages.
    pub fn html(&self) -> String {
        let picked = ends(self.0.num_columns(), COLUMNS);
        let columns: Vec<Option<Column<'_>>> = picked
            .into_iter()
            .map(|index| index.map(|index| self.nth(index, CELL)))
            .collect();
        let mut html = String::new();
        let mut shown = 0;
        for rows in pages(self.rows()) {
            let (page, count) = page(&columns, rows.clone(), MOST.saturating_sub(html.len()));
            if rows.start == 0 {
                html.push_str(&page);
            } else if count > 0 {
                let (first, last) = (grouped(rows.start + 1), grouped(rows.start + count));
                let _ = write!(html, "<details><summary>rows {first}–{last}</summary>\n{page}</details>\n");
            }
            shown += count;
        }
        let _ = writeln!(html, "<p>{}</p>", self.size(shown));
        html
    }

    /// Describes the size of the table, of which `shown` rows are shown.
    fn size(&self, shown: usize) -> String {
        let count = |n: usize, thing: &str| format!("{} {thing}{}", grouped(n), if n == 1 { "" } else { "s" });
        let size = format!("{} × {}", count(self.rows(), "row"), count(self.0.num_columns(), "column"));
        match self.rows() - shown {
            0 => size,
            more => format!("{size}, {} not shown", count(more, "row")),
        }
    }

    /// Returns the column at `index`, with cells of at most `most` characters.
    fn nth(&self, index: usize, most: usize) -> Column<'_> {
        let field: &Field = self.0.schema_ref().field(index);
        Column {
            name: cut(most, format_args!("{}", field.name())),
            of: cut(most, format_args!("{}", field.data_type())),
            array: self.0.column(index),
            most,
        }
    }
}

/// A column to show.
struct Column<'a> {
    name: String,
    /// Its type.
    of: String,
    array: &'a ArrayRef,
    /// Maximum length of a cell, in characters.
    most: usize,
}

/// The text of a value, and whether it is null.
struct Cell {
    text: String,
    is_null: bool,
}

impl Column<'_> {
    fn is_numeric(&self) -> bool {
        self.array.data_type().is_numeric()
    }

    fn cells(&self, rows: Range<usize>) -> Vec<Cell> {
        let array = self.array.slice(rows.start, rows.len());
        let nulls = array.logical_nulls();
        let has_text = has_text(array.data_type());
        let text = |row: usize| match has_text {
            true => {
                let array = &array;
                cut(
                    self.most,
                    format_args!(
                        "{}",
                        Shown {
                            array,
                            row,
                            null: "null"
                        }
                    ),
                )
            }
            false => "?".to_owned(),
        };
        let cell = |row: usize| Cell {
            text: text(row),
            is_null: nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)),
        };
        (0..array.len()).map(cell).collect()
    }
}

/// Returns the indices of all `count` columns, or of `most` columns at both ends, with `None` for those between.
fn ends(count: usize, most: usize) -> Vec<Option<usize>> {
    if count <= most {
        return (0..count).map(Some).collect();
    }
    let left = (0..most / 2).map(Some);
    left.chain([None]).chain((count - most / 2..count).map(Some)).collect()
}

/// Returns the rows of each page: the first, some more, and the last.
fn pages(rows: usize) -> Vec<Range<usize>> {
    let first = 0..rows.min(FIRST);
    let next = (FIRST..rows.min(PAGED)).step_by(PAGE);
    let next = next.map(|start| start..rows.min(PAGED).min(start + PAGE));
    let last = rows.saturating_sub(FIRST).max(PAGED)..rows;
    [first]
        .into_iter()
        .chain(next)
        .chain(Some(last).filter(|last| !last.is_empty()))
        .collect()
}

/// Formats a page of HTML. Returns it with its number of rows, which is smaller than that of `rows` if it reaches `most` bytes.
fn page(columns: &[Option<Column<'_>>], rows: Range<usize>, most: usize) -> (String, usize) {
    let mut html = String::from(
        "<div style=\"overflow-x:auto\">\n<table style=\"font-variant-numeric:tabular-nums;margin-left:0\">\n<thead>\n<tr>",
    );
    columns.iter().for_each(|column| head(column.as_ref(), &mut html));
    html.push_str("</tr>\n</thead>\n<tbody>\n");
    let cells: Vec<Option<Vec<Cell>>> = columns
        .iter()
        .map(|column| column.as_ref().map(|column| column.cells(rows.clone())))
        .collect();
    let mut count = 0;
    while count < rows.len() && html.len() < most {
        html.push_str("<tr>");
        for (column, cells) in columns.iter().zip(&cells) {
            body(column.as_ref().zip(cells.as_ref().map(|cells| &cells[count])), &mut html);
        }
        html.push_str("</tr>\n");
        count += 1;
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
    (html, count)
}

fn head(column: Option<&Column<'_>>, html: &mut String) {
    let _ = match column {
        Some(column) => write!(
            html,
            "<th style=\"text-align:{}\">{}<br><small style=\"font-weight:normal;{DIM}\">{}</small></th>",
            side(column),
            Escaped(&column.name),
            Escaped(&column.of)
        ),
        None => write!(html, "<th>…</th>"),
    };
}

fn body(cell: Option<(&Column<'_>, &Cell)>, html: &mut String) {
    let _ = match cell {
        Some((column, cell)) => {
            let dim = if cell.is_null { format!(";{DIM}") } else { String::new() };
            write!(
                html,
                "<td style=\"text-align:{}{dim}\">{}</td>",
                side(column),
                Escaped(&cell.text)
            )
        }
        None => write!(html, "<td>…</td>"),
    };
}

fn side(column: &Column<'_>) -> &'static str {
    if column.is_numeric() { "right" } else { "left" }
}

/// Formats a number with digits in groups of three.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

impl fmt::Display for Table {
    /// Formats the first rows in aligned columns, and the size of the table. If the lines are too long, columns in the middle
    /// are omitted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows().min(FIRST);
        // more than fit into a line, so if `ends` omits columns, `fitting` does too
        let picked = ends(self.0.num_columns(), LINE / GAP);
        let all: Vec<Texts> = picked
            .into_iter()
            .flatten()
            .map(|index| Texts::new(&self.nth(index, TEXT), rows))
            .collect();
        let mut columns: Vec<&Texts> = all.iter().collect();
        let (left, right) = fitting(&all.iter().map(|texts| texts.width).collect::<Vec<_>>());
        let between = Texts::ellipsis(rows);
        if left + right < self.0.num_columns() {
            columns.splice(left..columns.len() - right, [&between]);
        }
        for line in 0..rows + 2 {
            let texts: Vec<String> = columns.iter().map(|texts| texts.line(line)).collect();
            writeln!(f, "{}", texts.join(&" ".repeat(GAP)).trim_end())?;
        }
        writeln!(f, "{}", self.size(rows))
    }
}

/// A column of text: name, type and values.
struct Texts {
    lines: Vec<String>,
    width: usize,
    to_right: bool,
}

impl Texts {
    fn new(column: &Column<'_>, rows: usize) -> Self {
        let values = column.cells(0..rows).into_iter().map(|cell| cell.text);
        let lines: Vec<String> = [column.name.clone(), column.of.clone()].into_iter().chain(values).collect();
        let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
        Self {
            lines,
            width,
            to_right: column.is_numeric(),
        }
    }

    /// Returns a column that stands for omitted ones.
    fn ellipsis(rows: usize) -> Self {
        Self {
            lines: vec!["…".to_owned(); rows + 2],
            width: 1,
            to_right: false,
        }
    }

    fn line(&self, line: usize) -> String {
        let (text, width) = (&self.lines[line], self.width);
        match self.to_right {
            true => format!("{text:>width$}"),
            false => format!("{text:<width$}"),
        }
    }
}

/// Returns how many columns of these widths fit into a line from the left and from the right. The others are in the middle.
fn fitting(widths: &[usize]) -> (usize, usize) {
    let line = |widths: &[usize]| widths.iter().map(|width| width + GAP).sum::<usize>().saturating_sub(GAP);
    if line(widths) <= LINE {
        return (widths.len(), 0);
    }
    let (mut left, mut right, mut room) = (0, 0, LINE - 1);
    while left + right < widths.len() {
        let next = if left <= right {
            widths[left]
        } else {
            widths[widths.len() - 1 - right]
        };
        if room < next + GAP {
            break;
        }
        room -= next + GAP;
        if left <= right { left += 1 } else { right += 1 }
    }
    (left, right)
}

#[cfg(test)]
mod tests;
