use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use lockstep_cluster::cpu;
use lockstep_kernel::session::{Downloads, Server};
use lockstep_runtime::step::Limits;
use lockstep_runtime::store::Durability;
use lockstep_view::error::{Error, Result};
use lockstep_view::quantity::{parse_bytes, parse_duration};
use serde::{Deserialize, Deserializer};

use crate::machine;
use crate::quotas::Quotas;

/// Settings of a host. A flag overrides its environment variable, which overrides the configuration file. The keys of the file are the
/// names of the flags.
#[derive(Args, Deserialize, Clone, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Configuration file with these settings, in TOML
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_CONFIG")]
    #[serde(skip)]
    config: Option<PathBuf>,

    /// Address to listen on [default: 127.0.0.1:8765]
    #[arg(long, value_name = "ADDRESS", env = "LOCKSTEP_BIND")]
    bind: Option<SocketAddr>,

    /// Prefix of all URL paths, behind a reverse proxy
    #[arg(long, value_name = "PATH", env = "NB_PREFIX")]
    base_path: Option<String>,

    /// Allowed name in the Host header of requests; repeatable
    #[arg(
        long = "allow-host",
        value_name = "NAME",
        env = "LOCKSTEP_ALLOW_HOST",
        value_delimiter = ','
    )]
    allow_host: Vec<String>,

    /// Trust this request header as the user's name, such as kubeflow-userid. Only safe if all requests pass through a proxy that sets it
    #[arg(long, value_name = "HEADER", env = "LOCKSTEP_TRUST_HEADER")]
    trust_header: Option<String>,

    /// TLS certificate, a PEM file
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// TLS private key, a PEM file
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Maximum concurrent runs, including cells of kernels in this process [default: number of CPU cores]
    #[arg(short, long, value_name = "N", env = "LOCKSTEP_JOBS")]
    jobs: Option<usize>,

    /// Maximum queued runs; further requests get 503 with Retry-After [default: 1000]
    #[arg(long, value_name = "N", env = "LOCKSTEP_QUEUE")]
    queue: Option<usize>,

    /// Memory of all running guests together; what needs more waits [default: the memory that is available at the start]
    #[arg(long, value_name = "BYTES", env = "LOCKSTEP_MEMORY", value_parser = parse_bytes)]
    #[serde(deserialize_with = "bytes")]
    memory: Option<u64>,

    /// Memory limit of runs that set none [default: 4GiB, or --memory if that is less]
    #[arg(long, value_name = "BYTES", env = "LOCKSTEP_RUN_MEMORY", value_parser = parse_bytes)]
    #[serde(deserialize_with = "bytes")]
    run_memory: Option<u64>,

    /// Maximum time of a run [default: 24h]
    #[arg(long, value_name = "TIME", env = "LOCKSTEP_MAX_TIME", value_parser = parse_duration)]
    #[serde(deserialize_with = "duration")]
    max_time: Option<Duration>,

    /// Quotas of users, a TOML file with the tables [default] and [users."NAME"] and the keys queued, running, memory, kernels, store, schedules, gc_older_than, gc_keep_size [default: none]
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_QUOTAS")]
    quotas: Option<PathBuf>,

    /// Maximum size of an uploaded artifact [default: 16GiB]
    #[arg(long, value_name = "BYTES", env = "LOCKSTEP_UPLOAD_LIMIT", value_parser = parse_bytes)]
    #[serde(deserialize_with = "bytes")]
    upload_limit: Option<u64>,

    /// Maximum concurrent connections [default: 4096]
    #[arg(long, value_name = "N", env = "LOCKSTEP_CONNECTIONS")]
    connections: Option<usize>,

    /// Free space on the disk of the store below which the host is not ready [default: 256MiB]
    #[arg(long, value_name = "BYTES", env = "LOCKSTEP_MIN_FREE", value_parser = parse_bytes)]
    #[serde(deserialize_with = "bytes")]
    min_free: Option<u64>,

    /// Shut down kernels that are idle for this long; their sessions are kept [default: never]
    #[arg(long, value_name = "TIME", env = "LOCKSTEP_CULL_IDLE", value_parser = parse_duration)]
    #[serde(deserialize_with = "duration")]
    cull_idle: Option<Duration>,

    /// Also shut down idle kernels with connected clients
    #[arg(long, env = "LOCKSTEP_CULL_CONNECTED")]
    cull_connected: bool,

    /// Also shut down kernels that are running a cell
    #[arg(long, env = "LOCKSTEP_CULL_BUSY")]
    cull_busy: bool,

    /// Time for running work to finish on shutdown [default: 30s]
    #[arg(long, value_name = "TIME", env = "LOCKSTEP_GRACE", value_parser = parse_duration)]
    #[serde(deserialize_with = "duration")]
    grace: Option<Duration>,

    /// Remove data that no run needs from all stores of the host, at this interval, as `lockstep gc` does [default: never]
    #[arg(long, value_name = "TIME", env = "LOCKSTEP_GC_EVERY", value_parser = interval)]
    #[serde(deserialize_with = "gc_interval")]
    gc_every: Option<Duration>,

    /// With --gc-every: also remove runs older than this [default: keep all runs]
    #[arg(long, value_name = "TIME", env = "LOCKSTEP_GC_OLDER_THAN", value_parser = parse_duration)]
    #[serde(deserialize_with = "duration")]
    gc_older_than: Option<Duration>,

    /// With --gc-every: also remove the oldest runs of each store until it is no larger than this [default: unlimited]
    #[arg(long, value_name = "BYTES", env = "LOCKSTEP_GC_KEEP_SIZE", value_parser = parse_bytes)]
    #[serde(deserialize_with = "bytes")]
    gc_keep_size: Option<u64>,

    /// What survives a power failure: see --durability of every command [default: records]
    #[arg(skip)]
    #[serde(deserialize_with = "durability")]
    durability: Option<Durability>,

    /// Restrict file access of cells to this directory [default: all files that this process can read; with users, one directory per user]
    #[arg(long, value_name = "DIR", env = "LOCKSTEP_FILES")]
    files: Option<PathBuf>,

    /// Server that confined kernels may download from, such as data.example.org, *.example.org, or * for all public ones; repeatable. Confined
    /// kernels are those of users, those in pods, and all with --files [default: none]
    #[arg(
        long = "fetch-from",
        value_name = "NAME",
        env = "LOCKSTEP_FETCH_FROM",
        value_delimiter = ','
    )]
    fetch_from: Vec<Server>,

    /// Maximum size of a download by a confined kernel [default: 1GiB]
    #[arg(long, value_name = "BYTES", env = "LOCKSTEP_FETCH_LIMIT", value_parser = parse_bytes)]
    #[serde(deserialize_with = "bytes")]
    fetch_limit: Option<u64>,

    /// Run each kernel in a pod with this image, such as lockstep-kernel, in the cluster of this host [default: run kernels in this process]
    #[arg(long, value_name = "IMAGE", env = "LOCKSTEP_KERNEL_IMAGE", help_heading = "Kernels in pods")]
    kernel_image: Option<String>,

    /// Namespace of kernel pods; `{user}` is replaced by the user's name and a digest, `{profile}` by the name as in Kubeflow's profiles [default: the
    /// host's namespace]
    #[arg(
        long,
        value_name = "NAME",
        env = "LOCKSTEP_KERNEL_NAMESPACE",
        help_heading = "Kernels in pods"
    )]
    kernel_namespace: Option<String>,

    /// CPU request of a kernel pod [default: 0.5]
    #[arg(long, value_name = "N", env = "LOCKSTEP_KERNEL_CPU", value_parser = cpu, help_heading = "Kernels in pods")]
    kernel_cpu: Option<String>,

    /// Memory request and limit of a kernel pod [default: 2GiB]
    #[arg(long, value_name = "BYTES", env = "LOCKSTEP_KERNEL_MEMORY", value_parser = parse_bytes, help_heading = "Kernels in pods")]
    #[serde(deserialize_with = "bytes")]
    kernel_memory: Option<u64>,

    /// Number of spare pods to keep ready for new kernels [default: 0]
    #[arg(long, value_name = "N", env = "LOCKSTEP_KERNEL_WARM", help_heading = "Kernels in pods")]
    kernel_warm: Option<usize>,

    /// PodTemplateSpec to merge into that of kernel pods, a YAML file; the container's name is `kernel`
    #[arg(
        long,
        value_name = "FILE",
        env = "LOCKSTEP_KERNEL_TEMPLATE",
        help_heading = "Kernels in pods"
    )]
    kernel_template: Option<PathBuf>,

    /// Secret with the credentials of the shared store for kernel pods [default: lockstep-store]
    #[arg(long, value_name = "NAME", env = "LOCKSTEP_KERNEL_SECRET", help_heading = "Kernels in pods")]
    kernel_secret: Option<String>,

    /// OpenTelemetry collector (OTLP over HTTP) for traces of requests and runs, such as http://127.0.0.1:4318 [default: none]
    #[arg(long, value_name = "URL", env = "LOCKSTEP_TRACES")]
    traces: Option<String>,
}

