use clap::Args;
use lockstep_cluster::{Cluster, Known};
use lockstep_runtime::pipeline::{Execution, Plan};
use lockstep_runtime::run::Reuse;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::Limits;
use lockstep_view::columns::Columns;
use lockstep_view::error::{Error, Result};
use serde_json::json;

use super::run::{ELSEWHERE, WhereArgs, shown};
use crate::executor::{Backend, Executor};
use crate::invocation::{Invocation, interrupt_on_ctrl_c};

/// Follow or cancel a pipeline that runs in a cluster
///
/// Ctrl-C detaches; the pipeline continues.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep attach                     # follow the only one, or list them
  lockstep attach 3fa9c1 -n team      # by the prefix of its plan digest
  lockstep attach 3fa9c1 --cancel")]
pub struct AttachArgs {
    /// Prefix of the plan digest
    #[arg(value_name = "PLAN")]
    plan: Option<String>,

    /// Cancel it: delete its Jobs and pods. Results of finished tasks are kept
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
                format_args!("canceled {} ({})\n", one.plan.short(), one.pipeline),
                || json!({ "plan": one.plan, "ended": true }),
            )
        }
        (Some(one), true, _) => follow(cluster, one, invocation),
        (Some(last), false, None) if !args.cancel => {
            known.push(last);
            list(&known, invocation)
        }
        (Some(_), false, _) => {
            Err(Error::user("several pipelines match").hint("`lockstep attach` lists them; give the digest of one"))
        }
        (None, _, None) if !args.cancel => list(&[], invocation),
        (None, ..) => Err(
            Error::user(format_args!("no such pipeline in namespace {}", cluster.namespace()))
                .hint("`lockstep attach` lists pipelines; -n NAME selects another namespace"),
        ),
    }
}

fn follow(cluster: Cluster, known: Known, invocation: &Invocation) -> Result<()> {
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
    let executor = Executor {
        backend: Backend::Cluster(cluster, Box::new(known.settings)),
        runtime: &runtime,
        execution,
        interrupt: &interrupt_on_ctrl_c()?,
    };
    shown(&executor, &plan, invocation).map(drop)
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
        "no pipelines\n".to_owned()
    } else {
        table.to_string()
    };
    let one = |known: &Known| json!({ "plan": known.plan, "pipeline": known.pipeline, "created": known.created });
    invocation.answer(text, || json!({ "plans": known.iter().map(one).collect::<Vec<_>>() }))
}
