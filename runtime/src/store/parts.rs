use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::step::{self, Artifact};

/// What a blob needs to be whole: the entries of a directory, the base of a module. It is told by the bytes, as their media type may
/// be unknown.
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
