use std::io;

use clap::{Args, Command};
use clap_complete::Shell;
use lockstep_view::error::Result;

/// Generate a shell completion script
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep completions bash > ~/.local/share/bash-completion/completions/lockstep
  lockstep completions zsh > \"${fpath[1]}/_lockstep\"
  lockstep completions fish > ~/.config/fish/completions/lockstep.fish")]
pub struct CompletionsArgs {
    /// Shell
    shell: Shell,
}

/// Writes the script for `command`.
pub fn run(args: &CompletionsArgs, command: &mut Command) -> Result<()> {
    clap_complete::generate(args.shell, command, "lockstep", &mut io::stdout());
    Ok(())
}