/// The default of `--max-time`.
const MAX_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Default port of a host.
pub const PORT: u16 = 8765;

impl Settings {
    /// Fills in missing settings from the configuration file.
    pub fn complete(self) -> Result<Self> {
        let Some(path) = &self.config else { return self.check() };
        let file = read(path)?;
        Self {
            config: None,
            bind: self.bind.or(file.bind),
            base_path: self.base_path.or(file.base_path),
            allow_host: if self.allow_host.is_empty() {
                file.allow_host
            } else {
                self.allow_host
            },
            trust_header: self.trust_header.or(file.trust_header),
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            jobs: self.jobs.or(file.jobs),
            queue: self.queue.or(file.queue),
            memory: self.memory.or(file.memory),
            run_memory: self.run_memory.or(file.run_memory),
            max_time: self.max_time.or(file.max_time),
            quotas: self.quotas.or(file.quotas),
            upload_limit: self.upload_limit.or(file.upload_limit),
            connections: self.connections.or(file.connections),
            min_free: self.min_free.or(file.min_free),
            cull_idle: self.cull_idle.or(file.cull_idle),
            cull_connected: self.cull_connected || file.cull_connected,
            cull_busy: self.cull_busy || file.cull_busy,
            grace: self.grace.or(file.grace),
            gc_every: self.gc_every.or(file.gc_every),
            gc_older_than: self.gc_older_than.or(file.gc_older_than),
            gc_keep_size: self.gc_keep_size.or(file.gc_keep_size),
            durability: self.durability.or(file.durability),
            files: self.files.or(file.files),
            fetch_from: if self.fetch_from.is_empty() {
                file.fetch_from
            } else {
                self.fetch_from
            },
            fetch_limit: self.fetch_limit.or(file.fetch_limit),
            kernel_image: self.kernel_image.or(file.kernel_image),
            kernel_namespace: self.kernel_namespace.or(file.kernel_namespace),
            kernel_cpu: self.kernel_cpu.or(file.kernel_cpu),
            kernel_memory: self.kernel_memory.or(file.kernel_memory),
            kernel_warm: self.kernel_warm.or(file.kernel_warm),
            kernel_template: self.kernel_template.or(file.kernel_template),
            kernel_secret: self.kernel_secret.or(file.kernel_secret),
            traces: self.traces.or(file.traces),
        }
        .check()
    }

