//! Garbage collection of a shared store.
//!
//! Nobody holds a lease on its objects, and other machines remember which records they have published. So only blobs that nothing in the
//! shared store needs are removed, and never records. A machine that publishes a record at the same moment may lose a blob that it found
//! there; whoever uses the record finds this out, and runs it again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path as Name;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::{PARALLEL, Shared, SharedError};
use crate::digest::{Digest, mentioned};
use crate::store::blobs::name;
use crate::store::parts::parts;
use crate::store::{Store, StoreError, Sweep};

/// The bytes that tell whether a blob may have parts.
const START: u64 = 4;

impl Store {
    /// Returns the blobs of the shared store that were written before `before` and that no record and no note there needs.
    pub fn plan_shared_sweep(&self, before: SystemTime) -> Result<Sweep, StoreError> {
        let Some(shared) = self.shared() else {
            return Ok(Sweep::default());
        };
        Ok(shared.wait(shared.plan_sweep(before))?)
    }

    /// Removes the blobs of a sweep of the shared store, except for those that records need that were published since. Calls `tell` for each.
    pub fn carry_out_shared(&self, sweep: &Sweep, mut tell: impl FnMut()) -> Result<(), StoreError> {
        let Some(shared) = self.shared() else { return Ok(()) };
        let kept = shared.wait(shared.needs_since(sweep))?;
        for (digest, _) in &sweep.artifacts {
            if !kept.contains(digest) {
                shared.remove(&name("blobs", digest))?;
            }
            tell();
        }
        Ok(())
    }
}

impl Shared {
    async fn plan_sweep(&self, before: SystemTime) -> Result<Sweep, SharedError> {
        let blobs = self.list_objects(&Name::from("blobs")).await?;
        let blobs: BTreeMap<Digest, ObjectMeta> = blobs.into_iter().filter_map(|meta| Some((digest(&meta)?, meta))).collect();
        let records = self.list_objects(&Name::from("records")).await?;
        let known = records.iter().filter_map(digest).collect();
        let sources = records.into_iter().chain(self.list_objects(&Name::from("notes")).await?);
        let roots = self.mentioned_by(sources.map(|meta| meta.location)).await?;
        let needed = self.with_parts(roots, |digest| blobs.contains_key(digest)).await?;
        let (kept, rest): (Vec<_>, Vec<_>) = blobs
            .iter()
            .partition(|(digest, meta)| needed.contains(digest) || SystemTime::from(meta.last_modified) >= before);
        Ok(Sweep {
            artifacts: rest.into_iter().map(|(digest, meta)| (*digest, meta.size)).collect(),
            kept: kept.len() as u64,
            kept_bytes: kept.iter().map(|(_, meta)| meta.size).sum(),
            known,
            ..Sweep::default()
        })
    }

    /// Returns what the records need that were written since a sweep was planned.
    async fn needs_since(&self, sweep: &Sweep) -> Result<BTreeSet<Digest>, SharedError> {
        let records = self.list(&Name::from("records")).await?;
        let is_new = |name: &Name| of_name(name).is_some_and(|record| !sweep.known.contains(&record));
        let roots = self.mentioned_by(records.into_iter().filter(is_new)).await?;
        self.with_parts(roots, |_| true).await
    }

    /// Returns the digests that these objects mention. Objects that disappear meanwhile mention none.
    async fn mentioned_by(&self, names: impl Iterator<Item = Name>) -> Result<BTreeSet<Digest>, SharedError> {
        let texts = stream::iter(names).map(async |name| self.read(&name).await);
        let texts: Vec<Option<Bytes>> = texts.buffer_unordered(PARALLEL).try_collect().await?;
        Ok(texts.iter().flatten().flat_map(|text| mentioned(text)).collect())
    }

    /// Returns those of the digests that `exist`, and the parts of these.
    async fn with_parts(
        &self,
        digests: BTreeSet<Digest>,
        exist: impl Fn(&Digest) -> bool,
    ) -> Result<BTreeSet<Digest>, SharedError> {
        let (mut open, mut all): (Vec<Digest>, _) = (digests.into_iter().collect(), BTreeSet::new());
        while !open.is_empty() {
            let new: Vec<Digest> = open.drain(..).filter(|digest| exist(digest) && all.insert(*digest)).collect();
            let found = stream::iter(&new).map(async |digest| self.parts_of(digest).await);
            let found: Vec<Vec<Digest>> = found.buffer_unordered(PARALLEL).try_collect().await?;
            open = found.concat();
        }
        Ok(all)
    }

    /// Returns the parts of a blob. Reads only the start of a blob that can't have any.
    async fn parts_of(&self, digest: &Digest) -> Result<Vec<Digest>, SharedError> {
        let name = name("blobs", digest);
        // a range of nothing is an error
        if *digest == Digest::of("") {
            return Ok(Vec::new());
        }
        match self.objects.get_range(&name, 0..START).await {
            Ok(start) if start.starts_with(b"{") || start.starts_with(b"\0asm") => {
                Ok(self.read(&name).await?.map_or_else(Vec::new, |bytes| parts(&bytes)))
            }
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            Err(source) => Err(self.failed("read", &name, &source)),
        }
    }
}

fn digest(meta: &ObjectMeta) -> Option<Digest> {
    of_name(&meta.location)
}

fn of_name(name: &Name) -> Option<Digest> {
    Digest::from_hex(name.filename()?).ok()
}
