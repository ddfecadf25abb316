//! Who asks, and what that caller may do.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use super::answer::Refusal;
use super::{Namespace, Server};
use crate::error::Error;

/// What a caller may do; each may also do what stands before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// See what is there.
    Read,
    /// Run things, and use kernels.
    Run,
    /// Remove things.
    Admin,
}

/// Who asks. Every request that reaches a handler has one.
#[derive(Clone)]
pub struct Caller {
    /// The user's name, where users are told apart.
    pub user: Option<String>,
    pub scope: Scope,
    /// What belongs to the user.
    pub namespace: Arc<Namespace>,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Error::host("the request came past the check of who asks").into())
    }
}

/// Lets a request through with its [`Caller`], or refuses it.
pub async fn check(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Result<Response, Refusal> {
    let caller = Caller {
        user: None,
        scope: Scope::Admin,
        namespace: server.namespace(None)?,
    };
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}
