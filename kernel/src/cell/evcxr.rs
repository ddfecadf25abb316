//! The commands of evcxr that are no directives here. Notebooks written for it contain them.

/// What a command of evcxr does here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Nothing; the cell runs on with a note that says why.
    NoEffect(&'static str),
    /// The command is not supported, and the cell fails. The text is the remedy.
    Refused(&'static str),
}

use Answer::{NoEffect, Refused};

const COMPILER: &str = "the compiler and its options are part of the record of a cell";
const CACHE: &str = "results and compiled crates are always cached";
const SHOWN: &str = "values are shown with `Debug`, tables and figures as such";
const ENVIRONMENT: &str = "a cell sees no environment variables; use a variable: `let name = \"value\";`";

/// The commands, without the colon.
pub const COMMANDS: [(&str, Answer); 26] = [
    ("allow_static_linking", NoEffect(COMPILER)),
    (
        "build_env",
        Refused("crates are built without environment variables of yours, so that they are the same everywhere"),
    ),
    ("cache", NoEffect(CACHE)),
    ("clear_cache", NoEffect("to delete unused data, run `lockstep gc`")),
    ("codegen_backend", NoEffect(COMPILER)),
    ("doc", Refused("press Shift+Tab on a name")),
    ("efmt", NoEffect("an error is shown with its causes")),
    ("env", Refused(ENVIRONMENT)),
    ("explain", Refused("run `rustc --explain` with the code of the error")),
    ("fmt", NoEffect(SHOWN)),
    ("internal_debug", NoEffect(COMPILER)),
    (
        "last_compile_dir",
        Refused("cells are compiled in a directory that is deleted"),
    ),
    ("last_error_json", Refused("the error is the output of its cell")),
    ("linker", NoEffect(COMPILER)),
    (
        "load_config",
        NoEffect("there is no configuration file; a notebook contains all that it needs"),
    ),
    (
        "offline",
        NoEffect("crates that are on the machine are used without the network"),
    ),
    ("opt", NoEffect(COMPILER)),
    (
        "preserve_vars_on_panic",
        NoEffect("a panic ends one cell; the variables of earlier cells are always kept"),
    ),
    ("quit", Refused("shut down the kernel in Jupyter")),
    ("restart", Refused("restart the kernel in Jupyter, or use `:clear`")),
    ("sccache", NoEffect(CACHE)),
    ("show_deps", Refused("the output of each `:dep` lists the crates")),
    ("time_passes", NoEffect(COMPILER)),
    ("timing", NoEffect("Jupyter shows how long a cell takes")),
    ("toolchain", NoEffect(COMPILER)),
    (
        "types",
        NoEffect("`:vars` lists variables with their types, and `:type name` shows one"),
    ),
];

/// Returns what the command `word` does here; `None` if evcxr has no such command.
pub fn answer(word: &str) -> Option<(&'static str, Answer)> {
    COMMANDS.iter().find(|(name, _)| *name == word).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_for_users_of_evcxr_has_all_commands() {
        let page = include_str!("../../../docs/src/how-to/evcxr.md");
        for (name, _) in COMMANDS {
            assert!(page.contains(&format!("`:{name}")), "{name}");
        }
    }
}
