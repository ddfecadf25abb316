//! Encodes messages as signed ZeroMQ frames:
//! `route.. <IDS|MSG> signature header parent_header metadata content buffers..`.

use std::sync::Arc;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::Sha256;

use crate::jupyter::{Header, Message};

/// The address of a client: the frames before the delimiter.
pub(super) type Route = Vec<Bytes>;

const DELIMITER: &[u8] = b"<IDS|MSG>";

/// Signs and verifies with the key of the connection file.
pub(super) struct Signer {
    /// `None` if the key is empty; then nothing is signed or verified.
    keyed: Option<Hmac<Sha256>>,
}

/// An error decoding frames.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejected {
    #[error("missing delimiter or too few frames")]
    Shape,
    #[error("the signature does not match this kernel's key")]
    Signature,
    #[error("invalid JSON in the {0}")]
    Json(&'static str),
}

impl Signer {
    pub fn new(key: &str) -> Self {
        // HMAC accepts keys of any length.
        let keyed = (!key.is_empty()).then(|| Hmac::new_from_slice(key.as_bytes()).ok()).flatten();
        Self { keyed }
    }

    pub fn encode(&self, route: Route, message: &Message) -> Vec<Bytes> {
        let parts = [
            json(&message.header),
            message.parent.as_deref().map_or(Bytes::from_static(b"{}"), json),
            json(&message.metadata),
            json(&message.content),
        ];
        let signature = match &self.keyed {
            Some(keyed) => hex(&mac(keyed, &parts).finalize().into_bytes()),
            None => String::new(),
        };
        let mut frames = route;
        frames.extend([Bytes::from_static(DELIMITER), Bytes::from(signature)]);
        frames.extend(parts);
        frames.extend(message.buffers.iter().cloned());
        frames
    }

    pub fn decode(&self, mut frames: Vec<Bytes>) -> Result<(Route, Message), Rejected> {
        let delimiter = frames.iter().position(|frame| frame == DELIMITER).ok_or(Rejected::Shape)?;
        let rest = frames.split_off(delimiter);
        let [_, signature, parts @ ..] = rest.as_slice() else {
            return Err(Rejected::Shape);
        };
        let (parts, buffers) = parts.split_first_chunk::<4>().ok_or(Rejected::Shape)?;
        if let Some(keyed) = &self.keyed {
            let signature = unhex(signature).ok_or(Rejected::Signature)?;
            mac(keyed, parts).verify_slice(&signature).map_err(|_| Rejected::Signature)?;
        }
        let [header, parent, metadata, content] = parts;
        let parent: Value = parse(parent, "parent header")?;
        let message = Message {
            header: parse(header, "header")?,
            parent: serde_json::from_value::<Header>(parent).ok().map(Arc::new),
            metadata: parse(metadata, "metadata")?,
            content: parse(content, "content")?,
            buffers: buffers.to_vec(),
        };
        Ok((frames, message))
    }
}

fn mac(keyed: &Hmac<Sha256>, parts: &[Bytes; 4]) -> Hmac<Sha256> {
    parts.iter().fold(keyed.clone(), |mac, part| mac.chain_update(part))
}

fn parse<T: DeserializeOwned>(frame: &[u8], what: &'static str) -> Result<T, Rejected> {
    serde_json::from_slice(frame).map_err(|_| Rejected::Json(what))
}

/// Serializes headers and values. They are maps with text keys, so this can't fail.
fn json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).map_or(Bytes::from_static(b"{}"), Bytes::from)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    };
    text.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let header = r#"{"msg_id":"1","msg_type":"execute_request","session":"s","username":"u","date":"d","version":"5.5","subshell_id":"sub"}"#;
        let header: Header = serde_json::from_str(header).unwrap();
        Message {
            parent: Some(Arc::new(header.clone())),
            header,
            metadata: serde_json::json!({ "cellId": "c" }),
            content: serde_json::json!({ "code": "1" }),
            buffers: vec![Bytes::from_static(b"\0\xff")],
        }
    }

    proptest::proptest! {
        #[test]
        fn any_frames_are_decoded_or_rejected(
            frames in proptest::collection::vec(proptest::prop_oneof![
                proptest::prelude::Just(DELIMITER.to_vec()),
                proptest::prelude::Just(b"{}".to_vec()),
                proptest::prelude::Just(b"{\"msg_id\":\"a\",\"msg_type\":\"b\"}".to_vec()),
                proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
            ], 0..9),
        ) {
            let frames: Vec<_> = frames.into_iter().map(Bytes::from).collect();
            if let Ok((route, message)) = Signer::new("").decode(frames.clone()) {
                let again = Signer::new("").encode(route, &message);
                proptest::prop_assert!(Signer::new("").decode(again).is_ok());
            }
            let _ = Signer::new("key").decode(frames);
        }
    }

    #[test]
    fn unknown_fields_and_buffers_round_trip() {
        let signer = Signer::new("secret");
        let route = vec![Bytes::from_static(b"client")];
        let frames = signer.encode(route.clone(), &message());
        assert_eq!(signer.decode(frames), Ok((route, message())));
    }

    /// Expected: `hmac.new(b"secret", b"{}{}{}{}", "sha256").hexdigest()` of Python.
    #[test]
    fn the_signature_is_the_hmac_of_the_four_frames() {
        let signer = Signer::new("secret");
        let parts = [b"{}"; 4].map(|part| Bytes::from_static(part));
        let signature = hex(&mac(signer.keyed.as_ref().unwrap(), &parts).finalize().into_bytes());
        assert_eq!(signature, "34982f0bfec60e7b933ffde06c1ecab0fba073717a95ab943d1dd06f82c2d5e4");
    }

    #[test]
    fn tampering_is_detected() {
        let signer = Signer::new("secret");
        let good = signer.encode(Vec::new(), &message());
        for at in 1..6 {
            let mut bad = good.clone();
            bad[at] = Bytes::from_static(b"{\"msg_id\":\"\",\"msg_type\":\"x\"}");
            assert_eq!(signer.decode(bad), Err(Rejected::Signature), "frame {at}");
        }
        let other = Signer::new("other").encode(Vec::new(), &message());
        assert_eq!(signer.decode(other), Err(Rejected::Signature));
        let unsigned = Signer::new("").encode(Vec::new(), &message());
        assert_eq!(signer.decode(unsigned), Err(Rejected::Signature));
    }

    #[test]
    fn malformed_frames_are_rejected() {
        let signer = Signer::new("");
        let frames = |texts: &[&'static str]| texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
        assert_eq!(signer.decode(frames(&[])), Err(Rejected::Shape));
        assert_eq!(signer.decode(frames(&["<IDS|MSG>"])), Err(Rejected::Shape));
        assert_eq!(
            signer.decode(frames(&["<IDS|MSG>", "", "{}", "{}", "{}"])),
            Err(Rejected::Shape)
        );
        let bad = frames(&["<IDS|MSG>", "", "[", "{}", "{}", "{}"]);
        assert_eq!(signer.decode(bad), Err(Rejected::Json("header")));
    }
}
