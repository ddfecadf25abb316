//! Credentials for registries, as `docker login` keeps them: in its file, or with a credential helper.

use std::io;
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use lockstep_view::error::{Error, Kind};

/// The credentials of a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credentials {
    /// A user name and a password. A token can take the place of the password.
    Password {
        /// the user name
        user: String,
        /// the password
        password: String,
    },
    /// A token that a token server exchanges for others.
    IdentityToken(String),
}

/// Credentials that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file can't be read.
    #[error("can't read {file}: {source}")]
    File {
        /// the file
        file: PathBuf,
        /// the cause
        source: io::Error,
    },
    /// The file is malformed.
    #[error("{file} can't be used: {reason}")]
    Malformed {
        /// the file
        file: PathBuf,
        /// the cause
        reason: String,
    },
    /// The credential helper can't be run, or failed.
    #[error("the credential helper for {registry} in {file} failed: {reason}")]
    Helper {
        /// the file that names the helper
        file: PathBuf,
        /// the registry
        registry: String,
        /// the cause
        reason: String,
    },
}

impl From<CredentialsError> for Error {
    fn from(error: CredentialsError) -> Self {
        match &error {
            CredentialsError::File { file, source } => Self::file("read", file, source),
            CredentialsError::Malformed { .. } => Self::config(error).hint("`docker login HOST` rewrites it"),
            CredentialsError::Helper { .. } => Self::new(Kind::Denied, error).hint(
                "install the helper that `credHelpers` or `credsStore` names, or remove its entry and run `docker login HOST`",
            ),
        }
    }
}

/// Returns the credentials for `registry`, if `file`, such as `~/.docker/config.json`, has any. Runs the credential helper that it names.
pub fn credentials(file: &Path, registry: &str) -> Result<Option<Credentials>, CredentialsError> {
    let json = match std::fs::read(file) {
        Ok(json) => json,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let file = file.to_owned();
            return Err(CredentialsError::File { file, source });
        }
    };
    let malformed = |reason: String| CredentialsError::Malformed {
        file: file.to_owned(),
        reason,
    };
    let helper = |reason: &str| CredentialsError::Helper {
        file: file.to_owned(),
        registry: registry.to_owned(),
        reason: reason.to_owned(),
    };
    // the crate does not say where the JSON is invalid
    serde_json::from_slice::<serde_json::Value>(&json).map_err(|e| malformed(e.to_string()))?;
    match get_credential_from_reader(&*json, registry) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(Some(Credentials::Password { user, password })),
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credentials::IdentityToken(token))),
        Err(CredentialRetrievalError::NoCredentialConfigured | CredentialRetrievalError::ConfigNotFound) => Ok(None),
        Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => Ok(None),
        Err(CredentialRetrievalError::HelperFailure {
            helper: name,
            stdout,
            stderr,
        }) => Err(helper(&format!("`{name} get` reports: {} {}", stdout.trim(), stderr.trim()))),
        Err(CredentialRetrievalError::HelperCommunicationError) => Err(helper("it can't be run, or ended too early")),
        Err(CredentialRetrievalError::MalformedHelperResponse) => Err(helper("it printed no credentials")),
        Err(CredentialRetrievalError::CredentialDecodingError) => Err(malformed(format!(
            "the entry for {registry} is not `user:password` in base64"
        ))),
        Err(CredentialRetrievalError::CredentialMismatchError) => Err(malformed(format!(
            "the entry for {registry} has two different passwords, in `auth` and in `password`"
        ))),
        Err(CredentialRetrievalError::ConfigReadError) => Err(malformed("a key has a value of the wrong type".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, registry: &str) -> Result<Option<Credentials>, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        std::fs::write(&file, json).unwrap();
        let path = file.display().to_string();
        credentials(&file, registry).map_err(|error| error.to_string().replace(&path, "FILE"))
    }

    #[test]
    fn what_docker_writes_is_read() {
        let json = r#"{"auths": {"a.org": {"auth": "bWU6YTpi"}, "https://b.org": {"username": "me", "password": "c"}, "d.org": {},
            "f.org": {"auth": "bWU6YTpi", "identitytoken": "t"}}, "HttpHeaders": {"User-Agent": "Docker"}}"#;
        let password = |user: &str, password: &str| {
            let (user, password) = (user.to_owned(), password.to_owned());
            Ok(Some(Credentials::Password { user, password }))
        };
        assert_eq!(read(json, "a.org"), password("me", "a:b"));
        assert_eq!(read(json, "b.org"), password("me", "c"));
        assert_eq!([read(json, "d.org"), read(json, "e.org")], [Ok(None), Ok(None)]);
        assert_eq!(read(json, "f.org"), Ok(Some(Credentials::IdentityToken("t".to_owned()))));
    }

    #[test]
    fn what_can_not_be_read_is_an_error() {
        let error = |json: &str| read(json, "a.org").unwrap_err();
        assert_eq!(
            error("{"),
            "FILE can't be used: EOF while parsing an object at line 1 column 1"
        );
        assert_eq!(
            error(r#"{"auths": 1}"#),
            "FILE can't be used: a key has a value of the wrong type"
        );
        assert_eq!(
            error(r#"{"auths": {"a.org": {"auth": "!"}}}"#),
            "FILE can't be used: the entry for a.org is not `user:password` in base64"
        );
        assert_eq!(
            error(r#"{"credsStore": "not-installed"}"#),
            "the credential helper for a.org in FILE failed: it can't be run, or ended too early"
        );
    }
}
