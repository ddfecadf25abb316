use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::digest::Digest;

/// The length of a seal, in bytes.
const SEAL: usize = 32;
/// Minimum length of a secret; a shorter one could be guessed.
const SHORTEST: usize = 32;

/// The key that authenticates compiled code from other machines. Sealed code is executed without further checks: whoever has the key can
/// execute arbitrary code on every machine that uses it.
#[derive(Clone)]
pub struct CodeKey(Hmac<Sha256>);

impl CodeKey {
    /// Creates a key from a secret of at least 32 bytes; `None` if it is shorter.
    pub fn new(secret: &str) -> Option<Self> {
        let is_long = secret.len() >= SHORTEST;
        is_long.then(|| Hmac::new_from_slice(secret.as_bytes()).ok().map(Self))?
    }

    /// Appends to `code` the HMAC-SHA-256 (RFC 2104) of `name` and `code`.
    pub(super) fn seal(&self, name: &Digest, code: &mut Vec<u8>) {
        let seal = self.mac(name, code).finalize().into_bytes();
        code.extend_from_slice(&seal);
    }

    /// Verifies the seal, and returns the code in front of it.
    pub(super) fn open<'c>(&self, name: &Digest, sealed: &'c [u8]) -> Option<&'c [u8]> {
        let (code, seal) = sealed.split_at_checked(sealed.len().checked_sub(SEAL)?)?;
        self.mac(name, code).verify_slice(seal).ok()?;
        Some(code)
    }

    fn mac(&self, name: &Digest, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(name.hex().as_bytes());
        mac.update(code);
        mac
    }
}

impl fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("CodeKey")
    }
}
