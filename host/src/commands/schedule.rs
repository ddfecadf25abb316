use std::path::Path;

use clap::{ArgGroup, Args, Subcommand};
use lockstep_client::Remote;
use lockstep_view::columns::{Columns, fit};
use lockstep_view::error::{Error, Result};
use lockstep_view::events::read;
use lockstep_view::quantity;
use lockstep_view::runs::age;
use serde::Deserialize;
use serde_json::{Value, json};

use super::run::LimitArgs;
use crate::invocation::{Invocation, interrupt_on_ctrl_c};
use crate::pipelines::{GivenArgs, is_pipeline, plan};

/// Have a host run pipelines at certain times, or when a webhook is called
///
/// What a schedule runs is fixed when it is added: modules, parameters and inputs are those of that moment. Needs a host.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep schedule add nightly --cron \"0 6 * * *\" --zone Europe/Vienna penguins.yaml
  lockstep schedule add nightly --cron \"0 6 * * *\" penguins.yaml --replace    # with the inputs as they are now
  lockstep schedule add deploy --webhook penguins.yaml -p depth=8
  lockstep schedule list
  lockstep schedule trigger nightly
  lockstep schedule pause nightly")]
pub struct ScheduleArgs {
    #[command(subcommand)]
    command: ScheduleCommand,
}

#[derive(Subcommand)]
enum ScheduleCommand {
    Add(Box<AddArgs>),
    /// List schedules
    List,
    /// Show a schedule and its last starts
    Show(NameArgs),
    /// Pause a schedule
    Pause(NameArgs),
    /// Resume a schedule that was paused, or that the host has stopped
    Resume(NameArgs),
    /// Start a schedule now, also if it is paused
    Trigger(NameArgs),
    /// Remove a schedule; work that it started goes on
    Remove(NameArgs),
}

#[derive(Args)]
struct NameArgs {
    /// Name of the schedule
    #[arg(value_name = "NAME")]
    name: String,
}

/// Add a schedule
///
/// Uploads modules and inputs, and submits the plan with every start. To run with other inputs, add the schedule again with --replace.
#[derive(Args)]
#[command(group(ArgGroup::new("when").args(["cron", "webhook"]).required(true).multiple(true)))]
struct AddArgs {
    /// Name of the schedule: letters, digits, `-`, `_` and `.`
    #[arg(value_name = "NAME")]
    name: String,

    /// PIPELINE.yaml, NOTEBOOK.ipynb or PLAN.json
    #[arg(value_name = "PIPELINE|NOTEBOOK")]
    what: String,

    /// Run it at these times: minute, hour, day of the month, month and day of the week, as in crontab
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,

    /// Time zone of --cron, such as Europe/Vienna [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "cron")]
    zone: Option<String>,

    /// Run it when its webhook is called. Prints the URL and the secret of the webhook, which can't be shown again
    #[arg(long)]
    webhook: bool,

    /// After a time when the host did not run, start it once
    #[arg(long, requires = "cron")]
    catch_up: bool,

    /// After a time when the host did not run, wait for the next time (the default)
    #[arg(long, requires = "cron", conflicts_with = "catch_up")]
    skip: bool,

    /// Start it although the work of its last start still runs; otherwise this time is skipped
    #[arg(long)]
    overlap: bool,

    /// Replace the schedule with this name. Its history stays
    #[arg(long)]
    replace: bool,

    #[command(flatten)]
    given: GivenArgs,

    /// Ignore cached results. Otherwise, what has run with the same inputs is not run again
    #[arg(long)]
    no_cache: bool,

    /// After a failure, continue with tasks that do not depend on it
    #[arg(short, long)]
    keep_going: bool,

    #[command(flatten)]
    limits: LimitArgs,
}

pub fn run(args: ScheduleArgs, invocation: &Invocation) -> Result<()> {
    let Some(remote) = invocation.remote()? else {
        return Err(Error::user("a schedule needs a host, which runs it").hint("give --host URL, or set LOCKSTEP_HOST"));
    };
    let path = |name: &str| format!("schedules/{}", checked(name));
    match args.command {
        ScheduleCommand::Add(args) => add(*args, &remote, invocation),
        ScheduleCommand::List => list(&remote, invocation),
        ScheduleCommand::Show(args) => show(remote.read(&path(&args.name))?, invocation),
        ScheduleCommand::Pause(args) => changed(remote.ask(&(path(&args.name) + "/pause"), &json!({}))?, invocation),
        ScheduleCommand::Resume(args) => changed(remote.ask(&(path(&args.name) + "/resume"), &json!({}))?, invocation),
        ScheduleCommand::Trigger(args) => {
            let work = remote.ask(&(path(&args.name) + "/trigger"), &json!({}))?;
            let id: String = read(work["id"].clone())?;
            invocation.answer(format_args!("started, work item {id}\n"), || work)
        }
        ScheduleCommand::Remove(args) => {
            let removed = remote.remove(&path(&args.name))?;
            invocation.answer("", || removed)
        }
    }
}

/// Returns a name as a part of a URL. No schedule has a name with other signs.
fn checked(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = name.chars().map(|c| if plain(c) { c } else { '~' }).collect();
    if name.starts_with('.') { format!("~{name}") } else { name }
}

/// A schedule, as a host describes it.
#[derive(Deserialize)]
struct Told {
    name: String,
    pipeline: String,
    plan: String,
    state: String,
    why: Option<String>,
    cron: Option<String>,
    zone: Option<String>,
    words: Option<String>,
    next: Option<String>,
    webhook: bool,
    token: Option<String>,
    catch_up: Option<bool>,
    overlap: bool,
    #[serde(default)]
    starts: Vec<Start>,
}

