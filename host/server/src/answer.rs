//! Errors as HTTP responses.

use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use lockstep_view::error::{Error, Kind};

use lockstep_runtime::digest::Digest;
use serde_json::json;

/// Error response: a status, and the same JSON that `lockstep --json` writes.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub error: Error,
    /// Artifact that the client must send first.
    pub missing: Option<Digest>,
}

/// Result of a handler.
pub type Answer<T> = Result<T, Refusal>;

impl Refusal {
    pub fn new(status: StatusCode, error: Error) -> Self {
        Self {
            status,
            error,
            missing: None,
        }
    }

    /// 404 Not Found.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, Error::user(what))
    }

    /// 400 Bad Request.
    pub fn bad(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Error::user(error))
    }

    /// 409 Conflict.
    pub fn conflict(error: Error) -> Self {
        Self::new(StatusCode::CONFLICT, error)
    }

    /// 503 Service Unavailable; the client may try again.
    pub fn busy(why: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Error::host(why).hint("try again in a few seconds"),
        )
    }

    /// 429 Too Many Requests: the user's quota `name` is reached.
    pub fn quota(name: &str, why: impl std::fmt::Display) -> Self {
        let error = Error::new(Kind::Denied, format_args!("quota `{name}` is reached: {why}"));
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            error.hint("try again later, or ask the administrator of the host to raise it (`lockstep serve --quotas`)"),
        )
    }
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        let error = error.into();
        if is_disk_full(&error) {
            let hint = "try again later; the administrator of the host has to free space (`lockstep gc`)";
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, error.hint(hint));
        }
        let status = match error.kind() {
            Kind::User => StatusCode::BAD_REQUEST,
            Kind::Config | Kind::Guest => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Denied => StatusCode::FORBIDDEN,
            Kind::Host => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Interrupted => StatusCode::CONFLICT,
        };
        Self::new(status, error)
    }
}

/// Whether the reason is a full disk or an exhausted disk quota of the host. Errors have only their text: that of the system, or that of SQLite.
fn is_disk_full(error: &Error) -> bool {
    let reasons = ["(os error 28)", "(os error 122)", "database or disk is full"];
    error.kind() == Kind::Host && reasons.iter().any(|reason| error.message().contains(reason))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut told = self.error.to_json();
        if let Some(missing) = self.missing {
            told["error"]["missing"] = json!(missing);
        }
        let mut response = (self.status, Json(told)).into_response();
        let again = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => Some("2"),
            StatusCode::TOO_MANY_REQUESTS => Some("10"),
            _ => None,
        };
        if let Some(seconds) = again {
            response
                .headers_mut()
                .insert(RETRY_AFTER, axum::http::HeaderValue::from_static(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = axum::http::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        }
        // for the dashboard, which renders it as a page
        response.extensions_mut().insert(Arc::new(self.error));
        response
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_full_disk_is_no_fault_of_the_request_or_the_host() {
        let status =
            |code: i32| Refusal::from(Error::file("write", Path::new("a"), &io::Error::from_raw_os_error(code))).status;
        assert_eq!(
            (status(28), status(13)),
            (StatusCode::SERVICE_UNAVAILABLE, StatusCode::FORBIDDEN)
        );
        let other = Refusal::from(Error::host("damaged"));
        assert_eq!(other.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
