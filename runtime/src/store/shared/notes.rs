use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path as Name;

use super::{Shared, SharedError};

/// Notes: small mutable objects, always replaced as a whole. Runs never read them.
impl Shared {
    /// Returns the note `name`, such as `kernels/<id>.json`; `None` if it does not exist.
    pub fn note(&self, name: &str) -> Result<Option<Bytes>, SharedError> {
        self.wait(self.read(&object(name)))
    }

    /// Writes `text` as the note `name`, replacing any earlier one.
    pub fn put_note(&self, name: &str, text: Bytes) -> Result<(), SharedError> {
        let name = object(name);
        let put = self.wait(self.objects.put(&name, text.into()));
        put.map(drop).map_err(|source| self.failed("write", &name, &source))
    }

    /// Removes the note, if it exists.
    pub fn remove_note(&self, name: &str) -> Result<(), SharedError> {
        self.remove(&object(name))
    }
}

fn object(name: &str) -> Name {
    Name::from(format!("notes/{name}"))
}
