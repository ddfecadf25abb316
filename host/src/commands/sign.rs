use std::path::PathBuf;

use clap::Args;
use lockstep_runtime::sandbox::EngineOptions;
use serde_json::json;

use crate::artifacts::{Named, find};
use crate::error::{Error, Result};
use crate::invocation::Invocation;
use crate::{provenance, signature};

/// Sign records: what the runs made, and from what
///
/// A signature is of the statement that `lockstep provenance` prints, and is kept in the store beside the record. Several keys may sign one.
#[derive(Args)]
#[command(after_help = "Examples:
  openssl genpkey -algorithm ed25519 -out key.pem
  openssl pkey -in key.pem -pubout -out key.pub
  lockstep sign 3fa9c1 --key key.pem
  lockstep verify 3fa9c1 --signed-by key.pub")]
pub struct SignArgs {
    /// Records: digests, or their first digits
    #[arg(value_name = "RECORD", required = true)]
    records: Vec<String>,

    /// The private ed25519 key, as a PEM file (PKCS#8)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub fn run(args: SignArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    let key = signature::read_key(&args.key)?;
    let id = signature::key_id(&key.verifying_key())?;
    let mut signed = Vec::new();
    for name in &args.records {
        let Named::Record(found) = find(&runtime, name)? else {
            return Err(
                Error::user(format_args!("{name} is an artifact, not a record")).hint(format_args!(
                    "`lockstep lineage {name}` tells the records of the runs that it came from"
                )),
            );
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
