//! Learning curves: metrics that a step reports for each of its rounds, named `loss/1`, `loss/2` and so on.

use std::collections::BTreeMap;

use axum::extract::RawQuery;
use axum::response::Response;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::Record;
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_runtime::store::Runs;
use lockstep_view::columns::fit;
use maud::{Markup, html};

use super::chart::{Line, lines};
use super::parts::{section, status, step, when};
use super::{Page, Site, Tab};
use crate::{Answer, Refusal};

/// Maximum number of runs in a chart.
const DRAWN: usize = 8;
/// Maximum number of runs to choose from, and of runs in a chart over runs.
const LISTED: usize = 30;
/// Maximum number of charts on a page.
const CHARTS: usize = 12;

/// The metrics of an artifact.
#[derive(Default)]
pub struct Metrics {
    /// Single values, by name.
    pub values: BTreeMap<String, f64>,
    /// Curves of at least two points, by name.
    pub curves: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Metrics {
    /// Finds the curves among the metrics.
    pub fn new(all: BTreeMap<String, f64>) -> Self {
        let mut found = Self::default();
        let mut rounds: BTreeMap<String, BTreeMap<u64, f64>> = BTreeMap::new();
        for (name, value) in &all {
            if let Some((curve, round)) = of_round(name) {
                rounds.entry(curve.to_owned()).or_default().insert(round, *value);
            }
        }
        rounds.retain(|_, rounds| rounds.len() > 1);
        for (name, value) in all {
            if of_round(&name).is_none_or(|(curve, _)| !rounds.contains_key(curve)) {
                found.values.insert(name, value);
            }
        }
        let points = |rounds: BTreeMap<u64, f64>| rounds.into_iter().map(|(round, value)| (round as f64, value)).collect();
        found.curves = rounds.into_iter().map(|(name, rounds)| (name, points(rounds))).collect();
        found
    }

    /// Reads those of a run. With several outputs of metrics, the names start with that of the output.
    pub fn of(site: &Site, record: &Record) -> Self {
        let made: Vec<(&String, &Artifact)> = record.outputs.iter().filter(|(_, made)| is_metrics(made)).collect();
        let mut all = BTreeMap::new();
        for (output, artifact) in &made {
            let bytes = site.store().get(&artifact.digest).unwrap_or_default();
            let metrics: BTreeMap<String, f64> = serde_json::from_slice(&bytes).unwrap_or_default();
            all.extend(metrics.into_iter().map(|(name, value)| match made.len() {
                1 => (name, value),
                _ => (format!("{output}: {name}"), value),
            }));
        }
        Self::new(all)
    }
}

pub fn is_metrics(artifact: &Artifact) -> bool {
    artifact.media_type.as_str() == MediaType::METRICS
}

/// Splits `loss/17` into the name and the round.
fn of_round(name: &str) -> Option<(&str, u64)> {
    let (curve, round) = name.rsplit_once('/')?;
    let is_number = !round.is_empty() && round.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !curve.is_empty()).then_some((curve, round.parse().ok()?))
}

/// Charts of the curves of one artifact.
pub fn of_artifact(curves: &BTreeMap<String, Vec<(f64, f64)>>) -> Markup {
    let line = |name: &str, points: &[(f64, f64)]| Line {
        name: html! { (fit(name, 80)) },
        told: fit(name, 80),
        points: points.to_vec(),
    };
    html! {
        div.charts { @for (name, points) in curves.iter().take(CHARTS) { (lines(&fit(name, 80), "round", &[line(name, points)])) } }
        @if curves.len() > CHARTS { p.dim { "… and " (curves.len() - CHARTS) " more curves" } }
    }
}

