use std::path::PathBuf;

use clap::Args;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::Artifact;
use lockstep_runtime::store::Store;
use lockstep_view::artifacts::{ColumnType, Named, find, unique, with_types};
use lockstep_view::content::Content;
use lockstep_view::error::{Error, Result};
use lockstep_view::export::export;
use lockstep_view::print::print_bytes;
use lockstep_view::record;

use crate::invocation::Invocation;
use crate::pipelines::column_type;

/// Show an artifact or a record
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep show 8b01d2                  # a record from `lockstep log`, or an artifact
  lockstep show 8b01d2/rows --rows 50   # an output of a record
  lockstep show data/wine.csv
  lockstep show 8b01d2/rows -o rows.arrow")]
pub struct ShowArgs {
    /// Path, digest or its prefix, or RECORD/OUTPUT
    #[arg(value_name = "WHAT")]
    what: String,

    /// Maximum number of table rows
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    rows: usize,

    /// Set the type of a column of CSV: boolean, integer, float, date, time or text
    #[arg(long = "type", value_name = "COLUMN=TYPE", value_parser = column_type)]
    types: Vec<(String, ColumnType)>,

    /// Write the raw bytes to stdout
    #[arg(long)]
    raw: bool,

    /// Write the artifact to this path
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
}

pub fn run(args: ShowArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    invocation.bring(&runtime, &args.what)?;
    let named = match args.types.is_empty() {
        true => find(&runtime, &args.what)?,
        false => Named::Artifact(with_types(&runtime, &args.what, &unique("type of column", args.types)?)?),
    };
    match named {
        Named::Record(_) if args.raw || args.output.is_some() => {
            Err(Error::user(format_args!("{} is a record, not an artifact", args.what))
                .hint("`lockstep show RECORD --json` prints all of it"))
        }
        Named::Record(found) => {
            let (digest, record, observed) = *found;
            invocation.answer(record::describe(&digest, &record, &observed), || {
                record::to_json(&digest, &record, &observed)
            })
        }
        Named::Artifact(artifact) => match args.output {
            Some(path) => export(&runtime.store, &artifact, &path),
            None if args.raw => print_raw(&runtime.store, &artifact),
            None => show(&runtime.store, &artifact, args.rows, invocation),
        },
    }
}

fn print_raw(store: &Store, artifact: &Artifact) -> Result<()> {
    if artifact.is_directory() {
        return Err(Error::user("--raw does not support directories").hint("use -o DIR to write it to a new directory"));
    }
    print_bytes(&store.get(&artifact.digest)?)
}

fn show(store: &Store, artifact: &Artifact, rows: usize, invocation: &Invocation) -> Result<()> {
    let content = Content::read(store, artifact, 0..rows)?;
    invocation.answer(&content, || content.to_json())?;
    if !invocation.json
        && !invocation.quiet
        && let Some(note) = content.note()
    {
        anstream::eprintln!("{note}");
    }
    Ok(())
}
