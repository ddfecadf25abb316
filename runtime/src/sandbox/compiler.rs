use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::target::{Target, compile_alone};
use super::{CompileBudget, Interrupt};

/// How often a process that compiles is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// The exit code of the process after an error of the compiler, which is then on stdout.
const REFUSED: i32 = 3;

/// A command that compiles modules in a process of its own, so that compiling can be interrupted and takes only so much time and memory.
///
/// It is run with further arguments, which it must pass to [`compile`].
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The program, of the same build as this one.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<String>,
}

/// The reason why a process did not compile a module.
#[derive(Debug)]
pub(super) enum Uncompiled {
    /// The compiler refused it.
    Refused(String),
    /// It took too long.
    Late,
    /// The process was ended by the system, usually for lack of memory.
    Ended(ExitStatus),
    Interrupted,
    Host(io::Error),
}

impl From<io::Error> for Uncompiled {
    fn from(source: io::Error) -> Self {
        Self::Host(source)
    }
}

impl Compiler {
    /// Returns the code of a module.
    pub(super) fn run(
        &self,
        wasm: &[u8],
        target: Target,
        optimise: bool,
        budget: &CompileBudget,
        interrupt: &Interrupt,
    ) -> Result<Vec<u8>, Uncompiled> {
        let mut module = tempfile::tempfile()?;
        module.write_all(wasm)?;
        module.rewind()?;
        let mut code = tempfile::tempfile()?;
        let process = Command::new(&self.program)
            .args(&self.arguments)
            .args([target.name(), if optimise { "optimise" } else { "quick" }])
            .args([budget.seconds, budget.memory_to_compile].map(|limit| limit.to_string()))
            .stdin(module)
            .stdout(code.try_clone()?)
            .stderr(Stdio::null())
            .spawn()?;
        let status = Running(process).wait(Duration::from_secs(budget.seconds), interrupt)?;
        let mut written = Vec::new();
        code.rewind()?;
        code.read_to_end(&mut written)?;
        match status.code() {
            Some(0) => Ok(written),
            Some(REFUSED) => Err(Uncompiled::Refused(String::from_utf8_lossy(&written).into_owned())),
            _ => Err(Uncompiled::Ended(status)),
        }
    }
}

/// A process that is killed when this is dropped.
struct Running(Child);

impl Running {
    fn wait(mut self, time: Duration, interrupt: &Interrupt) -> Result<ExitStatus, Uncompiled> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            if interrupt.is_triggered() {
                return Err(Uncompiled::Interrupted);
            }
            if started.elapsed() > time {
                return Err(Uncompiled::Late);
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Compiles the module on stdin to stdout, with the arguments that [`Compiler`] adds, and returns the exit code. Limits the process, so it
/// must do nothing else.
pub fn compile(arguments: &[String]) -> io::Result<i32> {
    let unknown = || io::Error::other("the arguments are those of another version");
    let [target, level, seconds, memory] = arguments else {
        return Err(unknown());
    };
    let target = Target::named(target).ok_or_else(unknown)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| unknown());
    limit(number(seconds)?, number(memory)?)?;
    let mut wasm = Vec::new();
    io::stdin().read_to_end(&mut wasm)?;
    let compiled = compile_alone(&wasm, target, level == "optimise");
    // without a buffer: code is large
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    match compiled {
        Ok(code) => out.write_all(&code).map(|()| 0),
        Err(error) => out.write_all(format!("{error:#}").as_bytes()).map(|()| REFUSED),
    }
}

/// Limits the processor time and memory of this process. On Linux, it also ends with its parent.
fn limit(seconds: u64, memory: u64) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // all processors may be busy for that long
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    for (resource, most) in [
        (Resource::Cpu, seconds.saturating_mul(cores)),
        (Resource::Data, memory),
        (Resource::Core, 0),
    ] {
        let now = getrlimit(resource);
        let most = now.maximum.map_or(most, |maximum| maximum.min(most));
        let limit = Rlimit {
            current: Some(most),
            maximum: now.maximum,
        };
        setrlimit(resource, limit)?;
    }
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}
