use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use lockstep_cluster::pod::CODE_KEY;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::sandbox::CodeKey;
use lockstep_runtime::store::Durability;
use lockstep_view::error::{Error, Result};

/// An environment variable that lockstep reads.
pub struct Variable {
    pub name: &'static str,
    pub about: &'static str,
}

const STORE: &str = "LOCKSTEP_STORE";
const SHARED: &str = "LOCKSTEP_SHARED";
/// The variable with the cache directory.
pub const CACHE: &str = "LOCKSTEP_CACHE";
/// The variable with a read-only cache.
const CACHE_FROM: &str = "LOCKSTEP_CACHE_FROM";
const DURABILITY: &str = "LOCKSTEP_DURABILITY";
const TOOLCHAIN: &str = "LOCKSTEP_TOOLCHAIN";
const DATA_HOME: &str = "XDG_DATA_HOME";
const CACHE_HOME: &str = "XDG_CACHE_HOME";
const HOME: &str = "HOME";
const JUPYTER_DATA: &str = "JUPYTER_DATA_DIR";
const JUPYTER_PARENT: &str = "JPY_PARENT_PID";
const NOTEBOOK: &str = "JPY_SESSION_NAME";
const DOCKER_CONFIG: &str = "DOCKER_CONFIG";
const HOST: &str = "LOCKSTEP_HOST";
const TOKEN: &str = "LOCKSTEP_TOKEN";
const LOG: &str = "LOCKSTEP_LOG";
const IMAGE: &str = "LOCKSTEP_IMAGE";

/// Every environment variable that lockstep reads. It also passes the environment on to the programs that it starts (cargo, rustc).
pub const VARIABLES: [Variable; 21] = [
    Variable {
        name: STORE,
        about: "store directory, or s3://BUCKET/PREFIX [default: $XDG_DATA_HOME/lockstep/store]",
    },
    Variable {
        name: SHARED,
        about: "shared store behind it: s3://BUCKET/PREFIX",
    },
    Variable {
        name: DURABILITY,
        about: "what survives a power failure: none, records or all [default: none; for `lockstep serve`: records]",
    },
    Variable {
        name: "AWS_*",
        about: "access to the shared store: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ALLOW_HTTP and others",
    },
    Variable {
        name: HOST,
        about: "host to run on instead of this machine: https://HOST[:PORT]",
    },
    Variable {
        name: TOKEN,
        about: "token for that host; for `lockstep serve`: a token with full access",
    },
    Variable {
        name: LOG,
        about: "log level of `lockstep serve`: error, warn, info, debug [default: info]",
    },
    Variable {
        name: IMAGE,
        about: "image of pods [default: lockstep-step:VERSION]",
    },
    Variable {
        name: CODE_KEY,
        about: "secret of at least 32 characters; machines with the same secret reuse each other's compiled code through the shared store",
    },
    Variable {
        name: "LOCKSTEP_BIND, ...",
        about: "settings of a host; see `lockstep serve --help`",
    },
    Variable {
        name: CACHE,
        about: "cache directory; safe to delete [default: $XDG_CACHE_HOME/lockstep]",
    },
    Variable {
        name: CACHE_FROM,
        about: "read-only cache with the prelude of notebooks, such as one in an image",
    },
    Variable {
        name: TOOLCHAIN,
        about: "`debian` selects the toolchain of Debian's packages instead of rustup's",
    },
    Variable {
        name: JUPYTER_DATA,
        about: "Jupyter data directory of the user [default: $XDG_DATA_HOME/jupyter]",
    },
    Variable {
        name: JUPYTER_PARENT,
        about: "process that started `kernel run`, which exits with it; set by Jupyter",
    },
    Variable {
        name: NOTEBOOK,
        about: "path of the notebook that `kernel run` serves; locates its locked versions and its saved session; set by Jupyter",
    },
    Variable {
        name: DOCKER_CONFIG,
        about: "directory of docker's config.json, which has the credentials for registries [default: $HOME/.docker]",
    },
    Variable {
        name: DATA_HOME,
        about: "data directory of the user [default: $HOME/.local/share]",
    },
    Variable {
        name: CACHE_HOME,
        about: "cache directory of the user [default: $HOME/.cache]",
    },
    Variable {
        name: HOME,
        about: "home directory of the user",
    },
    Variable {
        name: "NO_COLOR",
        about: "disable colours when set",
    },
];

