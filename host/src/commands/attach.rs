use clap::Args;
use lockstep_cluster::{Cluster, Known};
use lockstep_runtime::pipeline::{Execution, Plan};
use lockstep_runtime::run::Reuse;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::Limits;
use lockstep_view::columns::Columns;
use lockstep_view::error::{Error, Result};
use serde_json::json;

use super::run::{ELSEWHERE, WhereArgs, in_cluster};
use crate::invocation::{Invocation, interrupt_on_ctrl_c};

/// Follow a pipeline that a cluster carries out, or end it
///
/// Ctrl-C leaves it to the cluster again.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep attach                     # the one that there is, or a list of them
  lockstep attach 3fa9c1 -n team      # by the first digits of its plan's digest
  lockstep attach 3fa9c1 --cancel")]
pub struct AttachArgs {
    /// The first digits of the plan's digest
    #[arg(value_name = "PLAN")]
    plan: Option<String>,

    /// End it: delete its Jobs and their pods. What its tasks made is kept
    #[arg(long)]
    cancel: bool,

    #[command(flatten)]
    place: WhereArgs,
}

pub fn run(args: AttachArgs, invocation: &Invocation) -> Result<()> {
    let cluster = args.place.connect()?;
    let mut known = cluster.known()?;
    if let Some(digits) = &args.plan {
        let digits = digits.strip_prefix("sha256:").unwrap_or(digits);
        known.retain(|known| known.plan.hex().starts_with(digits));
    }
    match (known.pop(), known.is_empty(), &args.plan) {
        (Some(one), true, _) if args.cancel => {
            cluster.delete(&one.plan)?;
            invocation.answer(
                format_args!("ended {} ({})\n", one.plan.short(), one.pipeline),
                || json!({ "plan": one.plan, "ended": true }),
            )
        }
        (Some(one), true, _) => follow(&cluster, &one, invocation),
        (Some(last), false, None) if !args.cancel => {
            known.push(last);
            list(&known, invocation)
        }
        (Some(_), false, _) => {
            Err(Error::user("several pipelines are meant").hint("`lockstep attach` lists them; give one's digits"))
        }
        (None, _, None) if !args.cancel => list(&[], invocation),
        (None, ..) => Err(
            Error::user(format_args!("namespace {} carries out no such pipeline", cluster.namespace()))
                .hint("`lockstep attach` lists what it carries out; -n names another namespace"),
        ),
    }
}

fn follow(cluster: &Cluster, known: &Known, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    let plan = Plan::read(&runtime.store.get(&known.plan)?)?;
    let given = |arg: &str| known.settings.args.iter().any(|given| given == arg);
    let execution = Execution {
        jobs: ELSEWHERE,
        reuse: if given("--no-cache") { Reuse::Nothing } else { Reuse::Records },
        limits: known.settings.limits.or(&Limits::default()),
        keep_going: given("--keep-going"),
        ..Execution::default()
    };
    let interrupt = interrupt_on_ctrl_c()?;
    in_cluster(cluster, &known.settings, &plan, &execution, invocation, &runtime, &interrupt).map(drop)
}

fn list(known: &[Known], invocation: &Invocation) -> Result<()> {
    let mut table = Columns::headed(&["plan", "pipeline", "since"]);
    for Known {
        plan, pipeline, created, ..
    } in known
    {
        table.row([plan.short(), pipeline.clone(), created.clone()]);
    }
    let text = if known.is_empty() {
        "nothing is carried out there\n".to_owned()
    } else {
        table.to_string()
    };
    let one = |known: &Known| json!({ "plan": known.plan, "pipeline": known.pipeline, "created": known.created });
    invocation.answer(text, || json!({ "plans": known.iter().map(one).collect::<Vec<_>>() }))
}
