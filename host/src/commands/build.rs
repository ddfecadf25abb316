use std::path::{Path, PathBuf};

use clap::Args;
use lockstep_kernel::toolchain::{BuildOptions, Built};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::interfaces;
use lockstep_view::error::{Error, Result};
use lockstep_view::print::print_json;
use lockstep_view::{export, quantity};
use serde_json::{Value, json};

use crate::crates::build;
use crate::invocation::{Invocation, interrupt_on_ctrl_c};

/// Build a crate of steps, or a program, into a module
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep build                        # the crate in this directory, into NAME.wasm
  lockstep build examples/penguins -o penguins.wasm
  lockstep build . -p steps --features parquet --locked")]
pub struct BuildArgs {
    /// Directory of the crate
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,

    /// Output file [default: NAME.wasm in the current directory]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Package to build in a workspace
    #[arg(short, long, value_name = "NAME")]
    package: Option<String>,

    /// Cargo features to enable
    #[arg(short = 'F', long, value_name = "NAME", value_delimiter = ',')]
    features: Vec<String>,

    /// Require that Cargo.lock is up to date
    #[arg(long)]
    locked: bool,

    /// Do not access the network
    #[arg(long)]
    offline: bool,
}

pub fn run(args: BuildArgs, invocation: &Invocation) -> Result<()> {
    let BuildArgs {
        directory,
        output,
        package,
        features,
        locked,
        offline,
    } = args;
    let options = BuildOptions {
        package,
        features,
        offline,
        locked,
        confined_to: None,
    };
    let built = build(&directory, &options, &interrupt_on_ctrl_c()?, invocation)?;
    if output.is_some() && built.len() > 1 {
        let names = built.iter().map(|built| built.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::user(format_args!("the crate has several programs: {names}"))
            .hint("omit --output: each program becomes NAME.wasm"));
    }
    let mut modules = Vec::new();
    for built in &built {
        let path = output
            .clone()
            .unwrap_or_else(|| Path::new(&built.name).with_extension("wasm"));
        built
            .warnings
            .iter()
            .for_each(|warning| anstream::eprintln!("{}", warning.trim_end()));
        export::write(&path, &built.wasm)?;
        modules.push(describe(built, &path, invocation)?);
    }
    if invocation.json {
        print_json(&json!({ "modules": modules }))?;
    }
    Ok(())
}

/// Prints a built module, and returns it as JSON.
fn describe(built: &Built, path: &Path, invocation: &Invocation) -> Result<Value> {
    let digest = Digest::of(&built.wasm);
    let steps: Vec<String> = interfaces(&built.wasm)?.into_iter().map(|interface| interface.step).collect();
    if !invocation.json && !invocation.quiet {
        let (size, short) = (quantity::bytes(built.wasm.len() as u64), digest.short());
        let what = match &steps[..] {
            [] => "a plain program".to_owned(),
            [only] => format!("step {only}"),
            several => format!("steps {}", several.join(", ")),
        };
        anstream::eprintln!("{}  {short}  {size}  {what}", path.display());
    }
    Ok(json!({ "path": path, "module": digest, "size": built.wasm.len(), "steps": steps }))
}
