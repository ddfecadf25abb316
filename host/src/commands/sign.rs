use std::path::{Path, PathBuf};

use clap::Args;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_view::artifacts::{Named, find};
use lockstep_view::error::{Error, Result};
use lockstep_view::provenance;
use serde_json::json;

use crate::invocation::Invocation;
use crate::signature;

/// Sign records with an ed25519 key
///
/// Signs the statement that `lockstep provenance` prints, and stores the signature with the record. Several keys may sign the same record.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep sign --new-key key.pem > key.pub
  lockstep sign 3fa9c1 --key key.pem
  lockstep verify 3fa9c1 --signed-by key.pub")]
pub struct SignArgs {
    /// Records: digests or their prefixes
    #[arg(value_name = "RECORD", required_unless_present = "new_key")]
    records: Vec<String>,

    /// Private ed25519 key: a PEM file (PKCS#8)
    #[arg(long, value_name = "FILE", required_unless_present = "new_key")]
    key: Option<PathBuf>,

    /// Generate an ed25519 key: write the private key to a new file with mode 0600, and print the public key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["records", "key"])]
    new_key: Option<PathBuf>,
}

pub fn run(args: &SignArgs, invocation: &Invocation) -> Result<()> {
    match (&args.new_key, &args.key) {
        (Some(path), _) => new_key(path, invocation),
        (None, Some(path)) => sign(&args.records, path, invocation),
        (None, None) => Err(Error::user("`lockstep sign` needs a key").hint("give one with --key FILE")),
    }
}

fn new_key(path: &Path, invocation: &Invocation) -> Result<()> {
    let key = signature::new_key(path)?;
    let (id, pem) = (signature::key_id(&key)?, signature::public_pem(&key)?);
    invocation.answer(pem.clone(), || json!({ "key": id, "public_key": pem }))
}

fn sign(records: &[String], key: &Path, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    let key = signature::read_key(key)?;
    let id = signature::key_id(&key.verifying_key())?;
    let mut signed = Vec::new();
    for name in records {
        let Named::Record(found) = find(&runtime, name)? else {
            return Err(Error::user(format_args!("{name} is an artifact, not a record"))
                .hint(format_args!("`lockstep lineage {name}` shows the records it was made from")));
        };
        let (digest, record, observed) = *found;
        let statement = provenance::statement(&runtime.store, &digest, &record, &observed)?;
        let envelope = signature::sign(&statement, &key)?;
        runtime.store.put_signature(&digest, envelope.as_bytes())?;
        signed.push(digest);
    }
    let lines = signed
        .iter()
        .map(|digest| format!("record {} signed by key {}\n", digest.short(), &id[..12]));
    let text: String = if invocation.quiet { String::new() } else { lines.collect() };
    invocation.answer(text, || json!({ "signed": signed, "key": id }))
}
