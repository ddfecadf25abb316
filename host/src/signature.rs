//! Signatures of records: in-toto statements in DSSE envelopes, signed with ed25519.
//!
//! See <https://github.com/secure-systems-lab/dsse> for the envelope. Keys are PEM files as openssl writes them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::spki::{DecodePublicKey, EncodePublicKey};
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use lockstep_runtime::digest::Digest;
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::provenance;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const PAYLOAD: &str = "application/vnd.in-toto+json";

/// A DSSE envelope. Other fields are ignored, as its specification says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    /// base64
    payload: String,
    signatures: Vec<Signed>,
}

#[derive(Serialize, Deserialize)]
struct Signed {
    /// A hint at the key. It is not authenticated.
    #[serde(default)]
    keyid: String,
    /// base64
    sig: String,
}

/// Why an envelope is not a valid signature of a record.
enum Refused {
    /// It is not an envelope with an in-toto statement.
    Malformed,
    /// Other keys signed it; their ids.
    Others(Vec<String>),
    /// It names the key, but the signature is invalid.
    Changed,
    /// It is a signature of another record.
    Elsewhere(Option<Digest>),
}

/// Reads a private key from a PKCS#8 file.
pub fn read_key(path: &Path) -> Result<SigningKey> {
    let key = SigningKey::from_pkcs8_pem(&read(path)?);
    key.map_err(|error| {
        Error::user(format_args!("{} is not a private ed25519 key: {error}", path.display()))
            .hint("`lockstep sign --new-key key.pem > key.pub` generates a key pair")
    })
}

/// Writes a new private key to `path` with mode 0600, and returns its public key. The file must not exist.
///
/// The 32 bytes come from the random number generator of the system.
pub fn new_key(path: &Path) -> Result<VerifyingKey> {
    let mut secret_key = [0; 32];
    let generator = Path::new("/dev/urandom");
    let read = File::open(generator).and_then(|mut file| file.read_exact(&mut secret_key));
    read.map_err(|e| Error::file("read", generator, &e))?;
    // without the public key, because openssl rejects files that contain it
    let pair = KeypairBytes {
        secret_key,
        public_key: None,
    };
    let pem = pair.to_pkcs8_pem(LineEnding::LF);
    let pem = pem.map_err(|error| Error::host(format_args!("can't encode the key: {error}")))?;
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let error = Error::user(format_args!("{} already exists, and may be a key in use", path.display()));
            return Err(error.hint("give a file that does not exist"));
        }
        opened => opened.map_err(|e| Error::file("write", path, &e))?,
    };
    let written = file.write_all(pem.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|e| Error::file("write", path, &e))?;
    Ok(SigningKey::from_bytes(&secret_key).verifying_key())
}

/// Encodes a public key as PEM.
pub fn public_pem(key: &VerifyingKey) -> Result<String> {
    let pem = key.to_public_key_pem(LineEnding::LF);
    pem.map_err(|error| Error::host(format_args!("can't encode the key: {error}")))
}

/// Reads a public key from a PEM file.
pub fn read_public_key(path: &Path) -> Result<VerifyingKey> {
    let key = VerifyingKey::from_public_key_pem(&read(path)?);
    key.map_err(|error| {
        Error::user(format_args!("{} is not a public ed25519 key: {error}", path.display()))
            .hint("`openssl pkey -in key.pem -pubout -out key.pub` writes the public key of a private key")
    })
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::file("read", path, &e))
}

/// Returns the id of a key: the digest of its SPKI encoding.
pub fn key_id(key: &VerifyingKey) -> Result<String> {
    let der = key.to_public_key_der();
    let der = der.map_err(|error| Error::host(format_args!("can't encode the key: {error}")))?;
    Ok(Digest::of(der.as_bytes()).hex())
}

/// Signs `statement` and returns the envelope as a line of JSON.
pub fn sign(statement: &Value, key: &SigningKey) -> Result<String> {
    let payload = statement.to_string();
    let signature = key.sign(&encoded(PAYLOAD, payload.as_bytes()));
    let envelope = Envelope {
        payload_type: PAYLOAD.to_owned(),
        payload: STANDARD.encode(payload),
        signatures: vec![Signed {
            keyid: key_id(&key.verifying_key())?,
            sig: STANDARD.encode(signature.to_bytes()),
        }],
    };
    serde_json::to_string(&envelope).map_err(Error::host)
}

