use std::fs;
use std::path::PathBuf;

use clap::Args;
use lockstep_view::error::{Error, Result};
use lockstep_view::export::write;

use super::run;
use crate::invocation::Invocation;

/// Run an example pipeline that needs no Rust
///
/// Writes the penguins example with a ready-made module to a directory and runs it: clean, split, train, score and plot.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep demo
  lockstep run lockstep-demo/penguins.yaml -p trees=50   # runs only what the change affects
  lockstep new penguins --example                        # the sources of its steps")]
pub struct DemoArgs {
    /// Directory for the example
    #[arg(value_name = "DIR", default_value = "lockstep-demo")]
    directory: PathBuf,
}

const PIPELINE: &str = "penguins.yaml";
const FIGURE: &str = "figure.svg";

/// The pipeline of the example, with its figure as an output.
const PIPELINE_TEXT: &str = concat!(
    include_str!("../../../examples/penguins/penguins.yaml"),
    "\noutputs:\n  figure: plot.figure\n"
);

/// The files of the example. A test compares the module with its sources.
const FILES: [(&str, &[u8]); 3] = [
    (PIPELINE, PIPELINE_TEXT.as_bytes()),
    ("penguins.csv", include_bytes!("../../../examples/penguins/penguins.csv")),
    ("penguins.wasm", include_bytes!("demo/penguins.wasm")),
];

pub fn run(args: DemoArgs, invocation: &Invocation) -> Result<()> {
    let directory = args.directory;
    fs::create_dir_all(&directory).map_err(|error| Error::file("create", &directory, &error))?;
    for (name, bytes) in FILES {
        let path = directory.join(name);
        match fs::read(&path) {
            Ok(found) if found == bytes => {}
            Ok(_) => {
                return Err(
                    Error::user(format_args!("{} already exists and is not the example's", path.display()))
                        .hint("choose another directory: lockstep demo DIR"),
                );
            }
            Err(_) => write(&path, bytes)?,
        }
    }
    let pipeline = directory.join(PIPELINE).display().to_string();
    let figure = directory.join(FIGURE).display().to_string();
    let command = ["run".to_owned(), pipeline.clone(), format!("--output=figure={figure}")];
    run::run(run::parse(&command)?, invocation)?;
    if !invocation.json && !invocation.quiet {
        anstream::eprintln!("hint: open {figure}, then run: lockstep run {pipeline} -p trees=50");
    }
    Ok(())
}