    pub(crate) fn bind(&self) -> SocketAddr {
        self.bind.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT))
    }

    /// Returns the prefix with a leading and without a trailing slash; empty at the root.
    pub(crate) fn base_path(&self) -> String {
        match self.base_path.as_deref().unwrap_or_default().trim_matches('/') {
            "" => String::new(),
            path => format!("/{path}"),
        }
    }

    pub(crate) fn allowed_hosts(&self) -> &[String] {
        &self.allow_host
    }

    pub(crate) fn trust_header(&self) -> Option<&str> {
        self.trust_header.as_deref()
    }

    /// Returns the files of the certificate and its key.
    pub(crate) fn tls(&self) -> Option<(&Path, &Path)> {
        self.tls_cert.as_deref().zip(self.tls_key.as_deref())
    }

    pub(crate) fn jobs(&self) -> usize {
        self.jobs.unwrap_or_else(|| machine::cores().get()).max(1)
    }

    pub(crate) fn queue(&self) -> usize {
        self.queue.unwrap_or(1000)
    }

    /// Returns the memory in bytes that all running guests may use together.
    pub(crate) fn memory(&self) -> u64 {
        self.memory.unwrap_or_else(machine::available_memory)
    }

    /// Returns the limits of runs that set none, on a host with `memory` bytes for guests.
    pub(crate) fn limits(&self, memory: u64) -> Limits {
        let default = Limits::default();
        Limits {
            memory: self.run_memory.unwrap_or_else(|| default.memory.min(memory)),
            time: Some(self.max_time.unwrap_or(MAX_TIME)),
            ..default
        }
    }

    /// Reads the quotas of users.
    pub(crate) fn quotas(&self) -> Result<Quotas> {
        let Some(path) = &self.quotas else {
            return Ok(Quotas::default());
        };
        let quotas = Quotas::read(path)?;
        if quotas.remove_runs() && self.gc_every.is_none() {
            let error = Error::config(format_args!(
                "{}: gc_older_than and gc_keep_size have no effect without gc-every",
                path.display()
            ));
            return Err(error.hint("set the interval too, such as --gc-every 6h"));
        }
        Ok(quotas)
    }

    /// Returns the limit in bytes.
    pub(crate) fn upload_limit(&self) -> u64 {
        self.upload_limit.unwrap_or(16 << 30)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.unwrap_or(4096).max(1)
    }

    /// Returns the free space in bytes below which the host is not ready.
    pub(crate) fn min_free(&self) -> u64 {
        self.min_free.unwrap_or(256 << 20)
    }

    /// Returns the idle time after which kernels are shut down.
    pub(crate) fn cull_idle(&self) -> Option<Duration> {
        self.cull_idle
    }

    pub(crate) fn cull_connected(&self) -> bool {
        self.cull_connected
    }

    pub(crate) fn cull_busy(&self) -> bool {
        self.cull_busy
    }

    /// Returns the interval of garbage collection.
    pub(crate) fn gc_every(&self) -> Option<Duration> {
        self.gc_every
    }

    /// Returns the age beyond which garbage collection removes runs.
    pub(crate) fn gc_older_than(&self) -> Option<Duration> {
        self.gc_older_than
    }

    /// Returns the size of a store, in bytes, down to which garbage collection removes runs.
    pub(crate) fn gc_keep_size(&self) -> Option<u64> {
        self.gc_keep_size
    }

    /// Checks that settings for garbage collection have an interval.
    fn check(self) -> Result<Self> {
        if self.gc_every.is_none() && (self.gc_older_than.is_some() || self.gc_keep_size.is_some()) {
            let error = Error::config("gc-older-than and gc-keep-size have no effect without gc-every");
            return Err(error.hint("set the interval too, such as --gc-every 6h"));
        }
        Ok(self)
    }

    /// Returns the durability of the configuration file.
    pub fn durability(&self) -> Option<Durability> {
        self.durability
    }

    /// Returns the only directory that cells may access.
    pub(crate) fn files(&self) -> Option<&Path> {
        self.files.as_deref()
    }

    /// Returns what confined kernels may download.
    pub(crate) fn downloads(&self) -> Downloads {
        Downloads {
            servers: self.fetch_from.clone(),
            size: self.fetch_limit.unwrap_or(1 << 30),
        }
    }

    /// Returns the image of kernel pods; `None` if kernels run in this process.
    pub(crate) fn kernel_image(&self) -> Option<&str> {
        self.kernel_image.as_deref()
    }

    /// Returns the namespace of kernel pods, which may contain the placeholder `{user}`.
    pub(crate) fn kernel_namespace(&self) -> Option<&str> {
        self.kernel_namespace.as_deref()
    }

    pub(crate) fn kernel_cpu(&self) -> String {
        self.kernel_cpu.clone().unwrap_or_else(|| "500m".to_owned())
    }

    /// Returns the memory of a kernel pod in bytes.
    pub(crate) fn kernel_memory(&self) -> u64 {
        self.kernel_memory.unwrap_or(2 << 30)
    }

    pub(crate) fn kernel_warm(&self) -> usize {
        self.kernel_warm.unwrap_or(0)
    }

    pub(crate) fn kernel_template(&self) -> Option<&Path> {
        self.kernel_template.as_deref()
    }

    pub(crate) fn kernel_secret(&self) -> String {
        self.kernel_secret.clone().unwrap_or_else(|| "lockstep-store".to_owned())
    }

    /// Returns the URL of the trace collector.
    pub(crate) fn traces(&self) -> Option<&str> {
        self.traces.as_deref()
    }

    pub(crate) fn grace(&self) -> Duration {
        self.grace.unwrap_or(Duration::from_secs(30))
    }
}

