use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use lockstep_runtime::sandbox::{self, Compiler};
use lockstep_server::machine;
use lockstep_view::error::{Error, Kind, Result};

use crate::commands::{
    attach, backup, build, bundle, completions, demo, diff, doctor, export, fsck, gc, inspect, kernel, lineage, log, new, pin,
    plan, provenance, run, schedule, serve, show, sign, token, toolchain, verify,
};
use crate::invocation::{GlobalArgs, Invocation};
use crate::locations::{CACHE, Locations, VARIABLES};

/// Run WebAssembly steps, programs and pipelines: same bytes in, same bytes out.
#[derive(Parser)]
#[command(name = "lockstep", version, about, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    New(new::NewArgs),
    Build(build::BuildArgs),
    Inspect(inspect::InspectArgs),
    Run(Box<run::RunArgs>),
    Attach(attach::AttachArgs),
    Serve(Box<serve::ServeArgs>),
    Schedule(schedule::ScheduleArgs),
    Plan(plan::PlanArgs),
    Export(export::ExportArgs),
    Show(show::ShowArgs),
    Log(log::LogArgs),
    Lineage(lineage::LineageArgs),
    Diff(diff::DiffArgs),
    Verify(verify::VerifyArgs),
    Sign(sign::SignArgs),
    Provenance(provenance::ProvenanceArgs),
    Bundle(bundle::BundleArgs),
    Gc(gc::GcArgs),
    Pin(pin::PinArgs),
    Fsck(fsck::FsckArgs),
    Backup(backup::BackupArgs),
    Kernel(kernel::KernelArgs),
    Doctor(doctor::DoctorArgs),
    Toolchain(toolchain::ToolchainArgs),
    Token(token::TokenArgs),
    Completions(completions::CompletionsArgs),
}

/// Returns the command line definition, with the tables after its help.
pub fn command() -> clap::Command {
    Cli::command().after_long_help(after_help())
}

/// The argument after which this program is the compiler of another process.
const COMPILE: &str = "compile-for-parent";

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into())
        .collect();
    if let Some((COMPILE, limits)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return sandbox::compile(limits).map_or(ExitCode::FAILURE, |code| ExitCode::from(code as u8));
    }
    machine::compile_with(Compiler {
        program: program(),
        arguments: vec![COMPILE.to_owned()],
    });
    let matches = command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let json = cli.global.json;
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(json),
    }
}

/// Returns the file of this program, even if it has been replaced since it started.
fn program() -> PathBuf {
    match cfg!(target_os = "linux") {
        true => "/proc/self/exe".into(),
        false => std::env::current_exe().unwrap_or_else(|_| "lockstep".into()),
    }
}

impl Cli {
    fn run(self) -> Result<()> {
        let GlobalArgs {
            store,
            shared,
            cache,
            durability,
            host,
            json,
            quiet,
        } = self.global;
        let mut environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        environment.extend(cache.map(|cache| (CACHE.into(), cache.into())));
        let mut locations = Locations::new(environment, store.as_deref(), shared.as_deref())?;
        locations.durability = durability.or(locations.durability);
        locations.host_by_flag = host.is_some();
        locations.host = host.or(locations.host);
        if locations.host_by_flag {
            self.command.check_host()?;
        }
        let invocation = Invocation::new(locations, json, quiet, run::bind_container);
        let ended = self.command.run(&invocation);
        invocation.tell_damage();
        invocation.tell_unpublished();
        ended?;
        invocation.check_shared()
    }
}

impl Command {
    /// Returns an error if the command works on this machine only.
    fn check_host(&self) -> Result<()> {
        let name = match self {
            Command::Run(_) | Command::Plan(_) | Command::Show(_) | Command::Log(_) | Command::Inspect(_) => return Ok(()),
            Command::Verify(_)
            | Command::Kernel(_)
            | Command::Lineage(_)
            | Command::Diff(_)
            | Command::Gc(_)
            | Command::Schedule(_) => return Ok(()),
            Command::Attach(_) => "attach",
            Command::Demo(_) => "demo",
            Command::New(_) => "new",
            Command::Build(_) => "build",
            Command::Serve(_) => "serve",
            Command::Export(_) => "export",
            Command::Sign(_) => "sign",
            Command::Provenance(_) => "provenance",
            Command::Bundle(_) => "bundle",
            Command::Pin(_) => "pin",
            Command::Fsck(_) => "fsck",
            Command::Backup(_) => "backup",
            Command::Doctor(_) => "doctor",
            Command::Toolchain(_) => "toolchain",
            Command::Token(_) => "token",
            Command::Completions(_) => "completions",
        };
        Err(Error::user(format_args!("`lockstep {name}` does not support --host"))
            .hint("run it on the machine of the host, with the host's --store; or omit --host"))
    }

    fn run(self, invocation: &Invocation) -> Result<()> {
        match self {
            Command::Demo(args) => demo::run(args, invocation),
            Command::New(args) => new::run(args, invocation),
            Command::Build(args) => build::run(args, invocation),
            Command::Inspect(args) => inspect::run(args, invocation),
            Command::Run(args) => run::run(*args, invocation),
            Command::Attach(args) => attach::run(args, invocation),
            Command::Serve(args) => serve::run(*args, invocation),
            Command::Schedule(args) => schedule::run(args, invocation),
            Command::Plan(args) => plan::run(args, invocation),
            Command::Export(args) => export::run(args, invocation),
            Command::Show(args) => show::run(args, invocation),
            Command::Log(args) => log::run(args, invocation),
            Command::Lineage(args) => lineage::run(args, invocation),
            Command::Diff(args) => diff::run(args, invocation),
            Command::Verify(args) => verify::run(args, invocation),
            Command::Sign(args) => sign::run(&args, invocation),
            Command::Provenance(args) => provenance::run(args, invocation),
            Command::Bundle(args) => bundle::run(args, invocation),
            Command::Gc(args) => gc::run(args, invocation),
            Command::Pin(args) => pin::run(args, invocation),
            Command::Fsck(args) => fsck::run(args, invocation),
            Command::Backup(args) => backup::run(args, invocation),
            Command::Kernel(args) => kernel::run(args, invocation),
            Command::Doctor(args) => doctor::run(args, invocation),
            Command::Toolchain(args) => toolchain::run(args, invocation),
            Command::Token(args) => token::run(args, invocation),
            Command::Completions(args) => completions::run(&args, &mut command()),
        }
    }
}

fn after_help() -> String {
    let header = clap::builder::Styles::styled().get_header().to_owned();
    let mut text = format!("{header}Exit codes:{header:#}\n    0  success\n");
    for (kind, about) in Kind::ALL {
        let _ = writeln!(text, "  {:>3}  {about}", kind.code());
    }
    let _ = writeln!(text, "\n{header}Environment:{header:#}");
    for variable in VARIABLES {
        let _ = writeln!(text, "  {:<18}  {}", variable.name, variable.about);
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