/// Directories, addresses and credentials from the command line and the environment. No other code reads the environment.
#[derive(Clone)]
pub struct Locations {
    /// The store directory.
    pub store: PathBuf,
    /// Whether the store was named on the command line, rather than by the environment or by default.
    pub store_by_flag: bool,
    /// The shared store behind it.
    pub shared: Option<String>,
    /// Whether the shared store was named on the command line.
    pub shared_by_flag: bool,
    /// The durability of the store.
    pub durability: Option<Durability>,
    /// The cache directory. It is safe to delete.
    pub cache: PathBuf,
    /// A read-only cache that fills the cache directory.
    pub cache_from: Option<PathBuf>,
    /// The Jupyter data directory of the user, where `kernel install` writes the kernelspec.
    pub jupyter_data: PathBuf,
    /// The process that started this one, if it is Jupyter.
    pub jupyter_parent: Option<u32>,
    /// The notebook that `kernel run` serves.
    pub notebook: Option<PathBuf>,
    /// The `config.json` of docker, with the credentials for registries.
    pub docker_config: Option<PathBuf>,
    /// The whole environment, for child processes.
    pub environment: BTreeMap<OsString, OsString>,
    /// Whether to use the toolchain of Debian's packages.
    pub debian: bool,
    /// The host to run on instead of this machine.
    pub host: Option<String>,
    /// Whether the host was named on the command line.
    pub host_by_flag: bool,
    /// The token for that host.
    pub token: Option<String>,
    /// The log filter of a host.
    pub log: Option<String>,
    /// The image of pods.
    pub image: Option<String>,
    /// The key that authenticates compiled code from the shared store.
    pub code_key: Option<CodeKey>,
}

impl Locations {
    /// Reads the locations from `environment`. `store` and `shared` take precedence over it.
    pub fn new(environment: BTreeMap<OsString, OsString>, store: Option<&Path>, shared: Option<&str>) -> Result<Self> {
        let variable = |name: &str| environment.get(OsStr::new(name)).filter(|value| !value.is_empty());
        // the XDG base directory specification says to ignore relative paths
        let home = |name: &str, below: &str| {
            let given = variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
            given.or_else(|| Some(Path::new(variable(HOME)?).join(below)))
        };
        let lost = |what: &str, name: &str| {
            Error::config(format!("can't locate the {what}: neither {name} nor {HOME} is set"))
                .hint(format!("set {HOME} or {name}"))
        };
        let data_home = home(DATA_HOME, ".local/share");
        let store_by_flag = store.is_some();
        let store = match (store, variable(STORE), &data_home) {
            (Some(store), _, _) => store.to_owned(),
            (None, Some(store), _) => store.into(),
            (None, None, Some(data_home)) => data_home.join("lockstep/store"),
            (None, None, None) => return Err(lost("store", STORE)),
        };
        let cache = match (variable(CACHE), home(CACHE_HOME, ".cache")) {
            (Some(cache), _) => cache.into(),
            (None, Some(cache_home)) => cache_home.join("lockstep"),
            (None, None) => store.join("cache"),
        };
        let shared_by_flag = shared.is_some();
        let shared = match shared {
            Some(shared) => Some(shared.to_owned()),
            None => variable(SHARED).map(|url| url.to_string_lossy().into_owned()),
        };
        let (store, store_is_shared) = local_part(store, &cache, shared.as_deref())?;
        let shared_by_flag = shared_by_flag || (store_by_flag && store_is_shared.is_some());
        let shared = store_is_shared.or(shared);
        let debian = match variable(TOOLCHAIN).map(|value| value.to_string_lossy()) {
            None => false,
            Some(value) if value == "debian" => true,
            Some(value) => {
                return Err(Error::config(format!("unknown toolchain `{value}` in {TOOLCHAIN}"))
                    .hint("set it to `debian`, or unset it"));
            }
        };
        let durability = match variable(DURABILITY).map(|value| value.to_string_lossy()) {
            None => None,
            Some(value) => Some(value.parse().map_err(|expected: String| {
                Error::config(format!("unknown durability `{value}` in {DURABILITY}: {expected}"))
            })?),
        };
        let jupyter_data = match (variable(JUPYTER_DATA), data_home) {
            (Some(data), _) => data.into(),
            (None, Some(data_home)) => data_home.join("jupyter"),
            (None, None) => store.join("jupyter"),
        };
        let jupyter_parent = variable(JUPYTER_PARENT).and_then(|id| id.to_str()?.parse().ok());
        let notebook = variable(NOTEBOOK).map(PathBuf::from);
        let docker = variable(DOCKER_CONFIG).map(PathBuf::from);
        let docker = docker.or_else(|| Some(Path::new(variable(HOME)?).join(".docker")));
        let text = |name| variable(name).map(|value| value.to_string_lossy().into_owned());
        let (host, token, log, image) = (text(HOST), text(TOKEN), text(LOG), text(IMAGE));
        let code_key = text(CODE_KEY)
            .map(|secret| CodeKey::new(&secret).ok_or_else(too_short))
            .transpose()?;
        Ok(Self {
            host,
            host_by_flag: false,
            token,
            log,
            image,
            code_key,
            store,
            store_by_flag,
            shared,
            shared_by_flag,
            durability,
            cache,
            cache_from: variable(CACHE_FROM).map(PathBuf::from),
            jupyter_data,
            jupyter_parent,
            notebook,
            docker_config: docker.map(|docker| docker.join("config.json")),
            environment,
            debian,
        })
    }

