//! The kernels of the caller; for callers with the scope `admin`, those of all users.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::response::{Redirect, Response};
use lockstep_view::columns::fit;
use lockstep_view::quantity;
use lockstep_view::report::counted;
use maud::{Markup, html};
use serde::Deserialize;

use super::parts::{status, when};
use super::{Asked, Page, Site, Tab};
use crate::access::{Caller, Scope};
use crate::gateway::Model;
use crate::{Answer, Namespace, Refusal, Server};

/// Query parameters: the user whose kernel is meant, or the caller.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Whose {
    user: Option<String>,
}

/// Kernels of a user, or the reason why they are not known.
struct Kernels {
    user: String,
    models: Result<Vec<Model>, String>,
}

pub async fn page(State(server): State<Arc<Server>>, caller: Caller, site: Site) -> Answer<Response> {
    let is_admin = caller.scope == Scope::Admin;
    let namespaces: Vec<Arc<Namespace>> = match is_admin {
        true => server.namespaces().into_values().collect(),
        false => vec![caller.namespace],
    };
    let mut all = Vec::new();
    for namespace in namespaces {
        let models = namespace.kernels.models().await;
        all.push(Kernels {
            user: namespace.owner.to_string(),
            models: models.map_err(|error| error.to_string()),
        });
    }
    site.page(move |site| {
        Ok(Page {
            tab: Tab::Notebooks,
            title: "Kernels".to_owned(),
            body: html! {
                div.title { h1 { "Kernels" } span.dim { @if is_admin { "of all users" } @else { "of this host that are yours" } } }
                div #live data-live { (list(site, &all, is_admin)) }
            },
        })
    })
    .await
}

fn list(site: &Site, all: &[Kernels], is_admin: bool) -> Markup {
    let rows = all
        .iter()
        .flat_map(|own| own.models.iter().flatten().map(|model| (own.user.as_str(), model)));
    let rows: Vec<(&str, &Model)> = rows.collect();
    html! {
        @for own in all { @if let Err(error) = &own.models {
            section.card.failure { h2 { "Kernels of " (name(&own.user)) } p { (fit(error, 1_000)) } }
        } }
        @if rows.is_empty() { p.nothing { "No active kernels." } } @else { section.card { div.scroll tabindex="0" role="region" aria-label="Kernels" { table.list {
            thead { tr {
                th scope="col" { "State" }
                th scope="col" { "Kernel" }
                @if is_admin { th scope="col" { "User" } }
                th.n scope="col" { "Memory limit" }
                th.n scope="col" { "Idle" }
                th.n scope="col" { "Clients" }
                th scope="col" { span.unseen { "Stop" } }
            } }
            tbody { @for (user, model) in rows { tr {
                td { (status(&model.execution_state)) }
                td.grow {
                    span.name { (shown(model)) } " " code.digest { (fit(&model.id, 8)) }
                    @if let Some(code) = &model.details.running { div.dim { "runs " code { (fit(code, 80)) } } }
                }
                @if is_admin { td { (name(user)) } }
                td.n { @if let Some(bytes) = model.details.memory { (quantity::bytes(bytes)) } @else { span.dim { "none" } } }
                td.n { @if model.execution_state == "busy" { span.dim { "no" } } @else { (when(ms(model.last_activity))) } }
                td.n { (model.connections) }
                td { a.button href=(address(site, &model.id, user)) { "Stop" span.unseen { " " (shown(model)) " " (fit(&model.id, 8)) } } }
            } } }
        } } } }
    }
}

/// Name of the notebook, without its directories.
fn shown(model: &Model) -> String {
    let notebook = model.details.notebook.as_deref().unwrap_or_default();
    match notebook.rsplit('/').next() {
        None | Some("") => "kernel".to_owned(),
        Some(name) => fit(name, 60),
    }
}

fn name(user: &str) -> Markup {
    html! { @if user.is_empty() { span.dim { "no user" } } @else { (fit(user, 60)) } }
}

/// Address of the page that asks before a kernel is stopped.
fn address(site: &Site, id: &str, user: &str) -> String {
    // not `with_query`, which omits empty values: an empty user name stands for callers without a user
    let user: String = percent_encoding::utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC).collect();
    site.at(&format!("/kernels/{id}/stop?user={user}"))
}

/// Returns the Unix time in milliseconds.
pub fn ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// Returns the namespace of the kernel. The kernels of others exist only for callers with the scope `admin`.
fn namespace(server: &Server, caller: &Caller, whose: &Whose) -> Answer<Arc<Namespace>> {
    let own = &caller.namespace;
    let Some(user) = whose.user.as_deref().filter(|user| **user != *own.owner) else {
        return Ok(own.clone());
    };
    let key = (!user.is_empty()).then(|| user.to_owned());
    let found = (caller.scope == Scope::Admin).then(|| server.namespaces().get(&key).cloned());
    found.flatten().ok_or_else(nothing)
}

fn nothing() -> Refusal {
    Refusal::not_found("kernel not found: it was stopped, or it is that of another user")
}

/// Asks whether to stop a kernel.
pub async fn ask(
    State(server): State<Arc<Server>>,
    caller: Caller,
    site: Site,
    Path(id): Path<String>,
    Asked(whose): Asked<Whose>,
) -> Answer<Response> {
    let namespace = namespace(&server, &caller, &whose)?;
    let model = namespace.kernels.model(&id).await?.ok_or_else(nothing)?;
    site.page(move |site| {
        let user = namespace.owner.to_string();
        Ok(Page {
            tab: Tab::Notebooks,
            title: "Stop a kernel".to_owned(),
            body: html! {
                div.title { h1 { "Stop the kernel " (shown(&model)) "?" } (status(&model.execution_state)) }
                section.card {
                    p { "Kernel " code { (fit(&model.id, 40)) } @if !user.is_empty() { " of " (name(&user)) } ", " (counted(model.connections, "client")) " connected." }
                    p { "A running cell is interrupted, and the variables of the notebook are gone. Results of earlier cells stay in the store, so executing the cells again is fast." }
                    form.actions method="post" action=(address(site, &model.id, &user)) {
                        a.button href=(site.at("/kernels")) { "Back" }
                        button.danger type="submit" { "Stop kernel" }
                    }
                }
            },
        })
    })
    .await
}

/// Stops a kernel. Cross-origin requests were refused before.
pub async fn stop(
    State(server): State<Arc<Server>>,
    caller: Caller,
    site: Site,
    Path(id): Path<String>,
    Asked(whose): Asked<Whose>,
) -> Answer<Redirect> {
    let namespace = namespace(&server, &caller, &whose)?;
    match namespace.kernels.end(&id).await? {
        true => Ok(Redirect::to(&site.at("/kernels"))),
        false => Err(nothing()),
    }
}
