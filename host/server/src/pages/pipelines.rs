use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Plan, explain};
use lockstep_runtime::step::{Artifact, Limits};
use lockstep_view::columns::fit;
use lockstep_view::graph::{Class, Graph};
use lockstep_view::plan::{difference, edges, told};
use lockstep_view::quantity;
use maud::{Markup, PreEscaped, html};
use serde::Deserialize;
use serde_json::Value;

use super::parts::{artifacts, code_block, section, status, when};
use super::run::before;
use super::{Page, Site, Tab};
use crate::extract::blocking;
use crate::works::{Listed, Progress, TaskProgress, WorkItem, WorkState, now_ms};
use crate::{Answer, Refusal, Server};

/// Maximum number of work items in the list.
const LISTED: usize = 100;
/// Maximum number on the overview.
const NEWEST: usize = 5;
/// Maximum number of tasks for a graph and for explanations of cache misses.
const DRAWN: usize = 200;
/// Maximum number of tasks in a list.
const TASKS: usize = 1_000;

pub fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/pipelines", get(list))
        .route("/pipelines/{id}", get(page))
        .route("/pipelines/{id}/cancel", post(cancel))
}

/// Tile with the number of cached tasks, for the overview.
pub fn tile(site: &Site) -> Answer<Markup> {
    let works = &site.namespace.works;
    if works.newest(1)?.is_empty() {
        return Ok(html! {});
    }
    let cached = works.cached()?;
    Ok(html! {
        a.tile href=(site.at("/pipelines")) {
            span class={ "figure" @if cached > 0 { " hit" } } { (quantity::count(cached)) }
            span.dim { "cached" }
        }
    })
}

/// Card with recent work items, for the overview.
pub fn newest(site: &Site) -> Answer<Markup> {
    let works = site.namespace.works.newest(NEWEST)?;
    Ok(html! { @if !works.is_empty() { section.card {
        h2 { "Pipelines" a.more href=(site.at("/pipelines")) { "All" } }
        ul.plain { @for work in &works { li.row {
            (status(work.state.word())) " " a.name href=(address(site, &work.id)) { (fit(&work.title, 60)) }
            span.dim.end { (when(work.submitted_ms)) }
        } } }
    } } })
}

pub fn address(site: &Site, id: &str) -> String {
    site.at(&format!("/pipelines/{id}"))
}

async fn list(site: Site) -> Answer<Response> {
    site.page(|site| {
        let works = site.namespace.works.newest(LISTED)?;
        Ok(Page {
            tab: Tab::Pipelines,
            title: "Pipelines".to_owned(),
            body: html! {
                div.title {
                    h1 { "Pipelines" }
                    span.dim { "and single runs submitted to this host" }
                    div.actions { a.button href=(site.at("/schedules")) { "Schedules" } }
                }
                div #live data-live {
                    @if works.is_empty() { (nothing_yet()) } @else { section.card { (of_works(site, &works)) } }
                }
            },
        })
    })
    .await
}

fn nothing_yet() -> Markup {
    html! {
        p.nothing { "No pipelines or runs submitted yet." }
        p { "To submit one, set the address of this host and a token:" }
        (code_block("export LOCKSTEP_HOST=http://127.0.0.1:8765 LOCKSTEP_TOKEN=...\nlockstep run penguins.yaml"))
    }
}

fn of_works(site: &Site, works: &[Listed]) -> Markup {
    html! { div.scroll { table.list {
        thead { tr {
            th scope="col" { "State" }
            th scope="col" { "Name" }
            th.n.wide scope="col" { "Run" }
            th.n.wide scope="col" { "Cached" }
            th.n.wide scope="col" { "Failed" }
            th.n.wide scope="col" { "Duration" }
            th.n scope="col" { "Age" }
        } }
        tbody { @for work in works {
            tr {
                td { (status(work.state.word())) }
                td.grow { a.name href=(address(site, &work.id)) { (fit(&work.title, 80)) } @if work.kind == "run" { " " span.dim { "single run" } } }
                td.n.wide { (work.counts.executed) }
                td.n.wide { (work.counts.cached) }
                td.n.wide { (work.counts.failed) }
                td.n.wide { (took(work.started_ms, work.ended_ms)) }
                td.n { (when(work.submitted_ms)) }
            }
        } }
    } } }
}

