use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use lockstep_registry::{InvalidReference, Progress, Reference, Registry, Transferred, credentials};
use lockstep_runtime::bundle::{Bundle, check_target};
use lockstep_view::error::Result;
use lockstep_view::export::check_parent;
use lockstep_view::{progress, quantity, report};
use serde_json::json;

use crate::invocation::Invocation;

/// Push a bundle to a registry
///
/// Skips blobs that the registry already has. Each module also becomes an artifact of the registry.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep bundle push wine.tar ghcr.io/team/wine:1.0
  lockstep bundle push wine.tar localhost:5000/wine:latest")]
pub struct PushArgs {
    /// Bundle: a tar file or a directory
    #[arg(value_name = "FILE.tar")]
    bundle: PathBuf,

    #[command(flatten)]
    to: RegistryArgs,
}

/// Pull a bundle from a registry
///
/// Verifies the digest of every blob. The file appears only when it is complete.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep bundle pull ghcr.io/team/wine:1.0 -o wine.tar
  lockstep bundle pull ghcr.io/team/wine@sha256:... -o wine.tar && lockstep bundle replay wine.tar")]
pub struct PullArgs {
    #[command(flatten)]
    from: RegistryArgs,

    /// Output path: a file if it ends in .tar, otherwise a directory
    #[arg(short, long, value_name = "FILE.tar")]
    output: PathBuf,
}

#[derive(Args)]
struct RegistryArgs {
    /// Reference in the registry: with a tag, or with a digest as HOST/REPOSITORY@sha256:...
    #[arg(value_name = "HOST/REPOSITORY:TAG", value_parser = reference)]
    reference: Reference,

    /// Allow HTTP without TLS to a remote registry
    #[arg(long)]
    plain_http: bool,
}

fn reference(text: &str) -> Result<Reference, InvalidReference> {
    text.parse()
}

impl RegistryArgs {
    fn open(&self, invocation: &Invocation) -> Result<Registry> {
        let credentials = match &invocation.locations.docker_config {
            Some(file) => credentials(file, &self.reference.registry)?,
            None => None,
        };
        Ok(Registry::new(self.reference.clone(), credentials, self.plain_http)?)
    }
}

pub fn push(args: &PushArgs, invocation: &Invocation) -> Result<()> {
    let bundle = Bundle::open(&args.bundle)?;
    bundle.verify(&mut |_| ())?;
    let registry = args.to.open(invocation)?;
    let bar = progress::bytes("push");
    let sent = registry.push(&bundle, &|progress| advance(&bar, progress))?;
    bar.finish_and_clear();
    answer("pushed", &args.to.reference, &sent, invocation)
}

pub fn pull(args: &PullArgs, invocation: &Invocation) -> Result<()> {
    check_target(&args.output)?;
    check_parent(&args.output)?;
    let registry = args.from.open(invocation)?;
    let bar = progress::bytes("pull");
    let fetched = registry.pull(&args.output, &|progress| advance(&bar, progress))?;
    bar.finish_and_clear();
    answer("pulled", &args.from.reference, &fetched, invocation)
}

fn advance(bar: &ProgressBar, progress: Progress) {
    match progress {
        Progress::Total(bytes) => bar.set_length(bytes),
        Progress::Moved(bytes) => bar.inc(bytes),
    }
}

fn answer(word: &str, reference: &Reference, done: &Transferred, invocation: &Invocation) -> Result<()> {
    if invocation.quiet && !invocation.json {
        return Ok(());
    }
    let blobs = report::counted(done.blobs as usize, "blob");
    let known = if done.known > 0 {
        format!(", {} already present", done.known)
    } else {
        String::new()
    };
    let text = format!(
        "{reference}: {word} {blobs} ({}){known}\n{}\n",
        quantity::bytes(done.bytes),
        done.digest
    );
    invocation.answer(text, || {
        json!({
            "reference": reference.to_string(),
            "digest": done.digest,
            "blobs": done.blobs,
            "bytes": done.bytes,
            "known": done.known,
        })
    })
}
