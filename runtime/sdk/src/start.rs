use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::step::Step;
use crate::{Context, Input, Param, Parameter, Result, bail};

/// The inputs, outputs and parameters of a running step.
#[derive(Clone, Debug)]
pub struct Io {
    /// The directory of the inputs, `/in` in the sandbox.
    pub inputs: PathBuf,
    /// The directory of the outputs, `/out` in the sandbox.
    pub outputs: PathBuf,
    /// The value of every parameter.
    pub parameters: Map<String, Value>,
}

impl Io {
    /// Returns the inputs and outputs of the sandbox: `/in`, with the parameters in `/in/params.json`, and `/out`.
    pub fn sandbox() -> Result<Self> {
        let inputs = PathBuf::from("/in");
        let path = inputs.join("params.json");
        let parameters = match std::fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).with_context(|| format!("{} is not a JSON object", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(error).with_context(|| format!("can't read {}", path.display())),
        };
        Ok(Self {
            inputs,
            outputs: "/out".into(),
            parameters,
        })
    }

    /// Runs the step `name` of this program.
    pub fn run(&self, name: &str) -> Result<()> {
        match steps().iter().find(|step| step.interface.step == name) {
            Some(step) => (step.run)(self),
            None => bail!("there is no step `{name}`"),
        }
    }

    /// Reads the input `name`.
    pub fn input<T: Input>(&self, name: &str) -> Result<T> {
        T::open(&self.inputs.join(name)).with_context(|| format!("input `{name}`"))
    }

    /// Reads the parameter `name`; a missing one reads as `null`.
    pub fn parameter<T: Parameter>(&self, name: &str) -> Result<Param<T>> {
        let value = self.parameters.get(name).unwrap_or(&Value::Null);
        let read = T::deserialize(value).with_context(|| format!("parameter `{name}` can't be {value}"));
        Ok(Param(read?))
    }
}

/// Returns the steps of this program, sorted by name.
fn steps() -> Vec<&'static Step> {
    let mut steps: Vec<_> = inventory::iter::<Step>().collect();
    steps.sort_by_key(|step| step.interface.step);
    steps
}

/// Runs the step named by the program's first argument, in the sandbox's directories, and ends the program.
///
/// The exit code is 0 if the step succeeded, 1 if it returned an error (which is printed to stderr) and 2 if there is no such
/// step. This is the entry point of a module of steps.
pub fn main() -> ! {
    let name = std::env::args().nth(1).unwrap_or_default();
    if !steps().iter().any(|step| step.interface.step == name) {
        usage(&name);
        std::process::exit(2);
    }
    let code = match Io::sandbox().and_then(|io| io.run(&name)) {
        Ok(()) => 0,
        Err(error) => {
            report(&error);
            1
        }
    };
    std::process::exit(code)
}

fn usage(name: &str) {
    if name.is_empty() {
        eprintln!("error: no step was named");
    } else {
        eprintln!("error: there is no step `{name}`");
    }
    eprintln!("The steps of this module:");
    for step in steps() {
        let about = step.interface.doc.lines().next().unwrap_or_default();
        eprintln!("  {:<12} {about}", step.interface.step);
    }
}

/// Prints `error: ...` and its causes, one per line.
pub(crate) fn report(error: &crate::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  caused by: {cause}");
    }
}

#[cfg(target_os = "wasi")]
#[unsafe(no_mangle)]
extern "C" fn __lockstep_main() -> ! {
    main()
}