/// Charts of the curves of several runs, one for each name, with a line for each run.
pub fn of_runs(site: &Site, runs: &[(Digest, &Metrics)]) -> Markup {
    let mut names: Vec<&String> = runs.iter().flat_map(|(_, metrics)| metrics.curves.keys()).collect();
    names.sort();
    names.dedup();
    let of = |name: &String| -> Vec<Line> {
        // a run without the curve has a line without points, so that the colours of the others stay
        let line = |(digest, metrics): &(Digest, &Metrics)| Line {
            name: html! { a.digest href=(site.run(digest)) { (digest.short()) } },
            told: digest.short().to_string(),
            points: metrics.curves.get(name).cloned().unwrap_or_default(),
        };
        runs.iter().map(line).collect()
    };
    html! { @if !names.is_empty() {
        div.charts { @for name in names.iter().take(CHARTS) { (lines(&fit(name, 80), "round", &of(name))) } }
        @if names.len() > CHARTS { p.dim { "… and " (names.len() - CHARTS) " more curves" } }
    } }
}

/// A run to draw.
struct Drawn {
    digest: Digest,
    record: Record,
    started_ms: u64,
    metrics: Metrics,
}

/// Returns the succeeded runs of a step that have metrics, newest first.
fn newest(site: &Site, step: &str) -> Answer<Vec<Drawn>> {
    let asked = Runs {
        step: Some(step.to_owned()),
        word: Some("succeeded".to_owned()),
        ..Runs::newest(LISTED)
    };
    let mut found = Vec::new();
    for row in site.store().rows(&asked)? {
        found.extend(drawn(site, &row.record)?);
    }
    Ok(found)
}

fn drawn(site: &Site, digest: &Digest) -> Answer<Option<Drawn>> {
    let found = site.runtime().record(digest)?;
    let found = found.filter(|(record, _)| record.outputs.values().any(is_metrics));
    Ok(found.map(|(record, observed)| Drawn {
        digest: *digest,
        metrics: Metrics::of(site, &record),
        record,
        started_ms: observed.started_ms,
    }))
}

/// Section with the single metrics of a step over its newest runs, for the page of a run.
pub fn over_runs(site: &Site, record: &Record) -> Answer<Markup> {
    let title = record.run.entry.title();
    if title.is_empty() || !record.outputs.values().any(is_metrics) {
        return Ok(html! {});
    }
    let mut runs = newest(site, &title)?;
    runs.reverse();
    let has_curves = runs.iter().any(|run| !run.metrics.curves.is_empty());
    let mut names: Vec<&String> = runs.iter().flat_map(|run| run.metrics.values.keys()).collect();
    names.sort();
    names.dedup();
    let points = |name: &String| -> Vec<(f64, f64)> {
        let values = runs.iter().map(|run| run.metrics.values.get(name)).enumerate();
        values.filter_map(|(at, value)| Some((at as f64 + 1.0, *value?))).collect()
    };
    let charts: Vec<(&String, Vec<(f64, f64)>)> = names.into_iter().map(|name| (name, points(name))).collect();
    let charts: Vec<_> = charts
        .into_iter()
        .filter(|(_, points)| points.len() > 1)
        .take(CHARTS)
        .collect();
    if charts.is_empty() && !has_curves {
        return Ok(html! {});
    }
    let below = format!("run, the newest of {} at the right", runs.len());
    Ok(html! { section.card {
        h2 { "Metrics of the step" @if has_curves { a.more href=(address(site, &title)) { "Compare curves" } } }
        div.charts { @for (name, points) in charts {
            (lines(&fit(name, 80), &below, &[Line { name: html! { (fit(name, 80)) }, told: fit(name, 80), points }]))
        } }
    } })
}

fn address(site: &Site, step: &str) -> String {
    super::with_query(&site.at("/curves"), &[("step", step)])
}

/// What to draw: runs of a step, or else its newest ones.
#[derive(Default)]
struct Asked {
    step: String,
    runs: Vec<String>,
}

impl Asked {
    fn read(query: &str) -> Answer<Self> {
        let mut asked = Self::default();
        // only its query is used
        let url = reqwest::Url::parse(&format!("http://localhost/?{query}")).map_err(Refusal::bad)?;
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                "step" => asked.step = value.into_owned(),
                "run" => asked.runs.push(value.into_owned()),
                other => {
                    return Err(Refusal::bad(format_args!(
                        "invalid query: unknown field `{other}`, expected `step` or `run`"
                    )));
                }
            }
        }
        Ok(asked)
    }
}

