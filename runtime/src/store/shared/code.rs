use bytes::Bytes;

use super::{Shared, name};
use crate::digest::Digest;

/// Compiled code, which is not addressed by content: whoever takes it looks at its seal. It can be made again, so where it can't be had or put nothing
/// is said of it.
impl Shared {
    /// The code called `code`, if it is there.
    pub(crate) fn code(&self, code: &Digest) -> Option<Bytes> {
        if self.is_left_alone() {
            return None;
        }
        self.wait(self.read(&name("native", code))).ok().flatten()
    }

    /// Puts `bytes` in the place of what was called `code`.
    pub(crate) fn put_code(&self, code: &Digest, bytes: Bytes) {
        if !self.is_left_alone() {
            let _ = self.wait(self.write(&name("native", code), bytes));
        }
    }
}
