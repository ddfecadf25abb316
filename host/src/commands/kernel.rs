use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use lockstep_cluster::Forward;
use lockstep_kernel::kernelspec;
use lockstep_kernel::notebook::Notebook;
use lockstep_kernel::output::CellError;
use lockstep_kernel::remote::{Host, Token};
use lockstep_kernel::session::{Place, Preparing, Setup, Starting, fetched_by};
use lockstep_kernel::toolchain::Lock;
use lockstep_kernel::wire::{Connection, Surroundings, serve, serve_remote};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_server::machine::host_name;
use lockstep_server::prepare::{find, setup_on};
use lockstep_view::error::{Error, Result};
use serde_json::json;
use signal_hook::consts::SIGINT;
use uuid::Uuid;

use crate::invocation::Invocation;
use crate::locations::Locations;

/// The Jupyter kernel
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep kernel install                   # for this user
  lockstep kernel install --sys-prefix      # for the virtual environment of python3 on PATH
  lockstep kernel install --prefix .venv --name lockstep-dev
  lockstep kernel install --store ~/project/store --name project     # notebooks use this store
  lockstep kernel install --shared s3://team/lockstep                # and share what they come to
  lockstep kernel install --host https://host:8765 --name team       # cells run on a host (`lockstep serve`)
  lockstep kernel install --kubernetes --namespace lockstep          # ... which is in a cluster")]
pub struct KernelArgs {
    #[command(subcommand)]
    command: KernelCommand,
}

#[derive(Subcommand)]
enum KernelCommand {
    Install(InstallArgs),
    Run(ServeNotebookArgs),
}

/// Serve a notebook; Jupyter starts this
#[derive(Args)]
struct ServeNotebookArgs {
    /// What Jupyter writes: ports and key
    #[arg(value_name = "CONNECTION_FILE")]
    connection: PathBuf,

    /// The file in which the token for the host is
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Whether the host is in a cluster.
#[derive(Args)]
#[command(next_help_heading = "Kubernetes")]
struct ClusterArgs {
    /// Cells run on the host of a cluster, to which the kernel leads a port by itself; its token is in the secret lockstep-token there
    #[arg(long)]
    kubernetes: bool,

    /// The namespace of the host [default: that of the context]
    #[arg(short, long, value_name = "NAME", requires = "kubernetes")]
    namespace: Option<String>,

    /// The context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", requires = "kubernetes")]
    context: Option<String>,
}

impl ClusterArgs {
    /// The arguments that say the same.
    fn arguments(&self) -> Vec<String> {
        let named = [("--namespace", &self.namespace), ("--context", &self.context)];
        let named = named
            .into_iter()
            .filter_map(|(name, value)| Some([name.to_owned(), value.clone()?]));
        let kubernetes = self.kubernetes.then(|| "--kubernetes".to_owned());
        kubernetes.into_iter().chain(named.flatten()).collect()
    }
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

    /// Start DIR/bin/lockstep, wherever DIR is moved, rather than this very file: for packages
    #[arg(long, requires = "prefix")]
    relocatable: bool,

