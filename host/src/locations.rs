use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use lockstep_cluster::pod::CODE_KEY;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::sandbox::CodeKey;
use lockstep_view::error::{Error, Result};

/// An environment variable that lockstep reads.
pub struct Variable {
    pub name: &'static str,
    pub about: &'static str,
}

const STORE: &str = "LOCKSTEP_STORE";
const SHARED: &str = "LOCKSTEP_SHARED";
/// The variable that says where what can be made again is.
pub const CACHE: &str = "LOCKSTEP_CACHE";
/// The variable that says what the cache starts from.
const CACHE_FROM: &str = "LOCKSTEP_CACHE_FROM";
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

/// Every environment variable that lockstep reads. Those of the programs that it starts (cargo, rustc) are passed on.
pub const VARIABLES: [Variable; 20] = [
    Variable {
        name: STORE,
        about: "the store [default: $XDG_DATA_HOME/lockstep/store]",
    },
    Variable {
        name: SHARED,
        about: "the shared store behind it: s3://BUCKET/PREFIX",
    },
    Variable {
        name: "AWS_*",
        about: "how it is reached: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ALLOW_HTTP and others",
    },
    Variable {
        name: HOST,
        about: "the host that does the work, instead of this machine: https://HOST[:PORT]",
    },
    Variable {
        name: TOKEN,
        about: "what that host knows its caller by; of `lockstep serve`: a token that may do everything",
    },
    Variable {
        name: LOG,
        about: "what `lockstep serve` writes of its own work to stderr: error, warn, info, debug [default: info]",
    },
    Variable {
        name: IMAGE,
        about: "the image of pods [default: lockstep-step and the version]",
    },
    Variable {
        name: CODE_KEY,
        about: "a secret of 32 characters or more; machines that have it take compiled code from one another, through the shared store",
    },
    Variable {
        name: "LOCKSTEP_BIND, ...",
        about: "the settings of a host: `lockstep serve --help`",
    },
    Variable {
        name: CACHE,
        about: "what can be made again [default: $XDG_CACHE_HOME/lockstep]",
    },
    Variable {
        name: CACHE_FROM,
        about: "a cache that is only read, such as that of an image: what notebooks start with is taken from there",
    },
    Variable {
        name: TOOLCHAIN,
        about: "`debian` takes the toolchain of Debian's packages, not rustup's",
    },
    Variable {
        name: JUPYTER_DATA,
        about: "Jupyter's data of this user [default: $XDG_DATA_HOME/jupyter]",
    },
    Variable {
        name: JUPYTER_PARENT,
        about: "the process with which `kernel run` ends; Jupyter sets it",
    },
    Variable {
        name: NOTEBOOK,
        about: "the notebook that `kernel run` serves: where its locked versions are; its session survives the kernel. Jupyter sets it",
    },
    Variable {
        name: DOCKER_CONFIG,
        about: "where docker keeps who one is to registries, in config.json [default: $HOME/.docker]",
    },
    Variable {
        name: DATA_HOME,
        about: "where data of the user are [default: $HOME/.local/share]",
    },
    Variable {
        name: CACHE_HOME,
        about: "where caches of the user are [default: $HOME/.cache]",
    },
    Variable {
        name: HOME,
        about: "the user's home directory",
    },
    Variable {
        name: "NO_COLOR",
        about: "when set, colours are left out",
    },
];

/// Where things are on this machine. Nothing else of lockstep looks at the environment.
#[derive(Clone)]
pub struct Locations {
    /// Artifacts and records.
    pub store: PathBuf,
    /// Whether the store was named on the command line, rather than by the environment or by default.
    pub store_by_flag: bool,
    /// The shared store behind it.
    pub shared: Option<String>,
    /// Whether that was named on the command line.
    pub shared_by_flag: bool,
    /// What can be made again.
    pub cache: PathBuf,
    /// What it starts from, which is only read.
    pub cache_from: Option<PathBuf>,
    /// Jupyter's data of this user: where `kernel install` puts its files.
    pub jupyter_data: PathBuf,
    /// The process that started this one, if it is Jupyter.
    pub jupyter_parent: Option<u32>,
    /// The notebook that is served.
    pub notebook: Option<PathBuf>,
    /// Who one is to registries, if that is kept anywhere.
    pub docker_config: Option<PathBuf>,
    /// The whole environment, for the programs that are started.
    pub environment: BTreeMap<OsString, OsString>,
    /// Whether the toolchain of Debian is asked for.
    pub debian: bool,
    /// The host that does the work, instead of this machine.
    pub host: Option<String>,
    /// Whether that was named on the command line.
    pub host_by_flag: bool,
    /// What that host knows its caller by.
    pub token: Option<String>,
    /// What a host writes of its own work.
    pub log: Option<String>,
    /// The image of pods.
    pub image: Option<String>,
    /// Whose seal compiled code has that comes through the shared store.
    pub code_key: Option<CodeKey>,
}

impl Locations {
    /// The locations that `environment` tells, with the store in `store` and the shared store at `shared` when those are given.
    pub fn new(environment: BTreeMap<OsString, OsString>, store: Option<&Path>, shared: Option<&str>) -> Result<Self> {
        let variable = |name: &str| environment.get(OsStr::new(name)).filter(|value| !value.is_empty());
        // the XDG base directory specification: a relative path is to be ignored
        let home = |name: &str, below: &str| {
            let given = variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
            given.or_else(|| Some(Path::new(variable(HOME)?).join(below)))
        };
        let lost = |what: &str, name: &str| {
            Error::config(format!("can't tell where the {what} is: neither {name} nor {HOME} is set"))
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
                return Err(Error::config(format!("{TOOLCHAIN} is `{value}`, which is not known"))
                    .hint("set it to `debian`, or unset it"));
            }
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

    /// What a host keeps beside the store, for itself and for those whom it does not tell apart.
    pub fn host_directory(&self) -> PathBuf {
        self.store.join("host")
    }

    /// The settings of the shared store.
    pub fn shared_settings(&self) -> BTreeMap<String, String> {
        let settings = self
            .environment
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
        let settings = settings.filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty());
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The program called `name` on `PATH`.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let search = self.environment.get(OsStr::new("PATH"))?;
        std::env::split_paths(search)
            .map(|directory| directory.join(name))
            .find(|file| file.is_file())
    }

    /// What the toolchain is told of them.
    pub fn toolchain(&self) -> lockstep_kernel::toolchain::Locations {
        lockstep_kernel::toolchain::Locations {
            cache: self.cache.clone(),
            environment: self.environment.clone(),
            debian: self.debian,
        }
    }
}

fn too_short() -> Error {
    Error::config(format_args!(
        "the secret in {CODE_KEY} is shorter than 32 characters, and could be guessed"
    ))
    .hint("`openssl rand -hex 32` makes one")
}

/// The directory of a store, and the shared store if `store` names one instead of a directory: its local part is then in the cache.
fn local_part(store: PathBuf, cache: &Path, shared: Option<&str>) -> Result<(PathBuf, Option<String>)> {
    let Some(url) = store.to_str().filter(|text| text.starts_with("s3://")).map(str::to_owned) else {
        return Ok((store, None));
    };
    if let Some(other) = shared {
        let error = Error::user(format_args!("the store is {url}, and {other} is to be behind it"));
        return Err(error.hint("give one of them; --store DIR --shared URL puts a directory in front of a shared store"));
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
        assert!(locations(&[("HOME", "/h"), (CODE_KEY, "guessed")], None).is_err());
        assert!(locations(&[("HOME", "/h"), (TOOLCHAIN, "debian")], None).unwrap().debian);
    }
}
