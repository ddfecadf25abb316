//! How values are shown in a notebook, as a cell's last expression and by [`display`].
//!
//! A type defines its display by [`Show`]; [`Html`], [`Markdown`], [`Latex`], [`Png`], [`VegaLite`] and [`Json`] show their
//! content. Any other value is shown with [`Debug`]: in one line, or as a tree if that is too long.
//!
//! Not part of the prelude, because other crates use the same names: `use lockstep::show::*;`

mod bounded;
mod chart;
mod html;
mod live;
mod rich;
mod tree;

use std::collections::BTreeMap;
use std::fmt::Debug;

use arrow_array::RecordBatch;
use serde::Serialize;
use serde_json::Value;

pub(crate) use bounded::{bounded, cut};
pub(crate) use html::{DIM, Escaped};
pub use live::{Display, clear_output, display, input, password};
pub use rich::{Html, Latex, Markdown, Png, VegaLite};

pub use crate::Json;
use crate::{Bytes, Csv, Figure, Metrics, Table, Text};

/// A value in several representations, by media type. A notebook shows the richest one that it supports.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Bundle {
    /// Media type to representation: text and SVG as strings, images in base64, JSON types as values.
    pub data: BTreeMap<String, Value>,
}

impl Bundle {
    /// Creates a bundle of plain text. Every bundle should have it, for front ends that support nothing else.
    pub fn text(text: impl Into<String>) -> Self {
        Self::default().with("text/plain", text.into())
    }

    /// Returns the bundle with an additional representation. Replaces one of the same type.
    pub fn with(mut self, media_type: &str, representation: impl Into<Value>) -> Self {
        self.data.insert(media_type.to_owned(), representation.into());
        self
    }
}

/// A value with its own display in a notebook. Other values are shown with [`Debug`].
///
/// ```
/// use lockstep::show::*;
///
/// struct Colour(u8, u8, u8);
///
/// impl Show for Colour {
///     fn show(&self) -> Bundle {
///         let Self(red, green, blue) = self;
///         let hex = format!("#{red:02x}{green:02x}{blue:02x}");
///         let html = format!("<div style=\"width:4em;height:1em;background-color:{hex}\"></div>");
///         Bundle::text(hex).with("text/html", html)
///     }
/// }
///
/// assert_eq!(Colour(70, 130, 180).show().data["text/plain"], "#4682b4");
/// ```
///
/// When a notebook is opened again without being run, its HTML is shown without scripts, `<style>` and inline SVG.
/// `style="..."`, `<details>` and `<img src="data:...">` are kept.
pub trait Show {
    /// Returns the representations to show.
    fn show(&self) -> Bundle;
}

impl<T: Show + ?Sized> Show for &T {
    fn show(&self) -> Bundle {
        (**self).show()
    }
}

impl<T: Show + ?Sized> Show for Box<T> {
    fn show(&self) -> Bundle {
        (**self).show()
    }
}

impl Show for () {
    fn show(&self) -> Bundle {
        Bundle::default()
    }
}

impl Show for Bundle {
    fn show(&self) -> Bundle {
        self.clone()
    }
}

impl Show for Table {
    fn show(&self) -> Bundle {
        Bundle::text(self.to_string().trim_end()).with("text/html", self.html())
    }
}

impl Show for RecordBatch {
    fn show(&self) -> Bundle {
        Table::from(self.clone()).show()
    }
}

impl Show for Figure {
    fn show(&self) -> Bundle {
        Bundle::text("a figure").with("image/svg+xml", self.as_svg())
    }
}

impl Show for Metrics {
    fn show(&self) -> Bundle {
        Bundle::text(chart::text(self)).with("text/html", chart::html(self))
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

/// Maximum size of a shown text, in bytes.
const MOST: usize = 64 * 1024;

/// Returns the first lines of a text.
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

/// Shows a value as `{:?}` if that is short, otherwise as `{:#?}`, with a tree built from that.
pub(crate) fn debug(value: &dyn Debug) -> Bundle {
    const SHORT: usize = 100;
    if let Ok(line) = bounded(SHORT, format_args!("{value:?}")) {
        return Bundle::text(line);
    }
    let pretty = bounded(MOST, format_args!("{value:#?}"));
    let tree = match &pretty {
        Ok(pretty) | Err(pretty) => tree::html(pretty),
    };
    let text = pretty.unwrap_or_else(|cut| cut + "...");
    match tree {
        Some(tree) => Bundle::text(text).with("text/html", tree),
        None => Bundle::text(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn short_values_are_one_line_and_long_ones_a_tree() {
        assert_eq!(debug(&Some([1, 2])), Bundle::text("Some([1, 2])"));
        let long = debug(&vec!["fifteen letters"; 8]);
        let types: Vec<&str> = long.data.keys().map(String::as_str).collect();
        assert_eq!(types, ["text/html", "text/plain"]);
        assert_eq!(
            long.data["text/plain"],
            format!("[\n{}]", "    \"fifteen letters\",\n".repeat(8))
        );
        let text = "x".repeat(200);
        assert_eq!(debug(&text), Bundle::text(format!("{text:?}")));
    }

    #[test]
    fn what_is_shown_of_a_large_value_is_bounded() {
        let shown = debug(&vec![vec![1.5; 100]; 100_000]);
        assert_eq!(shown.data["text/plain"].as_str().unwrap().len(), MOST + 3);
        assert!(shown.data["text/html"].as_str().unwrap().len() < 2 * MOST);
    }

    #[test]
    fn batches_boxes_and_references_are_shown_as_what_they_hold() {
        let table = Table::new([("x", vec![1])]).unwrap();
        assert_eq!(RecordBatch::from(table.clone()).show(), table.show());
        let boxed: Box<dyn Show> = Box::new(&table);
        assert_eq!(boxed.show(), table.show());
    }

    #[test]
    fn a_bundle_holds_texts_and_json() {
        let bundle = Bundle::text("one").with("application/json", json!({"n": 1}));
        assert_eq!(
            serde_json::to_value(&bundle).unwrap(),
            json!({"data": {"text/plain": "one", "application/json": {"n": 1}}})
        );
    }
}
