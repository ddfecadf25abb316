use lockstep::plotters::prelude::*;
// Named one by one: the preludes of plotters and of lockstep would hide names of each other.
use lockstep::prelude::{Figure, Result, Table, step};

/// Grey that reads well on white and on black.
const INK: RGBColor = RGBColor(128, 128, 128);
const DOT: RGBColor = RGBColor(0, 140, 190);

/// Plot the scores against what people said.
#[step(output = "figure")]
pub fn plot(
    /// tweets with rating and score
    rated: Table,
) -> Result<Figure> {
    let (rating, score) = (rated.f64("rating")?, rated.f64("score")?);
    let points: Vec<(f64, f64)> = rating.iter().flatten().zip(score.iter().flatten()).collect();
    Figure::draw((640, 520), |area| {
        let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
        let mut chart = ChartBuilder::on(area)
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(48)
            .build_cartesian_2d(-4.0..4.0, -4.0..4.0)?;
        chart
            .configure_mesh()
            .axis_style(INK)
            .bold_line_style(INK.mix(0.25))
            .light_line_style(TRANSPARENT)
            .label_style(text(13))
            .axis_desc_style(text(14))
            .x_desc("what people said")
            .y_desc("what the words say")
            .draw()?;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 2, DOT.mix(0.35).filled())))?;
        Ok(())
    })
}
