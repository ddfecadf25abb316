use clap::ValueEnum;
use lockstep_view::graph;

/// The format of a graph on the command line.
#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    /// SVG image
    Svg,
    /// Mermaid source, which GitHub and JupyterLab render
    Mermaid,
    /// Graphviz source
    Dot,
}

impl From<Format> for graph::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Svg => Self::Svg,
            Format::Mermaid => Self::Mermaid,
            Format::Dot => Self::Dot,
        }
    }
}
