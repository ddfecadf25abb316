use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::assets::EDITION;
use super::{Page, Tab};

/// Content security policy: styles, scripts and images come from the host only.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'self'";

/// Headers of every page. Same-origin referrers are kept for the origin check of forms.
const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_TYPE, "text/html; charset=utf-8"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "same-origin"),
    (CACHE_CONTROL, "no-store"),
];

const TABS: [(Tab, &str, &str); 4] = [
    (Tab::Overview, "/", "Overview"),
    (Tab::Runs, "/runs", "Runs"),
    (Tab::Pipelines, "/pipelines", "Pipelines"),
    (Tab::Notebooks, "/notebooks", "Notebooks"),
];

/// Returns a complete page. Its links start with `base`.
pub fn document(base: &str, page: Page) -> Response {
    let asset = |name: &str| format!("{base}/assets/{}/{name}", *EDITION);
    let title = if page.tab == Tab::Overview {
        "Lockstep".to_owned()
    } else {
        format!("{} · Lockstep", page.title)
    };
    let text = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" type="image/svg+xml" href=(asset("icon.svg"));
                link rel="stylesheet" href=(asset("style.css"));
                script src=(asset("script.js")) defer {}
            }
            body {
                a.skip href="#main" { "Skip to content" }
                (head(base, page.tab))
                main #main tabindex="-1" { (page.body) }
                footer {
                    p { "Lockstep " (env!("CARGO_PKG_VERSION")) }
                    p #away role="status" {}
                }
            }
        }
    };
    (HEADERS, text.into_string()).into_response()
}

fn head(base: &str, here: Tab) -> Markup {
    html! {
        header.top {
            a.brand href={ (base) "/" } {
                svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true" {
                    rect width="32" height="32" rx="8" {}
                    path d="M9 8v16M9 24h7M16 8v9a7 7 0 0 0 7 7" {}
                }
                "Lockstep"
            }
            nav aria-label="Pages" {
                @for (tab, path, name) in TABS {
                    a href={ (base) (path) } aria-current=[(tab == here).then_some("page")] { (name) }
                }
            }
            form.search role="search" action={ (base) "/search" } {
                label.unseen for="q" { "Search" }
                input #q name="q" type="search" placeholder="Digest, step, module, type" autocomplete="off" spellcheck="false"
                    aria-keyshortcuts="/";
                kbd aria-hidden="true" { "/" }
            }
        }
    }
}
