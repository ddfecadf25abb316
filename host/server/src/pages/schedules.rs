use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use lockstep_view::columns::fit;
use maud::{Markup, html};

use super::parts::{code_block, status, when};
use super::{Page, Site, Tab, pipelines};
use crate::access::Caller;
use crate::api::set_paused;
use crate::schedules::{Schedule, Start, State as ScheduleState};
use crate::{Answer, Server};

/// Number of starts in the list of a schedule.
const STARTS: usize = 50;

pub fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/schedules", get(list))
        .route("/schedules/{name}", get(page))
        .route("/schedules/{name}/pause", post(pause))
        .route("/schedules/{name}/resume", post(resume))
}

fn address(site: &Site, name: &str) -> String {
    site.at(&format!("/schedules/{name}"))
}

async fn list(site: Site) -> Answer<Response> {
    site.page(|site| {
        let schedules = site.namespace.schedules.all();
        let rows = schedules
            .iter()
            .map(|schedule| row(site, schedule))
            .collect::<Answer<Vec<_>>>()?;
        Ok(Page {
            tab: Tab::Pipelines,
            title: "Schedules".to_owned(),
            body: html! {
                div.title { h1 { "Schedules" } span.dim { "pipelines that this host starts by itself" } }
                div #live data-live {
                    @if rows.is_empty() { (nothing_yet()) } @else { section.card { div.scroll { table.list {
                        thead { tr {
                            th scope="col" { "State" }
                            th scope="col" { "Name" }
                            th scope="col" { "When" }
                            th.wide scope="col" { "Next" }
                            th scope="col" { "Last result" }
                        } }
                        tbody { @for row in &rows { (row) } }
                    } } } }
                }
            },
        })
    })
    .await
}

fn nothing_yet() -> Markup {
    html! {
        p.nothing { "No schedules yet." }
        p { "To add one, set the address of this host and a token:" }
        (code_block("lockstep schedule add nightly --cron \"0 6 * * *\" penguins.yaml"))
    }
}

fn row(site: &Site, schedule: &Schedule) -> Answer<Markup> {
    let last = site.namespace.schedules.starts(&schedule.name, 1)?;
    Ok(html! { tr {
        td { (state(schedule)) }
        td.grow {
            a.name href=(address(site, &schedule.name)) { (schedule.name) }
            div.dim { (fit(&schedule.pipeline, 80)) }
        }
        td { (times(schedule)) }
        td.wide { (next(schedule)) }
        td { @for start in &last { (result(site, start)?) } }
    } })
}

fn state(schedule: &Schedule) -> Markup {
    match &schedule.state {
        ScheduleState::Active => status("active"),
        ScheduleState::Paused => status("paused"),
        ScheduleState::Stopped(_) => status("stopped"),
    }
}

fn times(schedule: &Schedule) -> Markup {
    let words = schedule
        .times
        .as_ref()
        .and_then(|times| Some((times, times.when().ok()?.words())));
    html! {
        @if let Some((times, words)) = words {
            span title=(times.cron) { (words) }
            div.dim { (times.zone) }
        }
        @if schedule.hook.is_some() { div { "webhook" } }
    }
}

fn next(schedule: &Schedule) -> String {
    let when = schedule.times.as_ref().and_then(|times| times.when().ok());
    schedule
        .next_ms
        .zip(when)
        .map_or_else(String::new, |(ms, when)| when.text(ms))
}

/// The work item of a start, or why there is none.
fn result(site: &Site, start: &Start) -> Answer<Markup> {
    let work = start
        .work
        .as_ref()
        .map(|id| site.namespace.works.get(id))
        .transpose()?
        .flatten();
    Ok(html! {
        @if let Some(work) = work {
            a href=(pipelines::address(site, &work.id)) { (status(work.state().word())) }
        }
        @if let Some(why) = &start.why { div.dim { (fit(why, 120)) } }
        div.dim { (when(start.at_ms)) " ago" }
    })
}

async fn page(site: Site, Path(name): Path<String>) -> Answer<Response> {
    site.page(move |site| {
        let schedule = site.namespace.schedules.get(&name)?;
        Ok(Page {
            tab: Tab::Pipelines,
            title: name.clone(),
            body: body(site, &schedule)?,
        })
    })
    .await
}

fn body(site: &Site, schedule: &Schedule) -> Answer<Markup> {
    let starts = site.namespace.schedules.starts(&schedule.name, STARTS)?;
    let rows = starts
        .iter()
        .map(|start| Ok((start, result(site, start)?)))
        .collect::<Answer<Vec<_>>>()?;
    let (action, title) = match schedule.state {
        ScheduleState::Active => ("pause", "Pause"),
        _ => ("resume", "Resume"),
    };
    Ok(html! {
        div #live data-live {
            div.title {
                h1 { (schedule.name) }
                (state(schedule))
                span.dim {
                    (fit(&schedule.pipeline, 80)) ", added " (when(schedule.created_ms)) " ago"
                    @if let Some((token, _)) = &schedule.token { " with the token " (fit(token, 40)) }
                }
                form.actions method="post" action={ (address(site, &schedule.name)) "/" (action) } {
                    button type="submit" { (title) }
                }
            }
            @if let ScheduleState::Stopped(why) = &schedule.state { section.card { h2 { "Stopped" } p { (why) } } }
            section.card {
                h2 { "When" }
                (times(schedule))
                @if schedule.next_ms.is_some() { p { "Next: " (next(schedule)) } }
                p.dim { "It runs the plan " code { (schedule.plan.short()) } ", with the modules and inputs that were there when it was added." }
            }
            section.card {
                h2 { "Starts" }
                @if rows.is_empty() { p.nothing { "None yet." } } @else { div.scroll { table.list {
                    thead { tr { th scope="col" { "By" } th scope="col" { "Result" } } }
                    tbody { @for (start, result) in &rows { tr { td { (start.by.word()) } td.grow { (result) } } } }
                } } }
            }
        }
    })
}

/// Pauses a schedule. Cross-origin requests were refused before.
async fn pause(State(server): State<Arc<Server>>, site: Site, caller: Caller, Path(name): Path<String>) -> Answer<Redirect> {
    set_paused(&server, &caller, name.clone(), true).await?;
    Ok(Redirect::to(&address(&site, &name)))
}

/// Resumes a schedule.
async fn resume(State(server): State<Arc<Server>>, site: Site, caller: Caller, Path(name): Path<String>) -> Answer<Redirect> {
    set_paused(&server, &caller, name.clone(), false).await?;
    Ok(Redirect::to(&address(&site, &name)))
}
