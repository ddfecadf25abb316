//! Credentials for registries, as `docker login` writes them.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lockstep_runtime::bundle::registry::Credentials;
use lockstep_view::error::{Error, Result};
use serde::Deserialize;

use crate::locations::Locations;

/// The part of `~/.docker/config.json` that lockstep reads.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    /// `user:password` in base64
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// Returns the credentials for `registry`, if there are any.
pub fn credentials(locations: &Locations, registry: &str) -> Result<Option<Credentials>> {
    let Some(file) = &locations.docker_config else {
        return Ok(None);
    };
    let json = match std::fs::read(file) {
        Ok(json) => json,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::file("read", file, &e)),
    };
    read(&json, registry).map_err(|reason| unusable(file, &reason))
}

fn read(json: &[u8], registry: &str) -> Result<Option<Credentials>, String> {
    let config: Config = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let names = [
        registry.to_owned(),
        format!("https://{registry}"),
        format!("http://{registry}"),
    ];
    let Some(auth) = names.iter().find_map(|name| config.auths.get(name)) else {
        return Ok(None);
    };
    if let (Some(user), Some(password)) = (&auth.username, &auth.password) {
        let (user, password) = (user.clone(), password.clone());
        return Ok(Some(Credentials { user, password }));
    }
    let Some(encoded) = auth.auth.as_deref().filter(|encoded| !encoded.is_empty()) else {
        return Ok(None);
    };
    let text = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = text.as_deref().and_then(|text| text.split_once(':'));
    let (user, password) = pair.ok_or_else(|| format!("the entry for {registry} is not `user:password` in base64"))?;
    Ok(Some(Credentials {
        user: user.to_owned(),
        password: password.to_owned(),
    }))
}

fn unusable(file: &Path, reason: &str) -> Error {
    Error::config(format_args!("{} can't be used: {reason}", file.display())).hint("`docker login HOST` rewrites it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_writes_is_read() {
        let json =
            br#"{"auths": {"a.org": {"auth": "bWU6YTpi"}, "https://b.org": {"username": "me", "password": "c"}, "d.org": {}},
            "credsStore": "desktop"}"#;
        let read = |registry: &str| read(json, registry).unwrap().map(|found| (found.user, found.password));
        assert_eq!(read("a.org"), Some(("me".to_owned(), "a:b".to_owned())));
        assert_eq!(read("b.org"), Some(("me".to_owned(), "c".to_owned())));
        assert_eq!([read("d.org"), read("e.org")], [None, None]);
    }

    #[test]
    fn what_can_not_be_read_is_an_error() {
        let error = |json: &str| read(json.as_bytes(), "a.org").err();
        assert!(error("{").is_some());
        assert_eq!(
            error(r#"{"auths": {"a.org": {"auth": "!"}}}"#).unwrap(),
            "the entry for a.org is not `user:password` in base64"
        );
    }
}
