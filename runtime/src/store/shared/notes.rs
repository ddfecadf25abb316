use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path as Name;

use super::{Shared, SharedError};

/// Notes: small texts that are replaced whole. No run reads them, so none depends on what they say.
impl Shared {
    /// What the note `name` says, such as `kernels/<id>.json`; `None` if there is none.
    pub fn note(&self, name: &str) -> Result<Option<Bytes>, SharedError> {
        self.wait(self.read(&object(name)))
    }

    /// Puts `text` in the place of what the note said.
    pub fn put_note(&self, name: &str, text: Bytes) -> Result<(), SharedError> {
        let name = object(name);
        let put = self.wait(self.objects.put(&name, text.into()));
        put.map(drop).map_err(|source| self.failed("write", &name, &source))
    }

    /// Removes the note, if it is there.
    pub fn remove_note(&self, name: &str) -> Result<(), SharedError> {
        self.remove(&object(name))
    }
}

fn object(name: &str) -> Name {
    Name::from(format!("notes/{name}"))
}
