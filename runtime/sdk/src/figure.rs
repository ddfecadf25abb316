use std::fmt;
use std::path::Path;

use crate::artifact::{create, media_type, read_text};
use crate::{Artifact, Result};

/// A picture, as SVG. With the feature `plotters`, `Figure::draw` draws it with the crate of that name; any other source of SVG
/// works too: `Figure::svg(text)`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Figure(String);

/// The drawing area of [`Figure::draw`].
#[cfg(feature = "plotters")]
pub type Area<'a> = plotters::drawing::DrawingArea<plotters::prelude::SVGBackend<'a>, plotters::coord::Shift>;

impl Figure {
    /// Creates a figure from SVG text.
    pub fn svg(svg: impl Into<String>) -> Self {
        Self(svg.into())
    }

    /// Draws a figure of `size` pixels with plotters.
    ///
    /// ```
    /// use lockstep::Figure;
    /// use lockstep::plotters::prelude::*;
    ///
    /// let figure = Figure::draw((100, 100), |area| {
    ///     area.draw(&Circle::new((50, 50), 40, BLUE.filled()))?;
    ///     Ok(())
    /// })?;
    /// assert!(figure.as_svg().contains("<circle"));
    /// # Ok::<(), lockstep::Error>(())
    /// ```
    #[cfg(feature = "plotters")]
    pub fn draw(size: (u32, u32), paint: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<Self> {
        let mut svg = String::new();
        {
            let area = plotters::drawing::IntoDrawingArea::into_drawing_area(plotters::prelude::SVGBackend::with_string(
                &mut svg, size,
            ));
            paint(&area)?;
            area.present()?;
        }
        Ok(Self(svg))
    }

    /// Returns the SVG text.
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
        read_text(path).map(Self)
    }

    fn write_artifact(&self, path: &Path) -> Result<()> {
        create(path, |file| Ok(std::io::Write::write_all(file, self.0.as_bytes())?))
    }
}
