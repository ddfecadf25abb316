//! Line charts, as SVG. Colours are classes of the style sheet, since the content security policy allows no styles in markup.

use maud::{Markup, html};

/// Width and height of a chart in pixels, and the room for labels at its left and below it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const BELOW: f64 = 24.0;
/// Room above and at the right.
const MARGIN: f64 = 8.0;
/// Maximum number of points of a drawn line. Of longer ones, some are left out.
const POINTS: usize = 500;
/// Number of colours in the style sheet.
const COLOURS: usize = 8;

/// A line of a chart.
pub struct Line {
    /// Its name, for the legend and the reader of the page.
    pub name: Markup,
    /// Its name as plain text.
    pub told: String,
    /// Its points, by ascending x.
    pub points: Vec<(f64, f64)>,
}

/// Draws lines over a common x axis, which is named `below`.
pub fn lines(title: &str, below: &str, lines: &[Line]) -> Markup {
    if lines.iter().all(|line| line.points.is_empty()) {
        return html! {};
    }
    let Some((across, up)) = bounds(lines) else {
        return html! { figure.chart { figcaption { h3 { (title) } } p.dim { "Not drawn: the values are too far apart." } } };
    };
    let x = |value: f64| LEFT + (value - across.0) / (across.1 - across.0) * (WIDTH - LEFT - MARGIN);
    let y = |value: f64| HEIGHT - BELOW - (value - up.0) / (up.1 - up.0) * (HEIGHT - BELOW - MARGIN);
    let told = lines.iter().filter_map(|line| {
        let last = line.points.last()?;
        Some(format!("{} ends at {} with {}", line.told, last.0, last.1))
    });
    let told = format!("{title} by {below}: {}", told.collect::<Vec<_>>().join("; "));
    html! {
        figure.chart {
            figcaption { h3 { (title) } }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(told) {
                @for tick in ticks(up, 0.0) {
                    line.grid x1=(LEFT) x2=(WIDTH - MARGIN) y1=(short(y(tick))) y2=(short(y(tick))) {}
                    text.up x=(LEFT - 8.0) y=(short(y(tick) + 4.0)) { (label(tick)) }
                }
                @for tick in ticks(across, 1.0) { text.across x=(short(x(tick))) y=(HEIGHT - 6.0) { (label(tick)) } }
                @for (at, line) in lines.iter().enumerate() {
                    polyline class={ "line-" (at % COLOURS) } points=(path(&line.points, &x, &y)) {}
                    @if let Some(last) = line.points.last() {
                        circle class={ "line-" (at % COLOURS) } cx=(short(x(last.0))) cy=(short(y(last.1))) r="3" {}
                    }
                }
            }
            p.dim { "by " (below) }
            @if lines.len() > 1 { ul.legend { @for (at, line) in lines.iter().enumerate() {
                li {
                    svg class={ "line-" (at % COLOURS) } viewBox="0 0 14 4" width="14" height="4" aria-hidden="true" { rect width="14" height="4" rx="2" {} }
                    (line.name)
                    @if let Some(last) = line.points.last() { " " code { (label(last.1)) } }
                }
            } } }
        }
    }
}

/// Range of an axis.
type Range = (f64, f64);

/// Returns the ranges of both axes; `None` if nothing can be drawn. A range of one value is widened.
fn bounds(lines: &[Line]) -> Option<(Range, Range)> {
    let all = || lines.iter().flat_map(|line| &line.points);
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        // beyond this, the distance of two values is no number
        let is_drawn = least.is_finite() && most.is_finite() && (most - least).is_finite();
        let room = if most > least { 0.0 } else { least.abs().max(1.0) / 2.0 };
        is_drawn.then_some((least - room, most + room))
    };
    let across = range(&mut all().map(|point| point.0))?;
    let up = range(&mut all().map(|point| point.1))?;
    Some((across, up))
}

/// Returns round numbers in a range, at most seven: multiples of 1, 2 or 5 times a power of ten. They are at least `apart` from each other.
fn ticks((least, most): Range, apart: f64) -> Vec<f64> {
    let rough = ((most - least) / 6.0).max(apart);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power);
    let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
    let first = (least / step).ceil();
    // more than seven only by rounding
    (0..8)
        .map(|at| (first + f64::from(at)) * step)
        .take_while(|tick| *tick <= most)
        .collect()
}

/// Returns a number in few characters.
fn label(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&size) {
        format!("{value:.2e}")
    } else {
        // four digits after the first one that counts
        let digits = (4 - size.log10().floor() as i64).clamp(0, 7) as usize;
        let text = format!("{value:.digits$}");
        match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        }
    }
}

fn path(points: &[(f64, f64)], x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) -> String {
    let every = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    let drawn = points.iter().enumerate().filter(|(at, _)| at % every == 0 || *at == last);
    let drawn: Vec<String> = drawn
        .map(|(_, point)| format!("{},{}", short(x(point.0)), short(y(point.1))))
        .collect();
    drawn.join(" ")
}

/// Returns a coordinate with one digit after the point.
fn short(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[(f64, f64)]) -> Line {
        Line {
            name: html! { "<a>" },
            told: "<a>".to_owned(),
            points: points.to_vec(),
        }
    }

    #[test]
    fn ticks_are_round_and_within_the_range() {
        let labels = |range, apart| ticks(range, apart).into_iter().map(label).collect::<Vec<_>>();
        assert_eq!(labels((0.0, 1.0), 0.0), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(labels((3.0, 97.0), 0.0), ["20", "40", "60", "80"]);
        assert_eq!(labels((1.0, 2.0), 1.0), ["1", "2"]);
        assert_eq!(labels((-2.0, 2.0), 1.0), ["-2", "-1", "0", "1", "2"]);
        assert_eq!(labels((1e-9, 5e-9), 0.0).len(), 5);
    }

    #[test]
    fn labels_are_short() {
        let labels = [0.0, 0.5, 12.0, 123_456.0, 1e9, 1e-9, -0.25, 0.333_333_333].map(label);
        assert_eq!(labels, ["0", "0.5", "12", "123456", "1.00e9", "1.00e-9", "-0.25", "0.33333"]);
    }

    #[test]
    fn what_can_not_be_drawn_is_left_out_and_names_are_escaped() {
        assert_eq!(lines("t", "step", &[]).into_string(), "");
        let far = lines("t", "step", &[line(&[(0.0, f64::MIN), (1.0, f64::MAX)])]).into_string();
        assert!(far.contains("too far apart") && !far.contains("polyline"), "{far}");
        let drawn = lines("<t>", "step", &[line(&[(0.0, 1.0), (1.0, 1.0)])]).into_string();
        assert!(
            drawn.contains("points=\"64.0,102.0 632.0,102.0\"") && !drawn.contains("<a>") && !drawn.contains("<t>"),
            "{drawn}"
        );
    }

    #[test]
    fn a_long_line_is_thinned_and_keeps_its_end() {
        let many: Vec<(f64, f64)> = (0..10_001).map(|at| (f64::from(at), f64::from(at))).collect();
        let drawn = path(&many, &|x| x, &|y| y);
        assert!(drawn.split(' ').count() <= POINTS + 1 && drawn.ends_with("10000.0,10000.0"));
    }
}
