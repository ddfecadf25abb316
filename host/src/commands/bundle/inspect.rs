use std::path::PathBuf;

use clap::Args;
use lockstep_runtime::bundle::{BlobRole, Bundle};
use lockstep_runtime::step::Artifact;
use lockstep_view::columns::{Align, Columns, fit};
use lockstep_view::error::Result;
use lockstep_view::{progress, quantity, report};
use serde_json::{Value, json};

use crate::invocation::Invocation;

/// List the contents of a bundle, and verify their digests
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep bundle inspect wine.tar
  lockstep bundle inspect wine.tar --json")]
pub struct InspectArgs {
    /// Bundle: a tar file or a directory
    #[arg(value_name = "FILE.tar")]
    bundle: PathBuf,
}

pub fn run(args: &InspectArgs, invocation: &Invocation) -> Result<()> {
    let bundle = Bundle::open(&args.bundle)?;
    let size: u64 = bundle.blobs().values().sum();
    let bar = progress::bytes("verifying");
    bar.set_length(size);
    bundle.verify(&mut |bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    let expected = expected(&bundle)?;
    invocation.answer(text(&bundle, &expected, size), || to_json(&bundle, &expected, size))
}

/// A task, the name of an output, and its expected artifact.
type Output = (String, String, Artifact);

fn expected(bundle: &Bundle) -> Result<Vec<Output>> {
    let records = bundle.expected().records()?;
    let mut outputs = Vec::new();
    for wanted in &bundle.expected().tasks {
        let record = wanted.record.and_then(|digest| records.get(&digest));
        for (name, artifact) in record.iter().flat_map(|record| &record.outputs) {
            outputs.push((wanted.task.clone(), name.clone(), artifact.clone()));
        }
    }
    Ok(outputs)
}

fn text(bundle: &Bundle, expected: &[Output], size: u64) -> String {
    let mut items = table(&["kind", "name", "digest", "media type", "size"]);
    for item in bundle.items() {
        let [name, digest, media_type, size] = report::artifact_row(&fit(&item.name, 60), &item.artifact);
        items.row([item.role.word().to_owned(), name, digest, media_type, size]);
    }
    let mut outputs = table(&["task", "output", "digest", "media type", "size"]);
    for (task, name, artifact) in expected {
        let [name, digest, media_type, size] = report::artifact_row(&fit(name, 40), artifact);
        outputs.row([fit(task, 60), name, digest, media_type, size]);
    }
    format!(
        "{}, bundle {}, {}, {}\n\n{items}\n{outputs}",
        fit(&bundle.plan().name, 60),
        bundle.digest().short(),
        report::counted(bundle.plan().tasks().len(), "task"),
        quantity::bytes(size),
    )
}

fn table(head: &[&str]) -> Columns {
    Columns::headed(head).aligned([Align::Left, Align::Left, Align::Left, Align::Left, Align::Right])
}

fn to_json(bundle: &Bundle, expected: &[Output], size: u64) -> Value {
    let items = |role: BlobRole| -> Vec<Value> {
        let items = bundle.items().iter().filter(|item| item.role == role);
        items
            .map(|item| {
                let Artifact {
                    digest,
                    media_type,
                    size,
                } = &item.artifact;
                json!({ "name": item.name, "digest": digest, "media_type": media_type, "size": size })
            })
            .collect()
    };
    let tasks = bundle.expected().tasks.iter().map(|wanted| {
        let own = expected.iter().filter(|(task, ..)| *task == wanted.task);
        let outputs: serde_json::Map<_, _> = own.map(|(_, name, artifact)| (name.clone(), json!(artifact))).collect();
        json!({ "task": wanted.task, "record": wanted.record, "outputs": outputs })
    });
    json!({
        "bundle": bundle.digest(),
        "pipeline": bundle.plan().name,
        "size": size,
        "modules": items(BlobRole::Module),
        "inputs": items(BlobRole::Input),
        "outputs": items(BlobRole::Output),
        "tasks": tasks.collect::<Vec<_>>(),
    })
}