/// Page with the curves of several runs in one chart.
pub async fn page(site: Site, RawQuery(query): RawQuery) -> Answer<Response> {
    let asked = Asked::read(&query.unwrap_or_default())?;
    site.page(move |site| {
        let mut listed = match asked.step.as_str() {
            "" => Vec::new(),
            step => newest(site, step)?,
        };
        let mut chosen = Vec::new();
        for text in asked.runs.iter().take(DRAWN) {
            let digest = site.digest(text.trim())?;
            if !listed.iter().any(|run| run.digest == digest) {
                let run = drawn(site, &digest)?;
                listed.push(run.ok_or_else(|| Refusal::not_found(format_args!("record {text} with metrics not found")))?);
            }
            chosen.push(digest);
        }
        if chosen.is_empty() {
            chosen = listed.iter().take(DRAWN).map(|run| run.digest).collect();
        }
        let title = match asked.step.as_str() {
            "" => "Curves".to_owned(),
            name => format!("Curves of {}", step(name)),
        };
        Ok(Page {
            tab: Tab::Runs,
            body: html! {
                div.title { h1 { (title) } }
                (charts(site, &listed, &chosen))
                (choice(site, &asked.step, &listed, &chosen))
            },
            title,
        })
    })
    .await
}

fn charts(site: &Site, listed: &[Drawn], chosen: &[Digest]) -> Markup {
    // in the order of the list, so that the colours of both agree
    let runs: Vec<(Digest, &Metrics)> = listed
        .iter()
        .filter(|run| chosen.contains(&run.digest))
        .map(|run| (run.digest, &run.metrics))
        .collect();
    match runs.iter().all(|(_, metrics)| metrics.curves.is_empty()) {
        true => html! {
            p.nothing { "No curves. A step reports one with metrics whose names end with a number: " code { "loss/1" } ", " code { "loss/2" } "." }
        },
        false => section("Curves", of_runs(site, &runs)),
    }
}

/// Form with the runs to draw.
fn choice(site: &Site, name: &str, listed: &[Drawn], chosen: &[Digest]) -> Markup {
    html! { @if !listed.is_empty() { section.card {
        h2 { "Runs" }
        form.choice action=(site.at("/curves")) {
            @if !name.is_empty() { input type="hidden" name="step" value=(name); }
            ul.plain { @for run in listed { li { label {
                input type="checkbox" name="run" value=(run.digest.hex()) checked[chosen.contains(&run.digest)];
                " " (status(run.record.outcome.word())) " " (step(&run.record.run.entry.title())) " "
                a.digest href=(site.run(&run.digest)) { (run.digest.short()) }
                span.dim { ", " (when(run.started_ms)) " ago" }
            } } } }
            button type="submit" { "Draw" }
            span.dim { " at most " (DRAWN) }
        }
    } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_with_rounds_are_curves() {
        let names = [
            "loss/10", "loss/9", "loss/1", "loss", "once/3", "a/b/1", "a/b/2", "/1", "/2", "x/-1", "x/", "n/1e3",
        ];
        let all = names
            .iter()
            .zip(0..)
            .map(|(name, value)| ((*name).to_owned(), f64::from(value)));
        let found = Metrics::new(all.collect());
        let curves: Vec<_> = found.curves.keys().map(String::as_str).collect();
        assert_eq!(curves, ["a/b", "loss"]);
        assert_eq!(found.curves["loss"], [(1.0, 2.0), (9.0, 1.0), (10.0, 0.0)]);
        let values: Vec<_> = found.values.keys().map(String::as_str).collect();
        assert_eq!(values, ["/1", "/2", "loss", "n/1e3", "once/3", "x/", "x/-1"]);
    }

    #[test]
    fn runs_are_named_in_the_query() {
        let asked = Asked::read("step=a%20b&run=1&run=2").unwrap();
        assert_eq!(
            (asked.step.as_str(), asked.runs),
            ("a b", vec!["1".to_owned(), "2".to_owned()])
        );
        assert!(Asked::read("runs=1").is_err());
    }
}
