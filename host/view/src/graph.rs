//! Graphs as DOT, Mermaid and SVG.

mod layout;
mod svg;

use std::collections::BTreeMap;
use std::fmt::Write;

/// The format of a graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// SVG
    Svg,
    /// Mermaid source
    Mermaid,
    /// Graphviz source
    Dot,
}

/// The state of a node, which sets its colour.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    /// no state
    Plain,
    /// the subject of the graph
    Focus,
    /// cached, or succeeded
    Hit,
    /// must run
    Miss,
    /// failed
    Failed,
}

impl Class {
    const ALL: [Self; 5] = [Self::Plain, Self::Focus, Self::Hit, Self::Miss, Self::Failed];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Focus => "focus",
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Failed => "failed",
        }
    }

    /// Returns the colours of fill and border, readable with black text.
    fn colours(self) -> (&'static str, &'static str) {
        match self {
            Self::Plain => ("#f6f8fa", "#8c959f"),
            Self::Focus => ("#ddf4ff", "#0969da"),
            Self::Hit => ("#dafbe1", "#1a7f37"),
            Self::Miss => ("#fff8c5", "#9a6700"),
            Self::Failed => ("#ffebe9", "#cf222e"),
        }
    }
}

/// A directed graph. Nodes keep their order.
#[derive(Default)]
pub struct Graph {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    by_id: BTreeMap<String, usize>,
}

struct Node {
    /// The label, of one or more lines.
    label: String,
    class: Class,
    /// The target of its link on a page.
    link: Option<String>,
}

struct Edge {
    from: usize,
    to: usize,
    label: String,
}

impl Graph {
    /// Adds the node `id`, or changes its label and class.
    pub fn node(&mut self, id: &str, label: impl Into<String>, class: Class) {
        let at = self.index(id);
        self.nodes[at].label = label.into();
        self.nodes[at].class = class;
    }

    /// Links the node `id` to an address.
    pub fn link(&mut self, id: &str, address: String) {
        let at = self.index(id);
        self.nodes[at].link = Some(address);
    }

    /// Returns whether there is a node `id`.
    pub fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// Returns the number of nodes.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Adds an edge between two nodes. A missing node is added with its id as label.
    pub fn edge(&mut self, from: &str, to: &str, label: impl Into<String>) {
        let (from, to) = (self.index(from), self.index(to));
        let label = label.into();
        self.edges.push(Edge { from, to, label });
    }

    /// Writes the graph in this format.
    pub fn to_format(&self, format: Format) -> String {
        match format {
            Format::Svg => self.to_svg(),
            Format::Mermaid => self.to_mermaid(),
            Format::Dot => self.to_dot(),
        }
    }

    /// Writes the graph as DOT.
    pub fn to_dot(&self) -> String {
        let mut text = "digraph {\n  rankdir=TB;\n  node [shape=box, style=\"rounded,filled\"];\n".to_owned();
        for (at, node) in self.nodes.iter().enumerate() {
            let ((fill, line), label) = (node.class.colours(), dot_text(&node.label));
            let _ = writeln!(text, "  n{at} [label=\"{label}\", fillcolor=\"{fill}\", color=\"{line}\"];");
        }
        for Edge { from, to, label } in &self.edges {
            let label = match label.as_str() {
                "" => String::new(),
                label => format!(" [label=\"{}\"]", dot_text(label)),
            };
            let _ = writeln!(text, "  n{from} -> n{to}{label};");
        }
        text + "}\n"
    }

    /// Writes the graph as a Mermaid flowchart.
    pub fn to_mermaid(&self) -> String {
        let mut text = "flowchart TD\n".to_owned();
        for (at, node) in self.nodes.iter().enumerate() {
            let _ = writeln!(text, "  n{at}(\"{}\"):::{}", mermaid_text(&node.label), node.class.name());
        }
        for Edge { from, to, label } in &self.edges {
            let label = match label.as_str() {
                "" => String::new(),
                label => format!("|\"{}\"|", mermaid_text(label)),
            };
            let _ = writeln!(text, "  n{from} -->{label} n{to}");
        }
        for class in Class::ALL
            .iter()
            .filter(|class| self.nodes.iter().any(|node| node.class == **class))
        {
            let (fill, line) = class.colours();
            let _ = writeln!(text, "  classDef {} fill:{fill},stroke:{line},color:#000", class.name());
        }
        text
    }

    /// Writes the graph as SVG, in layers from top to bottom.
    pub fn to_svg(&self) -> String {
        svg::draw(self)
    }

    /// Writes the graph as SVG without colours, for a page with its own style. Nodes have the class of their state, edges `e`, labels `l`.
    pub fn to_page(&self) -> String {
        svg::draw_bare(self)
    }

    fn index(&mut self, id: &str) -> usize {
        if let Some(at) = self.by_id.get(id) {
            return *at;
        }
        self.by_id.insert(id.to_owned(), self.nodes.len());
        self.nodes.push(Node {
            label: id.to_owned(),
            class: Class::Plain,
            link: None,
        });
        self.nodes.len() - 1
    }
}

fn dot_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Escapes text for Mermaid, which writes entities with `#` instead of `&`, and line breaks as `<br/>`.
fn mermaid_text(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("<br/>"),
            '#' | '"' | '<' | '>' | '&' | ';' | '`' => {
                let _ = write!(escaped, "#{};", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        let mut graph = Graph::default();
        graph.node("clean", "clean\nof \"a\"", Class::Hit);
        graph.edge("raw", "clean", "");
        graph.edge("clean", "train", "rows");
        graph
    }

    #[test]
    fn text_for_graphviz() {
        assert_eq!(
            graph().to_format(Format::Dot),
            r##"digraph {
  rankdir=TB;
  node [shape=box, style="rounded,filled"];
  n0 [label="clean\nof \"a\"", fillcolor="#dafbe1", color="#1a7f37"];
  n1 [label="raw", fillcolor="#f6f8fa", color="#8c959f"];
  n2 [label="train", fillcolor="#f6f8fa", color="#8c959f"];
  n1 -> n0;
  n0 -> n2 [label="rows"];
}
"##
        );
    }

    #[test]
    fn text_for_mermaid() {
        assert_eq!(
            graph().to_format(Format::Mermaid),
            r##"flowchart TD
  n0("clean<br/>of #34;a#34;"):::hit
  n1("raw"):::plain
  n2("train"):::plain
  n1 --> n0
  n0 -->|"rows"| n2
  classDef plain fill:#f6f8fa,stroke:#8c959f,color:#000
  classDef hit fill:#dafbe1,stroke:#1a7f37,color:#000
"##
        );
    }
}
