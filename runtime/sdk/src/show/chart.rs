//! Metrics as bars. The longest bar stands for 1 if all values are between 0 and 1, otherwise for the largest absolute value.

use std::fmt::Write;

use super::html::{DIM, Escaped};
use super::{bounded, cut};
use crate::Metrics;

/// Maximum number of metrics shown.
const SHOWN: usize = 200;
/// Maximum length of a name, in characters.
const NAME: usize = 60;
/// The length of the longest bar, in characters.
const WIDTH: f64 = 20.0;

struct Bar {
    name: String,
    number: String,
    /// The length relative to the longest bar; 0 if the value is not finite.
    part: f64,
    negative: bool,
}

fn bars(metrics: &Metrics) -> Vec<Bar> {
    let finite = metrics.values().filter(|value| value.is_finite());
    let most = match finite.clone().all(|value| (0.0..=1.0).contains(value)) {
        true => 1.0,
        false => finite.fold(0.0, |most: f64, value| most.max(value.abs())),
    };
    let bar = |(name, value): (&String, &f64)| Bar {
        name: cut(NAME, format_args!("{name}")),
        number: number(*value),
        part: if value.is_finite() { value.abs() / most } else { 0.0 },
        negative: *value < 0.0,
    };
    metrics.iter().take(SHOWN).map(bar).collect()
}

fn number(value: f64) -> String {
    const SHORT: usize = 20;
    bounded(SHORT, format_args!("{value}")).unwrap_or_else(|_| format!("{value:e}"))
}

/// Formats the metrics as lines of text.
pub(super) fn text(metrics: &Metrics) -> String {
    let bars = bars(metrics);
    let width = |text: fn(&Bar) -> &String| bars.iter().map(|bar| text(bar).chars().count()).max().unwrap_or(0);
    let (names, numbers) = (width(|bar| &bar.name), width(|bar| &bar.number));
    let mut text = String::new();
    for bar in &bars {
        let line = format!("{:<names$}  {:<numbers$}  {}", bar.name, bar.number, blocks(bar.part));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if let Some(more) = more(metrics) {
        let _ = writeln!(text, "{more}");
    }
    text.trim_end().to_owned()
}

/// Returns a bar of full blocks, followed by at most one partial block in eighths.
fn blocks(part: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (part * WIDTH * 8.0).round() as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// Formats the metrics as an HTML table with bars.
pub(super) fn html(metrics: &Metrics) -> String {
    let mut html = String::from("<table style=\"font-variant-numeric:tabular-nums;margin-left:0\">\n<tbody>\n");
    for bar in bars(metrics) {
        let colour = if bar.negative { "indianred" } else { "steelblue" };
        let _ = writeln!(
            html,
            "<tr><th style=\"text-align:left\">{}</th><td style=\"text-align:right\">{}</td><td style=\"min-width:12em\">\
             <div style=\"width:{:.1}%;height:0.8em;background-color:{colour}\"></div></td></tr>",
            Escaped(bar.name),
            bar.number,
            bar.part * 100.0,
        );
    }
    html.push_str("</tbody>\n</table>\n");
    if let Some(more) = more(metrics) {
        let _ = writeln!(html, "<p style=\"{DIM}\">{more}</p>");
    }
    html
}

fn more(metrics: &Metrics) -> Option<String> {
    let more = metrics.len().checked_sub(SHOWN).filter(|more| *more > 0)?;
    Some(format!("… {more} more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_0_and_1_is_part_of_1() {
        let metrics = Metrics::from([("accuracy", 0.975), ("f1", 0.5), ("loss", 0.0)]);
        assert_eq!(
            text(&metrics),
            "accuracy  0.975  ███████████████████▌\nf1        0.5    ██████████\nloss      0"
        );
    }

    #[test]
    fn what_does_not_is_part_of_the_greatest() {
        let metrics = Metrics::from([("a<b", -50.0), ("gone", f64::NAN), ("rows", 100.0), ("tiny", 1e-30)]);
        assert_eq!(
            text(&metrics),
            "a<b   -50    ██████████\ngone  NaN\nrows  100    ████████████████████\ntiny  1e-30"
        );
        let row = |name: &str, number: &str, width: &str, colour: &str| {
            format!(
                "<tr><th style=\"text-align:left\">{name}</th><td style=\"text-align:right\">{number}</td>\
                 <td style=\"min-width:12em\"><div style=\"width:{width}%;height:0.8em;background-color:{colour}\"></div></td></tr>\n"
            )
        };
        let rows = [
            row("a&lt;b", "-50", "50.0", "indianred"),
            row("gone", "NaN", "0.0", "steelblue"),
            row("rows", "100", "100.0", "steelblue"),
            row("tiny", "1e-30", "0.0", "steelblue"),
        ];
        assert_eq!(
            html(&metrics),
            format!(
                "<table style=\"font-variant-numeric:tabular-nums;margin-left:0\">\n<tbody>\n{}</tbody>\n</table>\n",
                rows.concat()
            )
        );
    }

    #[test]
    fn there_may_be_none_or_many() {
        assert_eq!(text(&Metrics::new()), "");
        let many: Metrics = (0..250).map(|n| (format!("n{n:03}"), 0.0)).collect();
        assert!(text(&many).ends_with("n199  0\n… 50 more"));
        assert_eq!(html(&many).matches("<tr>").count(), SHOWN);
        assert!(text(&Metrics::from([("all", f64::INFINITY)])).ends_with("inf"));
    }
}
