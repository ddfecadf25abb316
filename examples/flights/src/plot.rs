use lockstep::plotters::prelude::*;
// Named one by one: the preludes of plotters and of lockstep would hide names of each other.
use lockstep::prelude::{Figure, Result, Table, step};

/// Grey that reads well on white and on black.
const INK: RGBColor = RGBColor(128, 128, 128);
/// The cold of winter and the warmth of summer.
const WINTER: RGBColor = RGBColor(0, 140, 190);
const SUMMER: RGBColor = RGBColor(230, 126, 0);

fn text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// Plot how often each carrier is late.
#[step(output = "figure")]
pub fn plot_carriers(
    /// carriers, the worst first
    carriers: Table,
) -> Result<Figure> {
    let (names, late) = (carriers.str("carrier")?, carriers.f64("late")?);
    let most = late.iter().flatten().fold(0.1, f64::max);
    let count = carriers.rows() as i32;
    Figure::draw((720, 26 * count.max(1) as u32 + 60), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(180)
            .build_cartesian_2d(0.0..most * 105.0, (0..count).into_segmented())?;
        let name = |at: &SegmentValue<i32>| match at {
            SegmentValue::CenterOf(at) if *at < count => names.value((count - 1 - at) as usize).to_owned(),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .axis_style(INK)
            .bold_line_style(INK.mix(0.25))
            .light_line_style(TRANSPARENT)
            .label_style(text(13))
            .y_labels(carriers.rows())
            .y_label_formatter(&name)
            .x_desc("late by 15 minutes or more (%)")
            .axis_desc_style(text(14))
            .draw()?;
        chart.draw_series((0..count).map(|at| {
            let share = late.value((count - 1 - at) as usize) * 100.0;
            let mut bar = Rectangle::new(
                [(0.0, SegmentValue::Exact(at)), (share, SegmentValue::Exact(at + 1))],
                WINTER.filled(),
            );
            bar.set_margin(4, 4, 0, 0);
            bar
        }))?;
        Ok(())
    })
}

/// Plot how often flights are late by hour, a line for each month.
#[step(output = "figure")]
pub fn plot_hours(
    /// the share of late flights by hour and month
    hours: Table,
) -> Result<Figure> {
    let (hour, month, late) = (hours.f64("hour")?, hours.f64("month")?, hours.f64("late")?);
    let most = late.iter().flatten().fold(0.1, f64::max) * 105.0;
    Figure::draw((720, 420), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(52)
            .build_cartesian_2d(5.0..24.0, 0.0..most)?;
        chart
            .configure_mesh()
            .axis_style(INK)
            .bold_line_style(INK.mix(0.25))
            .light_line_style(TRANSPARENT)
            .label_style(text(13))
            .axis_desc_style(text(14))
            .x_desc("hour of departure")
            .y_desc("late by 15 minutes or more (%)")
            .draw()?;
        for number in 1..=12 {
            let summer = matches!(number, 4..=9);
            let points = (0..hours.rows()).filter(|row| month.value(*row) == f64::from(number));
            let points = points.map(|row| (hour.value(row), late.value(row) * 100.0));
            let colour = if summer { SUMMER } else { WINTER };
            let line = chart.draw_series(LineSeries::new(points, colour.mix(0.8).stroke_width(2)))?;
            let label = match number {
                1 => "October to March",
                4 => "April to September",
                _ => continue,
            };
            line.label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(3)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(text(14))
            .margin(12)
            .draw()?;
        Ok(())
    })
}
