//! IDs of requests: in the response, in log lines and in the audit log.

use std::sync::Arc;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Header with the ID, in requests and responses.
const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum length of an ID that a client sends.
const LONGEST: usize = 128;

/// Maximum size of the body of an error, in bytes.
const ERROR: usize = 1 << 20;

/// The ID of a request, as an extension of it.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

impl RequestId {
    /// Returns the ID that the client or a proxy sent, or a new one if there is none or it is malformed.
    pub fn of(request: &Request) -> Self {
        let sent = request.headers().get(HEADER).and_then(|id| id.to_str().ok());
        let sent = sent.filter(|id| is_well_formed(id));
        Self(sent.map_or_else(|| uuid::Uuid::new_v4().simple().to_string().into(), Arc::from))
    }

    /// Adds the ID to the headers of a response, and to the body of an error of the host.
    pub async fn mark(&self, response: Response) -> Response {
        let is_json = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|of| of.as_bytes().starts_with(b"application/json"));
        let mut response = match response.status().is_server_error() && is_json {
            true => self.name_in_body(response).await,
            false => response,
        };
        if let Ok(value) = HeaderValue::from_str(&self.0) {
            response.headers_mut().insert(HEADER, value);
        }
        response
    }

    async fn name_in_body(&self, response: Response) -> Response {
        let (mut parts, body) = response.into_parts();
        parts.headers.remove(CONTENT_LENGTH);
        // it is in memory, and small
        let bytes = to_bytes(body, ERROR).await.unwrap_or_default();
        let body = match serde_json::from_slice::<Value>(&bytes) {
            Ok(mut told) if told.is_object() => {
                let error = if told["error"].is_object() {
                    &mut told["error"]
                } else {
                    &mut told
                };
                error["request_id"] = json!(*self.0);
                Json(told).into_response().into_body()
            }
            _ => bytes.into(),
        };
        Response::from_parts(parts, body)
    }
}

/// Whether an ID may be in logs and headers.
fn is_well_formed(id: &str) -> bool {
    (1..=LONGEST).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn a_malformed_id_is_replaced() {
        let id = |sent: &str| {
            let request = Request::builder().header("x-request-id", sent);
            RequestId::of(&request.body(axum::body::Body::empty()).unwrap()).0
        };
        assert_eq!(
            &*id("Root=1-67891233-abcdef012345678912345678"),
            "Root=1-67891233-abcdef012345678912345678"
        );
        for sent in ["", "a b", "a\tb", &"x".repeat(129)] {
            assert_eq!(id(sent).len(), 32, "{sent}");
        }
    }

    #[tokio::test]
    async fn errors_of_the_host_have_it_in_their_body() {
        let id = RequestId("abc".into());
        for (status, told, expected) in [
            (
                503,
                json!({ "error": { "kind": "host" } }),
                json!({ "error": { "kind": "host", "request_id": "abc" } }),
            ),
            (500, json!({ "message": "m" }), json!({ "message": "m", "request_id": "abc" })),
            (404, json!({ "error": {} }), json!({ "error": {} })),
        ] {
            let response = (StatusCode::from_u16(status).unwrap(), Json(told)).into_response();
            let marked = id.mark(response).await;
            assert_eq!(marked.headers()["x-request-id"], "abc");
            let body = to_bytes(marked.into_body(), ERROR).await.unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
        }
    }
}
