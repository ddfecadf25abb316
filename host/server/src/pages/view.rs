//! Display of artifacts by media type. Their content never becomes markup: text is escaped, and images are separate requests.

use std::collections::BTreeMap;

use lockstep_runtime::step::{Artifact, Interface, MediaType, Port};
use lockstep_view::columns::fit;
use lockstep_view::content::{Content, Table};
use lockstep_view::module::{Module, kind_of};
use lockstep_view::quantity;
use maud::{Markup, html};

use super::curves::{Metrics, of_artifact};
use super::log::log;
use super::parts::{artifacts, code_block};
use super::tree::tree;
use super::{Site, with_query};

/// Maximum width of a table cell in characters.
const CELL: usize = 120;
/// Maximum number of columns.
const COLUMNS: usize = 200;
/// Maximum size of a text in bytes.
const TEXT: usize = 256 << 10;
/// Maximum size in bytes of an artifact that is displayed; larger ones can only be downloaded.
pub const LARGEST: u64 = 256 << 20;
const LARGEST_PREVIEW: u64 = 8 << 20;

/// Returns the media type of an image that browsers display.
pub fn picture_type(artifact: &Artifact) -> Option<&str> {
    let said = artifact.media_type.as_str();
    [MediaType::FIGURE, "image/png", "image/jpeg", "image/gif", "image/webp"]
        .contains(&said)
        .then_some(said)
}

/// Short preview of an artifact, or the reason why there is none.
pub fn preview(site: &Site, artifact: &Artifact, name: &str) -> Markup {
    if artifact.size > LARGEST_PREVIEW {
        return html! { p.dim { "Too large to preview." } };
    }
    if picture_type(artifact).is_some() {
        return picture(site, artifact, name);
    }
    match Content::read(site.store(), artifact, 0..5) {
        Ok(Content::Bytes { .. }) => html! { p.dim { "No preview for this media type." } },
        Ok(read) => content(site, &read),
        Err(error) => html! { p.dim { (error.message()) } },
    }
}

/// Image, which the browser requests separately.
pub fn picture(site: &Site, artifact: &Artifact, name: &str) -> Markup {
    let told = if name.is_empty() {
        "Image".to_owned()
    } else {
        format!("Image {}", fit(name, 60))
    };
    html! { div.picture { img src={ (site.artifact(&artifact.digest)) "/picture" } alt=(told) loading="lazy"; } }
}

/// Content of an artifact.
pub fn content(site: &Site, content: &Content) -> Markup {
    match content {
        Content::Table(read) => table(read),
        Content::Text { text, size } => of_text(text, *size),
        Content::Json(value) => tree(value),
        Content::Metrics(metrics) => {
            let Metrics { values, curves } = Metrics::new(metrics.clone());
            html! {
                @if !values.is_empty() || curves.is_empty() { (of_metrics(&values)) }
                (of_artifact(&curves))
            }
        }
        Content::Directory(files) => {
            let rows = files.iter().map(|(name, file)| (name.as_str(), file, html! {}));
            artifacts(site, "File", rows.take(1_000))
        }
        Content::Module(module) => of_module(site, module),
        Content::Log(said) if said.is_empty() => html! { p.dim { "Empty log." } },
        Content::Log(said) => log(said),
        Content::Figure { .. } | Content::Bytes { .. } => code_block(&content.to_string()),
    }
}

fn of_text(text: &str, size: usize) -> Markup {
    let shown = text.floor_char_boundary(TEXT);
    html! {
        (code_block(&text[..shown]))
        @if shown < size { p.dim { "Truncated: download the artifact for the remaining " (quantity::bytes((size - shown) as u64)) "." } }
    }
}

/// Table of metrics.
fn of_metrics(metrics: &BTreeMap<String, f64>) -> Markup {
    html! {
        table.list.metrics {
            thead { tr { th scope="col" { "Metric" } th.n scope="col" { "Value" } } }
            tbody { @for (name, value) in metrics { tr { td.grow { (fit(name, 80)) } td.n { code { (value) } } } } }
        }
    }
}

fn table(table: &Table) -> Markup {
    let shown = table.columns.len().min(COLUMNS);
    let columns = &table.columns[..shown];
    let align = |at: usize| columns.get(at).is_some_and(|column| column.numeric).then_some("n");
    html! {
        div.scroll tabindex="0" role="region" aria-label="Table" {
            table.data {
                thead { tr { @for (at, column) in columns.iter().enumerate() {
                    th scope="col" class=[align(at)] {
                        (fit(&column.name, CELL))
                        @if !column.kind.is_empty() { span.kind { (fit(&column.kind, 40)) } }
                    }
                } } }
                tbody { @for row in &table.rows { tr { @for (at, cell) in row.iter().take(shown.max(1)).enumerate() {
                    td class=[align(at)] {
                        @match cell { Some(text) => { (fit(text, CELL)) } None => { span.dim { "∅" } } }
                    }
                } } } }
            }
        }
        @if shown < table.columns.len() { p.dim { "… and " (table.columns.len() - shown) " more columns" } }
        @if let Some(total) = table.total { @if total > table.rows.len() as u64 {
            p.dim { (table.rows.len()) " of " (quantity::count(total)) " rows" }
        } }
    }
}

fn of_module(site: &Site, module: &Module) -> Markup {
    html! {
        @if module.interfaces.is_empty() {
            p { "A plain program: the caller defines its inputs and outputs." }
            @for (from, names) in &module.imports {
                p.dim { "imports from " code { (fit(from, 60)) } ": " (fit(&names.join(", "), 400)) }
            }
        }
        @for interface in &module.interfaces { (of_step(site, interface)) }
    }
}

fn of_step(site: &Site, interface: &Interface) -> Markup {
    let port = |what: &str, port: &Port| {
        html! { tr {
            td { (what) }
            td { code { (port.name) } }
            td { code.type { (kind_of(port)) } }
            td.grow { (fit(&port.doc, 400)) }
        } }
    };
    html! {
        div.step {
            h2 { a href=(with_query(&site.at("/runs"), &[("step", &interface.step)])) { (fit(&interface.step, 80)) } }
            @if !interface.doc.is_empty() { p.doc { (interface.doc.trim()) } }
            div.scroll tabindex="0" { table.list {
                thead.unseen { tr { th { "Kind" } th { "Name" } th { "Type" } th { "Description" } } }
                tbody {
                    @for input in &interface.inputs { (port("input", input)) }
                    @for parameter in &interface.parameters {
                        tr {
                            td { "parameter" }
                            td { code { (parameter.name) } }
                            td { code.type { (parameter.kind) } }
                            td.grow {
                                @match &parameter.default {
                                    Some(value) => { "= " code { (fit(&value.to_string(), 80)) } " " }
                                    None => { span.dim { "required " } }
                                }
                                (fit(&parameter.doc, 400))
                            }
                        }
                    }
                    @for output in &interface.outputs { (port("output", output)) }
                }
            } }
        }
    }
}
