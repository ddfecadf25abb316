//! HTML that is unchanged when a notebook is opened again. JupyterLab then removes everything that its sanitizer
//! (@jupyterlab/apputils, `Sanitizer`) does not allow: scripts, `<style>`, `<svg>`, and in inline styles `currentColor`, `var()`
//! and many properties. `<details>`, opacity, overflow, margins, widths and named colours are allowed. Text has the colour of its
//! surroundings, so that it is legible in light and dark themes. `font-variant-numeric` is removed, but most fonts of front ends
//! have digits of equal width anyway.

use std::fmt::{self, Write};

/// The style of secondary text.
pub(crate) const DIM: &str = "opacity:0.6";

/// Escapes text for an HTML element or attribute.
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
