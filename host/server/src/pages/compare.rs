use std::collections::BTreeMap;

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Observed, Record};
use lockstep_runtime::step::Artifact;
use lockstep_view::columns::fit;
use lockstep_view::difference::{Changed, diff_records};
use lockstep_view::quantity;
use maud::{Markup, html};
use serde::Deserialize;

use super::curves::{Metrics, of_runs};
use super::parts::{digest, section, status, step, when};
use super::view::{picture_type, preview};
use super::{Asked, Page, Site, Tab};
use crate::{Answer, Refusal};

/// Query parameters: two records to compare.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Two {
    left: String,
    right: String,
}

/// One side of the comparison.
struct Side {
    digest: Digest,
    record: Record,
    observed: Observed,
}

/// Redirects from the form to the comparison.
pub async fn choose(site: Site, Asked(two): Asked<Two>) -> Answer<Response> {
    site.answer(move |site| {
        let (left, right) = (site.digest(two.left.trim())?, site.digest(two.right.trim())?);
        Ok(Redirect::to(&site.compare(&left, &right)).into_response())
    })
    .await
}

pub async fn page(site: Site, Path((left, right)): Path<(String, String)>) -> Answer<Response> {
    site.page(move |site| {
        let (left, right) = (side(site, &left)?, side(site, &right)?);
        Ok(Page {
            tab: Tab::Runs,
            title: format!("{} and {}", left.digest.short(), right.digest.short()),
            body: body(site, &left, &right)?,
        })
    })
    .await
}

fn side(site: &Site, text: &str) -> Answer<Side> {
    let digest = site.digest(text)?;
    let found = site.runtime().record(&digest)?;
    let (record, observed) = found.ok_or_else(|| Refusal::not_found(format_args!("record {text} not found")))?;
    Ok(Side {
        digest,
        record,
        observed,
    })
}

fn body(site: &Site, left: &Side, right: &Side) -> Answer<Markup> {
    let changed = diff_records(site.store(), &left.record, &right.record)?;
    let of = |side: &Side| Metrics::of(site, &side.record);
    let (of_left, of_right) = (of(left), of(right));
    let metrics = metrics(&of_left, &of_right);
    let has_curves = !(of_left.curves.is_empty() && of_right.curves.is_empty());
    Ok(html! {
        div.title {
            h1 { "Compare" }
            div.actions { a.button href=(site.compare(&right.digest, &left.digest)) { "Swap" } }
        }
        div.halves { (head(site, "Left", left)) (head(site, "Right", right)) }
        @if changed.is_empty() { p.nothing { "No differences: both runs are bit-identical." } }
        (changes("Changed inputs", changed.iter().filter(|one| one.went_in)))
        @if !metrics.is_empty() { (section("Metrics", of_metrics(&metrics))) }
        @if has_curves { (section("Curves", of_runs(site, &[(left.digest, &of_left), (right.digest, &of_right)]))) }
        (changes("Changed results", changed.iter().filter(|one| !one.went_in)))
        (pictures(site, left, right))
    })
}

fn head(site: &Site, title: &str, side: &Side) -> Markup {
    html! {
        section.card {
            h2 { (title) }
            p { (status(side.record.outcome.word())) " "
                a.name href=(site.run(&side.digest)) { (step(&side.record.run.entry.title())) } " "
                (digest(&side.digest, &site.run(&side.digest))) }
            p.dim { (when(side.observed.started_ms)) " ago, took " (quantity::micros(side.observed.wall_us)) }
        }
    }
}

fn changes<'a>(title: &str, changed: impl Iterator<Item = &'a Changed>) -> Markup {
    let changed: Vec<&Changed> = changed.collect();
    if changed.is_empty() {
        return html! {};
    }
    let value = |text: &str| html! { @if text.is_empty() { span.dim { "none" } } @else { code { (fit(text, 120)) } } };
    section(
        title,
        html! { div.scroll tabindex="0" { table.list {
            thead { tr { th scope="col" { "Name" } th scope="col" { "Left" } th scope="col" { "Right" } th scope="col" { "First difference" } } }
            tbody { @for one in changed { tr {
                td { (fit(&one.what, 80)) }
                td { (value(&one.left)) }
                td { (value(&one.right)) }
                td.grow { @if let Some(first) = &one.first { (first) } }
            } } }
        } } },
    )
}

/// Returns the metrics of both runs, by name. Of a curve, this is the last value.
fn metrics(left: &Metrics, right: &Metrics) -> BTreeMap<String, (Option<f64>, Option<f64>)> {
    let last = |metrics: &Metrics| -> BTreeMap<String, f64> {
        let curves = metrics.curves.iter();
        let ends = curves.filter_map(|(name, points)| Some((format!("{name} (last)"), points.last()?.1)));
        metrics.values.clone().into_iter().chain(ends).collect()
    };
    let (left, right) = (last(left), last(right));
    let names = left.keys().chain(right.keys());
    names
        .map(|name| (name.clone(), (left.get(name).copied(), right.get(name).copied())))
        .collect()
}

fn of_metrics(metrics: &BTreeMap<String, (Option<f64>, Option<f64>)>) -> Markup {
    let value =
        |value: Option<f64>| html! { @match value { Some(value) => { code { (value) } } None => { span.dim { "none" } } } };
    let delta = |both: (Option<f64>, Option<f64>)| match both {
        (Some(left), Some(right)) if left == right => "same".to_owned(),
        (Some(left), Some(right)) => format!("{:+.4}", right - left),
        _ => String::new(),
    };
    html! { div.scroll tabindex="0" { table.list {
        thead { tr { th scope="col" { "Metric" } th.n scope="col" { "Left" } th.n scope="col" { "Right" } th.n scope="col" { "Change" } } }
        tbody { @for (name, both) in metrics { tr {
            td.grow { (fit(name, 80)) }
            td.n { (value(both.0)) }
            td.n { (value(both.1)) }
            td.n { (delta(*both)) }
        } } }
    } } }
}

/// Shows the images of both runs side by side.
fn pictures(site: &Site, left: &Side, right: &Side) -> Markup {
    let pictures = |side: &Side| -> BTreeMap<String, Artifact> {
        let outputs = side.record.outputs.iter().filter(|(_, made)| picture_type(made).is_some());
        outputs.map(|(name, made)| (name.clone(), made.clone())).collect()
    };
    let (left, right) = (pictures(left), pictures(right));
    let mut names: Vec<&String> = left.keys().chain(right.keys()).collect();
    names.sort();
    names.dedup();
    html! { @for name in names { section.card {
        h2 { (fit(name, 80)) }
        div.halves { @for side in [&left, &right] { div {
            @match side.get(name) { Some(made) => { (preview(site, made, name)) } None => { p.dim { "none" } } }
        } } }
    } } }
}
