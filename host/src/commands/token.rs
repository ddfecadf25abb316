use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use lockstep_cluster::new_secret;
use lockstep_runtime::digest::Digest;
use lockstep_server::{Scope, Token, TokenFile, user_name};
use lockstep_view::columns::Columns;
use lockstep_view::error::{Error, Result};
use lockstep_view::quantity::parse_duration;
use serde_json::json;

use crate::invocation::Invocation;

/// Manage the tokens of the host that serves this store
///
/// A token has a scope and may belong to a user. The host stores only hashes of tokens. Changes take effect at once.
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep token create laptop --user ann --scope run --expires 90d
  lockstep token create dashboard --scope read
  lockstep token list
  lockstep token revoke laptop")]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Create a token and print it; it can't be shown again
    Create {
        /// Name of the token
        #[arg(value_name = "NAME")]
        name: String,

        /// User of the token; the data of each user is separate
        #[arg(long, value_name = "USER")]
        user: Option<String>,

        /// Permissions of the token
        #[arg(long, value_name = "SCOPE", default_value = "run")]
        scope: Scope,

        /// Lifetime of the token [default: until revoked]
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        expires: Option<Duration>,
    },
    /// List tokens
    List,
    /// Revoke a token
    Revoke {
        /// Name of the token
        #[arg(value_name = "NAME")]
        name: String,
    },
}

pub fn run(args: TokenArgs, invocation: &Invocation) -> Result<()> {
    let file = TokenFile::new(&invocation.locations.host_directory());
    let mut tokens = (*file.all()?).clone();
    match args.command {
        TokenCommand::Create {
            name,
            user,
            scope,
            expires,
        } => {
            if tokens.contains_key(&name) {
                return Err(Error::user(format_args!("token {name} already exists")).hint(format_args!(
                    "choose another name, or run `lockstep token revoke {name}` first"
                )));
            }
            let secret = new_secret();
            let created = now();
            let token = Token {
                hash: Digest::of(&secret),
                user: user.as_deref().map(user_name).transpose()?,
                scope,
                created,
                expires: expires.map(|time| created.saturating_add(time.as_secs())),
            };
            tokens.insert(name.clone(), token);
            file.write(&tokens)?;
            invocation.answer(format_args!("{secret}\n"), || json!({ "name": name, "token": secret }))
        }
        TokenCommand::List => {
            let mut table = Columns::headed(&["name", "user", "scope", "expires"]);
            for (name, token) in &tokens {
                let user = token.user.clone().unwrap_or_default();
                let expires = token.expires.map_or("never".to_owned(), |at| {
                    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at)).to_string()
                });
                table.row([name.clone(), user, token.scope.word().to_owned(), expires]);
            }
            invocation.answer(table, || json!({ "tokens": tokens }))
        }
        TokenCommand::Revoke { name } => {
            if tokens.remove(&name).is_none() {
                return Err(Error::user(format_args!("no token named {name}")).hint("`lockstep token list` lists them"));
            }
            file.write(&tokens)?;
            invocation.answer("", || json!({ "revoked": name }))
        }
    }
}

/// Returns the Unix time in seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}
