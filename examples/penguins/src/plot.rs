use std::ops::Range;

use lockstep::plotters::prelude::*;
// Named one by one: the preludes of plotters and of lockstep would hide names of each other.
use lockstep::prelude::{Figure, Param, Result, Table, ensure, step};

use crate::model::{Model, labels};

/// Grey that reads well on white and on black.
const INK: RGBColor = RGBColor(128, 128, 128);
/// Colours that people with any kind of colour vision can tell apart (Okabe and Ito), on white and on black.
const COLOURS: [RGBColor; 6] = [
    RGBColor(230, 126, 0),
    RGBColor(0, 140, 190),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];

/// Plot two measurements against each other, coloured by class, with a ring around each row that the model gets wrong.
#[step(output = "figure")]
pub fn plot(
    /// the rows to show
    rows: Table,
    /// the model whose errors are marked
    model: Model,
    /// the column along the horizontal axis
    #[default = "bill_length_mm"]
    x: Param<String>,
    /// the column along the vertical axis
    #[default = "bill_depth_mm"]
    y: Param<String>,
) -> Result<Figure> {
    ensure!(rows.rows() > 0, "there are no rows to plot");
    let points: Vec<Option<(f64, f64)>> = rows.f64(&x)?.iter().zip(&rows.f64(&y)?).map(|(x, y)| x.zip(y)).collect();
    let (actual, predicted) = (labels(&rows, &model.target)?, model.predict(&rows)?);
    let wrong = actual.iter().zip(&predicted).map(|(actual, predicted)| actual != predicted);
    let wrong: Vec<(f64, f64)> = points
        .iter()
        .zip(wrong)
        .filter_map(|(point, wrong)| point.filter(|_| wrong))
        .collect();
    let (across, up) = (
        range(points.iter().flatten().map(|p| p.0)),
        range(points.iter().flatten().map(|p| p.1)),
    );

    Figure::draw((720, 460), |area| {
        let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
        let mut chart = ChartBuilder::on(area)
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(52)
            .build_cartesian_2d(across, up)?;
        chart
            .configure_mesh()
            .axis_style(INK)
            .bold_line_style(INK.mix(0.25))
            .light_line_style(TRANSPARENT)
            .label_style(text(13))
            .axis_desc_style(text(15))
            .x_labels(8)
            .y_labels(6)
            .x_desc(label(&x))
            .y_desc(label(&y))
            .draw()?;
        for (class, colour) in model.classes.iter().zip(COLOURS.iter().cycle()) {
            let of_class = points
                .iter()
                .zip(&actual)
                .filter(|(_, actual)| *actual == class)
                .filter_map(|(point, _)| *point);
            chart
                .draw_series(of_class.map(|point| Circle::new(point, 4, colour.mix(0.75).filled())))?
                .label(class)
                .legend(|(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
        }
        let ring = || INK.stroke_width(2);
        chart
            .draw_series(wrong.iter().map(|point| Circle::new(*point, 8, ring())))?
            .label(format!("taken for another ({})", wrong.len()))
            .legend(move |(x, y)| Circle::new((x + 8, y), 6, ring()));
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerLeft)
            .label_font(text(14))
            .margin(12)
            .draw()?;
        Ok(())
    })
}

/// `bill_length_mm` for people: "bill length (mm)".
fn label(column: &str) -> String {
    match column.rsplit_once('_') {
        Some((name, unit @ ("mm" | "g"))) => format!("{} ({unit})", name.replace('_', " ")),
        _ => column.replace('_', " "),
    }
}

/// From the least to the greatest of `values`, with some room at both ends.
fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return 0.0..1.0;
    }
    let room = ((high - low) * 0.05).max(0.5);
    low - room..high + room
}
