//! Graphs as text that other programs draw (DOT, Mermaid), and drawn by ourselves (SVG).

mod layout;
mod svg;

use std::collections::BTreeMap;
use std::fmt::Write;

/// What a graph is written as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// a picture
    Svg,
    /// text for Mermaid, which GitHub and JupyterLab draw
    Mermaid,
    /// text for Graphviz
    Dot,
}

/// What state a node is in; it is drawn in a colour of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    /// nothing is said of it
    Plain,
    /// what was asked about
    Focus,
    /// it is known
    Hit,
    /// it has to be done
    Miss,
    /// it failed
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

    /// Fill and line, readable with black text.
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

/// A directed graph. Nodes are written in the order in which they came.
#[derive(Default)]
pub struct Graph {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    by_id: BTreeMap<String, usize>,
}

struct Node {
    /// What is written in it; more than one line is fine.
    label: String,
    class: Class,
    /// Where it leads, on a page.
    link: Option<String>,
}

struct Edge {
    from: usize,
    to: usize,
    label: String,
}

impl Graph {
    /// Adds the node called `id`, or changes what it says.
    pub fn node(&mut self, id: &str, label: impl Into<String>, class: Class) {
        let at = self.index(id);
        self.nodes[at].label = label.into();
        self.nodes[at].class = class;
    }

    /// Lets the node called `id` lead to an address.
    pub fn link(&mut self, id: &str, address: String) {
        let at = self.index(id);
        self.nodes[at].link = Some(address);
    }

    /// Whether there is a node called `id`.
    pub fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Adds an edge between two nodes. One that is not there yet is labelled with its id.
    pub fn edge(&mut self, from: &str, to: &str, label: impl Into<String>) {
        let (from, to) = (self.index(from), self.index(to));
        let label = label.into();
        self.edges.push(Edge { from, to, label });
    }

    /// The graph in this format.
    pub fn to_format(&self, format: Format) -> String {
        match format {
            Format::Svg => self.to_svg(),
            Format::Mermaid => self.to_mermaid(),
            Format::Dot => self.to_dot(),
        }
    }

    /// The graph in Graphviz' language.
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

    /// The graph as a flowchart of Mermaid.
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

    /// The graph as a picture, laid out in layers from top to bottom.
    pub fn to_svg(&self) -> String {
        svg::draw(self)
    }

    /// The picture as a part of a page, whose style gives the colours: classes are those of the nodes, `e` is an edge, `l` its label.
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

/// Mermaid takes entities with `#` for `&`, and `<br/>` for a new line.
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
