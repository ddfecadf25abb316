//! Checks of `Host` and `Origin` against DNS rebinding and cross-site requests.

use axum::http::header::{HOST, ORIGIN, UPGRADE};
use axum::http::{HeaderMap, Method, Uri};
use lockstep_view::error::{Error, Kind};

/// A refused request.
#[derive(Debug)]
pub struct Refused {
    /// `host` or `origin`.
    pub why: &'static str,
    pub error: Error,
}

/// Refuses a request whose `Host` is not allowed (DNS rebinding), and a change that a page of another origin requests.
pub fn check(method: &Method, uri: &Uri, headers: &HeaderMap, loopback: bool, allowed: &[String]) -> Result<(), Refused> {
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(|host| host.as_str()));
    let Some(host) = host else {
        let error = Error::user("the request has no Host header");
        return Err(Refused { why: "host", error });
    };
    let name = name_of(host);
    let only_named = loopback || !allowed.is_empty();
    if only_named && !is_address(name) && name != "localhost" && !allowed.iter().any(|allowed| allowed == name) {
        let error = Error::new(Kind::Denied, format_args!("host name {name} is not allowed"))
            .hint(format_args!("allow it with `lockstep serve --allow-host {name}`"));
        return Err(Refused { why: "host", error });
    }
    let changes = !method.is_safe() || headers.contains_key(UPGRADE);
    if !changes {
        return Ok(());
    }
    let foreign = match headers.get(ORIGIN) {
        Some(origin) => origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"))
            .is_none_or(|(_, authority)| authority != host),
        None => headers
            .get("sec-fetch-site")
            .is_some_and(|site| site == "cross-site" || site == "same-site"),
    };
    match foreign {
        true => Err(Refused {
            why: "origin",
            error: Error::new(Kind::Denied, "cross-origin request refused"),
        }),
        false => Ok(()),
    }
}

/// Returns the name without the port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether `name` is an IP address. DNS rebinding needs a name.
fn is_address(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, headers: &[(&'static str, &str)], loopback: bool, allowed: &[&str]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let allowed: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        check(&method, &Uri::from_static("/"), &headers, loopback, &allowed).is_ok()
    }

    #[test]
    fn foreign_names_are_refused() {
        for (host, loopback, allowed, may) in [
            ("127.0.0.1:8765", true, &[][..], true),
            ("localhost:8765", true, &[], true),
            ("[::1]:8765", true, &[], true),
            ("evil.example:8765", true, &[], false),
            ("localhost.evil.example", true, &[], false),
            ("team.example", true, &["team.example"], true),
            ("lockstep.ns.svc", false, &[], true),
            ("lockstep.ns.svc", false, &["team.example"], false),
        ] {
            assert_eq!(ask(Method::GET, &[("host", host)], loopback, allowed), may, "{host}");
        }
        assert!(!ask(Method::GET, &[], true, &[]));
    }

    #[test]
    fn pages_of_others_change_nothing() {
        let host = ("host", "localhost:1");
        let may = |method, more: &[(&'static str, &str)]| ask(method, &[&[host], more].concat(), true, &[]);
        assert!(may(Method::POST, &[]));
        assert!(may(Method::POST, &[("origin", "http://localhost:1")]));
        assert!(!may(Method::POST, &[("origin", "http://localhost:2")]));
        assert!(!may(Method::POST, &[("origin", "null")]));
        assert!(!may(Method::DELETE, &[("sec-fetch-site", "cross-site")]));
        assert!(may(Method::GET, &[("origin", "http://evil.example")]));
        assert!(!may(
            Method::GET,
            &[("origin", "http://evil.example"), ("upgrade", "websocket")]
        ));
    }
}
