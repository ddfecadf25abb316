//! Tokens and their file. The file holds hashes; a token is shown once, when it is created.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lockstep_runtime::digest::Digest;
use lockstep_view::error::{Error, Result};
use lockstep_view::export;
use serde::{Deserialize, Serialize};

use super::Scope;

/// A token as stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// SHA-256 of the token. A token has 256 random bits, so a slow hash is not needed.
    pub hash: Digest,
    /// Its user; without one, the store that belongs to no user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its permissions.
    pub scope: Scope,
    /// Unix time in seconds.
    pub created: u64,
    /// Unix time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

impl Token {
    /// Whether `secret` is this token. Compares hashes.
    pub fn is_of(&self, secret: &str) -> bool {
        self.hash == Digest::of(secret)
    }

    /// Whether it has not expired at `now`, in seconds of Unix time.
    pub fn is_valid(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// A revoked token is valid for this time at most.
const RECENT: Duration = Duration::from_millis(100);

/// All tokens, by name.
pub type Tokens = BTreeMap<String, Token>;

/// The file of tokens. It is read again after each change.
pub struct TokenFile {
    path: PathBuf,
    read: Mutex<Read>,
}

/// Contents of the file when it was last read, with its modification time and size; `None` if it did not exist.
#[derive(Default)]
struct Read {
    /// When the file was last looked at.
    at: Option<Instant>,
    stamp: Option<(SystemTime, u64)>,
    tokens: Arc<Tokens>,
}

impl TokenFile {
    /// The tokens of the host with the data directory `directory`.
    pub fn new(directory: &Path) -> Self {
        Self {
            path: directory.join("tokens.json"),
            read: Mutex::default(),
        }
    }

    /// Returns all tokens, as they were at most [`RECENT`] ago.
    pub async fn recent(file: &Arc<Self>) -> Result<Arc<Tokens>> {
        {
            let read = file.lock();
            if read.at.is_some_and(|at| at.elapsed() < RECENT) {
                return Ok(read.tokens.clone());
            }
        }
        Self::current(file).await
    }

    /// Like [`all`](Self::all), on a thread that may wait for the disk.
    pub async fn current(file: &Arc<Self>) -> Result<Arc<Tokens>> {
        let file = file.clone();
        let read = tokio::task::spawn_blocking(move || file.all());
        read.await
            .unwrap_or_else(|e| Err(Error::host(format_args!("internal error: {e}"))))
    }

    /// Returns all tokens; none if the file does not exist.
    pub fn all(&self) -> Result<Arc<Tokens>> {
        let stamp = std::fs::metadata(&self.path)
            .and_then(|file| Ok((file.modified()?, file.len())))
            .ok();
        let known = {
            let mut read = self.lock();
            read.at = Some(Instant::now());
            (stamp.is_some() && read.stamp == stamp).then(|| read.tokens.clone())
        };
        if let Some(tokens) = known {
            return Ok(tokens);
        }
        let tokens = self.load().map(Arc::new).inspect_err(|_| self.lock().at = None)?;
        let mut read = self.lock();
        (read.stamp, read.tokens) = (stamp, tokens.clone());
        Ok(tokens)
    }

    fn lock(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self) -> Result<Tokens> {
        match std::fs::read(&self.path) {
            Ok(json) => serde_json::from_slice(&json).map_err(|error| {
                Error::config(format_args!("can't parse {}: {error}", self.path.display()))
                    .hint("remove the file and create new tokens with `lockstep token create`")
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Tokens::new()),
            Err(e) => Err(Error::file("read", &self.path, &e)),
        }
    }

    /// Replaces the tokens in the file.
    pub fn write(&self, tokens: &Tokens) -> Result<()> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory).map_err(|e| Error::file("create", directory, &e))?;
        }
        let json = serde_json::to_vec_pretty(tokens).map_err(|e| Error::host(format_args!("can't serialize tokens: {e}")))?;
        export::write(&self.path, &json)
    }
}

/// Returns the token `secret` with its name, unless it has expired at `now`, in seconds of Unix time.
pub fn find<'a>(tokens: &'a Tokens, secret: &str, now: u64) -> Option<(&'a str, &'a Token)> {
    let (name, token) = tokens.iter().find(|(_, token)| token.is_of(secret))?;
    token.is_valid(now).then_some((name, token))
}

#[cfg(test)]
mod tests {
    use lockstep_cluster::new_secret;

    use super::*;

    #[test]
    fn a_token_is_found_by_its_text_until_it_expires() {
        let secret = new_secret();
        let token = Token {
            hash: Digest::of(&secret),
            user: Some("ann".to_owned()),
            scope: Scope::Run,
            created: 0,
            expires: Some(100),
        };
        let tokens = Tokens::from([("laptop".to_owned(), token)]);
        assert!(find(&tokens, &secret, 99).is_some());
        assert!(find(&tokens, &secret, 100).is_none());
        assert!(find(&tokens, &new_secret(), 0).is_none());
        assert!(find(&tokens, "", 0).is_none());
    }

    #[test]
    fn the_file_is_read_again_when_it_has_changed_and_never_has_the_text() {
        let directory = tempfile::tempdir().unwrap();
        let file = TokenFile::new(&directory.path().join("host"));
        assert!(file.all().unwrap().is_empty());
        let secret = new_secret();
        let token = Token {
            hash: Digest::of(&secret),
            user: None,
            scope: Scope::Admin,
            created: 0,
            expires: None,
        };
        TokenFile::new(&directory.path().join("host"))
            .write(&Tokens::from([("a".to_owned(), token)]))
            .unwrap();
        assert_eq!(file.all().unwrap().len(), 1);
        let text = std::fs::read_to_string(directory.path().join("host/tokens.json")).unwrap();
        assert!(!text.contains(&secret));
    }
}
