//! A Jupyter kernel of a tiny language: what a kernel costs without a compiler.
//!
//! `echo run <connection file>` serves; `echo install <Jupyter data directory>` lets Jupyter find it as `echo`.

#[path = "../tests/echo/mod.rs"]
mod echo;

use std::path::Path;
use std::time::SystemTime;

use anyhow::bail;
use lockstep_kernel::kernelspec;
use lockstep_kernel::wire::{Connection, Surroundings, serve};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["run", connection] => {
            let surroundings = Surroundings {
                now: SystemTime::now,
                parent: std::env::var("JPY_PARENT_PID").ok().and_then(|id| id.parse().ok()),
                history: None,
            };
            serve(&Connection::read(Path::new(connection))?, echo::Echo, surroundings)?;
        }
        ["install", data] => {
            let executable = std::env::current_exe()?;
            let at = kernelspec::install(
                Path::new(data),
                "echo",
                kernelspec::SHOWN,
                &executable,
                &["run", "{connection_file}"].map(str::to_owned),
            )?;
            println!("{}", at.display());
        }
        _ => bail!("usage: echo run <connection file> | echo install <data directory>"),
    }
    Ok(())
}
