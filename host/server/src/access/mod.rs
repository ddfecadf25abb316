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
use lockstep_runtime::digest::Digest;
use lockstep_view::error::{Error, Kind, Result};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::answer::Refusal;
use super::audit::{Asked, Who};
use super::{Namespace, Server, gateway};

use tokens::Tokens;
pub use tokens::{Token, TokenFile};

/// Permissions of a caller. Each scope includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read runs and artifacts
    Read,
    /// Also submit runs and use kernels
    Run,
    /// Also read metrics, free the stores of all users, and see and stop their kernels
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
    tokens: Arc<TokenFile>,
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
            hash: Digest::of(secret),
            user: None,
            scope: Scope::Admin,
            created: 0,
            expires: None,
        });
        Self {
            tokens: Arc::new(tokens),
            own,
            trusted: trusted.map(str::to_ascii_lowercase),
            loopback,
            allowed_hosts: allowed_hosts.to_vec(),
        }
    }

    async fn identify(&self, uri: &Uri, headers: &HeaderMap) -> Result<Option<Identity>> {
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
        match secret_in(uri, headers) {
            Some(secret) => self.identify_secret(&secret).await,
            None => Ok(None),
        }
    }

    async fn identify_secret(&self, secret: &str) -> Result<Option<Identity>> {
        if let Some(own) = self.own.as_ref().filter(|own| own.is_of(secret)) {
            return Ok(Some(own.identity(OWN)));
        }
        let find = |tokens: &Tokens| tokens::find(tokens, secret, now()).map(|(name, token)| token.identity(name));
        match find(&*TokenFile::recent(&self.tokens).await?) {
            Some(identity) => Ok(Some(identity)),
            // it may be new
            None => Ok(find(&*TokenFile::current(&self.tokens).await?)),
        }
    }

    /// Returns the hash of the token `name`, if it is valid.
    pub async fn valid(&self, name: &str) -> Result<Option<Digest>> {
        if let Some(own) = self.own.as_ref().filter(|_| name == OWN) {
            return Ok(Some(own.hash));
        }
        let tokens = TokenFile::current(&self.tokens).await?;
        let valid = tokens.get(name).filter(|token| token.is_valid(now()));
        Ok(valid.map(|token| token.hash))
    }

    /// Refuses sign-in by a link with a token if another site opened the link, or if the browser has a valid session of another token. This
    /// prevents login CSRF: an attacker could otherwise sign a person in with the attacker's token, and see what the person then does.
    async fn may_sign_in(&self, headers: &HeaderMap, secret: &str) -> Result<(), Refusal> {
        let by = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
        if matches!(by, Some("cross-site" | "same-site")) {
            let error = Error::new(Kind::Denied, "a page of another site links here with a token");
            return Err(error
                .hint("to sign in with this token, copy the address into the address bar of the browser")
                .into());
        }
        // a browser that does not say where a request comes from
        let present = in_cookie(headers).filter(|present| by.is_none() && present != secret);
        let Some(present) = present else { return Ok(()) };
        if self.identify_secret(&present).await?.is_none() {
            return Ok(());
        }
        let error = Error::new(Kind::Denied, "you are signed in with another token");
        Err(error
            .hint("to sign in with the token of this address, delete the cookies of this site in the browser first, or use a private window")
            .into())
    }
}

/// Returns the Unix time in seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
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
    in_query(uri).map(|(secret, _)| secret).or_else(|| in_cookie(headers))
}

fn in_cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|cookie| cookie.to_str().ok());
    let mut pairs = cookies
        .flat_map(|cookie| cookie.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, secret)| secret.to_owned())
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
        false if path.ends_with("/api/v1/gc") => Scope::Admin,
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
    let (method, headers) = (request.method().clone(), request.headers());
    let asked = Asked::of(&request);
    if let Err(refused) = origin::check(&method, request.uri(), headers, access.loopback, &access.allowed_hosts) {
        let refusal = Refusal::from(refused.error);
        server.audit.refused(asked, None, refusal.status, refused.why);
        return Err(refusal);
    }
    let Some(Identity { user, scope, token }) = access.identify(request.uri(), headers).await? else {
        let refusal = unknown(&request);
        server.audit.refused(asked, None, refusal.status, "unknown");
        return Err(refusal);
    };
    let who = || Who {
        user: user.clone(),
        token: token.clone(),
    };
    let needed = needed(&method, headers, request.uri().path());
    if scope < needed {
        server.audit.refused(asked, Some(who()), StatusCode::FORBIDDEN, "scope");
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
        if let Err(refusal) = access.may_sign_in(headers, &secret).await {
            server.audit.refused(asked, Some(who()), refusal.status, "sign-in");
            return Err(refusal);
        }
        return Ok(keep(server, &request, &secret, &rest));
    }
    let namespace = server.namespace(user.as_deref()).await?;
    let who = (!method.is_safe()).then(who);
    let caller = Caller {
        user,
        scope,
        token,
        namespace,
    };
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    if let Some(who) = who {
        server.audit.done(asked, who, response.status());
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
    let base = server.settings.base_path();
    // the router has removed the base
    let path = format!("{base}{}", local(request.uri().path()));
    let location = if rest.is_empty() { path } else { format!("{path}?{rest}") };
    let scope = if base.is_empty() { "/".to_owned() } else { base };
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

/// Returns `path` as a path of this host. A browser reads two slashes, or backslashes, at its start as the name of another host.
fn local(path: &str) -> String {
    format!("/{}", path.trim_start_matches(['/', '\\']))
}

fn unknown(request: &Request) -> Refusal {
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
    fn a_redirect_stays_on_this_host() {
        for (path, is) in [
            ("/", "/"),
            ("/runs/abc", "/runs/abc"),
            ("//evil.example/", "/evil.example/"),
            ("/\\evil.example", "/evil.example"),
            ("///\\//evil.example//x", "/evil.example//x"),
        ] {
            assert_eq!(local(path), is);
        }
    }

    #[test]
    fn changing_needs_more_than_reading() {
        let none = HeaderMap::new();
        assert_eq!(needed(&Method::GET, &none, "/api/v1/records"), Scope::Read);
        assert_eq!(needed(&Method::POST, &none, "/api/v1/runs"), Scope::Run);
        assert_eq!(needed(&Method::GET, &none, "/metrics"), Scope::Admin);
        assert_eq!(needed(&Method::POST, &none, "/api/v1/gc"), Scope::Admin);
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
