//! A collapsible tree, built from the output of `{:#?}`.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Lines;

use super::html::{DIM, Escaped};

/// Maximum length of a node in one line, in characters.
const LINE: usize = 80;
/// Maximum depth of the tree; deeper nodes are shown side by side.
const DEPTH: usize = 32;
/// Maximum number of children shown per node.
const CHILDREN: usize = 100;
/// Maximum number of children of a node that is initially expanded, except for the root.
const UNFOLDED: usize = 20;

/// A value, or a name or key with its value.
#[derive(Debug, Default)]
struct Node<'a> {
    /// The text up to and including the opening bracket, if there is one.
    head: &'a str,
    children: Vec<Node<'a>>,
    /// The closing bracket; empty if the node has no children, or if the text is truncated inside it.
    close: &'a str,
}

/// Formats the tree of `pretty`, the possibly truncated output of `{:#?}`; `None` if it is flat.
pub(super) fn html(pretty: &str) -> Option<String> {
    let nodes = nodes(&mut pretty.lines().peekable(), 0, 0);
    if nodes.iter().all(|node| node.children.is_empty()) {
        return None;
    }
    let mut html = String::from("<div style=\"font-family:monospace\">\n");
    nodes.iter().for_each(|node| node.html(0, &mut html));
    html.push_str("</div>\n");
    Some(html)
}

/// Parses the nodes from the lines that are indented by at least `indentation`.
fn nodes<'a>(lines: &mut Peekable<Lines<'a>>, indentation: usize, depth: usize) -> Vec<Node<'a>> {
    let mut nodes = Vec::new();
    while let Some(line) = lines.next_if(|line| indentation_of(line) >= indentation) {
        let mut node = Node {
            head: without_comma(line),
            ..Node::default()
        };
        let deeper = |next: &&str| indentation_of(next) > indentation_of(line);
        if let Some(next) = lines.peek().copied().filter(deeper)
            && node.head.ends_with(['{', '[', '('])
            && depth < DEPTH
        {
            node.children = self::nodes(lines, indentation_of(next), depth + 1);
            let closes = |next: &&str| matches!(without_comma(next), "}" | "]" | ")");
            node.close = lines.next_if(closes).map(without_comma).unwrap_or_default();
        }
        nodes.push(node);
    }
    nodes
}

fn indentation_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn without_comma(line: &str) -> &str {
    let line = line.trim();
    line.strip_suffix(',').unwrap_or(line)
}

impl Node<'_> {
    fn html(&self, depth: usize, html: &mut String) {
        let mut line = String::new();
        if self.line(LINE, &mut line) {
            return div(&line, html);
        }
        if self.children.is_empty() {
            return div(self.head, html);
        }
        let (name, open) = self.head.split_at(self.head.len() - 1);
        let unfolded = depth == 0 || depth == 1 && self.children.len() <= UNFOLDED;
        let _ = write!(
            html,
            "<details{}><summary>{}<span style=\"{DIM}\">{open}{}</span></summary>\n<div style=\"margin-left:1.5em\">\n",
            if unfolded { " open" } else { "" },
            Escaped(name),
            self.count(),
        );
        let shown = &self.children[..self.children.len().min(CHILDREN)];
        match shown.iter().all(|child| child.children.is_empty()) && open != "{" {
            true => div(&self.joined(shown), html),
            false => shown.iter().for_each(|child| child.html(depth + 1, html)),
        }
        if self.children.len() > CHILDREN {
            div(&format!("… {} more", self.children.len() - CHILDREN), html);
        }
        html.push_str("</div>\n</details>\n");
    }

    /// Returns the number of children, if it is known, and the closing bracket.
    fn count(&self) -> String {
        match (self.close, &self.head[self.head.len() - 1..]) {
            ("", "{") => "…}".into(),
            ("", "[") => "…]".into(),
            ("", _) => "…)".into(),
            (close, _) => format!("{}{close}", self.children.len()),
        }
    }

    fn joined(&self, shown: &[Node<'_>]) -> String {
        let heads: Vec<&str> = shown.iter().map(|child| child.head).collect();
        heads.join(", ")
    }

    /// Appends the node as one line. Returns false if the line is longer than `most` bytes.
    fn line(&self, most: usize, line: &mut String) -> bool {
        line.push_str(self.head);
        if self.children.is_empty() {
            return line.len() <= most;
        }
        let space = if self.head.ends_with('{') { " " } else { "" };
        line.push_str(space);
        for (index, child) in self.children.iter().enumerate() {
            if index > 0 {
                line.push_str(", ");
            }
            if !child.line(most, line) {
                return false;
            }
        }
        line.push_str(space);
        line.push_str(self.close);
        !self.close.is_empty() && line.len() <= most
    }
}

