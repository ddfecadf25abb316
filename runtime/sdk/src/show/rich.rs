use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use erased_serde::Serialize as Erased;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Bundle, Show, head};
use crate::Json;

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $media_type:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
        pub struct $name(pub String);

        impl $name {
            /// Creates it from `text`.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }
        }

        impl Show for $name {
            fn show(&self) -> Bundle {
                Bundle::text(head(&self.0)).with($media_type, self.0.as_str())
            }
        }
    )+};
}

texts! {
    /// HTML, shown without escaping: escape text from other sources yourself.
    Html: "text/html";
    /// Markdown, as supported by Jupyter: with tables, and formulas between dollar signs.
    Markdown: "text/markdown";
    /// LaTeX, with formulas between dollar signs as in a document; [`Latex::formula`] adds them.
    Latex: "text/latex";
}

impl Latex {
    /// Creates a formula on a separate line.
    ///
    /// ```
    /// use lockstep::show::Latex;
    ///
    /// assert_eq!(Latex::formula(r"\frac{1}{2}"), Latex::new(r"$$\frac{1}{2}$$"));
    /// ```
    pub fn formula(formula: &str) -> Self {
        Self(format!("$${formula}$$"))
    }
}

/// An image, as the bytes of a PNG file.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Png(pub Vec<u8>);

impl Png {
    /// Creates an image from the bytes of a PNG file.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }
}

impl Show for Png {
    fn show(&self) -> Bundle {
        let text = format!("a PNG image of {} bytes", self.0.len());
        Bundle::text(text).with("image/png", BASE64_STANDARD.encode(&self.0))
    }
}

/// A chart in [Vega-Lite](https://vega.github.io/vega-lite/) (version 5), drawn by the notebook.
///
/// ```
/// use lockstep::serde_json::json;
/// use lockstep::show::VegaLite;
///
/// let chart = VegaLite::new(json!({
///     "data": {"values": [{"x": "a", "y": 28}, {"x": "b", "y": 55}]},
///     "mark": "bar",
///     "encoding": {"x": {"field": "x"}, "y": {"field": "y", "type": "quantitative"}},
/// }));
/// ```
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct VegaLite(pub Value);

impl VegaLite {
    /// Creates a chart from a Vega-Lite specification.
    pub fn new(specification: impl Into<Value>) -> Self {
        Self(specification.into())
    }
}

impl Show for VegaLite {
    fn show(&self) -> Bundle {
        Bundle::text(pretty(&self.0)).with("application/vnd.vegalite.v5+json", self.0.clone())
    }
}

/// A value of any serde type, as a collapsible tree.
impl<T: Serialize> Show for Json<T> {
    fn show(&self) -> Bundle {
        json(&self.0)
    }
}

impl Show for Value {
    fn show(&self) -> Bundle {
        json(self)
    }
}

/// Shows JSON. A value that can't be JSON, such as a map with keys that are not strings, is shown as the error; a value that is
/// too large for a browser is shown only as text.
fn json(value: &dyn Erased) -> Bundle {
    /// Maximum size for a browser, in bytes of text.
    const LARGE: usize = 1024 * 1024;
    match serde_json::to_value(value) {
        Ok(value) if value.to_string().len() <= LARGE => Bundle::text(pretty(&value)).with("application/json", value),
        Ok(value) => Bundle::text(pretty(&value)),
        Err(error) => Bundle::text(format!("no JSON: {error}")),
    }
}

fn pretty(value: &Value) -> String {
    head(&format!("{value:#}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn data(value: impl Show) -> Value {
        serde_json::to_value(value.show().data).unwrap()
    }

    #[test]
    fn texts_are_shown_with_their_source() {
        assert_eq!(
            data(Html::new("<b>x</b>")),
            json!({"text/plain": "<b>x</b>", "text/html": "<b>x</b>"})
        );
        assert_eq!(
            data(Markdown::new("*x*")),
            json!({"text/plain": "*x*", "text/markdown": "*x*"})
        );
        assert_eq!(
            data(Latex::formula("x^2")),
            json!({"text/plain": "$$x^2$$", "text/latex": "$$x^2$$"})
        );
    }

    #[test]
    fn images_are_base64() {
        assert_eq!(
            data(Png::new(*b"\x89PNG")),
            json!({"text/plain": "a PNG image of 4 bytes", "image/png": "iVBORw=="})
        );
    }

    #[test]
    fn json_and_charts_are_values() {
        assert_eq!(
            data(Json([1, 2])),
            json!({"text/plain": "[\n  1,\n  2\n]", "application/json": [1, 2]})
        );
        assert_eq!(data(json!({"a": null})), data(Json(BTreeMap::from([("a", ())]))));
        assert_eq!(
            data(VegaLite::new(json!({"mark": "bar"}))),
            json!({"text/plain": "{\n  \"mark\": \"bar\"\n}", "application/vnd.vegalite.v5+json": {"mark": "bar"}})
        );
        assert_eq!(
            data(Json(BTreeMap::from([((1, 2), 3)]))),
            json!({"text/plain": "no JSON: key must be a string"})
        );
    }

    #[test]
    fn large_json_is_text_alone() {
        let shown = Json(vec!["text"; 300_000]).show();
        let types: Vec<&str> = shown.data.keys().map(String::as_str).collect();
        assert_eq!(types, ["text/plain"]);
        assert!(shown.data["text/plain"].as_str().unwrap().ends_with("... 299962 more lines"));
    }
}
