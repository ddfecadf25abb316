use clap::ValueEnum;
use lockstep_view::graph;

/// What a graph is written as, as the command line names it.
#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    /// a picture
    Svg,
    /// text for Mermaid, which GitHub and JupyterLab draw
    Mermaid,
    /// text for Graphviz
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