fn took(started_ms: Option<u64>, ended_ms: Option<u64>) -> String {
    started_ms.map_or_else(String::new, |started| {
        quantity::micros(ended_ms.unwrap_or_else(now_ms).saturating_sub(started) * 1_000)
    })
}

fn find(site: &Site, id: &str) -> Answer<Arc<WorkItem>> {
    let work = site.namespace.works.get(id)?;
    work.ok_or_else(|| Refusal::not_found("work item not found; old work items are removed, their records stay"))
}

async fn page(site: Site, Path(id): Path<String>) -> Answer<Response> {
    site.page(move |site| {
        let work = find(site, &id)?;
        Ok(Page {
            tab: Tab::Pipelines,
            title: fit(&work.title, 80),
            body: body(site, &work)?,
        })
    })
    .await
}

/// Cancels a work item. Cross-origin requests were refused before.
async fn cancel(site: Site, Path(id): Path<String>) -> Answer<Redirect> {
    blocking(move || {
        let work = find(&site, &id)?;
        site.namespace.works.cancel(&work);
        Ok(Redirect::to(&address(&site, &work.id)))
    })
    .await
}

fn body(site: &Site, work: &WorkItem) -> Answer<Markup> {
    let progress = work.progress();
    let counts = progress.counts();
    let over = progress.state.is_over();
    Ok(html! {
        div #live data-live[!over] .part {
            div.title {
                h1 { (fit(&work.title, 80)) }
                (status(progress.state.word()))
                span.dim {
                    (counts.executed) " run, " (counts.cached) " cached"
                    @if counts.failed > 0 { ", " (counts.failed) " failed" }
                    @if progress.started_ms.is_some() { " in " (took(progress.started_ms, progress.ended_ms)) }
                    ", submitted " (when(work.submitted_ms)) " ago"
                }
                @if !over {
                    form.actions method="post" action={ (address(site, &work.id)) "/cancel" } {
                        button.danger type="submit" { "Cancel" }
                    }
                }
            }
            @if let Some(error) = progress.result.as_ref().and_then(|result| result["error"]["message"].as_str()) {
                section.card { h2 { "Error" } (code_block(error)) }
            }
            @if let Some(plan) = work.plan().filter(|plan| (2..=DRAWN).contains(&plan.tasks().len())) {
                section.card { div.graph tabindex="0" role="region" aria-label="Graph" { (PreEscaped(graph(site, plan, &progress).to_page())) } }
            }
            (section("Tasks", tasks(site, work, &progress)?))
            (outputs(site, &progress))
        }
        section.card #written hidden {
            h2 { "Log" }
            div.log tabindex="0" role="region" aria-label="Log" data-events=(site.at(&format!("/api/v1/works/{}/events", work.id))) {}
        }
    })
}

/// Graph of the tasks with their states. Tasks with several parts show a count.
fn graph(site: &Site, plan: &Plan, progress: &Progress) -> Graph {
    let mut graph = Graph::default();
    for task in plan.tasks() {
        let parts = format!("{}[", task.name);
        let own: Vec<&TaskProgress> = progress
            .tasks
            .iter()
            .filter(|part| part.task == task.name || task.for_each.is_some() && part.task.starts_with(&parts))
            .collect();
        graph.node(&task.name, format!("{}\n{}", fit(&task.name, 40), told_of(&own)), class(&own));
        if let Some(record) = own.iter().find_map(|part| record(part)) {
            graph.link(&task.name, site.run(&record));
        }
    }
    edges(&mut graph, plan);
    graph
}

fn told_of(own: &[&TaskProgress]) -> String {
    match own {
        [] => "queued".to_owned(),
        [one] if one.cached => format!("{}, cached", one.state.word()),
        [one] => match took(one.started_ms, one.ended_ms).as_str() {
            "" => one.state.word().to_owned(),
            took => format!("{}, {took}", one.state.word()),
        },
        [_, parts @ ..] => {
            let over = parts.iter().filter(|part| part.state.is_over()).count();
            format!("{over} of {} parts", parts.len())
        }
    }
}

fn class(own: &[&TaskProgress]) -> Class {
    let any = |state: WorkState| own.iter().any(|part| part.state == state);
    if any(WorkState::Failed) {
        Class::Failed
    } else if any(WorkState::Running) {
        Class::Focus
    } else if any(WorkState::Interrupted) {
        Class::Miss
    } else if !own.is_empty() && own.iter().all(|part| part.state == WorkState::Succeeded) {
        Class::Hit
    } else {
        Class::Plain
    }
}

