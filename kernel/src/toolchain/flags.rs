//! All compiler flags that reach a module's bytes, and why.

/// The CPU features that every WebAssembly engine of today has and that make numeric code faster.
const TARGET_FEATURES: &str = "-Ctarget-feature=+simd128,+bulk-memory";

/// Several vectors at a time in each turn of a vectorised loop, as LLVM does by itself for other processors: WebAssembly's own cost
/// model leaves that out, and the code generator does not make up for it. It makes a blocked matrix product 1.7 times as fast.
const INTERLEAVE: &str = "-Cllvm-args=-force-vector-interleave=4";

/// Twice what LLVM puts up with by itself: a call costs more than elsewhere, for each function begins by looking for interrupts and
/// fuel. It takes a sixth off a loop over the lines of a text and adds 2 % to a module. Not below cells: it would undo that the
/// SDK is compiled for size there.
const INLINE: &str = "-Cllvm-args=-inline-threshold=500";

/// Cargo's name for the profile that step crates are compiled with. It is handed to cargo with `--config`, so a crate need
/// not know of it; a crate that has a `[profile.lockstep]` of its own can set what is not set here.
pub const STEP_PROFILE: &str = "lockstep";

/// The profile of step crates, as `profile.lockstep` settings.
///
/// One codegen unit: smaller and faster modules. No names and no debug info (panics tell their line all the same).
pub const STEP_SETTINGS: &[(&str, &str)] = &[
    ("inherits", "\"release\""),
    ("opt-level", "3"),
    ("panic", "\"abort\""),
    ("codegen-units", "1"),
    ("debug", "0"),
    ("strip", "\"symbols\""),
    ("incremental", "false"),
];

/// The profile that the crates below cells are compiled with, in a manifest's words: compiled once, called often, and linked into
/// every cell.
///
/// The SDK itself is not optimised for speed, for only so do cells find in it what it has compiled of generic functions
/// (`lockstep::cell::common`).
pub const PRELUDE_PROFILE: &str = "[profile.release]\nopt-level = 2\npanic = \"abort\"\ndebug = 0\nincremental = false\n\
                                   [profile.release.package.lockstep]\nopt-level = \"s\"\n";

/// The flags of the crates of a step.
pub fn step_flags() -> Vec<String> {
    let mut flags = crate_flags();
    flags.push(INLINE.to_owned());
    flags
}

/// The flags of the crates below cells.
pub fn crate_flags() -> Vec<String> {
    vec![TARGET_FEATURES.to_owned(), INTERLEAVE.to_owned()]
}

/// The flags of a cell. Cells are compiled far more often than they run long.
///
/// Overflow is a panic, as in every unoptimised Rust program.
pub const CELL: &[&str] = &[
    "--edition=2024",
    "--crate-type=lib",
    "--crate-name=cell",
    "-Copt-level=0",
    "-Cpanic=abort",
    "-Cdebuginfo=0",
    "-Ccodegen-units=1",
    "-Cembed-bitcode=no",
    "-Coverflow-checks=on",
    "-Cdebug-assertions=off",
    TARGET_FEATURES,
];

/// What build scripts and proc macros find in the environment when they ask for chance or for the time. The crate const-random, which is in
/// every hash map of Arrow, else puts 64 bytes into the module that differ from build to build.
pub const ENVIRONMENT: &[(&str, &str)] = &[("CONST_RANDOM_SEED", "lockstep"), ("SOURCE_DATE_EPOCH", "0")];

/// A flag that gives every path below `from` the name `to`.
pub fn remap(from: &std::path::Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}
