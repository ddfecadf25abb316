//! Resolution of names on a host: digests, prefixes, and outputs of records.

use std::path::Path;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::Runtime;
use lockstep_view::artifacts::find;
use lockstep_view::error::{Error, Result};

use super::Remote;

impl Remote {
    /// Downloads what `text` names on the host, unless it names something here.
    pub fn bring(&self, runtime: &Runtime, text: &str) -> Result<()> {
        let text = text.rsplit_once("@/").map_or(text, |(text, _)| text);
        let is_here = Path::new(text).exists() && !text.starts_with("sha256:");
        if is_here || find(runtime, text).is_ok() {
            return Ok(());
        }
        let (name, output) = match text.split_once('/') {
            Some((name, output)) => (name, Some(output)),
            None => (text, None),
        };
        let Some(digest) = self.digest(name)? else { return Ok(()) };
        let Some(ran) = self.record(&digest)? else {
            self.take_known(&runtime.store, &digest)?;
            return Ok(());
        };
        // its outputs are downloaded when needed
        runtime.keep(&ran)?;
        let outputs = ran.record.outputs.iter().filter(|(name, _)| output == Some(name.as_str()));
        outputs
            .map(|(_, artifact)| artifact)
            .try_for_each(|artifact| self.take(&runtime.store, artifact))
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