#[derive(Deserialize)]
struct Start {
    at_ms: u64,
    by: String,
    work: Option<String>,
    state: Option<String>,
    why: Option<String>,
}

impl Start {
    /// Returns the state of its work item, or why there is none.
    fn result(&self) -> String {
        let state = match (&self.work, &self.state) {
            (None, _) => Some("not started".to_owned()),
            (Some(_), None) => Some("removed".to_owned()),
            (Some(_), state) => state.clone(),
        };
        let parts = state.into_iter().chain(self.why.clone());
        parts.collect::<Vec<_>>().join(": ")
    }
}

impl Told {
    /// Returns when it starts: `0 6 * * * (UTC), webhook`.
    fn when(&self) -> String {
        let cron = self
            .cron
            .iter()
            .zip(&self.zone)
            .map(|(cron, zone)| format!("{cron} ({zone})"));
        let webhook = self.webhook.then(|| "webhook".to_owned());
        cron.chain(webhook).collect::<Vec<_>>().join(", ")
    }
}

fn add(mut args: AddArgs, remote: &Remote, invocation: &Invocation) -> Result<()> {
    if !is_pipeline(&args.what) {
        return Err(Error::user(format_args!("{} is not a pipeline", args.what))
            .hint("give a file that ends in .yaml, .ipynb or .json; a pipeline with one task runs a single step"));
    }
    let runtime = invocation.runtime(args.limits.engine())?;
    let interrupt = interrupt_on_ctrl_c()?;
    for (_, source) in &args.given.inputs {
        invocation.bring(&runtime, source)?;
    }
    args.given.apply_types(&runtime)?;
    let plan = plan(&runtime, &args.what, args.given, &interrupt, invocation)?;
    let body = json!({
        "name": args.name,
        "cron": args.cron,
        "zone": args.zone,
        "webhook": args.webhook,
        "catch_up": args.catch_up,
        "overlap": args.overlap,
        "replace": args.replace,
        "limits": args.limits.own(),
        "fresh": args.no_cache,
        "keep_going": args.keep_going,
    });
    let mut added = remote.add_schedule(&runtime.store, &plan, body)?;
    if let Some(path) = added["url"].as_str() {
        added["url"] = json!(remote.address(path));
    }
    let told: Told = read(added.clone())?;
    let mut text = String::new();
    if let Some(next) = &told.next {
        text = format!("next: {next}\n");
    }
    for name in ["url", "secret"] {
        if let Some(value) = added[name].as_str() {
            text.push_str(&format!("{name}: {value}\n"));
        }
    }
    invocation.answer(text, || added)?;
    if !invocation.json && !invocation.quiet {
        let file = Path::new(&args.what).display();
        anstream::eprintln!(
            "{} always runs the plan of now: later changes of {file}, its modules and inputs have no effect\nhint: `lockstep schedule add \
             {} ... --replace` takes them",
            told.name,
            told.name
        );
    }
    Ok(())
}

fn list(remote: &Remote, invocation: &Invocation) -> Result<()> {
    let listed = remote.read("schedules")?;
    let all: Vec<Told> = read(listed["schedules"].clone())?;
    let mut table = Columns::headed(&["name", "state", "when", "next", "last"]);
    for told in &all {
        let last = told.starts.first();
        let last = last.map(|start| format!("{} {}", start.result(), quantity::age(age(start.at_ms))));
        table.row([
            told.name.clone(),
            told.state.clone(),
            told.when(),
            told.next.clone().unwrap_or_default(),
            fit(&last.unwrap_or_default(), 60),
        ]);
    }
    let table = if all.is_empty() { Columns::plain() } else { table };
    invocation.answer(table, || listed)
}

fn show(shown: Value, invocation: &Invocation) -> Result<()> {
    let told: Told = read(shown.clone())?;
    let missed = match told.catch_up {
        Some(true) => Some("starts once after missed times".to_owned()),
        Some(false) => Some("skips missed times".to_owned()),
        None => None,
    };
    let overlap = if told.overlap {
        "starts although the last start still runs"
    } else {
        "never"
    };
    let lines = [
        ("name", Some(told.name.clone())),
        ("pipeline", Some(told.pipeline.clone())),
        ("plan", Some(told.plan.clone())),
        ("state", Some(told.state.clone())),
        ("why", told.why.clone()),
        ("when", Some(told.when())),
        ("in words", told.words.clone()),
        ("next", told.next.clone()),
        ("missed", missed),
        ("overlap", Some(overlap.to_owned())),
        ("token", told.token.clone()),
    ];
    let mut table = Columns::plain();
    for (name, value) in lines {
        if let Some(value) = value {
            table.row([name.to_owned(), fit(&value, 100)]);
        }
    }
    let mut text = table.to_string();
    if !told.starts.is_empty() {
        let mut starts = Columns::headed(&["start", "age", "work item", "result"]);
        for start in &told.starts {
            starts.row([
                start.by.clone(),
                quantity::age(age(start.at_ms)),
                start.work.clone().unwrap_or_default(),
                fit(&start.result(), 100),
            ]);
        }
        text.push_str(&starts.to_string());
    }
    invocation.answer(text, || shown)
}

fn changed(changed: Value, invocation: &Invocation) -> Result<()> {
    let told: Told = read(changed.clone())?;
    let text = match &told.next {
        Some(next) => format!("{}, next: {next}\n", told.state),
        None => format!("{}\n", told.state),
    };
    invocation.answer(text, || changed)
}
