use axum::response::Response;
use lockstep_runtime::store::{Row, Runs, StepTally};
use lockstep_view::quantity;
use maud::{Markup, html};

use super::parts::{class, code_block, runs, section, step, when};
use super::{Page, Site, Tab, notebooks, pipelines, with_query};
use crate::Answer;
use crate::gateway::Model;

/// Maximum number of runs in the list.
const LISTED: usize = 15;
/// Maximum number of runs in the chart.
const DRAWN: usize = 90;
/// Maximum number of steps in the list.
const STEPS: usize = 8;

pub async fn page(site: Site) -> Answer<Response> {
    let models = site.namespace.kernels.models().await?;
    site.page(move |site| {
        let rows = site.store().rows(&Runs::newest(DRAWN))?;
        let body = if rows.is_empty() {
            newcomer(site)
        } else {
            overview(site, &rows, &models)?
        };
        Ok(Page {
            tab: Tab::Overview,
            title: "Overview".to_owned(),
            body,
        })
    })
    .await
}

fn overview(site: &Site, rows: &[Row], models: &[Model]) -> Answer<Markup> {
    let counts = site.store().count(&Runs::newest(0))?;
    let steps = site.store().steps("", STEPS)?;
    let count = |word: &str| counts.get(word).copied().unwrap_or_default();
    let tile = |name: &str, count: u64, word: &str| {
        html! {
            a.tile href=(with_query(&site.at("/runs"), &[("outcome", word)])) {
                span class={ "figure " @if count > 0 { (class(word)) } } { (quantity::count(count)) }
                span.dim { (name) }
            }
        }
    };
    Ok(html! {
        h1.unseen { "Overview" }
        div #live data-live {
            div.tiles {
                (tile("runs", counts.values().sum(), ""))
                (tile("succeeded", count("succeeded"), "succeeded"))
                (tile("failed", count("failed"), "failed"))
                (tile("interrupted", count("interrupted"), "interrupted"))
                (pipelines::tile(site)?)
                (strip(rows))
            }
            div.columns {
                div.main {
                    section.card {
                        h2 { "Recent runs" a.more href=(site.at("/runs")) { "All runs" } }
                        (runs(site, &rows[..rows.len().min(LISTED)]))
                    }
                }
                div.side {
                    (pipelines::newest(site)?)
                    (section("Steps", of_steps(site, &steps)))
                    (notebooks::newest(site, models))
                }
            }
        }
    })
}

/// Chart of the durations of recent runs, on a logarithmic scale, with the newest at the right.
fn strip(rows: &[Row]) -> Markup {
    // from 100 µs to 100 s
    let height = |row: &Row| (4.0 + 32.0 * (((row.wall_us.max(1) as f64).log10() - 2.0) / 6.0).clamp(0.0, 1.0)).round();
    let drawn = rows.iter().rev().enumerate();
    let failed = rows.iter().filter(|row| row.word != "succeeded").count();
    let told = format!("Durations of the last {} runs; {failed} did not succeed", rows.len());
    html! {
        div.tile.strip {
            svg viewBox={ "0 0 " (rows.len().max(60) * 6) " 36" } height="36" role="img" aria-label=(told) preserveAspectRatio="xMinYMax" {
                @for (at, row) in drawn {
                    rect class=(class(&row.word)) x=(at * 6) y=(36.0 - height(row)) width="4"
                        height=(height(row)) rx="1" {
                        title { (step(&row.step)) ", " (row.word) ", " (quantity::micros(row.wall_us)) }
                    }
                }
            }
            span.dim { "durations of the last " (rows.len()) }
        }
    }
}

fn of_steps(site: &Site, steps: &[StepTally]) -> Markup {
    html! {
        table.list.tight {
            thead { tr {
                th scope="col" { "Step" }
                th.n scope="col" { "Runs" }
                th.n scope="col" { "Mean" }
                th.n scope="col" { "Last" }
            } }
            tbody { @for one in steps { (of_step(site, one)) } }
        }
    }
}

pub fn of_step(site: &Site, one: &StepTally) -> Markup {
    let failed = one.runs - one.succeeded;
    html! {
        tr {
            td.grow {
                a.name href=(with_query(&site.at("/runs"), &[("step", &one.step)])) { (step(&one.step)) }
                @if failed > 0 { " " span.dim { (failed) " unsuccessful" } }
            }
            td.n { (quantity::count(one.runs)) }
            td.n { (quantity::micros(one.wall_us / one.runs.max(1))) }
            td.n { (when(one.newest_ms)) }
        }
    }
}

fn newcomer(site: &Site) -> Markup {
    let store = site.store().directory().display().to_string();
    let with_store = format!(" --store {store}");
    html! {
        div.newcomer data-live #live {
            h1 { "No runs yet" }
            p { "A run executes a step of a WebAssembly module with inputs and parameters. Its record has the inputs, outputs and log." }
            h2 { "Run a step" }
            (code_block(&format!("lockstep build steps -o steps.wasm\nlockstep run steps.wasm#clean -i raw=rows.csv{with_store}")))
            h2 { "Run a pipeline" }
            (code_block(&format!("lockstep run penguins.yaml{with_store}")))
            h2 { "Run a notebook" }
            (code_block("lockstep kernel install\njupyter lab"))
            p.dim { "This page shows runs in the store " code { (store) } "." }
        }
    }
}
