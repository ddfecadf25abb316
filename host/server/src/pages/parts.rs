//! Elements shared by several pages.

use std::time::{Duration, UNIX_EPOCH};

use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_runtime::store::{Role, Row};
use lockstep_view::columns::fit;
use lockstep_view::quantity;
use lockstep_view::runs::age;
use maud::{Markup, html};

use super::{Site, with_query};

/// An icon of 16 × 16.
pub fn icon(name: &str) -> Markup {
    html! {
        svg.icon viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" {
            @match name {
                "ok" => { circle cx="8" cy="8" r="7" {} path d="M4.8 8.3l2.2 2.2 4.2-4.6" {} }
                "bad" => { circle cx="8" cy="8" r="7" {} path d="M5.5 5.5l5 5m0-5l-5 5" {} }
                "warn" => { path d="M8 1.8L15 14H1z" {} path d="M8 6.4v3.4M8 11.6v.4" {} }
                "busy" => { circle cx="8" cy="8" r="7" {} path d="M8 4v4l2.6 1.8" {} }
                "hit" => { circle cx="8" cy="8" r="7" {} path d="M8.8 4L5.6 8.8h4.6L7.2 12.4" {} }
                _ => { circle cx="8" cy="8" r="7" {} path d="M5 8h6" {} }
            }
        }
    }
}

/// Returns the CSS class of an outcome or state.
pub fn class(word: &str) -> &'static str {
    match word {
        "succeeded" | "run" | "done" => "ok",
        "failed" | "error" => "bad",
        "interrupted" | "miss" | "cancelled" => "warn",
        "running" | "busy" | "starting" => "busy",
        "hit" | "cached" => "hit",
        _ => "idle",
    }
}

/// Badge of an outcome or state.
pub fn status(word: &str) -> Markup {
    let class = class(word);
    html! { span class={ "status " (class) } { (icon(class)) (word) } }
}

/// Link to `address` with a short digest.
pub fn digest(digest: &Digest, address: &str) -> Markup {
    html! { a.digest href=(address) { (digest.short()) } }
}

/// Digest with a copy button, displayed as `shown`.
pub fn copied(digest: &Digest, shown: impl std::fmt::Display) -> Markup {
    html! {
        span.whole {
            code title=(digest) { (shown) }
            button.copy type="button" data-copy=(digest) hidden { "Copy" }
        }
    }
}

/// Age, with the time as a tooltip.
pub fn when(started_ms: u64) -> Markup {
    let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(started_ms)).to_string();
    html! { time datetime=(at) title=(at) { (quantity::age(age(started_ms))) } }
}

/// Returns the display name of a step or program.
pub fn step(name: &str) -> String {
    match name {
        "" => "program".to_owned(),
        name => fit(name, 80),
    }
}

/// A table of runs.
pub fn runs(site: &Site, rows: &[Row]) -> Markup {
    html! {
        div.scroll {
            table.list {
                thead { tr {
                    th scope="col" { "Outcome" }
                    th scope="col" { "Step" }
                    th.wide scope="col" { "Record" }
                    th.wide scope="col" { "Module" }
                    th.n.wide scope="col" { "Duration" }
                    th.n scope="col" { "Age" }
                } }
                tbody { @for row in rows { (run(site, row)) } }
            }
        }
    }
}

fn run(site: &Site, row: &Row) -> Markup {
    html! {
        tr {
            td { (status(&row.word)) }
            td.grow {
                a.name href=(site.run(&row.record)) { (step(&row.step)) }
                @if row.step.is_empty() { " " span.dim { (made(site, &row.record)) } }
                @if row.outcome != row.word { div.dim { (fit(row.outcome.lines().next().unwrap_or_default(), 160)) } }
            }
            td.wide { (digest(&row.record, &site.run(&row.record))) }
            td.wide { (digest(&row.module, &site.artifact(&row.module))) }
            td.n.wide { (quantity::micros(row.wall_us)) }
            td.n { (when(row.started_ms)) }
        }
    }
}

/// Returns the names of a run's outputs, to distinguish programs without arguments, such as cells.
fn made(site: &Site, record: &Digest) -> String {
    let links = site.store().links(record).unwrap_or_default();
    let names: Vec<String> = links
        .into_iter()
        .filter(|link| link.role == Role::Output)
        .map(|link| link.name)
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("→ {}", fit(&names.join(", "), 80))
    }
}

/// Table of artifacts: name, artifact and additional content.
pub fn artifacts<'a>(site: &Site, what: &str, rows: impl Iterator<Item = (&'a str, &'a Artifact, Markup)>) -> Markup {
    html! {
        div.scroll {
            table.list {
                thead { tr {
                    th scope="col" { (what) }
                    th.wide scope="col" { "Digest" }
                    th scope="col" { "Type" }
                    th.n scope="col" { "Size" }
                } }
                tbody {
                    @for (name, artifact, beside) in rows {
                        tr {
                            td.grow { a.name href=(named(site, name, artifact)) { (fit(name, 160)) } (beside) }
                            td.wide { (digest(&artifact.digest, &site.artifact(&artifact.digest))) }
                            td { (media_type(artifact)) }
                            td.n { (quantity::bytes(artifact.size)) }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the address of an artifact's page, with a name for downloads.
pub fn named(site: &Site, name: &str, artifact: &Artifact) -> String {
    with_query(&site.artifact(&artifact.digest), &[("name", name)])
}

/// Media type of an artifact.
pub fn media_type(artifact: &Artifact) -> Markup {
    html! { span.type title=(artifact.media_type) { (type_name(artifact)) } }
}

/// Returns the display name of an artifact's media type.
pub fn type_name(artifact: &Artifact) -> String {
    let said = artifact.media_type.as_str();
    known_type(said).map_or_else(|| fit(said, 40), str::to_owned)
}

fn known_type(media_type: &str) -> Option<&'static str> {
    Some(match media_type {
        MediaType::TABLE => "Arrow table",
        MediaType::CSV => "CSV",
        MediaType::PARQUET => "Parquet",
        MediaType::TEXT => "text",
        MediaType::JSON => "JSON",
        MediaType::VALUE => "value (CBOR)",
        MediaType::METRICS => "metrics",
        MediaType::FIGURE => "figure (SVG)",
        MediaType::DIRECTORY => "directory",
        MediaType::MODULE => "module",
        MediaType::LOG => "log",
        MediaType::BYTES => "bytes",
        _ => return None,
    })
}

/// Section with a heading.
pub fn section(title: &str, body: Markup) -> Markup {
    html! { section.card { h2 { (title) } (body) } }
}

/// List of names and values.
pub fn facts<'a>(rows: impl IntoIterator<Item = (&'a str, Markup)>) -> Markup {
    html! { dl.facts { @for (name, value) in rows { div { dt { (name) } dd { (value) } } } } }
}

/// Preformatted text, which scrolls.
pub fn code_block(text: &str) -> Markup {
    html! { pre.code tabindex="0" { (text) } }
}

/// Navigation between the pages of a list; `page` starts at 0.
pub fn pager(page: usize, more: bool, address: impl Fn(usize) -> String, told: &str) -> Markup {
    html! {
        nav.pager aria-label="Pages of the list" {
            @if page > 0 { a.button rel="prev" href=(address(page - 1)) { "← Previous" } } @else { span {} }
            span.dim { (told) }
            @if more { a.button rel="next" href=(address(page + 1)) { "Next →" } } @else { span {} }
        }
    }
}
