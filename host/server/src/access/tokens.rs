//! Tokens: who holds one may do what it says. A file keeps their hashes; a token itself is shown once, when it is made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use lockstep_runtime::digest::Digest;
use lockstep_view::error::{Error, Result};
use lockstep_view::export;
use serde::{Deserialize, Serialize};

use super::Scope;

/// A token as it is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The SHA-256 of its text. The text is 256 random bits, so nothing slower is needed.
    pub hash: Digest,
    /// Whose it is; without one it is for what belongs to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What its holder may do.
    pub scope: Scope,
    /// In seconds of Unix time.
    pub created: u64,
    /// In seconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

impl Token {
    /// Whether this is its text. Only hashes are compared.
    pub fn is_of(&self, secret: &str) -> bool {
        self.hash == Digest::of(secret)
    }
}

/// All tokens, by name.
pub type Tokens = BTreeMap<String, Token>;

/// The file of the tokens, read again when it has changed.
pub struct TokenFile {
    path: PathBuf,
    read: Mutex<Read>,
}

/// What the file said, and when it was written and how long it was then; `None` where there was none.
#[derive(Default)]
struct Read {
    stamp: Option<(SystemTime, u64)>,
    tokens: Arc<Tokens>,
}

impl TokenFile {
    /// The tokens of the host that keeps its things in `directory`.
    pub fn new(directory: &Path) -> Self {
        Self {
            path: directory.join("tokens.json"),
            read: Mutex::default(),
        }
    }

    /// All tokens; none where there is no file.
    pub fn all(&self) -> Result<Arc<Tokens>> {
        let stamp = std::fs::metadata(&self.path)
            .and_then(|file| Ok((file.modified()?, file.len())))
            .ok();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp.is_none() || read.stamp != stamp {
            let tokens = Arc::new(self.load()?);
            *read = Read { stamp, tokens };
        }
        Ok(read.tokens.clone())
    }

    fn load(&self) -> Result<Tokens> {
        match std::fs::read(&self.path) {
            Ok(json) => serde_json::from_slice(&json).map_err(|error| {
                Error::config(format_args!("{} can't be read: {error}", self.path.display()))
                    .hint("remove the file, and make new tokens with `lockstep token create`")
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Tokens::new()),
            Err(e) => Err(Error::file("read", &self.path, &e)),
        }
    }

    /// Keeps these tokens instead.
    pub fn write(&self, tokens: &Tokens) -> Result<()> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory).map_err(|e| Error::file("make", directory, &e))?;
        }
        let json = serde_json::to_vec_pretty(tokens).map_err(|e| Error::host(format_args!("tokens can't be written: {e}")))?;
        export::write(&self.path, &json)
    }
}

/// The token whose text this is, unless it has expired by `now`, in seconds of Unix time.
pub fn find<'a>(tokens: &'a Tokens, secret: &str, now: u64) -> Option<&'a Token> {
    let token = tokens.values().find(|token| token.is_of(secret))?;
    token.expires.is_none_or(|expires| now < expires).then_some(token)
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
