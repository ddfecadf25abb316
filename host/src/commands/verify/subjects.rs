//! Selects the records to verify: by name, of a pipeline, or of the whole store.

use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Explained, Fate, Plan};
use lockstep_runtime::run::Runtime;
use lockstep_runtime::sandbox::Interrupt;
use lockstep_runtime::store::Row;
use lockstep_view::artifacts::{Named, find};
use lockstep_view::columns::fit;
use lockstep_view::error::{Error, Result};
use lockstep_view::plan::told;
use lockstep_view::report;

use crate::invocation::Invocation;
use crate::pipelines::{self, GivenArgs};

/// Something to verify.
pub struct Subject {
    /// The title.
    pub what: String,
    /// The record, or the reason why there is none.
    pub record: Result<Digest, String>,
}

/// Returns the record that `what` names.
pub fn record(runtime: &Runtime, what: &str, given: &GivenArgs) -> Result<Vec<Subject>> {
    if !given.is_empty() {
        return Err(
            Error::user(format_args!("parameters and inputs need a pipeline, and {what} is not one"))
                .hint("a pipeline is a file that ends in .yaml, or a plan that ends in .json"),
        );
    }
    match find(runtime, what)? {
        Named::Record(found) => Ok(vec![Subject {
            what: report::title(&found.1),
            record: Ok(found.0),
        }]),
        Named::Artifact(artifact) => Err(
            Error::user(format_args!("{what} is an artifact, not a record")).hint(format_args!(
                "`lockstep lineage {}` shows the record of the run that made it",
                artifact.digest.short()
            )),
        ),
    }
}

/// Resolves a pipeline or plan and what it is given.
pub fn plan(runtime: &Runtime, what: &str, given: GivenArgs, interrupt: &Interrupt, invocation: &Invocation) -> Result<Plan> {
    for (_, source) in &given.inputs {
        invocation.bring(runtime, source)?;
    }
    pipelines::plan(runtime, what, given, interrupt, invocation)
}

/// Returns the records of the tasks of the pipeline `what`.
pub fn tasks(explained: Vec<Explained>, what: &str) -> Result<Vec<Subject>> {
    let subjects: Vec<Subject> = explained.into_iter().map(subject).collect();
    if !subjects.is_empty() && subjects.iter().all(|subject| subject.record.is_err()) {
        return Err(Error::user(format_args!("no task of {what} has a record")).hint(format_args!(
            "`lockstep run {what}` creates them; `lockstep plan {what}` shows what is missing"
        )));
    }
    Ok(subjects)
}

fn subject(explained: Explained) -> Subject {
    let Explained { task, fate } = explained;
    let record = match fate {
        Fate::Hit { record, .. } => Ok(record),
        fate => Err(match told(&fate) {
            ("miss", why) if why != "never run" => format!("not run: {why}"),
            ("miss", why) => why,
            ("waits", _) => "never run".to_owned(),
            (word, why) => format!("{word}: {why}"),
        }),
    };
    Subject { what: task, record }
}

/// Returns a record of a list.
pub fn listed(row: Row) -> Subject {
    Subject {
        what: match row.step.as_str() {
            "" => "program".to_owned(),
            step => fit(step, 60),
        },
        record: Ok(row.record),
    }
}
