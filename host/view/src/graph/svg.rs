use std::fmt::Write;

use super::layout::{Layout, layout};
use super::{Class, Graph, Node};

const MARGIN: f64 = 16.0;
const LINE: f64 = 17.0;
const PADDING: f64 = 10.0;
/// The distance between layers.
const SPACE: f64 = 48.0;
/// The estimated width of a letter at 13 px.
const LETTER: f64 = 7.6;

/// The arrowhead of an edge.
const MARKER: &str = "<defs><marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
    <path d=\"M0 0L8 4L0 8z\" fill=\"#8c959f\"/></marker></defs>\n";
const BACKGROUND: &str = "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";

/// The top and the height of each layer.
struct Heights(Vec<(f64, f64)>);

impl Heights {
    fn middle(&self, layer: usize) -> f64 {
        self.0[layer].0 + self.0[layer].1 / 2.0
    }
}

pub(super) fn draw(graph: &Graph) -> String {
    drawn(graph, &format!("{}{MARKER}{BACKGROUND}", style(graph)))
}

/// Draws without style and background.
pub(super) fn draw_bare(graph: &Graph) -> String {
    drawn(graph, MARKER)
}

fn drawn(graph: &Graph, head: &str) -> String {
    let widths: Vec<f64> = graph.nodes.iter().map(width).collect();
    let edges: Vec<(usize, usize)> = graph.edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let layout = layout(&widths, &edges);
    let heights = heights(graph, &layout);
    let bottom = heights.0.last().map_or(MARGIN, |(top, height)| top + height);
    let (wide, high) = (layout.width + 2.0 * MARGIN, bottom + MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{wide:.0}\" height=\"{high:.0}\" viewBox=\"0 0 {wide:.0} {high:.0}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n{head}"
    );
    for at in 0..edges.len() {
        draw_edge(&mut svg, graph, &layout, &heights, at);
    }
    for (at, node) in graph.nodes.iter().enumerate() {
        let middle = (layout.middles[at] + MARGIN, heights.middle(layout.layers[at]));
        draw_node(&mut svg, node, middle, widths[at]);
    }
    svg + "</svg>\n"
}

fn style(graph: &Graph) -> String {
    let mut head = "<style>.e{fill:none;stroke:#8c959f;stroke-width:1.3}.l{fill:#57606a;font-size:11px;stroke:#fff;stroke-width:4px;paint-order:stroke}".to_owned();
    for class in Class::ALL
        .iter()
        .filter(|class| graph.nodes.iter().any(|node| node.class == **class))
    {
        let (fill, line) = class.colours();
        let _ = write!(head, ".{}{{fill:{fill};stroke:{line}}}", class.name());
    }
    head + "</style>\n"
}

fn width(node: &Node) -> f64 {
    let letters = node
        .label
        .lines()
        .map(unicode_width::UnicodeWidthStr::width)
        .max()
        .unwrap_or(0);
    letters as f64 * LETTER + 2.0 * PADDING
}

fn height(node: &Node) -> f64 {
    node.label.lines().count().max(1) as f64 * LINE + PADDING
}

fn heights(graph: &Graph, layout: &Layout) -> Heights {
    let mut heights = vec![0.0_f64; layout.layers.iter().max().map_or(0, |most| most + 1)];
    for (node, layer) in graph.nodes.iter().zip(&layout.layers) {
        heights[*layer] = heights[*layer].max(height(node));
    }
    let mut top = MARGIN;
    let place = |height: f64| {
        let at = top;
        top += height + SPACE;
        (at, height)
    };
    Heights(heights.into_iter().map(place).collect())
}

