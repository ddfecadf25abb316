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
use lockstep_kernel::session::{SessionFile, Setup, Starting, fetched_by};
use lockstep_kernel::toolchain::Lock;
use lockstep_kernel::wire::{Connection, Surroundings, serve, serve_remote};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_server::machine::host_name;
use lockstep_view::error::{Error, Result};
use serde_json::json;
use signal_hook::consts::SIGINT;
use uuid::Uuid;

use crate::invocation::Invocation;
use crate::locations::Locations;
use crate::notebooks::setup;

/// Install or run the Jupyter kernel
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep kernel install                   # for this user
  lockstep kernel install --sys-prefix      # in the virtual environment of python3 on PATH
  lockstep kernel install --prefix .venv --name lockstep-dev
  lockstep kernel install --store ~/project/store --name project     # use this store
  lockstep kernel install --shared s3://team/lockstep                # use a shared store
  lockstep kernel install --host https://host:8765 --name team       # run cells on a host (`lockstep serve`)
  lockstep kernel install --kubernetes --namespace lockstep          # run cells on a host in a cluster")]
pub struct KernelArgs {
    #[command(subcommand)]
    command: KernelCommand,
}

#[derive(Subcommand)]
enum KernelCommand {
    Install(InstallArgs),
    Run(ServeNotebookArgs),
}

/// Run the kernel; started by Jupyter
#[derive(Args)]
struct ServeNotebookArgs {
    /// Connection file, written by Jupyter
    #[arg(value_name = "CONNECTION_FILE")]
    connection: PathBuf,

    /// File with the token for the host
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Options for a host in a cluster.
#[derive(Args)]
#[command(next_help_heading = "Kubernetes")]
struct ClusterArgs {
    /// Run cells on a host in a cluster, with port forwarding; reads the token from the secret lockstep-token
    #[arg(long)]
    kubernetes: bool,

    /// Namespace of the host [default: namespace of the context]
    #[arg(short, long, value_name = "NAME", requires = "kubernetes")]
    namespace: Option<String>,

    /// Context in the kubeconfig [default: current context]
    #[arg(long, value_name = "NAME", requires = "kubernetes")]
    context: Option<String>,
}

impl ClusterArgs {
    /// Returns these options as arguments.
    fn arguments(&self) -> Vec<String> {
        let named = [("--namespace", &self.namespace), ("--context", &self.context)];
        let named = named
            .into_iter()
            .filter_map(|(name, value)| Some([name.to_owned(), value.clone()?]));
        let kubernetes = self.kubernetes.then(|| "--kubernetes".to_owned());
        kubernetes.into_iter().chain(named.flatten()).collect()
    }
}

/// Install the kernelspec for Jupyter
#[derive(Args)]
struct InstallArgs {
    /// Install for the current user; the default
    #[arg(long, conflicts_with_all = ["prefix", "sys_prefix"])]
    user: bool,

    /// Install to share/jupyter in this directory
    #[arg(long, value_name = "DIR", conflicts_with = "sys_prefix")]
    prefix: Option<PathBuf>,

    /// Install to the prefix of python3 on PATH
    #[arg(long)]
    sys_prefix: bool,

    /// Start bin/lockstep of the prefix instead of this executable, so that the prefix can be moved; for packages
    #[arg(long, requires = "prefix")]
    relocatable: bool,

    /// With --host or --kubernetes, read the token from this file instead of LOCKSTEP_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// Name of the kernel in Jupyter
    #[arg(long, default_value = "lockstep")]
    name: String,
}

/// The command of a relocatable kernelspec in `PREFIX/share/jupyter/kernels/NAME`. It starts `PREFIX/bin/lockstep`: Jupyter replaces
/// `{resource_dir}` with the directory of the kernelspec. Searching `PATH` would fail, because only the shells of a virtual environment have it
/// on `PATH`. `env` comes first for clients that check the program before they replace the path.
const RELOCATABLE: [&str; 2] = ["env", "{resource_dir}/../../../../bin/lockstep"];

pub fn run(args: KernelArgs, invocation: &Invocation) -> Result<()> {
    match args.command {
        KernelCommand::Install(args) => install(&args, invocation),
        KernelCommand::Run(args) => serve_notebook(&args, invocation),
    }
}

fn install(args: &InstallArgs, invocation: &Invocation) -> Result<()> {
    if args.cluster.kubernetes && invocation.locations.host_by_flag {
        return Err(Error::user("--host and --kubernetes can't be combined").hint("give only one of them"));
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
        let this = this.map_err(|e| Error::host(format_args!("can't find the path of lockstep: {e}")))?;
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
    let lost = || Error::user("no python3 on PATH").hint("give the prefix with --prefix DIR");
    let python = invocation.locations.program("python3").ok_or_else(lost)?;
    let asked = Command::new(python)
        .args(["-c", "import sys; print(sys.prefix)"])
        .stdin(Stdio::null())
        .output();
    let answer = asked.ok().filter(|output| output.status.success()).ok_or_else(lost)?;
    Ok(PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim_end()))
}

fn serve_notebook(args: &ServeNotebookArgs, invocation: &Invocation) -> Result<()> {
    // Jupyter interrupts with messages; Ctrl-C in the terminal of Jupyter is not for the kernel
    let ignored = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)));
    ignored.map_err(|e| Error::host(format_args!("can't ignore Ctrl-C: {e}")))?;
    let connection = Connection::read(&args.connection).map_err(Error::user)?;
    let surroundings = Surroundings {
        now: SystemTime::now,
        parent: invocation.locations.jupyter_parent,
        history: Some(invocation.locations.store.join("history.jsonl")),
    };
    let directory = std::env::current_dir().map_err(|e| Error::host(format_args!("can't read the current directory: {e}")))?;
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

/// Returns the kernel on the host at `url` for the notebook at `path`. A notebook always has the same id on this machine, so that a new process
/// resumes its session. Without a notebook, each process gets a new id.
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

/// Checks the URL of a host.
fn checked(url: &str) -> Result<String> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['?', '#', '@'])) {
        true => Ok(url.trim_end_matches('/').to_owned()),
        false => {
            let error = Error::user(format_args!("`{url}` is not the URL of a host"));
            Err(error
                .hint("expected http://HOST:PORT or https://HOST:PORT; pass the token with LOCKSTEP_TOKEN or --token-file"))
        }
    }
}

/// Adds the locked versions of the notebook at `path`, and the place of its session. Ignores notebooks in other languages: programs that such
/// a notebook starts inherit its path from the environment.
fn for_notebook(setup: Setup, path: Option<PathBuf>, locations: &Locations) -> Setup {
    let notebook = path.map(|path| (Notebook::read(&path).unwrap_or_default(), path));
    let ours = notebook.filter(|(notebook, _)| notebook.language().is_none_or(|language| language == "rust"));
    match ours {
        None => setup,
        Some((notebook, path)) => Setup {
            locks: Lock::of_notebook(&notebook),
            fetched: fetched_by(&notebook),
            place: Some(SessionFile {
                directory: locations.store.join("sessions"),
                notebook: path,
            }),
            ..setup
        },
    }
}
