//! Confines programs that run third-party code: cargo, which runs build scripts, and rustc, which loads proc macros.
//!
//! - **Files**: Landlock. Only allowed paths can be read or written; everything else, such as the user's keys, can't be opened.
//!   Processes outside can't be signalled or traced.
//! - **Network**: a seccomp filter denies `socket`, and `io_uring_setup`, which could also create sockets. That covers TCP, UDP
//!   and Unix sockets, and needs neither privileges nor a namespace.
//!
//! Both apply to a thread and its child processes. So a new thread confines itself, starts the program and ends; nothing needs
//! to run between `fork` and `exec`.
//!
//! Neither hides that a file exists, nor the environment, which the caller must clear. [`Confinement::gap`] describes what the
//! platform does not support; programs then run without that protection.

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command};

/// Directories of compilers, linkers and their libraries; never a user's files.
const SYSTEM: [&str; 16] = [
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/usr",
    "/opt",
    "/nix/store",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/gitconfig",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
];

/// The file that every program may write to.
const SINK: &str = "/dev/null";

/// The paths that a program may access.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
}

impl Confinement {
    /// Allows only the system's programs and libraries.
    pub fn new() -> Self {
        Self {
            read: SYSTEM.map(PathBuf::from).to_vec(),
            write: vec![PathBuf::from(SINK)],
        }
    }

    /// Also allows reading a file, or a directory and everything below it. Ignores missing paths.
    pub fn reading(mut self, path: impl Into<PathBuf>) -> Self {
        self.read.push(path.into());
        self
    }

    /// Also allows reading and writing a file, or a directory and everything below it.
    pub fn writing(mut self, path: impl Into<PathBuf>) -> Self {
        self.write.push(path.into());
        self
    }

    /// Starts a program, confined as far as the platform supports it.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        in_a_thread(|| {
            platform::confine(self)?;
            command.spawn()
        })
    }

    /// Describes what programs can access because the platform can't confine them; `None` if confinement is complete.
    pub fn gap() -> Option<String> {
        let reached = match in_a_thread(|| platform::confine(&Self::new())) {
            Ok(reached) => reached,
            Err(error) => return Some(format!("files and the network ({error})")),
        };
        match (reached.files, reached.network) {
            (true, true) => None,
            (false, true) => Some("files (this kernel has no Landlock)".to_owned()),
            (true, false) => Some("the network (this kernel has no seccomp)".to_owned()),
            (false, false) => Some("files and the network (confinement requires Linux with Landlock)".to_owned()),
        }
    }
}

/// The protections that apply to the calling thread and its child processes.
struct OutOfReach {
    files: bool,
    network: bool,
}

fn in_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("confine".to_owned())
            .spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}

#[cfg(target_os = "linux")]
mod platform {
    use std::collections::BTreeMap;
    use std::io;

    use landlock::{
        ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
        path_beneath_rules,
    };
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    use super::{Confinement, OutOfReach};

    /// The newest supported Landlock ABI. On an older kernel, all its features are used.
    const NEWEST: ABI = ABI::V10;

    /// System calls that can create a socket. The second half are those of x32, another ABI of x86-64 kernels.
    const SOCKETS: [i64; 4] = [
        libc::SYS_socket,
        libc::SYS_io_uring_setup,
        libc::SYS_socket | 0x4000_0000,
        libc::SYS_io_uring_setup | 0x4000_0000,
    ];

    pub fn confine(to: &Confinement) -> io::Result<OutOfReach> {
        Ok(OutOfReach {
            files: files(to).map_err(io::Error::other)?,
            network: network(),
        })
    }

    fn files(to: &Confinement) -> Result<bool, RulesetError> {
        let status = Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?
            .add_rules(path_beneath_rules(&to.read, AccessFs::from_read(NEWEST)))?
            .add_rules(path_beneath_rules(&to.write, AccessFs::from_all(NEWEST)))?
            .restrict_self()?;
        // Before the third version, files could be truncated.
        let enough = |effective: ABI| effective >= ABI::V3;
        Ok(matches!(status.landlock, LandlockStatus::Available { effective_abi, .. } if enough(effective_abi)))
    }

    fn network() -> bool {
        let filter = || -> Result<(), seccompiler::Error> {
            let rules = SOCKETS.into_iter().map(|call| (call, Vec::new()));
            let filter: BpfProgram = SeccompFilter::new(
                rules.collect::<BTreeMap<_, _>>(),
                SeccompAction::Allow,
                SeccompAction::Errno(libc::EACCES as u32),
                std::env::consts::ARCH.try_into()?,
            )?
            .try_into()?;
            seccompiler::apply_filter(&filter)
        };
        filter().is_ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::io;

    use super::{Confinement, OutOfReach};

    pub fn confine(_: &Confinement) -> io::Result<OutOfReach> {
        Ok(OutOfReach {
            files: false,
            network: false,
        })
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::process::Stdio;

    fn sh(confinement: &Confinement, script: &str) -> String {
        let mut command = Command::new("bash");
        command.args(["-c", script]).env_clear().stdin(Stdio::null());
        let child = confinement
            .spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()))
            .unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn only_allowed_paths_are_accessible() {
        assert_eq!(Confinement::gap(), None, "these tests need Linux with Landlock");
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let readable = tempfile::tempdir().unwrap();
        for dir in [&inside, &outside, &readable] {
            std::fs::write(dir.path().join("file"), "text").unwrap();
        }
        let confinement = Confinement::new().reading(readable.path()).writing(inside.path());
        let reach = |dir: &tempfile::TempDir| {
            let at = dir.path().display();
            sh(
                &confinement,
                &format!(
                    "read -r x <{at}/file || [[ $x ]] && echo -n r; echo y >{at}/new && echo -n w; true >{at}/file && echo -n t"
                ),
            )
        };
        assert_eq!([reach(&inside), reach(&readable), reach(&outside)], ["rwt", "r", ""]);
        assert_eq!(std::fs::read_to_string(outside.path().join("file")).unwrap(), "text");
        // This thread is not confined.
        std::fs::write(outside.path().join("new"), "").unwrap();
    }

    #[test]
    fn there_is_no_network() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls = |kind: &str| format!("echo x >/dev/{kind}/127.0.0.1/{port} && echo -n {kind}; true");
        let script = format!("{}; {}", calls("tcp"), calls("udp"));
        assert_eq!(sh(&Confinement::new(), &script), "");
        TcpListener::bind("127.0.0.1:0").unwrap();
    }
}
