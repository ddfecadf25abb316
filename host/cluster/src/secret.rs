use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Returns a new secret, such as a token, with 256 random bits.
pub fn new_secret() -> String {
    format!("ls_{}", BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}
