use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::digest::Digest;

/// The length of a seal.
const SEAL: usize = 32;
/// A shorter secret could be guessed.
const SHORTEST: usize = 32;

/// Whose seal compiled code must have to be run although it was compiled elsewhere. Such code is not checked any further: who has the key can
/// make every machine that uses it do anything.
#[derive(Clone)]
pub struct CodeKey(Hmac<Sha256>);

impl CodeKey {
    /// The key that a secret of at least 32 characters makes; `None` of a shorter one.
    pub fn new(secret: &str) -> Option<Self> {
        let is_long = secret.len() >= SHORTEST;
        is_long.then(|| Hmac::new_from_slice(secret.as_bytes()).ok().map(Self))?
    }

    /// Puts behind `code`, which is called `name`, the HMAC-SHA-256 (RFC 2104) of both.
    pub(super) fn seal(&self, name: &Digest, code: &mut Vec<u8>) {
        let seal = self.mac(name, code).finalize().into_bytes();
        code.extend_from_slice(&seal);
    }

    /// The code called `name` that stands before this key's seal.
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
