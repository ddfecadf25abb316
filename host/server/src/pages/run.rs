use axum::extract::Path;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Redirect, Response};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::Difference;
use lockstep_runtime::run::{Entry, Input, Observed, Record};
use lockstep_runtime::step::{Artifact, Limit, Usage};
use lockstep_runtime::store::{Row, Runs};
use lockstep_view::columns::fit;
use lockstep_view::plan::difference;
use lockstep_view::provenance as statements;
use lockstep_view::quantity;
use lockstep_view::runs::age;
use maud::{Markup, html};

use super::curves::over_runs;
use super::parts::{artifacts, code_block, copied, digest, facts, section, status, step, when};
use super::view::preview;
use super::{Page, Site, Tab};
use crate::{Answer, Refusal};

/// Maximum number of runs offered for comparison.
const OFFERED: usize = 30;

/// A record with its digest and observations.
struct Shown {
    digest: Digest,
    record: Record,
    observed: Observed,
}

pub async fn page(site: Site, Path(text): Path<String>) -> Answer<Response> {
    site.answer(move |site| {
        let shown = match find(site, &text)? {
            Ok(shown) => shown,
            Err(artifact) => return Ok(Redirect::to(&site.artifact(&artifact)).into_response()),
        };
        let title = format!("{} {}", step(&shown.record.run.entry.title()), shown.digest.short());
        let page = Page {
            tab: Tab::Runs,
            title,
            body: body(site, &shown)?,
        };
        Ok(super::shell::document(&site.base, page))
    })
    .await
}

