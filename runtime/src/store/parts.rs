use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::step::{self, Artifact};

/// Returns the blobs that a blob depends on: the entries of a directory, the base of a module. The kind of blob is detected from the
/// bytes, as the media type may be unknown.
pub(super) fn parts(bytes: &[u8]) -> Vec<Digest> {
    if bytes.starts_with(b"\0asm") {
        return step::base(bytes).ok().flatten().into_iter().collect();
    }
    if !bytes.starts_with(b"{") {
        return Vec::new();
    }
    let entries: Result<BTreeMap<String, Artifact>, _> = serde_json::from_slice(bytes);
    entries.unwrap_or_default().values().map(|entry| entry.digest).collect()
}
