use std::fmt;
use std::path::Path;

use crate::artifact::{create, media_type, read};
use crate::{Artifact, Context, Result};

/// A picture, as SVG.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Figure(String);

impl Figure {
    /// A figure of SVG text.
    pub fn svg(svg: impl Into<String>) -> Self {
        Self(svg.into())
    }

    /// The SVG text.
    pub fn as_svg(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Artifact for Figure {
    const MEDIA_TYPE: &'static str = media_type::FIGURE;

    fn read(path: &Path) -> Result<Self> {
        String::from_utf8(read(path)?)
            .map(Self)
            .with_context(|| format!("{} is not UTF-8 text", path.display()))
    }

    fn write(&self, path: &Path) -> Result<()> {
        create(path, |file| Ok(std::io::Write::write_all(file, self.0.as_bytes())?))
    }
}
