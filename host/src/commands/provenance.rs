use std::path::PathBuf;

use clap::Args;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_view::artifacts::{Named, find};
use lockstep_view::error::{Error, Result};
use lockstep_view::export::write;
use lockstep_view::print::print_bytes;
use lockstep_view::provenance::statement;

use crate::invocation::Invocation;

/// Print the SLSA provenance of a run as an in-toto statement
///
/// The subjects are the outputs. The statement also names the parameters, the module, the inputs and the builder. Always prints JSON.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep provenance 3fa9c1 -o model.intoto.json
  lockstep provenance 3fa9c1 --signed -o model.intoto.jsonl    # signatures by `lockstep sign`, for other tools")]
pub struct ProvenanceArgs {
    /// Record: digest or its prefix
    #[arg(value_name = "RECORD")]
    record: String,

    /// Print the stored signatures instead: one DSSE envelope per line
    #[arg(long)]
    signed: bool,

    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: ProvenanceArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    let Named::Record(found) = find(&runtime, &args.record)? else {
        return Err(
            Error::user(format_args!("{} is an artifact, not a record", args.record)).hint(format_args!(
                "`lockstep lineage {}` shows the records it was made from",
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
