use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use lockstep_view::error::Error;
use serde_json::json;

use crate::Refusal;

/// Error response in Jupyter's format: `reason` and `message`.
#[derive(Debug)]
pub struct Declined(Refusal);

impl Declined {
    pub fn no_kernel(id: &str) -> Self {
        let what = format_args!("kernel {id} not found: it was shut down, by a client or because it was idle");
        Self(Refusal::new(
            StatusCode::NOT_FOUND,
            Error::user(what).hint("start a new kernel"),
        ))
    }

    pub fn no_kernelspec(name: &str) -> Self {
        let what = format_args!("kernelspec `{name}` not found");
        let error = Error::user(what).hint(format_args!("this host has the kernelspec `{}`", super::specs::NAME));
        Self(Refusal::new(StatusCode::NOT_FOUND, error))
    }
}

impl<E: Into<Refusal>> From<E> for Declined {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Declined {
    fn into_response(self) -> Response {
        let reason = self.0.status.canonical_reason().unwrap_or_default();
        let told = Json(json!({ "reason": reason, "message": self.0.error.to_string() }));
        let mut response = self.0.into_response();
        response.headers_mut().remove(CONTENT_LENGTH);
        *response.body_mut() = told.into_response().into_body();
        response
    }
}
