//! HTML that stays as it is when a notebook is opened again. JupyterLab then takes away what its sanitizer
//! (@jupyterlab/apputils, `Sanitizer`) does not list: scripts, `<style>`, `<svg>`, and of inline styles `currentColor`, `var()` and
//! many properties. `<details>`, opacity, overflow, margins, widths and named colours stay. Text has the colour of its
//! surroundings, so that it is legible in light and dark themes. `font-variant-numeric` does not stay: most fonts of front ends have digits
//! of one width anyhow.

use std::fmt::{self, Write};

/// The style of what matters less.
pub(crate) const DIM: &str = "opacity:0.6";

/// Text as HTML, in an element or an attribute.
pub(crate) struct Escaped<T>(pub T);

impl<T: AsRef<str>> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().chars().try_for_each(|letter| match letter {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            letter => f.write_char(letter),
        })
    }
}
