//! Resolution of names on a host: digests, prefixes, and outputs of records.

use std::path::Path;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::Runtime;
use lockstep_view::artifacts::{Named, find};
use lockstep_view::error::{Error, Result};

use super::Remote;

impl Remote {
    /// Downloads what `text` names on the host, unless it names something here.
    pub fn bring(&self, runtime: &Runtime, text: &str) -> Result<()> {
        let text = text.rsplit_once("@/").map_or(text, |(text, _)| text);
        if let Some(digest) = self.bring_name(runtime, text)? {
            return self.take_known(&runtime.store, &digest).map(drop);
        }
        // a record may be here without its outputs
        match find(runtime, text) {
            Ok(Named::Artifact(artifact)) if !is_here(text) => self.take(&runtime.store, &artifact),
            _ => Ok(()),
        }
    }

    /// Downloads the record that `text` names on the host, unless it names something here. Returns the digest if it names an artifact, which is
    /// not downloaded.
    pub fn bring_name(&self, runtime: &Runtime, text: &str) -> Result<Option<Digest>> {
        if is_here(text) || find(runtime, text).is_ok() {
            return Ok(None);
        }
        let name = text.split_once('/').map_or(text, |(name, _)| name);
        let Some(digest) = self.digest(name)? else { return Ok(None) };
        Ok((!self.bring_record(runtime, &digest)?).then_some(digest))
    }

    /// Downloads the record `digest`, without its artifacts. Returns whether the host has it.
    pub fn bring_record(&self, runtime: &Runtime, digest: &Digest) -> Result<bool> {
        if runtime.record(digest)?.is_some() {
            return Ok(true);
        }
        let found = self.record(digest)?;
        found.as_ref().map_or(Ok(()), |ran| runtime.keep(ran))?;
        Ok(found.is_some())
    }

    fn digest(&self, text: &str) -> Result<Option<Digest>> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if let Ok(digest) = Digest::from_hex(hex) {
            return Ok(Some(digest));
        }
        if hex.len() < 4 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        match self.resolve(hex)?[..] {
            [] => Ok(None),
            [digest] => Ok(Some(digest)),
            _ => Err(
                Error::user(format_args!("{text} is ambiguous: it matches several digests on the host"))
                    .hint("give more digits"),
            ),
        }
    }
}

/// Returns whether `text` names a file or directory of this machine.
fn is_here(text: &str) -> bool {
    Path::new(text).exists() && !text.starts_with("sha256:")
}