/// Returns an error unless one of the envelopes is a signature of `record` by `key`.
pub fn check(envelopes: &[Vec<u8>], record: &Digest, key: &VerifyingKey) -> Result<()> {
    let id = key_id(key)?;
    let mut refused = Vec::new();
    for envelope in envelopes {
        match opened(envelope, record, key, &id) {
            Ok(()) => return Ok(()),
            Err(why) => refused.push(why),
        }
    }
    Err(refusal(&refused, record, &id))
}

fn opened(envelope: &[u8], record: &Digest, key: &VerifyingKey, id: &str) -> Result<(), Refused> {
    let envelope: Envelope = serde_json::from_slice(envelope).map_err(|_| Refused::Malformed)?;
    let payload = STANDARD.decode(&envelope.payload).map_err(|_| Refused::Malformed)?;
    let signed = encoded(&envelope.payload_type, &payload);
    let fits = |by: &Signed| {
        let signature = STANDARD.decode(&by.sig).ok();
        let signature = signature.and_then(|bytes| Signature::from_slice(&bytes).ok());
        signature.is_some_and(|signature| key.verify_strict(&signed, &signature).is_ok())
    };
    if !envelope.signatures.iter().any(fits) {
        let ids: Vec<String> = envelope.signatures.into_iter().map(|by| by.keyid).collect();
        return Err(match ids.iter().any(|other| other == id) {
            true => Refused::Changed,
            false => Refused::Others(ids),
        });
    }
    let statement: Value = serde_json::from_slice(&payload).map_err(|_| Refused::Malformed)?;
    match provenance::record_of(&statement) {
        Some(about) if about == *record && envelope.payload_type == PAYLOAD => Ok(()),
        about => Err(Refused::Elsewhere(about)),
    }
}

/// Returns the bytes to sign, in the pre-authentication encoding of DSSE.
fn encoded(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut encoded = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    encoded.extend_from_slice(payload);
    encoded
}

impl Refused {
    /// Describes what is wrong with an envelope that names `key`. Returns `None` for envelopes of other keys.
    fn told(&self, record: &str, key: &str) -> Option<String> {
        match self {
            Self::Malformed | Self::Others(_) => None,
            Self::Changed => Some(format!(
                "invalid signature of record {record} by key {key}: the signature or the signed statement was changed"
            )),
            Self::Elsewhere(Some(about)) => Some(format!(
                "the signature stored for record {record} by key {key} is of record {}",
                about.short()
            )),
            Self::Elsewhere(None) => Some(format!(
                "the signature stored for record {record} by key {key} names no record"
            )),
        }
    }

    /// Returns the ids of other keys that signed.
    fn others(&self) -> &[String] {
        match self {
            Self::Others(ids) => ids,
            _ => &[],
        }
    }
}

fn refusal(refused: &[Refused], record: &Digest, id: &str) -> Error {
    let (record, key) = (record.short(), short(id));
    let told = refused.iter().find_map(|why| why.told(&record, key));
    let told = told.unwrap_or_else(|| format!("record {record} is not signed by key {key}"));
    let mut error = Error::new(Kind::Denied, told);
    let others: Vec<&str> = refused.iter().flat_map(Refused::others).map(|id| short(id)).collect();
    if !others.is_empty() {
        error = error.detail(format_args!("it is signed by {}", others.join(", ")));
    }
    if refused.iter().any(|why| matches!(why, Refused::Malformed)) {
        error = error.detail("a stored signature of it is malformed");
    }
    error.hint(format_args!(
        "`lockstep sign {record} --key KEY.pem` signs it; `lockstep verify {record}` runs it again"
    ))
}

/// Returns the first digits of a key id. The id comes from an envelope and may be anything.
fn short(id: &str) -> &str {
    match id.len() {
        64 if id.bytes().all(|byte| byte.is_ascii_hexdigit()) => &id[..12],
        _ => "an unknown key",
    }
}
