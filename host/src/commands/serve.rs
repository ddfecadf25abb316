use std::time::Duration;

use clap::Args;
use lockstep_runtime::store::Durability;
use lockstep_server::{Checked, Settings, check, serve};
use lockstep_view::error::Result;
use lockstep_view::{quantity, report};
use serde_json::json;

use crate::invocation::Invocation;

/// Start a host: an HTTP API, a Jupyter kernel gateway and a dashboard
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep serve                                        # for this user, on this machine
  lockstep serve --bind 0.0.0.0:8765 --tls-cert cert.pem --tls-key key.pem
  lockstep serve --config /etc/lockstep/serve.toml
  lockstep serve --config /etc/lockstep/serve.toml --check
  jupyter lab --gateway-url=http://127.0.0.1:8765       # run its kernels on the host")]
pub struct ServeArgs {
    /// Check the settings and the files that they name, print what the host would do, and exit
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    settings: Settings,
}

pub fn run(args: ServeArgs, invocation: &Invocation) -> Result<()> {
    let settings = args.settings.complete()?;
    let mut locations = invocation.locations.clone();
    let durability = locations.durability.or(settings.durability());
    locations.durability = Some(durability.unwrap_or(Durability::Records));
    let invocation = invocation.at(locations);
    let surroundings = invocation.surroundings()?;
    if !args.check {
        return serve(settings, &surroundings);
    }
    let checked = check(&settings, &surroundings)?;
    invocation.answer(text(&checked), || json!(checked))
}

fn text(checked: &Checked) -> String {
    let known = match (checked.tokens, &checked.trust_header) {
        (0, None) => "a new token, printed at the start".to_owned(),
        (tokens, None) => report::counted(tokens, "token"),
        (tokens, Some(header)) => format!("{}, and users in the header {header}", report::counted(tokens, "token")),
    };
    let quotas = match &checked.quotas[..] {
        [] => "no user has quotas of its own".to_owned(),
        users => format!("of their own for {}", users.join(", ")),
    };
    let lines = [
        ("address", checked.url.clone()),
        ("store", checked.store.display().to_string()),
        ("access", known),
        ("jobs", format!("{} at a time, {} in the queue", checked.jobs, checked.queue)),
        (
            "memory",
            format!(
                "{} for all guests, {} for a run that sets no limit",
                quantity::bytes(checked.memory),
                quantity::bytes(checked.run_memory)
            ),
        ),
        (
            "time",
            format!(
                "at most {} for a run",
                humantime::format_duration(Duration::from_millis(checked.max_time_ms))
            ),
        ),
        ("quotas", quotas),
    ];
    lines.iter().map(|(name, value)| format!("{name:<8} {value}\n")).collect()
}