    /// With --host or --kubernetes: the file in which the token for the host is, rather than LOCKSTEP_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// What Jupyter calls it
    #[arg(long, default_value = "lockstep")]
    name: String,
}

/// What starts `bin/lockstep` of the prefix in whose `share/jupyter/kernels/NAME` the kernelspec lies: Jupyter puts that directory's
/// path in the place of `{resource_dir}`. `PATH` would not do, for that of a virtual environment is set only in its own shells.
/// `env` is there for clients that list only kernels whose program they find, and look before they put in the path.
const RELOCATABLE: [&str; 2] = ["env", "{resource_dir}/../../../../bin/lockstep"];

pub fn run(args: KernelArgs, invocation: &Invocation) -> Result<()> {
    match args.command {
        KernelCommand::Install(args) => install(&args, invocation),
        KernelCommand::Run(args) => serve_notebook(&args, invocation),
    }
}

fn install(args: &InstallArgs, invocation: &Invocation) -> Result<()> {
    if args.cluster.kubernetes && invocation.locations.host_by_flag {
        return Err(Error::user("--host and --kubernetes both say where cells run").hint("give one of them"));
    }
    let data = match (&args.prefix, args.sys_prefix) {
        (Some(prefix), _) => prefix.join("share/jupyter"),
        (None, true) => python_prefix(invocation)?.join("share/jupyter"),
        (None, false) => invocation.locations.jupyter_data.clone(),
    };
    let (executable, mut arguments) = if args.relocatable {
        let [env, lockstep] = RELOCATABLE;
        (PathBuf::from(env), vec![lockstep.to_owned()])
    } else {
        let this = std::env::current_exe();
        let this = this.map_err(|e| Error::host(format_args!("can't tell where lockstep is: {e}")))?;
        (this, Vec::new())
    };
    arguments.extend(["kernel", "run", "{connection_file}"].map(str::to_owned));
    if invocation.locations.store_by_flag {
        let store = std::path::absolute(&invocation.locations.store);
        let store = store.map_err(|e| Error::file("find", &invocation.locations.store, &e))?;
        arguments.extend(["--store".to_owned(), store.to_string_lossy().into_owned()]);
    }
    if let Some(shared) = invocation
        .locations
        .shared
        .as_ref()
        .filter(|_| invocation.locations.shared_by_flag)
    {
        arguments.extend(["--shared".to_owned(), shared.clone()]);
    }
    if let Some(host) = invocation
        .locations
        .host
        .as_ref()
        .filter(|_| invocation.locations.host_by_flag)
    {
        arguments.extend(["--host".to_owned(), checked(host)?]);
    }
    arguments.extend(args.cluster.arguments());
    if let Some(file) = &args.token_file {
        let file = std::path::absolute(file).map_err(|e| Error::file("find", file, &e))?;
        arguments.extend(["--token-file".to_owned(), file.to_string_lossy().into_owned()]);
    }
    let is_remote = invocation.locations.host_by_flag || args.cluster.kubernetes;
    let shown = match is_remote {
        true => format!("Lockstep (Rust on {})", args.name),
        false => kernelspec::SHOWN.to_owned(),
    };
    let at = kernelspec::install(&data, &args.name, &shown, &executable, &arguments).map_err(Error::user)?;
    if invocation.quiet && !invocation.json {
        return Ok(());
    }
    invocation.answer(
        format_args!("{}\n", at.display()),
        || json!({ "kernelspec": at, "name": args.name }),
    )
}

fn python_prefix(invocation: &Invocation) -> Result<PathBuf> {
    let lost = || Error::user("there is no python3 on PATH to ask for its prefix").hint("name it: --prefix DIR");
    let python = invocation.locations.program("python3").ok_or_else(lost)?;
    let asked = Command::new(python)
        .args(["-c", "import sys; print(sys.prefix)"])
        .stdin(Stdio::null())
        .output();
    let answer = asked.ok().filter(|output| output.status.success()).ok_or_else(lost)?;
    Ok(PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim_end()))
}

