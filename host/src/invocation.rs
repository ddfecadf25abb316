use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use clap::Args;
use lockstep_client::Remote;
use lockstep_kubeflow::ContainerInputs;
use lockstep_runtime::run::{Run, Runtime};
use lockstep_runtime::sandbox::{Engine, EngineOptions, Interrupt};
use lockstep_runtime::step::OwnLimits;
use lockstep_runtime::store::{Durability, Shared, Store};
use lockstep_server::machine::{self, Surroundings};
use lockstep_view::error::{Error, Kind, REACH, Result};
use lockstep_view::print::{print, print_json};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::locations::Locations;

/// The options of every command.
#[derive(Args)]
pub struct GlobalArgs {
    /// Store directory, or s3://BUCKET/PREFIX [default: $LOCKSTEP_STORE]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub store: Option<PathBuf>,

    /// Shared store behind it, as s3://BUCKET/PREFIX [default: $LOCKSTEP_SHARED]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub shared: Option<String>,

    /// Cache directory; safe to delete [default: $LOCKSTEP_CACHE]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub cache: Option<PathBuf>,

    /// What survives a power failure: none, records or all [default: $LOCKSTEP_DURABILITY]
    #[arg(long, global = true, value_name = "WHAT", help_heading = "Global options")]
    pub durability: Option<Durability>,

    /// Run on this host instead of this machine [default: $LOCKSTEP_HOST]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub host: Option<String>,

    /// Print one JSON object to stdout; guest output goes to stderr
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,

    /// Suppress success output
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

/// Resolves the command of a container, `lockstep run ...`, and its inputs to a run with the limits that it sets.
pub type BindContainer = fn(&[String], &Runtime, ContainerInputs) -> Result<(Run, OwnLimits)>;

/// The global options and locations that every command gets.
#[derive(Clone)]
pub struct Invocation {
    /// Directories, addresses and credentials.
    pub locations: Locations,
    /// Print one JSON object to stdout.
    pub json: bool,
    /// Suppress success output.
    pub quiet: bool,
    /// How a pipeline of Kubeflow resolves the commands of its containers.
    pub bind_container: BindContainer,
    opened: Arc<OnceLock<Store>>,
}

impl Invocation {
    /// Creates an invocation. The store is opened on first use.
    pub fn new(locations: Locations, json: bool, quiet: bool, bind_container: BindContainer) -> Self {
        Self {
            locations,
            json,
            quiet,
            bind_container,
            opened: Arc::default(),
        }
    }

    /// Returns the same invocation with other locations. It opens the store there.
    pub fn at(&self, locations: Locations) -> Self {
        Self::new(locations, self.json, self.quiet, self.bind_container)
    }

    /// Opens the store, in front of the shared one if there is one.
    pub fn store(&self) -> Result<Store> {
        if let Some(store) = self.opened.get() {
            return Ok(store.clone());
        }
        let directory = &self.locations.store;
        let store = Store::open(directory).map_err(|error| {
            Error::from(error).hint(format!("the store is {}; --store DIR selects another", directory.display()))
        })?;
        let store = store.lasting(self.locations.durability.unwrap_or_default())?;
        let store = match &self.locations.shared {
            Some(url) => store.in_front_of(Shared::open(url, &self.locations.shared_settings())?),
            None => store,
        };
        Ok(self.opened.get_or_init(|| store).clone())
    }

    /// Prints a warning for each artifact or record that was found damaged.
    pub fn tell_damage(&self) {
        let damaged = self.opened.get().map(Store::damaged).unwrap_or_default();
        for digest in damaged.iter().filter(|_| !self.quiet) {
            anstream::eprintln!(
                "warning: {digest} is damaged in the store, so it counts as missing; `lockstep fsck` finds all damage"
            );
        }
    }

    /// Prints a warning for each record that the shared store lacks, because it refused it or because something that it needs is damaged.
    pub fn tell_unpublished(&self) {
        let lacks = self.opened.get().map(Store::take_unpublished).unwrap_or_default();
        for (record, why) in &lacks {
            anstream::eprintln!(
                "warning: record {} is complete, but not in the shared store: {why}",
                record.short()
            );
        }
        if !lacks.is_empty() {
            anstream::eprintln!("hint: {UPLOAD}");
        }
    }