fn record(task: &TaskProgress) -> Option<Digest> {
    Digest::from_hex(task.record.as_deref()?).ok()
}

fn tasks(site: &Site, work: &WorkItem, progress: &Progress) -> Answer<Markup> {
    let begun = progress.started_ms.unwrap_or(work.submitted_ms);
    let whole = progress.ended_ms.unwrap_or_else(now_ms).saturating_sub(begun).max(1);
    let coming = coming(site, work, progress);
    let mut rows = Vec::new();
    for task in progress.tasks.iter().take(TASKS) {
        rows.push(html! { tr {
            td { (status(task.state.word())) @if task.cached { " " (status("cached")) } }
            td.grow {
                @match record(task) { Some(record) => { a.name href=(site.run(&record)) { (fit(&task.task, 80)) } } None => { span.name { (fit(&task.task, 80)) } } }
                @if let Some(says) = &task.says { div.dim { (fit(says.lines().next().unwrap_or_default(), 200)) } }
                @if let Some(why) = why(site, task, &coming)? { div.dim { (why) } }
            }
            td.wide { @if !task.cached { (bar(task, begun, whole)) } }
            td.n { @if !task.cached { (took(task.started_ms, task.ended_ms)) } }
        } });
    }
    Ok(html! {
        div.scroll { table.list {
            thead { tr {
                th scope="col" { "State" }
                th scope="col" { "Task" }
                th.wide scope="col" { "Time" }
                th.n scope="col" { "Duration" }
            } }
            tbody { @for row in rows { (row) } }
        } }
        @if progress.tasks.len() > TASKS { p.dim { "… and " (progress.tasks.len() - TASKS) " more" } }
    })
}

/// Explains whether queued tasks will run.
fn coming(site: &Site, work: &WorkItem, progress: &Progress) -> Vec<(String, String)> {
    let plan = work
        .plan()
        .filter(|plan| !progress.state.is_over() && plan.tasks().len() <= DRAWN);
    let explained = plan.and_then(|plan| explain(site.runtime(), plan, &Limits::default()).ok());
    let words = |one: lockstep_runtime::pipeline::Explained| {
        let (word, why) = told(&one.fate);
        (one.task, format!("{word}: {why}"))
    };
    explained.unwrap_or_default().into_iter().map(words).collect()
}

/// Explains why a task ran: its differences from the previous run of the step.
fn why(site: &Site, task: &TaskProgress, coming: &[(String, String)]) -> Answer<Option<String>> {
    if task.state == WorkState::Queued {
        let told = coming.iter().find(|(name, _)| *name == task.task);
        return Ok(told.map(|(_, why)| why.clone()));
    }
    let Some(record) = record(task).filter(|_| !task.cached) else {
        return Ok(None);
    };
    Ok(match before(site, &record)? {
        None => Some("never run before".to_owned()),
        Some((_, differences)) if differences.is_empty() => None,
        Some((_, differences)) => Some(differences.iter().map(difference).collect::<Vec<_>>().join("; ")),
    })
}

/// Bar with the time of a task, relative to the whole pipeline.
fn bar(task: &TaskProgress, begun: u64, whole: u64) -> Markup {
    let Some(started) = task.started_ms else { return html! {} };
    let percent = |ms: u64| ms as f64 * 100.0 / whole as f64;
    let (from, to) = (
        percent(started.saturating_sub(begun)).min(99.0),
        percent(task.ended_ms.unwrap_or_else(now_ms).saturating_sub(begun)).min(100.0),
    );
    html! {
        svg.when viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
            rect.track width="100" height="8" {}
            rect class=(super::parts::class(task.state.word())) x=(format!("{from:.1}")) width=(format!("{:.1}", (to - from).max(1.0))) height="8" {}
        }
    }
}

/// Outputs of the pipeline.
fn outputs(site: &Site, progress: &Progress) -> Markup {
    let made = progress.result.as_ref().and_then(|result| result["outputs"].as_object());
    let read = |(name, artifact): (&String, &Value)| Some((name.clone(), Artifact::deserialize(artifact).ok()?));
    let made: Vec<(String, Artifact)> = made.into_iter().flatten().filter_map(read).collect();
    html! { @if !made.is_empty() {
        (section("Outputs", artifacts(site, "Output", made.iter().map(|(name, artifact)| (name.as_str(), artifact, html! {})))))
    } }
}