fn serve_notebook(args: &ServeNotebookArgs, invocation: &Invocation) -> Result<()> {
    // Jupyter interrupts by message; Ctrl-C in the terminal that Jupyter runs in is not for the kernel
    let ignored = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)));
    ignored.map_err(|e| Error::host(format_args!("can't ignore Ctrl-C: {e}")))?;
    let connection = Connection::read(&args.connection).map_err(Error::user)?;
    let surroundings = Surroundings {
        now: SystemTime::now,
        parent: invocation.locations.jupyter_parent,
        history: Some(invocation.locations.store.join("history.jsonl")),
    };
    let directory = std::env::current_dir().map_err(|e| Error::host(format_args!("can't tell the directory: {e}")))?;
    let path = invocation.locations.notebook.as_ref().map(|path| directory.join(path));
    if args.cluster.kubernetes {
        let ClusterArgs { context, namespace, .. } = &args.cluster;
        let forward = Forward::start(context.as_deref(), namespace.as_deref())?;
        let host = remote(&forward.url, args, &directory, path.as_deref(), invocation)?;
        let host = match (&host.token, &forward.token) {
            (Token::Absent, Some(token)) => Host {
                token: Token::Given(token.clone()),
                ..host
            },
            _ => host,
        };
        serve_remote(&connection, host, surroundings).map_err(Error::host)?;
        return Ok(());
    }
    if let Some(url) = &invocation.locations.host {
        let host = remote(url, args, &directory, path.as_deref(), invocation)?;
        serve_remote(&connection, host, surroundings).map_err(Error::host)?;
        return Ok(());
    }
    let prepare = invocation.clone();
    let session = Starting::new(move |progress| {
        let setup = setup(&prepare, directory, EngineOptions::default(), &mut |step| progress.tell(step));
        let setup = setup.map_err(|error| CellError::new("Error", error.to_string()))?;
        Ok(for_notebook(setup, path, &prepare.locations))
    });
    serve(&connection, session, surroundings).map_err(Error::host)?;
    Ok(())
}

/// The kernel on the host at `url` for the notebook at `path`. It has the same id for the same notebook of this machine, so that a new process
/// takes up what an earlier one left; without a notebook, each process has its own.
fn remote(url: &str, args: &ServeNotebookArgs, directory: &Path, path: Option<&Path>, invocation: &Invocation) -> Result<Host> {
    let kernel = match path {
        Some(path) => {
            let name = format!("{}\0{}", host_name(), path.display());
            // half of a digest is as long as a UUID
            Uuid::parse_str(&Digest::of(name).hex()[..32]).unwrap_or_else(|_| Uuid::new_v4())
        }
        None => Uuid::new_v4(),
    };
    let token = match (&args.token_file, &invocation.locations.token) {
        (Some(file), _) => Token::File(file.clone()),
        (None, Some(token)) => Token::Given(token.clone()),
        (None, None) => Token::Absent,
    };
    let directory = directory.to_string_lossy().into_owned();
    Ok(Host {
        url: checked(url)?,
        token,
        kernel: kernel.to_string(),
        env: BTreeMap::from([("KERNEL_WORKING_DIR".to_owned(), directory)]),
    })
}

/// The address of a host, if it is one.
fn checked(url: &str) -> Result<String> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['?', '#', '@'])) {
        true => Ok(url.trim_end_matches('/').to_owned()),
        false => {
            let error = Error::user(format_args!("`{url}` is no address of a host"));
            Err(error.hint("write it as http://HOST:PORT; the token goes into LOCKSTEP_TOKEN or a file (--token-file)"))
        }
    }
}

/// The same for the notebook at `path`: with the versions that it was locked to, and a place for its session. Programs that a notebook of
/// another language starts inherit its name, and the notebooks that those execute have no session to take up.
fn for_notebook(setup: Setup, path: Option<PathBuf>, locations: &Locations) -> Setup {
    let notebook = path.map(|path| (Notebook::read(&path).unwrap_or_default(), path));
    let ours = notebook.filter(|(notebook, _)| notebook.language().is_none_or(|language| language == "rust"));
    match ours {
        None => setup,
        Some((notebook, path)) => Setup {
            locks: Lock::of_notebook(&notebook),
            fetched: fetched_by(&notebook),
            place: Some(Place {
                directory: locations.store.join("sessions"),
                notebook: path,
            }),
            ..setup
        },
    }
}

/// What a session in `directory` works with. `tell` is told how far the compiling is that comes before, the first time
/// on a machine.
pub fn setup(
    invocation: &Invocation,
    directory: PathBuf,
    engine: EngineOptions,
    tell: &mut dyn FnMut(Preparing),
) -> Result<Setup> {
    let locations = &invocation.locations;
    let found = find(
        &locations.cache,
        locations.cache_from.as_deref(),
        &locations.toolchain(),
        tell,
    )?;
    setup_on(&locations.cache, found, Arc::new(invocation.runtime(engine)?), directory)
}