    /// Returns an error if the shared store lacks a result.
    pub fn check_published(&self) -> Result<()> {
        let lacks = self.opened.get().map(Store::take_unpublished).unwrap_or_default();
        match lacks.into_iter().next() {
            None => self.check_shared(),
            Some((record, why)) => {
                let error = Error::host(format_args!("record {} is not in the shared store: {why}", record.short()));
                Err(error.hint(UPLOAD))
            }
        }
    }

    /// Returns an error if the shared store could not be reached. The results are then complete, but only in the local store.
    pub fn check_shared(&self) -> Result<()> {
        let shared = self.opened.get().and_then(Store::shared);
        let Some(trouble) = shared.and_then(Shared::trouble) else {
            return Ok(());
        };
        let here = self.locations.store.display();
        Err(Error::host(trouble)
            .detail(format_args!("the results are in {here}, but not shared"))
            .hint("run the command again when the shared store is reachable; that uploads what is missing")
            .hint(REACH)
            .reported())
    }

    /// Creates a runtime over the store.
    pub fn runtime(&self, options: EngineOptions) -> Result<Runtime> {
        self.runtime_over(self.engine(options)?, self.store()?)
    }

    /// Creates a runtime from `engine` and `store`.
    pub fn runtime_over(&self, engine: Engine, store: Store) -> Result<Runtime> {
        machine::runtime_over(engine, store, self.locations.code_key.as_ref())
    }

    /// Creates an engine. It caches compiled modules in the cache directory.
    pub fn engine(&self, options: EngineOptions) -> Result<Engine> {
        machine::engine(&self.locations.cache, options)
    }

    /// Returns what a host needs from this machine.
    pub fn surroundings(&self) -> Result<Surroundings> {
        let locations = &self.locations;
        Ok(Surroundings {
            store: self.store()?.unleased(),
            durability: locations.durability.unwrap_or_default(),
            directory: locations.store.clone(),
            shared: locations.shared.clone(),
            shared_settings: locations.shared_settings(),
            cache: locations.cache.clone(),
            cache_from: locations.cache_from.clone(),
            toolchain: locations.toolchain(),
            code_key: locations.code_key.clone(),
            token: locations.token.clone(),
            log: locations.log.clone(),
            json: self.json,
        })
    }

    /// Returns a client of the host, if one is named.
    pub fn remote(&self) -> Result<Option<Remote>> {
        let token = self.locations.token.as_deref();
        self.locations.host.as_ref().map(|url| Remote::new(url, token)).transpose()
    }

    /// Downloads what `text` names from the host, if there is a host and the local store does not have it.
    pub fn bring(&self, runtime: &Runtime, text: &str) -> Result<()> {
        self.remote()?.map_or(Ok(()), |remote| remote.bring(runtime, text))
    }

    /// Prints `value` with `--json`, otherwise `text`.
    pub fn answer(&self, text: impl fmt::Display, value: impl FnOnce() -> Value) -> Result<()> {
        if self.json { print_json(&value()) } else { print(text) }
    }
}

/// What to do about results that the shared store lacks.
const UPLOAD: &str = "fix the cause, then run the same command again to upload the result";

/// Returns an interrupt that SIGINT (Ctrl-C) and SIGTERM trigger. A second signal exits at once.
pub fn interrupt_on_ctrl_c() -> Result<Interrupt> {
    let failed = |e: io::Error| Error::host(format_args!("can't listen for signals: {e}"));
    let interrupt = Interrupt::default();
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let triggered = interrupt.clone();
    let seen = AtomicBool::new(false);
    let listen = move || {
        for _ in signals.forever() {
            if seen.swap(true, Ordering::Relaxed) {
                std::process::exit(Kind::Interrupted.code().into());
            }
            triggered.trigger();
        }
    };
    std::thread::Builder::new()
        .name("ctrl-c".to_owned())
        .spawn(listen)
        .map_err(failed)?;
    Ok(interrupt)
}
