use clap::Args;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::Runtime;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::Artifact;
use lockstep_view::artifacts::{Named, find};
use lockstep_view::columns::{Columns, fit};
use lockstep_view::difference::{Changed, Difference, compare, diff_records, differing};
use lockstep_view::error::{Error, Result};
use serde_json::{Value, json};

use crate::invocation::Invocation;

/// Compare two records, or find the first difference of two artifacts
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep diff 3fa9c1 8b01d2               # two records of `lockstep log`
  lockstep diff 3fa9c1/rows 8b01d2/rows     # an output of each
  lockstep diff old.arrow new.arrow --json")]
pub struct DiffArgs {
    /// Record or artifact: path, digest or its prefix, or RECORD/OUTPUT
    #[arg(value_name = "LEFT")]
    left: String,

    /// Record or artifact to compare with
    #[arg(value_name = "RIGHT")]
    right: String,
}

pub fn run(args: DiffArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    let remote = invocation.remote()?;
    if let Some(remote) = &remote {
        remote.bring(&runtime, &args.left)?;
        remote.bring(&runtime, &args.right)?;
    }
    match (find(&runtime, &args.left)?, find(&runtime, &args.right)?) {
        (Named::Artifact(left), Named::Artifact(right)) => diff_artifacts(&runtime, &left, &right, invocation),
        (Named::Record(left), Named::Record(right)) => {
            if let Some(remote) = &remote {
                let differing = differing(&left.1, &right.1);
                remote.take_existing(&runtime.store, &differing)?;
            }
            let changed = diff_records(&runtime.store, &left.1, &right.1)?;
            report(&changed, (&left.0, &right.0), invocation)
        }
        (Named::Record(_), Named::Artifact(_)) => Err(unlike(&args.left, &args.right)),
        (Named::Artifact(_), Named::Record(_)) => Err(unlike(&args.right, &args.left)),
    }
}

fn unlike(record: &str, artifact: &str) -> Error {
    Error::user(format_args!("{record} is a record, {artifact} is an artifact"))
        .hint("compare two records or two artifacts; RECORD/OUTPUT names an output of a record")
}

fn diff_artifacts(runtime: &Runtime, left: &Artifact, right: &Artifact, invocation: &Invocation) -> Result<()> {
    let first = compare(&runtime.store, left, right)?;
    let text = match &first {
        Some(first) => format!("{first}\n"),
        None => "no difference\n".to_owned(),
    };
    invocation.answer(text, || {
        json!({
            "equal": first.is_none(),
            "left": left,
            "right": right,
            "first": first.as_ref().map(Difference::to_json),
        })
    })
}

fn report(changed: &[Changed], (left, right): (&Digest, &Digest), invocation: &Invocation) -> Result<()> {
    let mut text = String::new();
    for (title, went_in) in [("inputs", true), ("results", false)] {
        let mut columns = Columns::headed(&[title, &left.short(), &right.short(), "first difference"]);
        for row in changed.iter().filter(|row| row.went_in == went_in) {
            let first = row.first.as_ref().map(ToString::to_string).unwrap_or_default();
            columns.row([fit(&row.what, 40), fit(&row.left, 40), fit(&row.right, 40), first]);
        }
        if !columns.is_empty() {
            text.push_str(&columns.to_string());
        }
    }
    if changed.is_empty() {
        text.push_str("no difference\n");
    }
    invocation.answer(text, || to_json(changed, left, right))
}

fn to_json(changed: &[Changed], left: &Digest, right: &Digest) -> Value {
    let rows = |went_in| -> Vec<Value> {
        let rows = changed.iter().filter(|row| row.went_in == went_in);
        rows.map(Changed::to_json).collect()
    };
    json!({ "equal": changed.is_empty(), "left": left, "right": right, "in": rows(true), "out": rows(false) })
}
