use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_runtime::store::Store;
use lockstep_view::artifacts::{ColumnType, Named, find, unique, with_types};
use lockstep_view::content::Content;
use lockstep_view::error::{Error, Result};
use lockstep_view::export::export;
use lockstep_view::print::{print, print_bytes, print_json, print_plain};
use lockstep_view::{quantity, record};

use crate::invocation::Invocation;
use crate::pipelines::column_type;

/// The maximum of text that a terminal gets.
const MOST: usize = 1 << 20;

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
    if invocation.json {
        let value = match Content::read(store, artifact, 0..rows)? {
            Content::Json(value) => value,
            content => content.to_json(),
        };
        return print_json(&value);
    }
    // laying out large JSON takes longer than reading it
    let is_large = artifact.media_type.as_str() == MediaType::JSON && artifact.size > MOST as u64;
    let shown = Artifact {
        media_type: if is_large {
            MediaType::new(MediaType::TEXT)
        } else {
            artifact.media_type.clone()
        },
        ..artifact.clone()
    };
    let content = Content::read(store, &shown, 0..rows)?;
    let is_terminal = io::stdout().is_terminal();
    match content.plain() {
        // all of it, as it is
        Some(_) if !is_terminal && matches!(content, Content::Text { .. }) => return print_raw(store, artifact),
        Some(text) if is_terminal && text.len() > MOST => {
            let end = text.floor_char_boundary(MOST);
            print_plain(&text[..end])?;
            let omitted = quantity::bytes((text.len() - end) as u64);
            anstream::eprintln!("{omitted} omitted; --raw writes all of it");
            return Ok(());
        }
        Some(text) => print_plain(&text)?,
        None => print(&content)?,
    }
    if !invocation.quiet
        && let Some(note) = content.note()
    {
        anstream::eprintln!("{note}");
    }
    Ok(())
}
