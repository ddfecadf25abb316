use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use lockstep_kernel::jupyter::{Completions, Execute, Interpreter, Interrupt};
use lockstep_kernel::kernelspec;
use lockstep_kernel::output::{CellError, MimeBundle, Output};
use lockstep_kernel::session::{Session, Setup};
use lockstep_kernel::toolchain::{Prelude, Toolchain};
use lockstep_kernel::wire::{Connection, Surroundings, serve};
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::Limits;
use serde_json::json;
use signal_hook::consts::SIGINT;

use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// The Jupyter kernel
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep kernel install                   # for this user
  lockstep kernel install --sys-prefix      # for the virtual environment of python3 on PATH
  lockstep kernel install --prefix .venv --name lockstep-dev")]
pub struct KernelArgs {
    #[command(subcommand)]
    command: KernelCommand,
}

#[derive(Subcommand)]
enum KernelCommand {
    Install(InstallArgs),
    /// Serve a notebook; Jupyter starts this
    Run {
        /// What Jupyter writes: ports and key
        #[arg(value_name = "CONNECTION_FILE")]
        connection: PathBuf,
    },
}

/// Let Jupyter find the kernel
#[derive(Args)]
struct InstallArgs {
    /// For this user: what is done anyway
    #[arg(long, conflicts_with_all = ["prefix", "sys_prefix"])]
    user: bool,

    /// Below this directory, in share/jupyter
    #[arg(long, value_name = "DIR", conflicts_with = "sys_prefix")]
    prefix: Option<PathBuf>,

    /// Below the prefix of the python3 on PATH
    #[arg(long)]
    sys_prefix: bool,

    /// What Jupyter calls it
    #[arg(long, default_value = "lockstep")]
    name: String,
}

pub fn run(args: KernelArgs, invocation: &Invocation) -> Result<()> {
    match args.command {
        KernelCommand::Install(args) => install(&args, invocation),
        KernelCommand::Run { connection } => serve_notebook(&connection, invocation),
    }
}

fn install(args: &InstallArgs, invocation: &Invocation) -> Result<()> {
    let data = match (&args.prefix, args.sys_prefix) {
        (Some(prefix), _) => prefix.join("share/jupyter"),
        (None, true) => python_prefix(invocation)?.join("share/jupyter"),
        (None, false) => invocation.locations.jupyter_data.clone(),
    };
    let executable = std::env::current_exe().map_err(|e| Error::host(format_args!("can't tell where lockstep is: {e}")))?;
    let arguments = ["kernel", "run", "{connection_file}"];
    let at = kernelspec::install(&data, &args.name, &executable, &arguments).map_err(Error::user)?;
    if invocation.quiet && !invocation.json {
        return Ok(());
    }
    invocation.answer(format_args!("{}\n", at.display()), || json!({ "kernelspec": at, "name": args.name }))
}

fn python_prefix(invocation: &Invocation) -> Result<PathBuf> {
    let lost = || Error::user("there is no python3 on PATH to ask for its prefix").hint("name it: --prefix DIR");
    let python = invocation.locations.program("python3").ok_or_else(lost)?;
    let asked = Command::new(python).args(["-c", "import sys; print(sys.prefix)"]).stdin(Stdio::null()).output();
    let answer = asked.ok().filter(|output| output.status.success()).ok_or_else(lost)?;
    Ok(PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim_end()))
}

fn serve_notebook(connection: &Path, invocation: &Invocation) -> Result<()> {
    // Jupyter interrupts by message; Ctrl-C in the terminal that Jupyter runs in is not for the kernel
    let ignored = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)));
    ignored.map_err(|e| Error::host(format_args!("can't ignore Ctrl-C: {e}")))?;
    let connection = Connection::read(connection).map_err(Error::user)?;
    let surroundings = Surroundings { now: SystemTime::now, parent: invocation.locations.jupyter_parent };
    serve(&connection, Notebook::start(invocation)?, surroundings).map_err(Error::host)?;
    Ok(())
}

/// A session that is made ready while Jupyter already talks to the kernel: finding the compiler takes a while, and the first
/// time of all the prelude is compiled.
enum Notebook {
    Starting(Option<JoinHandle<Result<Setup, CellError>>>),
    Ready(Box<Session>),
}

impl Notebook {
    fn start(invocation: &Invocation) -> Result<Self> {
        let invocation = invocation.clone();
        let directory = std::env::current_dir().map_err(|e| Error::host(format_args!("can't tell the directory: {e}")))?;
        let prepare = move || setup(&invocation, directory).map_err(|error| CellError::new("Setup", error.to_string()));
        let thread = std::thread::Builder::new().name("setup".to_owned()).spawn(prepare);
        Ok(Self::Starting(Some(thread.map_err(|e| Error::host(format_args!("no thread: {e}")))?)))
    }

    /// The session, once it is ready. What keeps it from getting ready is told once; the next call tries nothing again.
    fn session(&mut self) -> Result<&mut Session, CellError> {
        if let Self::Starting(thread) = self {
            let gone = || CellError::new("Setup", "the kernel could not be set up\nhint: mend what the first error says, and restart it");
            let setup = thread.take().ok_or_else(gone)?.join().map_err(|_| gone())??;
            *self = Self::Ready(Box::new(Session::new(setup)));
        }
        match self {
            Self::Ready(session) => Ok(session),
            Self::Starting(_) => Err(CellError::new("Setup", "the kernel is not set up")),
        }
    }
}

fn setup(invocation: &Invocation, directory: PathBuf) -> Result<Setup> {
    let cache = &invocation.locations.cache;
    let toolchain = Toolchain::find(&invocation.locations.toolchain()).map_err(Error::config)?;
    let prelude = Prelude::new().ensure(&toolchain, cache, &mut |_| ()).map_err(Error::config)?;
    let scratch = cache.join("scratch");
    std::fs::create_dir_all(&scratch).map_err(|e| Error::file("make", &scratch, &e))?;
    Ok(Setup {
        runtime: Arc::new(invocation.runtime(EngineOptions::default())?),
        toolchain,
        prelude,
        directory,
        scratch,
        limits: Limits::default(),
        seed: 0,
    })
}

impl Interpreter for Notebook {
    fn execute(
        &mut self,
        cell: &Execute,
        output: &mut dyn Output,
        interrupt: &Interrupt,
    ) -> Result<Option<MimeBundle>, CellError> {
        Interpreter::execute(self.session()?, cell, output, interrupt)
    }

    fn complete(&mut self, code: &str, cursor: usize) -> Completions {
        match self {
            Self::Ready(session) => session.complete(code, cursor),
            Self::Starting(_) => Completions { replaced: cursor..cursor, matches: Vec::new() },
        }
    }

    fn inspect(&mut self, code: &str, cursor: usize) -> Option<MimeBundle> {
        match self {
            Self::Ready(session) => session.inspect(code, cursor),
            Self::Starting(_) => None,
        }
    }
}
