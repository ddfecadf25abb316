use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write};

use serde::Serialize;
use serde_json::Value;

use crate::{Bytes, Csv, Figure, Metrics, Table, Text};

/// One value in several representations, by media type; a notebook shows the richest that it knows.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Bundle {
    /// Media type to representation: texts and SVG as they are, images in base64, JSON as text.
    pub data: BTreeMap<String, Value>,
}

impl Bundle {
    /// A bundle of plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::default().with("text/plain", text)
    }

    /// The same bundle with one representation more.
    pub fn with(mut self, media_type: &str, text: impl Into<String>) -> Self {
        self.data.insert(media_type.to_owned(), Value::String(text.into()));
        self
    }
}

/// A value with a way of its own to be shown in a notebook; every other is shown as [`Debug`] does.
pub trait Show {
    /// What is shown.
    fn show(&self) -> Bundle;
}

impl<T: Show + ?Sized> Show for &T {
    fn show(&self) -> Bundle {
        (**self).show()
    }
}

impl Show for () {
    fn show(&self) -> Bundle {
        Bundle::default()
    }
}

impl Show for Table {
    fn show(&self) -> Bundle {
        Bundle::text(self.to_string().trim_end()).with("text/html", self.html())
    }
}

impl Show for Figure {
    fn show(&self) -> Bundle {
        Bundle::text("a figure").with("image/svg+xml", self.as_svg())
    }
}

impl Show for Metrics {
    fn show(&self) -> Bundle {
        let mut html = String::from("<table><tbody>");
        for (name, value) in self.iter() {
            let _ = write!(
                html,
                "<tr><th style=\"text-align:left\">{}</th><td>{value}</td></tr>",
                Escaped(name)
            );
        }
        html.push_str("</tbody></table>");
        Bundle::text(self.to_string().trim_end()).with("text/html", html)
    }
}

impl Show for Text {
    fn show(&self) -> Bundle {
        Bundle::text(head(self))
    }
}

impl Show for Csv {
    fn show(&self) -> Bundle {
        Bundle::text(head(self))
    }
}

impl Show for Bytes {
    fn show(&self) -> Bundle {
        Bundle::text(format!("{} bytes", self.len()))
    }
}

/// The most of a text that is shown, in bytes.
const MOST: usize = 64 * 1024;

fn head(text: &str) -> String {
    const LINES: usize = 40;
    let mut shown: Vec<&str> = text.lines().take(LINES).collect();
    let more = text.lines().count().saturating_sub(LINES);
    let note = format!("... {more} more lines");
    if more > 0 {
        shown.push(&note);
    }
    let mut shown = shown.join("\n");
    shown.truncate(shown.floor_char_boundary(MOST));
    shown
}

/// A value as `{:?}` when that is short, and as `{:#?}` when it is not.
pub fn debug(value: &dyn Debug) -> String {
    const SHORT: usize = 100;
    let mut line = Bounded {
        text: String::new(),
        most: SHORT,
    };
    if write!(line, "{value:?}").is_ok() {
        return line.text;
    }
    let mut pretty = Bounded {
        text: String::new(),
        most: MOST,
    };
    if write!(pretty, "{value:#?}").is_err() {
        pretty.text.push_str("...");
    }
    pretty.text
}

/// Text that takes no more than `most` bytes.
struct Bounded {
    text: String,
    most: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self.most - self.text.len();
        self.text.push_str(&more[..more.floor_char_boundary(room)]);
        if more.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Text as HTML.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            letter => f.write_char(letter),
        })
    }
}
