//! Authentication and authorization. A request needs a token or a trusted proxy's header; without one it is refused.

mod origin;
mod tokens;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{FromRequestParts, Request};
use axum::http::header::{AUTHORIZATION, COOKIE, LOCATION, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use lockstep_view::error::{Error, Kind, Result};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::answer::Refusal;
use super::{Namespace, Server, gateway};

pub use tokens::{Token, TokenFile};

/// Permissions of a caller. Each scope includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read runs and artifacts
    Read,
    /// Also submit runs and use kernels
    Run,
    /// Also read metrics
    Admin,
}

impl Scope {
    /// The scope's name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Run => "run",
            Self::Admin => "admin",
        }
    }
}

/// The authenticated caller of a request. Every request that reaches a handler has one.
#[derive(Clone)]
pub struct Caller {
    /// The user's name; `None` on a host without users.
    pub user: Option<String>,
    pub scope: Scope,
    /// Name of the token.
    pub token: Option<String>,
    /// The user's store, work items and kernels.
    pub namespace: Arc<Namespace>,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Error::host("internal error: the request was not authenticated").into())
    }
}

/// Credentials that the host accepts.
pub struct Access {
    tokens: TokenFile,
    /// Token that is valid for this process only.
    own: Option<Token>,
    /// Header in which a trusted proxy names the user.
    trusted: Option<String>,
    /// The host listens on a loopback address.
    loopback: bool,
    allowed_hosts: Vec<String>,
}

/// Proven identity of a caller.
struct Identity {
    user: Option<String>,
    scope: Scope,
    /// Name of the token.
    token: Option<String>,
}

/// Name of the token that the host was started with, or printed at its start.
const OWN: &str = "LOCKSTEP_TOKEN";

/// Cookie that holds a browser's token.
const COOKIE_NAME: &str = "lockstep-token";

impl Access {
    /// Accepts the tokens in `tokens`, the token `secret`, and the user that a proxy names in the header `trusted`.
    pub fn new(
        tokens: TokenFile,
        secret: Option<&str>,
        trusted: Option<&str>,
        loopback: bool,
        allowed_hosts: &[String],
    ) -> Self {
        let own = secret.map(|secret| Token {
            hash: lockstep_runtime::digest::Digest::of(secret),
            user: None,
            scope: Scope::Admin,
            created: 0,
            expires: None,
        });
        Self {
            tokens,
            own,
            trusted: trusted.map(str::to_ascii_lowercase),
            loopback,
            allowed_hosts: allowed_hosts.to_vec(),
        }
    }

    fn identify(&self, uri: &Uri, headers: &HeaderMap) -> Result<Option<Identity>> {
        if let Some(name) = &self.trusted
            && let Some(user) = headers.get(name)
        {
            let user = user
                .to_str()
                .map_err(|_| Error::user(format_args!("header {name} is not valid text")))?;
            return Ok(Some(Identity {
                user: Some(user_name(user)?),
                scope: Scope::Run,
                token: None,
            }));
        }
        let Some(secret) = secret_in(uri, headers) else {
            return Ok(None);
        };
        if let Some(own) = self.own.as_ref().filter(|own| own.is_of(&secret)) {
            return Ok(Some(own.identity(OWN)));
        }
        let tokens = self.tokens.all()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        Ok(tokens::find(&tokens, &secret, now).map(|(name, token)| token.identity(name)))
    }
}

impl Token {
    fn identity(&self, name: &str) -> Identity {
        Identity {
            user: self.user.clone(),
            scope: self.scope,
            token: Some(name.to_owned()),
        }
    }
}

/// Validates the name of a user.
pub fn user_name(name: &str) -> Result<String> {
    let name = name.trim();
    let is_name = !name.is_empty() && name.len() <= 200 && name.chars().all(|c| !c.is_control() && c != '/');
    match is_name {
        true => Ok(name.to_owned()),
        false => Err(Error::user("invalid user name: use 1 to 200 characters, without `/`")),
    }
}

/// Returns the token of a request, from `Authorization`, the query string or a cookie.
fn secret_in(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    if let Some(authorization) = headers.get(AUTHORIZATION) {
        let (scheme, secret) = authorization.to_str().ok()?.split_once(' ')?;
        let known = scheme.eq_ignore_ascii_case("token") || scheme.eq_ignore_ascii_case("bearer");
        return (known && !secret.trim().is_empty()).then(|| secret.trim().to_owned());
    }
    in_query(uri).map(|(secret, _)| secret).or_else(|| {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|cookie| cookie.to_str().ok());
        let mut pairs = cookies
            .flat_map(|cookie| cookie.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        pairs
            .find(|(name, _)| *name == COOKIE_NAME)
            .map(|(_, secret)| secret.to_owned())
    })
}

/// Returns the query parameter `token`, and the query string without it.
fn in_query(uri: &Uri) -> Option<(String, String)> {
    let (token, rest): (Vec<&str>, Vec<&str>) = uri.query()?.split('&').partition(|pair| pair.starts_with("token="));
    let token = token.first()?.strip_prefix("token=")?;
    Some((percent_decode_str(token).decode_utf8().ok()?.into_owned(), rest.join("&")))
}

/// Returns the scope that a request needs.
fn needed(method: &Method, headers: &HeaderMap, path: &str) -> Scope {
    let is_channel = headers.contains_key(axum::http::header::UPGRADE);
    match method.is_safe() && !is_channel {
        true if path.ends_with("/metrics") => Scope::Admin,
        true => Scope::Read,
        false => Scope::Run,
    }
}