/// Downloads the statement that `lockstep provenance` prints.
pub async fn provenance(site: Site, Path(text): Path<String>) -> Answer<Response> {
    site.answer(move |site| {
        let shown = find(site, &text)?.map_err(|artifact| nothing(&artifact.short()))?;
        let statement = statements::statement(site.store(), &shown.digest, &shown.record, &shown.observed)?;
        let name = format!("attachment; filename=\"{}.intoto.json\"", shown.digest.short());
        let headers = [
            (CONTENT_TYPE, "application/json".to_owned()),
            (CONTENT_DISPOSITION, name),
            (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        ];
        Ok((headers, format!("{statement:#}\n")).into_response())
    })
    .await
}

fn nothing(name: &str) -> Refusal {
    Refusal::not_found(format_args!("record {name} not found"))
}

/// Returns the record that `text` names, or else the digest of an artifact.
fn find(site: &Site, text: &str) -> Answer<Result<Shown, Digest>> {
    let digest = site.digest(text)?;
    match site.runtime().record(&digest)? {
        Some((record, observed)) => Ok(Ok(Shown {
            digest,
            record,
            observed,
        })),
        None if site.store().contains(&digest)? => Ok(Err(digest)),
        None => Err(nothing(text)),
    }
}

fn body(site: &Site, shown: &Shown) -> Answer<Markup> {
    let Shown { record, .. } = shown;
    let others = others(site, shown)?;
    let outputs = record.outputs.iter().map(|(name, made)| (name.as_str(), made, html! {}));
    Ok(html! {
        (title(site, shown))
        div.columns {
            div.main {
                (failure(shown))
                @if !record.outputs.is_empty() { (section("Outputs", html! {
                    (artifacts(site, "Output", outputs))
                    @for (name, made) in &record.outputs { (output(site, name, made)) }
                })) }
                @if !record.run.inputs.is_empty() { (section("Inputs", inputs(site, record))) }
                (over_runs(site, record)?)
                (log(site, shown))
                @if !record.called.is_empty() { (section("Calls", calls(site, record)?)) }
            }
            div.side {
                (section("Run", about(site, shown)?))
                (parameters(&record.run.entry))
                @if let Some(usage) = &record.usage { (section("Resource usage", used(usage))) }
                (earlier(site, shown, &others)?)
            }
        }
    })
}

fn title(
    site: &Site,
    Shown {
        digest: name, record, ..
    }: &Shown,
) -> Markup {
    html! {
        div.title {
            h1 { (step(&record.run.entry.title())) }
            (status(record.outcome.word()))
            div.actions {
                a.button href=(site.lineage(name)) { "Lineage" }
                @if !record.outputs.is_empty() { a.button href={ (site.run(name)) "/provenance" } { "Provenance" } }
            }
        }
    }
}

/// Card with the error of a failed run.
fn failure(Shown { record, observed, .. }: &Shown) -> Markup {
    if record.outcome.succeeded() {
        return html! {};
    }
    html! {
        section.card.failure {
            h2 { "Error" }
            (code_block(&record.outcome.to_string()))
            @if let Some(said) = &observed.host_error { p { (fit(said, 1_000)) } }
            @if let Some(backtrace) = &observed.backtrace {
                details { summary { "Backtrace" } (code_block(backtrace.trim_end())) }
            }
        }
    }
}

fn output(site: &Site, name: &str, artifact: &Artifact) -> Markup {
    html! { div.preview { h3 { (fit(name, 80)) } (preview(site, artifact, name)) } }
}

fn inputs(site: &Site, record: &Record) -> Markup {
    let at = |input: &Input| html! { @if let Some(at) = &input.at { span.dim { " at " code { (at) } } } };
    let rows = record.run.inputs.iter();
    artifacts(
        site,
        "Input",
        rows.map(|(name, input)| (name.as_str(), &input.artifact, at(input))),
    )
}

fn log(site: &Site, Shown { record, observed, .. }: &Shown) -> Markup {
    html! { @if let Some(log) = record.log.as_ref().or(observed.log.as_ref()) { @if log.size > 0 {
        section.card {
            h2 { "Log" a.more href=(super::parts::named(site, "log", log)) { "Open" } }
            (preview(site, log, "log"))
        }
    } } }
}

fn calls(site: &Site, record: &Record) -> Answer<Markup> {
    let mut called = Vec::new();
    for digest in record.called.iter().take(100) {
        called.push((digest, site.runtime().record(digest)?));
    }
    Ok(html! {
        ol.plain { @for (name, found) in called { li {
            @if let Some((record, _)) = found {
                (status(record.outcome.word())) " " a.name href=(site.run(name)) { (step(&record.run.entry.title())) } " "
            }
            (digest(name, &site.run(name)))
        } } }
        @if record.called.len() > 100 { p.dim { "… and " (record.called.len() - 100) " more" } }
    })
}

fn about(
    site: &Site,
    Shown {
        digest: name,
        record,
        observed,
    }: &Shown,
) -> Answer<Markup> {
    let signed = site.store().signatures(name)?.len();
    let module = &record.run.module;
    let mut rows = vec![
        ("Record", copied(name, name.short())),
        ("Module", digest(module, &site.artifact(module))),
        ("Started", html! { (when(observed.started_ms)) span.dim { " ago" } }),
        ("Duration", html! { (quantity::micros(observed.wall_us)) }),
        ("Host", html! { (fit(&observed.host, 60)) }),
        ("Lockstep", html! { (fit(&observed.version, 20)) }),
        ("Seed", html! { (record.run.seed) }),
    ];
    if signed > 0 {
        rows.push(("Signatures", html! { (signed) }));
    }
    Ok(facts(rows))
}

fn parameters(entry: &Entry) -> Markup {
    let value = |text: String| html! { code { (fit(&text, 300)) } };
    match entry {
        Entry::Step { parameters, .. } if parameters.is_empty() => html! {},
        Entry::Step { parameters, .. } => {
            let rows = parameters
                .iter()
                .map(|(name, given)| (name.as_str(), value(given.to_string())));
            section("Parameters", facts(rows))
        }
        Entry::Program {
            args,
            env,
            stdin,
            stdout,
        } => {
            let mut rows = Vec::new();
            rows.extend((!args.is_empty()).then(|| ("arguments", value(args.join(" ")))));
            rows.extend(env.iter().map(|(name, text)| (name.as_str(), value(text.clone()))));
            for (what, name) in [("stdin", stdin), ("stdout", stdout)] {
                rows.extend(name.iter().map(|name| (what, value(name.clone()))));
            }
            html! { @if !rows.is_empty() { (section("Arguments", facts(rows))) } }
        }
    }
}

fn used(usage: &Usage) -> Markup {
    let amount = |limit: &Limit, value: u64| match limit {
        Limit::Fuel => quantity::count(value),
        _ => quantity::bytes(value),
    };
    let row = |name, limit: Limit, used: u64| {
        let told = html! {
            (amount(&limit, used))
            @if let Some(value) = usage.reached.get(&limit) { " " span.status.warn { "limit " (amount(&limit, *value)) " reached" } }
        };
        (name, told)
    };
    facts([
        row("Fuel", Limit::Fuel, usage.fuel),
        row("Memory", Limit::Memory, usage.memory),
        row("Files", Limit::Output, usage.output),
        row("Log", Limit::Log, usage.log),
    ])
}

/// Returns other runs of the step, newest first.
fn others(site: &Site, shown: &Shown) -> Answer<Vec<Row>> {
    let asked = Runs {
        step: Some(shown.record.run.entry.title()),
        ..Runs::newest(OFFERED)
    };
    let mut rows = site.store().rows(&asked)?;
    rows.retain(|row| row.record != shown.digest);
    Ok(rows)
}

/// Returns the previous run of the same step, with the differences between both.
pub fn before(site: &Site, record: &Digest) -> Answer<Option<(Row, Vec<Difference>)>> {
    let Some((is, observed)) = site.runtime().record(record)? else {
        return Ok(None);
    };
    let asked = Runs {
        step: Some(is.run.entry.title()),
        ..Runs::newest(OFFERED)
    };
    let mut rows = site.store().rows(&asked)?.into_iter();
    let earlier = rows.find(|row| row.record != *record && row.started_ms <= observed.started_ms);
    let Some(row) = earlier else { return Ok(None) };
    let was = site.runtime().record(&row.record)?;
    Ok(was.map(|(was, _)| (row, Difference::between(&was.run, &is.run))))
}

/// Section with the previous run of the step, its differences, and a form for comparisons.
fn earlier(site: &Site, shown: &Shown, others: &[Row]) -> Answer<Markup> {
    if others.is_empty() {
        return Ok(html! {});
    }
    let before = before(site, &shown.digest)?;
    Ok(section(
        "Other runs of the step",
        html! {
            @if let Some((row, found)) = before {
                p { "Previous run: " (digest(&row.record, &site.run(&row.record))) ", " (when(row.started_ms)) " ago" }
                (differences(&found))
            }
            form.compare action=(site.at("/compare")) {
                input type="hidden" name="right" value=(shown.digest.hex());
                label { span { "Compare with" } select name="left" {
                    @for row in others {
                        option value=(row.record.hex()) { (row.record.short()) " · " (quantity::age(age(row.started_ms))) " · " (row.word) }
                    }
                } }
                button type="submit" { "Compare" }
            }
        },
    ))
}

fn differences(differences: &[Difference]) -> Markup {
    html! {
        @if differences.is_empty() {
            p.dim { "No differences: same module, inputs and parameters." }
        } @else {
            ul.differences { @for one in differences { li { (difference(one)) } } }
        }
    }
}
