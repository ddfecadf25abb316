use axum::response::Response;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::Artifact;
use lockstep_runtime::store::{Runs, StepTally};
use lockstep_view::quantity;
use maud::{Markup, html};
use serde::Deserialize;

use super::overview::of_step;
use super::parts::{digest, media_type, runs, section, status, step};
use super::{Asked, Page, Site, Tab, with_query};
use crate::Answer;

/// Maximum number of results of each kind.
const MOST: usize = 20;

/// Query parameters.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Question {
    q: String,
}

/// Search results.
struct Found {
    /// Records and artifacts with this digest prefix.
    digests: Vec<Digest>,
    steps: Vec<StepTally>,
    modules: Vec<(Digest, u64)>,
    artifacts: Vec<Artifact>,
    runs: Vec<lockstep_runtime::store::Row>,
}

pub async fn page(site: Site, Asked(question): Asked<Question>) -> Answer<Response> {
    site.page(move |site| {
        let text = question.q.trim();
        let body = match text {
            "" => html! {
                h1 { "Search" }
                p.dim { "Search for digests (first four digits or more), steps, modules (by step), media types and outcomes." }
            },
            text => results(site, text, &find(site, text)?)?,
        };
        Ok(Page {
            tab: Tab::Elsewhere,
            title: format!("Search {text}"),
            body,
        })
    })
    .await
}

fn find(site: &Site, text: &str) -> Answer<Found> {
    let store = site.store();
    Ok(Found {
        digests: store.resolve_prefix(text.strip_prefix("sha256:").unwrap_or(text))?,
        steps: store.steps(text, MOST)?,
        modules: store.modules(text, MOST)?,
        artifacts: store.of_media_type(text, MOST)?,
        runs: store.rows(&Runs {
            text: Some(text.to_owned()),
            ..Runs::newest(MOST)
        })?,
    })
}

fn results(site: &Site, text: &str, found: &Found) -> Answer<Markup> {
    let nothing = found.digests.is_empty() && found.runs.is_empty() && found.artifacts.is_empty();
    let mut digests = Vec::new();
    for name in &found.digests {
        digests.push(of_digest(site, name)?);
    }
    Ok(html! {
        div.title { h1 { "Search " q { (text) } } }
        @if nothing { p.nothing { "No results. To find a digest, enter its first four digits or more." } }
        @if !digests.is_empty() { (section("Digests", html! { ul.plain { @for one in digests { li { (one) } } } })) }
        @if !found.steps.is_empty() { (section("Steps", html! { table.list {
            thead { tr { th scope="col" { "Step" } th.n scope="col" { "Runs" } th.n scope="col" { "Mean" } th.n scope="col" { "Last" } } }
            tbody { @for one in &found.steps { (of_step(site, one)) } }
        } })) }
        @if !found.modules.is_empty() { (section("Modules with matching steps", html! { ul.plain {
            @for (module, count) in &found.modules { li {
                (digest(module, &site.artifact(module))) " "
                a.dim href=(with_query(&site.at("/runs"), &[("module", &module.hex())])) { (quantity::count(*count)) " runs" }
            } }
        } })) }
        @if !found.artifacts.is_empty() { (section("Artifacts with matching types", html! { ul.plain {
            @for one in &found.artifacts { li {
                (digest(&one.digest, &site.artifact(&one.digest))) " " (media_type(one)) " " span.dim { (quantity::bytes(one.size)) }
            } }
        } })) }
        @if !found.runs.is_empty() { section.card {
            h2 { "Runs" a.more href=(with_query(&site.at("/runs"), &[("q", text)])) { "All matching runs" } }
            (runs(site, &found.runs))
        } }
    })
}

fn of_digest(site: &Site, name: &Digest) -> Answer<Markup> {
    Ok(match (site.runtime().record(name)?, site.store().artifact(name)?) {
        (Some((record, _)), _) => html! {
            (status(record.outcome.word())) " " a.name href=(site.run(name)) { (step(&record.run.entry.title())) } " "
            (digest(name, &site.run(name)))
        },
        (None, Some(artifact)) => html! {
            (digest(name, &site.artifact(name))) " " (media_type(&artifact)) " " span.dim { (quantity::bytes(artifact.size)) }
        },
        (None, None) => digest(name, &site.artifact(name)),
    })
}