/// Passes a request on with its [`Caller`], or refuses it in the format of its API.
pub async fn check(server: &Arc<Server>, request: Request, next: Next) -> Response {
    let is_jupyter = gateway::is_asked(request.uri().path());
    match admit(server, request, next).await {
        Ok(response) => response,
        Err(refusal) if is_jupyter => gateway::Declined::from(refusal).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn admit(server: &Arc<Server>, mut request: Request, next: Next) -> Result<Response, Refusal> {
    let access = &server.access;
    let (method, headers) = (request.method(), request.headers());
    origin::check(method, request.uri(), headers, access.loopback, &access.allowed_hosts)?;
    let Some(Identity { user, scope, token }) = access.identify(request.uri(), headers)? else {
        return Err(unknown(server, &request));
    };
    let needed = needed(method, headers, request.uri().path());
    if scope < needed {
        server.audit.refused(&request, user, "scope");
        return Err(Error::new(
            Kind::Denied,
            format_args!(
                "permission denied: scope `{}` required, the token has `{}`",
                needed.word(),
                scope.word()
            ),
        )
        .hint(format_args!(
            "create a token with this scope: `lockstep token create NAME --scope {}`",
            needed.word()
        ))
        .into());
    }
    // move the token from the address into a cookie
    if method == Method::GET
        && wants_html(headers)
        && let Some((secret, rest)) = in_query(request.uri())
    {
        return Ok(keep(server, &request, &secret, &rest));
    }
    let namespace = server.namespace(user.as_deref()).await?;
    let caller = Caller {
        user,
        scope,
        token,
        namespace,
    };
    let changes = !method.is_safe();
    let said = changes.then(|| (method.clone(), request.uri().path().to_owned()));
    request.extensions_mut().insert(caller.clone());
    let response = next.run(request).await;
    if let Some((method, path)) = said {
        server.audit.done(method, path, caller.user, response.status());
    }
    Ok(response)
}

/// Whether the client is a browser.
pub fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(axum::http::header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

fn keep(server: &Server, request: &Request, secret: &str, rest: &str) -> Response {
    let path = match (request.uri().path(), server.settings.base_path()) {
        (path, base) if path.starts_with(&base) => path.to_owned(),
        (path, base) => format!("{base}{path}"),
    };
    let location = if rest.is_empty() { path } else { format!("{path}?{rest}") };
    let scope = match server.settings.base_path() {
        base if base.is_empty() => "/".to_owned(),
        base => base,
    };
    let secure = if server.settings.tls().is_some() { "; Secure" } else { "" };
    let cookie = format!("{COOKIE_NAME}={secret}; Path={scope}; HttpOnly; SameSite=Strict; Max-Age=2592000{secure}");
    let mut response = StatusCode::SEE_OTHER.into_response();
    for (name, value) in [(LOCATION, location), (SET_COOKIE, cookie)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn unknown(server: &Server, request: &Request) -> Refusal {
    server.audit.refused(request, None, "unknown");
    let message = match secret_in(request.uri(), request.headers()) {
        Some(_) => "invalid or expired token",
        None => "authentication required: the request has no token",
    };
    let error = Error::new(Kind::Denied, message)
        .hint("send `Authorization: Bearer TOKEN`; in a browser, open the address with ?token=TOKEN once")
        .hint("`lockstep serve` prints a token when it starts; `lockstep token create NAME` creates others");
    Refusal::new(StatusCode::UNAUTHORIZED, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_in_three_ways() {
        let headers = |pairs: &[(&'static str, &str)]| -> HeaderMap {
            pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect()
        };
        let plain = Uri::from_static("/a");
        for (pairs, secret) in [
            (&[("authorization", "Bearer abc")][..], Some("abc")),
            (&[("authorization", "token abc")], Some("abc")),
            (&[("authorization", "token ")], None),
            (&[("authorization", "Basic abc")], None),
            (&[("cookie", "x=y; lockstep-token=abc")], Some("abc")),
            (&[("cookie", "lockstep-tokens=abc")], None),
            (&[], None),
        ] {
            assert_eq!(secret_in(&plain, &headers(pairs)).as_deref(), secret, "{pairs:?}");
        }
        let uri = Uri::from_static("/a?x=1&token=a%2Bb&y=2");
        assert_eq!(in_query(&uri), Some(("a+b".to_owned(), "x=1&y=2".to_owned())));
    }

    #[test]
    fn changing_needs_more_than_reading() {
        let none = HeaderMap::new();
        assert_eq!(needed(&Method::GET, &none, "/api/v1/records"), Scope::Read);
        assert_eq!(needed(&Method::POST, &none, "/api/v1/runs"), Scope::Run);
        assert_eq!(needed(&Method::GET, &none, "/metrics"), Scope::Admin);
        let upgrade = [("upgrade".parse().unwrap(), "websocket".parse().unwrap())]
            .into_iter()
            .collect();
        assert_eq!(needed(&Method::GET, &upgrade, "/api/kernels/1/channels"), Scope::Run);
    }

    #[test]
    fn names_of_users_are_no_paths() {
        assert_eq!(user_name(" ann@example.org ").unwrap(), "ann@example.org");
        for name in ["", "a/b", "a\nb", &"x".repeat(201)] {
            assert!(user_name(name).is_err(), "{name}");
        }
    }
}