fn draw_node(svg: &mut String, node: &Node, (x, y): (f64, f64), wide: f64) {
    let high = height(node);
    if let Some(link) = &node.link {
        let _ = writeln!(svg, "<a href=\"{}\">", escape(link));
    }
    let _ = writeln!(
        svg,
        "<rect class=\"{}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\" rx=\"6\"/>",
        node.class.name(),
        x - wide / 2.0,
        y - high / 2.0
    );
    for (line, text) in node.label.lines().enumerate() {
        let y = y - high / 2.0 + PADDING / 2.0 + (line as f64 + 0.75) * LINE;
        let weight = if line == 0 { " font-weight=\"600\"" } else { "" };
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\"{weight}>{}</text>",
            escape(text)
        );
    }
    if node.link.is_some() {
        svg.push_str("</a>\n");
    }
}

/// A path that is drawn downward.
struct Pen {
    path: String,
    at: (f64, f64),
}

impl Pen {
    fn curve(&mut self, x: f64, y: f64) {
        let bend = (y - self.at.1) / 2.0;
        let (from_x, from_y) = self.at;
        let _ = write!(
            self.path,
            "C{from_x:.1} {:.1} {x:.1} {:.1} {x:.1} {y:.1}",
            from_y + bend,
            y - bend
        );
        self.at = (x, y);
    }

    fn down(&mut self, y: f64) {
        let _ = write!(self.path, "V{y:.1}");
        self.at.1 = y;
    }
}

/// Draws a curve from the bottom of one node to the top of another, straight down through the layers between them.
fn draw_edge(svg: &mut String, graph: &Graph, layout: &Layout, heights: &Heights, at: usize) {
    let edge = &graph.edges[at];
    let place = |node: usize, side: f64| {
        let y = heights.middle(layout.layers[node]) + side * height(&graph.nodes[node]) / 2.0;
        (layout.middles[node] + MARGIN, y)
    };
    let (start, end) = (place(edge.from, 1.0), place(edge.to, -1.0));
    let mut pen = Pen {
        path: format!("M{:.1} {:.1}", start.0, start.1),
        at: start,
    };
    for (layer, x) in &layout.ways[at] {
        let (top, height) = heights.0[*layer];
        pen.curve(x + MARGIN, top);
        pen.down(top + height);
    }
    let (x, y) = (f64::midpoint(pen.at.0, end.0), f64::midpoint(pen.at.1, end.1));
    pen.curve(end.0, end.1);
    let _ = writeln!(svg, "<path class=\"e\" d=\"{}\" marker-end=\"url(#a)\"/>", pen.path);
    if !edge.label.is_empty() {
        let text = escape(&edge.label);
        let _ = writeln!(
            svg,
            "<text class=\"l\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{text}</text>"
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_holds_every_node_and_edge_within_its_bounds() {
        let mut graph = Graph::default();
        graph.node("a", "a < b\n2 rows", Class::Focus);
        graph.edge("a", "c", "rows & all");
        let expected = "<rect class=\"focus\" x=\"16.0\" y=\"16.0\" width=\"65.6\" height=\"44.0\" rx=\"6\"/>
<text x=\"48.8\" y=\"33.8\" text-anchor=\"middle\" font-weight=\"600\">a &lt; b</text>
<text x=\"48.8\" y=\"50.8\" text-anchor=\"middle\">2 rows</text>
<rect class=\"plain\" x=\"35.0\" y=\"108.0\" width=\"27.6\" height=\"27.0\" rx=\"6\"/>
<text x=\"48.8\" y=\"125.8\" text-anchor=\"middle\" font-weight=\"600\">c</text>
</svg>
";
        let svg = draw(&graph);
        assert!(
            svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"98\" height=\"151\""),
            "{svg}"
        );
        let edge = "<path class=\"e\" d=\"M48.8 60.0C48.8 84.0 48.8 84.0 48.8 108.0\" marker-end=\"url(#a)\"/>
<text class=\"l\" x=\"48.8\" y=\"84.0\" text-anchor=\"middle\">rows &amp; all</text>
";
        assert_eq!(
            svg.split_once("#fff\"/>\n").map(|(_, drawn)| drawn),
            Some(&*format!("{edge}{expected}"))
        );
    }
}
