use axum::response::Response;
use lockstep_runtime::store::Runs;
use lockstep_view::error::Error;
use lockstep_view::quantity;
use lockstep_view::runs::since;
use maud::{Markup, html};
use serde::Deserialize;

use super::parts::{pager, runs};
use super::{Asked, Page, Site, Tab, with_query};
use crate::Answer;

const PAGE: usize = 50;

/// Filter of runs; an empty field matches all.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    q: String,
    step: String,
    module: String,
    outcome: String,
    since: String,
    page: usize,
}

const TIMES: [(&str, &str); 5] = [
    ("", "any time"),
    ("1h", "the last hour"),
    ("1d", "the last day"),
    ("7d", "the last 7 days"),
    ("30d", "the last 30 days"),
];

const OUTCOMES: [(&str, &str); 4] = [
    ("", "any outcome"),
    ("succeeded", "succeeded"),
    ("failed", "failed"),
    ("interrupted", "interrupted"),
];

pub async fn page(site: Site, Asked(filter): Asked<Filter>) -> Answer<Response> {
    site.page(move |site| {
        Ok(Page {
            tab: Tab::Runs,
            title: "Runs".to_owned(),
            body: body(site, &filter)?,
        })
    })
    .await
}

impl Filter {
    fn runs(&self) -> Answer<Runs> {
        let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let module = self.module.trim().trim_start_matches("sha256:").to_ascii_lowercase();
        if !module.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let error = Error::user(format_args!(
                "invalid digest prefix `{}`: use hexadecimal digits",
                self.module
            ));
            return Err(error.hint("the page of a module shows its digest").into());
        }
        let since_ms = match self.since.as_str() {
            "" => 0,
            text => since(quantity::parse_duration(text).map_err(Error::user)?),
        };
        Ok(Runs {
            most: PAGE + 1,
            skip: self.page.saturating_mul(PAGE),
            step: said(self.step.trim()),
            module: said(&module),
            word: said(&self.outcome),
            since_ms,
            text: said(self.q.trim()),
        })
    }

    fn address(&self, site: &Site, page: usize) -> String {
        let page = if page == 0 { String::new() } else { page.to_string() };
        let pairs = [
            ("q", self.q.as_str()),
            ("step", &self.step),
            ("module", &self.module),
            ("outcome", &self.outcome),
            ("since", &self.since),
            ("page", &page),
        ];
        with_query(&site.at("/runs"), &pairs)
    }

    fn is_set(&self) -> bool {
        [&self.q, &self.step, &self.module, &self.outcome, &self.since]
            .iter()
            .any(|text| !text.is_empty())
    }
}

fn body(site: &Site, filter: &Filter) -> Answer<Markup> {
    let asked = filter.runs()?;
    let mut rows = site.store().rows(&asked)?;
    let more = rows.len() > PAGE;
    rows.truncate(PAGE);
    let all: u64 = site.store().count(&asked)?.values().sum();
    let first = filter.page.saturating_mul(PAGE);
    let told = format!("{}–{} of {}", first + 1, first + rows.len(), quantity::count(all));
    Ok(html! {
        div.title { h1 { "Runs" } span.dim { (quantity::count(all)) } }
        (form(site, filter))
        div #live data-live[filter.page == 0] {
            @if rows.is_empty() {
                p.nothing { "No matching runs. " @if filter.is_set() { a href=(site.at("/runs")) { "Show all" } } }
            } @else {
                section.card { (runs(site, &rows)) }
                (pager(filter.page, more, |page| filter.address(site, page), &told))
            }
        }
    })
}

fn form(site: &Site, filter: &Filter) -> Markup {
    let text = |name: &str, label: &str, value: &str| {
        html! { label { span { (label) } input name=(name) value=(value) autocomplete="off" spellcheck="false"; } }
    };
    let choice = |name: &str, label: &str, value: &str, all: &[(&str, &str)]| {
        let other = !all.iter().any(|(known, _)| *known == value);
        html! {
            label {
                span { (label) }
                select name=(name) data-submits {
                    @for (known, told) in all { option value=(known) selected[*known == value] { (told) } }
                    @if other { option value=(value) selected { (value) } }
                }
            }
        }
    };
    html! {
        form.filters action=(site.at("/runs")) {
            (text("q", "Text", &filter.q))
            (text("step", "Step", &filter.step))
            (text("module", "Module", &filter.module))
            (choice("outcome", "Outcome", &filter.outcome, &OUTCOMES))
            (choice("since", "Started", &filter.since, &TIMES))
            button type="submit" { "Filter" }
            @if filter.is_set() { a.button href=(site.at("/runs")) { "Clear" } }
        }
    }
}
