use bytes::Bytes;

use super::{Shared, name};
use crate::digest::Digest;

/// Compiled code. It is not content-addressed: readers check its seal. It can be recompiled, so failures are ignored.
impl Shared {
    /// Returns the code named `code`, if it exists.
    pub(crate) fn code(&self, code: &Digest) -> Option<Bytes> {
        if self.is_left_alone() {
            return None;
        }
        self.wait(self.read(&name("native", code))).ok().flatten()
    }

    /// Writes `bytes` as the code named `code`, replacing any earlier one.
    pub(crate) fn put_code(&self, code: &Digest, bytes: Bytes) {
        if !self.is_left_alone() {
            let _ = self.wait(self.write(&name("native", code), bytes));
        }
    }
}