fn div(text: &str, html: &mut String) {
    let _ = writeln!(html, "<div>{}</div>", Escaped(text));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::html;

    #[derive(Debug)]
    #[expect(dead_code, reason = "they are shown")]
    struct Config {
        name: &'static str,
        sizes: Vec<u32>,
        limits: BTreeMap<&'static str, Option<f64>>,
        note: &'static str,
    }

    fn config() -> Config {
        Config {
            name: "<b>",
            sizes: (1000..1020).collect(),
            limits: [("least", Some(0.5)), ("most", None)].into(),
            note: "a note that is long enough for the whole not to fit into a single line of the tree",
        }
    }

    #[test]
    fn structs_are_trees_whose_short_parts_are_lines() {
        let sizes: Vec<String> = (1000..1020).map(|size| size.to_string()).collect();
        let wanted = format!(
            "<div style=\"font-family:monospace\">
<details open><summary>Config <span style=\"opacity:0.6\">{{4}}</span></summary>
<div style=\"margin-left:1.5em\">
<div>name: &quot;&lt;b&gt;&quot;</div>
<details open><summary>sizes: <span style=\"opacity:0.6\">[20]</span></summary>
<div style=\"margin-left:1.5em\">
<div>{}</div>
</div>
</details>
<div>limits: {{ &quot;least&quot;: Some(0.5), &quot;most&quot;: None }}</div>
<div>note: &quot;a note that is long enough for the whole not to fit into a single line of the tree&quot;</div>
</div>
</details>
</div>
",
            sizes.join(", ")
        );
        assert_eq!(html(&format!("{:#?}", config())).unwrap(), wanted);
    }

    #[test]
    fn deeper_levels_are_folded_and_long_ones_end() {
        let deep = vec![vec![vec![1u64 << 40; 10]; 2]; 150];
        let html = html(&format!("{deep:#?}")).unwrap();
        assert_eq!(html.matches("<details open>").count(), 101);
        assert_eq!(html.matches("<details>").count(), 200);
        assert!(html.ends_with("<div>… 50 more</div>\n</div>\n</details>\n</div>\n"));
    }

    #[test]
    fn text_that_ends_anywhere_is_a_tree() {
        let pretty = format!("{:#?}", [config(), config()]);
        for end in (0..pretty.len()).step_by(7) {
            html(&pretty[..end]);
        }
        let cut = html(&pretty[..pretty.len() / 2]).unwrap();
        assert!(cut.contains("<summary><span style=\"opacity:0.6\">[…]</span></summary>"));
    }

    #[test]
    fn what_nests_without_end_is_bounded() {
        let pretty: String = (0..2000).map(|depth| format!("{}A(\n", " ".repeat(depth))).collect();
        let html = html(&pretty).unwrap();
        assert_eq!(html.matches("<details").count(), super::DEPTH);
    }

    #[test]
    fn flat_text_is_no_tree() {
        assert_eq!(html("one\ntwo"), None);
        assert_eq!(html("[]"), None);
        assert_eq!(html(""), None);
    }
}
