use std::collections::BTreeSet;
use std::path::Path;
use std::time::UNIX_EPOCH;

use axum::response::Response;
use lockstep_runtime::digest::mentioned;
use lockstep_runtime::step::Artifact;
use lockstep_view::columns::fit;
use lockstep_view::quantity;
use lockstep_view::report::counted;
use maud::{Markup, html};

use super::kernels::ms;
use super::parts::{artifacts, code_block, status, when};
use super::{Page, Site, Tab};
use crate::Answer;
use crate::gateway::Model;

/// Maximum number of sessions, and of artifacts of each.
const LISTED: usize = 100;

/// A session file in the store.
struct Session {
    /// Name of its file: the digest of the notebook's path.
    name: String,
    changed_ms: u64,
    artifacts: Vec<Artifact>,
}

pub async fn page(site: Site) -> Answer<Response> {
    let models = site.namespace.kernels.models().await?;
    site.page(move |site| {
        let sessions = sessions(site)?;
        Ok(Page {
            tab: Tab::Notebooks,
            title: "Notebooks".to_owned(),
            body: html! {
                h1 { "Notebooks" }
                section.card #live data-live {
                    h2 { "Kernels" a.more href=(site.at("/kernels")) { "All kernels" } }
                    (kernels(&models))
                }
                section.card {
                    h2 { "Sessions" }
                    @if sessions.is_empty() { (no_sessions()) } @else { (list(site, &sessions)) }
                }
            },
        })
    })
    .await
}

/// Card with kernels, for the overview.
pub fn newest(site: &Site, models: &[Model]) -> Markup {
    match models.is_empty() {
        true => html! {},
        false => html! { section.card { h2 { "Kernels" a.more href=(site.at("/kernels")) { "All" } } (kernels(models)) } },
    }
}

/// List of the host's kernels.
fn kernels(models: &[Model]) -> Markup {
    html! {
        @if models.is_empty() {
            p { "No active kernels. To start one from JupyterLab:" }
            (code_block("jupyter lab --gateway-url=ADDRESS\nlockstep kernel install --host ADDRESS --name team"))
        } @else {
            ul.plain { @for model in models { li {
                code.digest { (fit(&model.id, 8)) } " "
                (status(&model.execution_state))
                span.dim { " " (counted(model.connections, "client")) ", last used " (when(ms(model.last_activity))) " ago" }
            } } }
        }
    }
}

fn no_sessions() -> Markup {
    html! {
        p { "No sessions yet. The store keeps the variables of a notebook's session, so a kernel that restarts can restore them." }
        (code_block("lockstep kernel install\njupyter lab"))
    }
}

fn list(site: &Site, sessions: &[Session]) -> Markup {
    html! {
        ul.plain { @for session in sessions { li {
            details {
                summary {
                    code.digest { (session.name) } " "
                    (session.artifacts.len()) " values, "
                    (quantity::bytes(session.artifacts.iter().map(|one| one.size).sum()))
                    span.dim { ", changed " (when(session.changed_ms)) " ago" }
                }
                (artifacts(site, "Value", session.artifacts.iter().map(|one| ("value", one, html! {}))))
            }
        } } }
    }
}

/// Reads the sessions, most recently changed first.
fn sessions(site: &Site) -> Answer<Vec<Session>> {
    let files = std::fs::read_dir(site.store().directory().join("sessions"))
        .into_iter()
        .flatten();
    let mut sessions = Vec::new();
    for file in files.filter_map(|entry| Some(entry.ok()?.path())).take(LISTED) {
        sessions.extend(session(site, &file)?);
    }
    sessions.sort_by_key(|session| std::cmp::Reverse(session.changed_ms));
    Ok(sessions)
}

/// Reads an active session; `None` for other files, or if the session ends concurrently.
fn session(site: &Site, file: &Path) -> Answer<Option<Session>> {
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_suffix(".json"));
    let Some(name) = name.filter(|name| !name.contains('.')) else {
        return Ok(None);
    };
    let (Ok(text), Ok(changed)) = (std::fs::read(file), std::fs::metadata(file).and_then(|file| file.modified())) else {
        return Ok(None);
    };
    let digests: BTreeSet<_> = mentioned(&text).collect();
    let mut artifacts = Vec::new();
    for digest in digests.iter().take(LISTED) {
        artifacts.extend(site.store().artifact(digest)?);
    }
    Ok(Some(Session {
        name: name.chars().take(12).collect(),
        changed_ms: changed.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64),
        artifacts,
    }))
}
