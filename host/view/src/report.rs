//! Reports on the results of runs.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use lockstep_runtime::pipeline::{Done, End, Skipped};
use lockstep_runtime::run::{Ran, Record};
use lockstep_runtime::step::{Artifact, Failure, Interruption, Outcome};

use crate::columns::{Align, Columns, fit};
use crate::error::{Error, Kind, Result};
use crate::quantity;

/// Returns the report of a successful run: its duration, its outputs and its record.
pub fn summary(ran: &Ran) -> String {
    let green = AnsiColor::Green.on_default().bold();
    let dim = Style::new().dimmed();
    let (title, outputs, record) = (title(&ran.record), outputs(&ran.record).indented(2), ran.digest.short());
    format!(
        "{green}{title}{green:#} {}\n{outputs}  {dim}record {record}{dim:#}\n",
        took(ran)
    )
}

/// The maximum number of listed tasks.
const LISTED: usize = 50;

/// Returns the report of a pipeline: a line per task and the totals. Of many tasks, lists only those that did not succeed.
pub fn tasks(tasks: &[Done], took: Duration) -> String {
    let mut table = Columns::headed(&["task", "outcome", "took", "memory", "outputs"]).aligned([
        Align::Left,
        Align::Left,
        Align::Right,
        Align::Right,
    ]);
    let well = |done: &&Done| matches!(&done.end, End::Ran(ran) if ran.record.outcome.succeeded());
    let listed = tasks.iter().filter(|done| tasks.len() <= LISTED || !well(done));
    listed.take(LISTED).for_each(|done| table.row(task_row(done)));
    let table = match table.is_empty() {
        true => String::new(),
        false => table.to_string(),
    };
    format!("{table}{}\n", totals(tasks, took))
}

fn task_row(done: &Done) -> [String; 5] {
    let name = fit(&done.task, 60);
    let only = |outcome: String| [name.clone(), outcome, String::new(), String::new(), String::new()];
    match &done.end {
        End::Ran(ran) => {
            let outputs = ran.record.outputs.iter();
            let outputs: Vec<_> = outputs.map(|(name, artifact)| made(name, artifact)).collect();
            let memory = ran.record.usage.as_ref().map(|usage| quantity::bytes(usage.memory));
            let outcome = fit(&ran.record.outcome.to_string(), 40);
            [name, outcome, took(ran), memory.unwrap_or_default(), outputs.join("  ")]
        }
        End::Skipped(because) => only(skipped(because)),
        End::Empty => only("no instances".to_owned()),
        End::Error(error) => only(fit(&error.to_string(), 60)),
        End::NotStarted => only("not started".to_owned()),
    }
}

/// Describes a skipped task: `skipped after clean`.
pub fn skipped(because: &Skipped) -> String {
    match because {
        Skipped::When(when) => format!("skipped: not {}", fit(&when.to_string(), 60)),
        Skipped::After(task) => format!("skipped after {}", fit(task, 60)),
    }
}

/// Returns the totals: `5 tasks: 3 run, 2 cached in 1.2 s`.
fn totals(tasks: &[Done], took: Duration) -> String {
    let word = |done: &Done| match &done.end {
        End::Ran(ran) if !ran.record.outcome.succeeded() => "failed",
        End::Ran(ran) if ran.cached => "cached",
        End::Ran(_) => "run",
        End::Skipped(_) => "skipped",
        End::Empty => "without instances",
        End::Error(_) => "failed",
        End::NotStarted => "not started",
    };
    let words = tasks.iter().map(word).collect::<Vec<_>>();
    counts(
        "task",
        &words,
        &["run", "cached", "failed", "skipped", "without instances", "not started"],
        took,
    )
}

/// Counts `words` in the order of `known`: `5 tasks: 3 run, 2 cached in 1.2 s`.
pub fn counts(what: &str, words: &[&str], known: &[&str], took: Duration) -> String {
    let counted = known.iter().map(|wanted| {
        let count = words.iter().filter(|word| *word == wanted).count();
        (count > 0).then(|| format!("{} {wanted}", quantity::count(count as u64)))
    });
    let counted: Vec<String> = counted.flatten().collect();
    let all = match words.len() {
        0 => return format!("no {what}s"),
        1 => format!("1 {what}"),
        count => format!("{} {what}s", quantity::count(count as u64)),
    };
    format!(
        "{all}: {} in {}",
        counted.join(", "),
        quantity::micros(took.as_micros() as u64)
    )
}