    /// The directory in the store for the host's own files and for the files of callers without a user name.
    pub fn host_directory(&self) -> PathBuf {
        self.store.join("host")
    }

    /// Returns the settings of the shared store: the `AWS_*` variables.
    pub fn shared_settings(&self) -> BTreeMap<String, String> {
        let settings = self
            .environment
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
        let settings = settings.filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty());
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Finds the program called `name` on `PATH`.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let search = self.environment.get(OsStr::new("PATH"))?;
        std::env::split_paths(search)
            .map(|directory| directory.join(name))
            .find(|file| file.is_file())
    }

    /// Returns the locations that the toolchain uses.
    pub fn toolchain(&self) -> lockstep_kernel::toolchain::Locations {
        lockstep_kernel::toolchain::Locations {
            cache: self.cache.clone(),
            environment: self.environment.clone(),
            debian: self.debian,
        }
    }
}

fn too_short() -> Error {
    Error::config(format_args!("{CODE_KEY} is too short: it must have at least 32 characters"))
        .hint("`openssl rand -hex 32` generates one")
}

/// Returns the directory of a store. If `store` is the URL of a shared store, returns a directory in the cache and the URL.
fn local_part(store: PathBuf, cache: &Path, shared: Option<&str>) -> Result<(PathBuf, Option<String>)> {
    let Some(url) = store.to_str().filter(|text| text.starts_with("s3://")).map(str::to_owned) else {
        return Ok((store, None));
    };
    if let Some(other) = shared {
        let error = Error::user(format_args!("store {url} can't be combined with shared store {other}"));
        return Err(error.hint("give only one of them, or use --store DIR --shared URL"));
    }
    let name = Digest::of(url.trim_end_matches('/')).short();
    Ok((cache.join("shared").join(name), Some(url)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locations(environment: &[(&str, &str)], store: Option<&str>) -> Result<Locations> {
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Locations::new(environment, store.map(Path::new), None)
    }

    #[test]
    fn the_nearest_word_wins() {
        let home = ("HOME", "/home/a");
        let store = |environment: &[(&str, &str)], flag| locations(environment, flag).unwrap().store;
        assert_eq!(store(&[home], None), Path::new("/home/a/.local/share/lockstep/store"));
        assert_eq!(store(&[home, (DATA_HOME, "/data")], None), Path::new("/data/lockstep/store"));
        assert_eq!(
            store(&[home, (DATA_HOME, "data")], None),
            Path::new("/home/a/.local/share/lockstep/store")
        );
        assert_eq!(store(&[home, (STORE, "/s"), (DATA_HOME, "/data")], None), Path::new("/s"));
        assert_eq!(store(&[(STORE, "/s")], Some("t")), Path::new("t"));
    }

    #[test]
    fn a_shared_store_has_a_local_part() {
        let home = ("HOME", "/home/a");
        let found = locations(&[home, (STORE, "s3://bucket/a")], None).unwrap();
        assert!(found.store.starts_with("/home/a/.cache/lockstep/shared"), "{:?}", found.store);
        assert_eq!(
            (found.shared.as_deref(), found.shared_by_flag),
            (Some("s3://bucket/a"), false)
        );
        let found = locations(&[home, (SHARED, "s3://bucket")], Some("here")).unwrap();
        assert_eq!(
            (found.store.as_path(), found.shared.as_deref()),
            (Path::new("here"), Some("s3://bucket"))
        );
        assert!(locations(&[home, (SHARED, "s3://bucket")], Some("s3://other")).is_err());
    }

    #[test]
    fn what_can_not_be_told_is_an_error() {
        assert!(locations(&[], None).is_err());
        assert!(locations(&[("HOME", "/h"), (TOOLCHAIN, "nightly")], None).is_err());
        assert!(locations(&[("HOME", "/h"), (DURABILITY, "some")], None).is_err());
        assert!(locations(&[("HOME", "/h"), (CODE_KEY, "guessed")], None).is_err());
        assert!(locations(&[("HOME", "/h"), (TOOLCHAIN, "debian")], None).unwrap().debian);
    }
}
