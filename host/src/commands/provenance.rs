use std::path::PathBuf;

use clap::Args;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_view::artifacts::{Named, find};
use lockstep_view::error::{Error, Result};
use lockstep_view::export::write;
use lockstep_view::print::print_bytes;
use lockstep_view::provenance::statement;

use crate::invocation::Invocation;

/// Print where what a run made came from, as an in-toto statement with SLSA provenance
///
/// The subjects are the outputs; what was asked for, the module, the inputs and the builder follow. It is JSON in any case.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep provenance 3fa9c1 -o model.intoto.json
  lockstep provenance 3fa9c1 --signed -o model.intoto.jsonl    # what `lockstep sign` made, for others' tools")]
pub struct ProvenanceArgs {
    /// A record: its digest, or the first digits
    #[arg(value_name = "RECORD")]
    record: String,

    /// Print the signatures that are kept of it: a DSSE envelope with the statement on each line
    #[arg(long)]
    signed: bool,

    /// Write it to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: ProvenanceArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    let Named::Record(found) = find(&runtime, &args.record)? else {
        return Err(
            Error::user(format_args!("{} is an artifact, not a record", args.record)).hint(format_args!(
                "`lockstep lineage {}` tells the records of the runs that it came from",
                args.record
            )),
        );
    };
    let (digest, record, observed) = *found;
    let mut text = Vec::new();
    if args.signed {
        for envelope in runtime.store.signatures(&digest)? {
            text.extend_from_slice(&envelope);
            text.push(b'\n');
        }
        if text.is_empty() {
            return Err(Error::user(format_args!("record {} is not signed", digest.short()))
                .hint(format_args!("`lockstep sign {} --key KEY.pem` signs it", digest.short())));
        }
    } else {
        text = format!("{:#}\n", statement(&runtime.store, &digest, &record, &observed)?).into_bytes();
    }
    match &args.output {
        Some(path) => write(path, &text),
        None => print_bytes(&text),
    }
}
