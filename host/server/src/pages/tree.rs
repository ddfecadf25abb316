//! JSON as a collapsible tree.

use lockstep_view::columns::fit;
use maud::{Markup, html};
use serde_json::Value;

/// Maximum number of rendered values; the rest is counted.
const VALUES: usize = 3_000;
/// Maximum number of rendered items of a list or object.
const ITEMS: usize = 200;
/// Maximum depth; deeper values are counted.
const DEPTH: usize = 40;
/// Maximum length of a list of numbers and booleans on one line.
const SHORT: usize = 16;

/// Renders a value, within the limits.
pub fn tree(value: &Value) -> Markup {
    html! { div.tree { (node(value, 0, VALUES)) } }
}

/// Renders a value with about `most` nested values; siblings share this budget equally.
fn node(value: &Value, depth: usize, most: usize) -> Markup {
    match value {
        Value::Array(items) if is_short(items) => html! { code.number { (value) } },
        Value::Array(items) => {
            let children = items.iter().enumerate().map(|(at, item)| (at.to_string(), item));
            branch(children, items.len(), "item", depth, most)
        }
        Value::Object(fields) => {
            let children = fields.iter().map(|(name, field)| (fit(name, 80), field));
            branch(children, fields.len(), "field", depth, most)
        }
        Value::String(text) => html! { code.text { (fit(&format!("{text:?}"), 400)) } },
        other => html! { code.number { (other) } },
    }
}

fn branch<'a>(
    children: impl Iterator<Item = (String, &'a Value)>,
    count: usize,
    what: &str,
    depth: usize,
    most: usize,
) -> Markup {
    let told = format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let shown = count.min(ITEMS).min(most);
    if shown == 0 || depth == DEPTH {
        return html! { span.dim { (told) } };
    }
    html! {
        details open[depth < 1] {
            summary { span.dim { (told) } }
            ul {
                @for (name, child) in children.take(shown) {
                    li { span.key { (name) } (node(child, depth + 1, (most - shown) / shown)) }
                }
                @if count > shown { li.dim { "… and " (count - shown) " more" } }
            }
        }
    }
}

fn is_short(items: &[Value]) -> bool {
    !items.is_empty() && items.len() <= SHORT && items.iter().all(|item| item.is_number() || item.is_boolean())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_large_value_is_counted_where_it_is_not_written() {
        let page = tree(&json!({ "a": vec![vec!["<x>"; 300]; 30], "b": [1, 2] })).into_string();
        assert!(page.contains("&lt;x&gt;") && !page.contains("<x>"));
        assert!(page.contains("… and 252 more"), "{page}");
        assert!(page.matches("<li>").count() <= VALUES, "{}", page.matches("<li>").count());
        assert!(page.contains("<code class=\"number\">[1,2]</code>"));
    }

    #[test]
    fn a_deep_value_is_cut() {
        let deep = (0..100).fold(json!(1), |value, _| json!({ "in": value }));
        assert_eq!(tree(&deep).into_string().matches("<details").count(), DEPTH);
    }
}
