use clap::Args;
use lockstep_runtime::store::Durability;
use lockstep_server::{Settings, serve};
use lockstep_view::error::Result;

use crate::invocation::Invocation;

/// Start a host: an HTTP API, a Jupyter kernel gateway and a dashboard
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep serve                                        # for this user, on this machine
  lockstep serve --bind 0.0.0.0:8765 --tls-cert cert.pem --tls-key key.pem
  lockstep serve --config /etc/lockstep/serve.toml
  jupyter lab --gateway-url=http://127.0.0.1:8765       # run its kernels on the host")]
pub struct ServeArgs {
    #[command(flatten)]
    settings: Settings,
}

pub fn run(args: ServeArgs, invocation: &Invocation) -> Result<()> {
    let settings = args.settings.complete()?;
    let mut locations = invocation.locations.clone();
    let durability = locations.durability.or(settings.durability());
    locations.durability = Some(durability.unwrap_or(Durability::Records));
    let invocation = invocation.at(locations);
    serve(settings, &invocation.surroundings()?)
}
