use bytes::Bytes;
use object_store::path::Path as Name;

use super::Shared;

/// Compiled code, which is not addressed by content: whoever takes it looks at its seal. It can be made again, so a store that can't be reached
/// has none.
impl Shared {
    /// The code called `name`, if it is there.
    pub(crate) fn code(&self, name: &str) -> Option<Bytes> {
        let read = self.if_reached(|| self.wait(self.read(&object(name))));
        read.ok().flatten().flatten()
    }

    /// Puts code in the place of what was called `name`.
    pub(crate) fn put_code(&self, name: &str, code: Bytes) {
        let name = object(name);
        let write = async {
            let written = self.write(&name, code).await;
            written.map_err(|source| self.failed("write", &name, &source))
        };
        let _ = self.if_reached(|| self.wait(write));
    }
}

fn object(name: &str) -> Name {
    Name::from(format!("native/{name}"))
}
