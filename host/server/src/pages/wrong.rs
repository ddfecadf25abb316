use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use lockstep_view::error::Error;
use maud::html;

use super::parts::{code_block, icon};
use super::{Page, Tab, shell};
use crate::Server;
use crate::access::wants_html;

/// Renders errors as pages for browsers; other clients get JSON.
pub async fn as_pages(server: &Server, request: Request, next: Next) -> Response {
    let browser = wants_html(request.headers());
    let response = next.run(request).await;
    let Some(error) = response.extensions().get::<Arc<Error>>().filter(|_| browser) else {
        return response;
    };
    let page = page(error);
    let mut shown = shell::document(&server.settings.base_path(), page);
    *shown.status_mut() = response.status();
    // such as WWW-Authenticate and Retry-After
    for (name, value) in response.headers() {
        if !shown.headers().contains_key(name) && name != axum::http::header::CONTENT_LENGTH {
            shown.headers_mut().insert(name, value.clone());
        }
    }
    shown
}

fn page(error: &Error) -> Page {
    let body = html! {
        div.wrong {
            p.status.bad { (icon("bad")) (error.kind().name()) " error" }
            h1 { (error.message()) }
            @if !error.details().is_empty() { (code_block(&error.details().join("\n"))) }
            @if !error.hints().is_empty() {
                h2 { "Hints" }
                ul { @for hint in error.hints() { li { (hint) } } }
            }
        }
    };
    Page {
        tab: Tab::Elsewhere,
        title: "Error".to_owned(),
        body,
    }
}