fn made(name: &str, artifact: &Artifact) -> String {
    format!("{name} {} ({})", artifact.digest.short(), quantity::bytes(artifact.size))
}

fn took(ran: &Ran) -> String {
    match ran.cached {
        true => "cached".to_owned(),
        false => quantity::micros(ran.observed.wall_us),
    }
}

/// Formats a count: `1 task`, `2,000 tasks`.
pub fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", quantity::count(count as u64))
}

/// Returns a table of the outputs of a record: name, digest, media type, size.
pub fn outputs(record: &Record) -> Columns {
    let mut columns = Columns::plain().aligned([Align::Left, Align::Left, Align::Left, Align::Right]);
    for (name, artifact) in &record.outputs {
        columns.row(artifact_row(name, artifact));
    }
    columns
}

/// Returns the row of an artifact: name, digest, media type, size.
pub fn artifact_row(name: &str, artifact: &Artifact) -> [String; 4] {
    [
        name.to_owned(),
        artifact.digest.short(),
        fit(artifact.media_type.as_str(), 60),
        quantity::bytes(artifact.size),
    ]
}

/// Returns the name of the step, or the arguments of the program.
pub fn title(record: &Record) -> String {
    match record.run.entry.title() {
        title if title.is_empty() => "program".to_owned(),
        title => fit(&title, 60),
    }
}

/// Returns an error unless the run succeeded. `title` names it, such as "task `clean`".
pub fn verdict(ran: &Ran, title: &str) -> Result<()> {
    let outcome = &ran.record.outcome;
    let kind = match outcome {
        Outcome::Succeeded => return Ok(()),
        Outcome::Failed(_) => Kind::Guest,
        Outcome::Interrupted { by: Interruption::Host } => Kind::Host,
        Outcome::Interrupted { .. } => Kind::Interrupted,
    };
    let error = match outcome {
        // its stderr is printed right above
        Outcome::Failed(Failure::Exit { code, .. }) => Error::new(kind, format_args!("{title} failed with exit code {code}")),
        Outcome::Failed(Failure::Panic { message, location }) => {
            let error = Error::new(kind, format_args!("{title} panicked: {}", fit(message, 400)));
            match location {
                Some(location) => error.detail(format_args!("at {}", fit(location, 200))),
                None => error,
            }
        }
        other => Error::new(kind, format_args!("{title} {other}")),
    };
    let error = match &ran.observed.backtrace {
        Some(backtrace) => error.detail(backtrace.trim_end()),
        None => error,
    };
    Err(match hint(outcome) {
        Some(hint) => error.hint(hint),
        None => error.hint(format_args!(
            "`lockstep show {}` shows its inputs and its log",
            ran.digest.short()
        )),
    })
}

fn hint(outcome: &Outcome) -> Option<String> {
    use lockstep_runtime::step::Limit;
    let option = match outcome {
        Outcome::Failed(Failure::Limit {
            limit: Limit::Memory, ..
        }) => "--memory",
        Outcome::Failed(Failure::Limit { limit: Limit::Fuel, .. }) => "--fuel",
        Outcome::Failed(Failure::Limit {
            limit: Limit::Output, ..
        }) => "--output-limit",
        Outcome::Failed(Failure::Limit { limit: Limit::Log, .. }) => "--log-limit",
        Outcome::Interrupted { by: Interruption::Time } => "--time",
        Outcome::Failed(Failure::MissingOutput { name }) => {
            return Some(format!("the program must write the output to /out/{name}"));
        }
        Outcome::Interrupted {
            by: Interruption::Caller,
        } => return Some("nothing was stored; run it again to start over".into()),
        _ => return None,
    };
    Some(format!("raise the limit with {option}"))
}
