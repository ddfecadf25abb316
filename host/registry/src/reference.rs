use std::fmt;
use std::str::FromStr;

use lockstep_runtime::digest::Digest;

/// A reference to an object in a registry: `ghcr.io/team/penguins:1.0`, or `...@sha256:...`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// The registry: a host, with an optional port.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag, or the digest.
    pub tag: String,
}

/// The error of parsing a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a registry reference: write HOST/REPOSITORY:TAG, such as ghcr.io/team/penguins:1.0")]
pub struct InvalidReference(pub String);

impl Reference {
    /// Returns the digest, if the reference has one in place of a tag.
    pub fn digest(&self) -> Option<Digest> {
        self.tag.parse().ok()
    }

    /// Returns whether the registry is on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = match self.registry.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.registry,
        };
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = || InvalidReference(text.to_owned());
        let (registry, rest) = text.split_once('/').ok_or_else(invalid)?;
        let (repository, tag) = match rest.split_once('@') {
            Some((repository, digest)) if digest.parse::<Digest>().is_ok() => (repository, digest),
            Some(_) => return Err(invalid()),
            None => rest.rsplit_once(':').filter(|(_, tag)| is_tag(tag)).ok_or_else(invalid)?,
        };
        if !is_host(registry) || !is_repository(repository) {
            return Err(invalid());
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag: tag.to_owned(),
        })
    }
}

/// Requires a dot or a port: without one, the first part would be a user name on a default registry.
fn is_host(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    text.bytes().all(good) && (text == "localhost" || text.contains(['.', ':']))
}

fn is_repository(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let named = |part: &str| part.bytes().all(good) && part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 255 && text.split('/').all(named)
}

fn is_tag(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128 && text.bytes().all(good) && text.bytes().next().is_some_and(first)
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.digest().is_some() { '@' } else { ':' };
        write!(f, "{}/{}{mark}{}", self.registry, self.repository, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        let digest = Digest::of("abc");
        for text in [
            "ghcr.io/team/penguins:1.0",
            "localhost:5000/a:latest",
            "localhost/a/b-c/d.e:_x",
            "[::1]:5000/a:1",
            &format!("example.org/a@{digest}"),
        ] {
            assert_eq!(text.parse::<Reference>().map(|name| name.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in [
            "",
            "penguins:1.0",
            "team/penguins:1.0",
            "ghcr.io/team/penguins",
            "ghcr.io/Team/penguins:1",
            "ghcr.io/../penguins:1",
            "ghcr.io/team//penguins:1",
            "ghcr.io/team/penguins:a b",
            "ghcr.io/team/penguins@sha256:12",
            "user@host.org/a:1",
            "https://ghcr.io/a:1",
        ] {
            assert_eq!(text.parse::<Reference>(), Err(InvalidReference(text.to_owned())));
        }
    }

    #[test]
    fn loopback_is_this_machine() {
        let is_loopback = |registry: &str| format!("{registry}/a:1").parse::<Reference>().unwrap().is_loopback();
        let (here, away) = (
            ["localhost", "localhost:5000", "127.0.0.1:1", "[::1]:5000"],
            ["ghcr.io", "localhost.org:5000"],
        );
        assert!(here.into_iter().all(is_loopback));
        assert!(!away.into_iter().any(is_loopback));
    }
}
