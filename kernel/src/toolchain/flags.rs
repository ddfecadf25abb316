//! All compiler flags that reach a module's bytes, and why.

/// The CPU features that every WebAssembly engine of today has and that make numeric code faster.
const TARGET_FEATURES: &str = "-Ctarget-feature=+simd128,+bulk-memory";

/// Several vectors at a time in each turn of a vectorised loop, as LLVM does by itself for other processors: WebAssembly's own cost
/// model leaves that out, and the code generator does not make up for it. It makes a blocked matrix product 1.7 times as fast.
const INTERLEAVE: &str = "-Cllvm-args=-force-vector-interleave=4";

/// Twice LLVM's own threshold: a call costs more than elsewhere, because each function begins by checking for interrupts and
/// fuel. It takes a sixth off a loop over the lines of a text and adds 2 % to a module. For the crate of a step alone: what it depends on is
/// compiled once for steps and cells, and for cells the SDK is compiled for size.
const INLINE: &str = "-Cllvm-args=-inline-threshold=500";

/// Cargo's name for the profile that crates are compiled with. Cargo gets it with `--config`, so a crate need
/// not know of it; a crate that has a `[profile.lockstep]` of its own can set what is not set here.
pub const PROFILE: &str = "lockstep";

/// The profile, as settings of `profile.lockstep`. Steps and cells have the same one, so that what both depend on is compiled once.
///
/// One codegen unit: smaller and faster modules, and half the time to compile Arrow. No names and no debug info (panics tell their line all the same).
const SETTINGS: &[(&str, &str)] = &[
    ("inherits", "\"release\""),
    ("opt-level", "2"),
    ("panic", "\"abort\""),
    ("codegen-units", "1"),
    ("debug", "0"),
    ("strip", "\"symbols\""),
    ("incremental", "false"),
];

/// Crates of the SDK that are compiled for size, and how much. Everything that waits for a first build waits for them, and most of what they hold
/// is copying. The SDK itself is among them because only then do cells find in it what it has compiled of generic functions
/// (`lockstep::cell::common`).
const SMALL: &[(&str, &str)] = &[
    ("arrow-array", "s"),
    ("arrow-buffer", "s"),
    ("arrow-cmp", "z"),
    ("arrow-data", "s"),
    ("arrow-ipc", "s"),
    ("arrow-schema", "s"),
    ("arrow-select", "z"),
    ("chrono", "s"),
    ("lockstep-sdk", "s"),
    ("num-bigint", "s"),
    ("zerocopy", "s"),
];

/// The flags of the library of a step crate alone: what it calls much is its own.
pub const STEP: &[&str] = &["-Copt-level=3", INLINE];

fn settings() -> impl Iterator<Item = (String, String)> {
    let own = SETTINGS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let small = SMALL
        .iter()
        .map(|(name, level)| (format!("package.{name}.opt-level"), format!("\"{level}\"")));
    own.chain(small)
}

/// The profile in a manifest's words.
pub fn profile() -> String {
    let settings = settings().map(|(key, value)| format!("{key} = {value}\n"));
    format!("[profile.{PROFILE}]\n{}", settings.collect::<String>())
}

/// The profile as arguments of cargo.
pub fn profile_arguments() -> impl Iterator<Item = String> {
    settings().flat_map(|(key, value)| ["--config".to_owned(), format!("profile.{PROFILE}.{key}={value}")])
}

/// The flags of all crates.
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