fn read(path: &Path) -> Result<Settings> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::file("read", path, &e))?;
    toml::from_str(&text).map_err(|error| {
        Error::config(format_args!("{}: {}", path.display(), error.to_string().trim_end()))
            .hint("`lockstep serve --help` lists the settings; keys are the names of the flags")
    })
}

/// Parses the interval of garbage collection.
fn interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        short if short < Duration::from_secs(1) => Err("expected at least 1s".to_owned()),
        interval => Ok(interval),
    }
}

fn gc_interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    interval(&text).map(Some).map_err(serde::de::Error::custom)
}

fn durability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Durability>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_bytes(&text).map(Some).map_err(serde::de::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Settings> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("serve.toml");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn a_file_is_called_like_the_flags() {
        let settings =
            file("bind = '0.0.0.0:80'\nallow-host = ['a.example']\ncull-idle = '2h'\nupload-limit = '1GiB'").unwrap();
        assert_eq!(settings.bind(), "0.0.0.0:80".parse().unwrap());
        assert_eq!(settings.allowed_hosts(), ["a.example"]);
        assert_eq!(settings.cull_idle(), Some(Duration::from_secs(7200)));
        assert_eq!(settings.upload_limit(), 1 << 30);
    }

    #[test]
    fn unknown_keys_are_refused_with_their_place() {
        let error = file("bnid = '0.0.0.0:80'").unwrap_err();
        assert!(error.message().contains("line 1, column 1"), "{error}");
        assert!(error.message().contains("unknown field `bnid`"), "{error}");
    }

    #[test]
    fn garbage_collection_has_an_interval() {
        let complete = |text: &str| file(text).unwrap().complete();
        let settings = complete("gc-every = '6h'\ngc-keep-size = '1GiB'\ndurability = 'all'").unwrap();
        let gc = (settings.gc_every(), settings.gc_keep_size(), settings.gc_older_than());
        assert_eq!(gc, (Some(Duration::from_secs(6 * 3600)), Some(1 << 30), None));
        assert_eq!(settings.durability(), Some(Durability::All));
        assert_eq!(complete("").unwrap().gc_every(), None);
        let error = complete("gc-older-than = '30d'").unwrap_err();
        assert_eq!(
            error.message(),
            "gc-older-than and gc-keep-size have no effect without gc-every"
        );
        assert!(
            file("gc-every = '0s'")
                .unwrap_err()
                .message()
                .contains("expected at least 1s")
        );
        assert!(
            file("durability = 'some'")
                .unwrap_err()
                .message()
                .contains("expected none, records or all")
        );
    }

    #[test]
    fn a_run_without_a_limit_has_no_more_memory_than_the_host() {
        let limits = |text: &str, memory: u64| file(text).unwrap().limits(memory).memory;
        assert_eq!((limits("", 1 << 30), limits("", 64 << 30)), (1 << 30, 4 << 30));
        assert_eq!(limits("run-memory = '2GiB'", 1 << 30), 2 << 30);
    }

    #[test]
    fn a_base_path_has_one_slash_before_it() {
        for (given, is) in [("", ""), ("/", ""), ("a/b/", "/a/b"), ("/a", "/a")] {
            let settings = Settings {
                base_path: Some(given.to_owned()),
                ..Settings::default()
            };
            assert_eq!(settings.base_path(), is);
        }
    }
}
