//! Quotas of users, from a TOML file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lockstep_view::error::{Error, Result};
use lockstep_view::quantity::{parse_bytes, parse_duration};
use serde::{Deserialize, Deserializer};

/// What a user may have at a time. What is unset is unlimited.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    queued: Option<usize>,
    running: Option<usize>,
    #[serde(deserialize_with = "bytes")]
    memory: Option<u64>,
    kernels: Option<usize>,
    #[serde(deserialize_with = "bytes")]
    store: Option<u64>,
    schedules: Option<usize>,
    #[serde(deserialize_with = "duration")]
    gc_older_than: Option<Duration>,
    #[serde(deserialize_with = "bytes")]
    gc_keep_size: Option<u64>,
}

impl Quota {
    /// Maximum number of waiting jobs.
    pub fn queued(&self) -> usize {
        self.queued.unwrap_or(usize::MAX)
    }

    /// Maximum number of running jobs; further ones wait.
    pub fn running(&self) -> usize {
        self.running.unwrap_or(usize::MAX).max(1)
    }

    /// Maximum memory in bytes of running guests together; further ones wait.
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(u64::MAX)
    }

    /// Maximum number of kernels.
    pub fn kernels(&self) -> usize {
        self.kernels.unwrap_or(usize::MAX)
    }

    /// Maximum size of the store in bytes; `None` if it is unlimited.
    pub fn store(&self) -> Option<u64> {
        self.store
    }

    /// Maximum number of schedules.
    pub fn schedules(&self) -> usize {
        self.schedules.unwrap_or(usize::MAX)
    }

    /// The age beyond which garbage collection removes runs.
    pub fn gc_older_than(&self) -> Option<Duration> {
        self.gc_older_than
    }

    /// The size of the store in bytes down to which garbage collection removes the oldest runs.
    pub fn gc_keep_size(&self) -> Option<u64> {
        self.gc_keep_size
    }

    /// Returns this quota, with unset values taken from `other`.
    fn or(&self, other: &Self) -> Self {
        Self {
            queued: self.queued.or(other.queued),
            running: self.running.or(other.running),
            memory: self.memory.or(other.memory),
            kernels: self.kernels.or(other.kernels),
            store: self.store.or(other.store),
            schedules: self.schedules.or(other.schedules),
            gc_older_than: self.gc_older_than.or(other.gc_older_than),
            gc_keep_size: self.gc_keep_size.or(other.gc_keep_size),
        }
    }
}

/// The quotas of all users.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// For users without an entry of their own, for what an entry leaves unset, and for callers without a user.
    default: Quota,
    users: BTreeMap<String, Quota>,
}

impl Quotas {
    /// Reads a file of quotas.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::file("read", path, &e))?;
        toml::from_str(&text).map_err(|error| {
            Error::config(format_args!("{}: {}", path.display(), error.to_string().trim_end())).hint(
                "a file of quotas has the tables [default] and [users.\"NAME\"], with the keys queued, running, memory, kernels, store, schedules, gc_older_than and gc_keep_size",
            )
        })
    }

    /// Whether garbage collection removes runs of a user because of this.
    pub fn remove_runs(&self) -> bool {
        let removes = |quota: &Quota| quota.gc_older_than.is_some() || quota.gc_keep_size.is_some();
        removes(&self.default) || self.users.values().any(removes)
    }

    /// Returns the users with entries of their own.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// Returns the quota of a user; the empty name stands for callers without a user.
    pub fn of(&self, user: &str) -> Quota {
        self.users.get(user).map_or(self.default, |own| own.or(&self.default))
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_bytes(&text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Quotas> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("quotas.toml");
        std::fs::write(&path, text).unwrap();
        Quotas::read(&path)
    }

    #[test]
    fn an_entry_comes_before_the_defaults() {
        let quotas =
            read("[default]\nqueued = 10\nmemory = '8GiB'\n[users.'ann@example.org']\nqueued = 20\nstore = '1MiB'\n").unwrap();
        let (ann, bob) = (quotas.of("ann@example.org"), quotas.of("bob"));
        assert_eq!((ann.queued(), ann.memory(), ann.store()), (20, 8 << 30, Some(1 << 20)));
        assert_eq!((bob.queued(), bob.memory(), bob.store()), (10, 8 << 30, None));
        assert_eq!((bob.running(), bob.kernels()), (usize::MAX, usize::MAX));
    }

    #[test]
    fn unknown_keys_are_refused_with_their_place() {
        for (text, says) in [
            ("[default]\nqueue = 1\n", "unknown field `queue`"),
            ("[user.ann]\nqueued = 1\n", "unknown field `user`"),
            ("[default]\nmemory = 'much'\n", "line 2, column 10"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
    }
}
