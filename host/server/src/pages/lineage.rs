use std::collections::BTreeSet;

use axum::extract::Path;
use axum::response::Response;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Direction, Lineage};
use lockstep_runtime::store::Row;
use lockstep_view::columns::fit;
use lockstep_view::error::Result;
use lockstep_view::lineage::graph;
use lockstep_view::quantity;
use maud::{Markup, PreEscaped, html};

use super::parts::{digest, section, status, step, type_name};
use super::{Page, Site, Tab};
use crate::{Answer, Refusal};

/// Maximum number of nodes in a graph.
const DRAWN: usize = 250;
/// Maximum number of lines in a list.
const LINES: usize = 500;
/// Maximum depth of a list. Deeper lines are links.
const DEPTH: usize = 24;

pub async fn page(site: Site, Path(text): Path<String>) -> Answer<Response> {
    site.page(move |site| {
        let start = site.digest(&text)?;
        let is_record = site.runtime().record(&start)?.is_some();
        if !is_record && site.store().artifact(&start)?.is_none() && !site.store().contains(&start)? {
            return Err(Refusal::not_found(format_args!("artifact or record {text} not found")));
        }
        Ok(Page {
            tab: Tab::Elsewhere,
            title: format!("Lineage of {}", start.short()),
            body: body(site, &start, is_record)?,
        })
    })
    .await
}

fn body(site: &Site, start: &Digest, is_record: bool) -> Answer<Markup> {
    let up = site.runtime().lineage(start, Direction::Up)?;
    let down = site.runtime().lineage(start, Direction::Down)?;
    let mut graph = graph(&[&up, &down], start, |artifact| {
        Ok(format!("{}\n{}", artifact.short(), told(site, artifact)?))
    })?;
    for lineage in [&up, &down] {
        for (record, row) in &lineage.runs {
            graph.link(&record.hex(), site.run(record));
            row.links
                .iter()
                .filter(|link| link.role != lockstep_runtime::store::Role::Log)
                .for_each(|link| {
                    if graph.has(&link.artifact.hex()) {
                        graph.link(&link.artifact.hex(), site.artifact(&link.artifact));
                    }
                });
        }
    }
    let home = if is_record { site.run(start) } else { site.artifact(start) };
    let list = |direction, lineage| {
        let mut told = LineageList {
            site,
            lineage,
            direction,
            above: BTreeSet::new(),
            left: LINES,
        };
        told.start(start)
    };
    Ok(html! {
        div.title {
            h1 { "Lineage" }
            (digest(start, &home))
            div.actions { a.button href=(home) { @if is_record { "Run" } @else { "Artifact" } } }
        }
        @if graph.node_count() <= DRAWN {
            section.card { div.graph tabindex="0" role="region" aria-label="Graph" { (PreEscaped(graph.to_page())) } }
        } @else {
            p.nothing { "The graph is too large to draw: " (graph.node_count()) " nodes. See the lists below." }
        }
        div.halves {
            (section("Upstream", list(Direction::Up, &up)?))
            (section("Downstream", list(Direction::Down, &down)?))
        }
    })
}

/// Returns type and size of an artifact, if known.
fn told(site: &Site, artifact: &Digest) -> Result<String> {
    let known = site.store().artifact(artifact)?;
    Ok(known.map_or_else(String::new, |known| {
        format!("{}, {}", type_name(&known), quantity::bytes(known.size))
    }))
}

/// Renders a lineage as a list.
struct LineageList<'a> {
    site: &'a Site,
    lineage: &'a Lineage,
    direction: Direction,
    /// Digests listed already; they are not expanded again.
    above: BTreeSet<Digest>,
    /// Remaining number of lines.
    left: usize,
}

impl LineageList<'_> {
    fn start(&mut self, start: &Digest) -> Answer<Markup> {
        let inner = match self.lineage.runs.get(start) {
            Some(row) => self.run(row, 0)?,
            None => self.artifact(None, start, 0)?,
        };
        Ok(html! { ul.lineage { (inner) @if self.left == 0 { li.dim { "… and more" } } } })
    }

    fn artifact(&mut self, name: Option<&str>, artifact: &Digest, depth: usize) -> Answer<Markup> {
        let leads = self.lineage.leads.get(artifact).cloned().unwrap_or_default();
        let known = !self.above.insert(*artifact);
        let mut below = Vec::new();
        if !known && depth < DEPTH {
            for row in leads.iter().filter_map(|record| self.lineage.runs.get(record)) {
                below.push(self.run(row, depth + 1)?);
            }
        }
        Ok(html! { li {
            @if let Some(name) = name { code { (fit(name, 40)) } " " }
            (digest(artifact, &self.site.artifact(artifact))) " " span.dim { (told(self.site, artifact)?) }
            (self.note(known && !leads.is_empty(), self.direction == Direction::Up && leads.is_empty()))
            @if !below.is_empty() { ul { @for one in below { (one) } } }
            @else if !known && !leads.is_empty() { " " a href=(self.site.lineage(artifact)) { "more" } }
        } })
    }

    fn run(&mut self, row: &Row, depth: usize) -> Answer<Markup> {
        let known = !self.above.insert(row.record);
        let mut below = Vec::new();
        if !known {
            for link in self.lineage.of_run(&row.record, self.direction) {
                if self.left > 0 {
                    self.left -= 1;
                    below.push(self.artifact(Some(&link.name), &link.artifact, depth + 1)?);
                }
            }
        }
        Ok(html! { li {
            (status(&row.word)) " " a.name href=(self.site.run(&row.record)) { (step(&row.step)) } " "
            (digest(&row.record, &self.site.run(&row.record)))
            (self.note(known, false))
            @if !below.is_empty() { ul { @for one in below { (one) } } }
        } })
    }

    fn note(&self, above: bool, given: bool) -> Markup {
        html! {
            @if above { span.dim { " see above" } }
            @if given { span.dim { " external" } }
        }
    }
}
