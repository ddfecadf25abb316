//! All compiler flags that affect a module's bytes, and the reasons for them.

/// Features that all current WebAssembly engines support and that make numeric code faster.
const TARGET_FEATURES: &str = "-Ctarget-feature=+simd128,+bulk-memory";

/// Interleaves vectorised loops, as LLVM does by default for other processors. WebAssembly's cost model disables it, and the
/// code generator does not compensate. A blocked matrix product becomes 1.7 times as fast.
const INTERLEAVE: &str = "-Cllvm-args=-force-vector-interleave=4";

/// Twice LLVM's default threshold. A call costs more than elsewhere, because each function starts by checking for interrupts
/// and fuel. A loop over the lines of a text becomes a sixth faster, and a module 2 % larger. Applies only to the crate of a
/// step: its dependencies are shared with cells, for which the SDK is compiled for size.
const INLINE: &str = "-Cllvm-args=-inline-threshold=500";

/// The name of cargo's profile for crates. Cargo receives it with `--config`, so crates need not define it. Keys of a crate's own
/// `[profile.lockstep]` take precedence.
pub const PROFILE: &str = "lockstep";

/// The settings of `profile.lockstep`. Steps and cells use the same profile, so that shared dependencies are compiled once.
///
/// One codegen unit gives smaller and faster modules, and compiles Arrow in half the time. Names and debug info are stripped;
/// panics still have line numbers.
const SETTINGS: &[(&str, &str)] = &[
    ("inherits", "\"release\""),
    ("opt-level", "2"),
    ("panic", "\"abort\""),
    ("codegen-units", "1"),
    ("debug", "0"),
    ("strip", "\"symbols\""),
    ("incremental", "false"),
];

/// Crates of the SDK that are compiled for size, with the optimisation level. They dominate the time of a first build, and most
/// of their code only copies data. The SDK itself is included, because only then can cells reuse its instances of generic
/// functions (`lockstep::cell::common`).
const SMALL: &[(&str, &str)] = &[
    ("arrow-array", "s"),
    ("arrow-buffer", "s"),
    ("arrow-cmp", "z"),
    ("arrow-data", "s"),
    ("arrow-ipc", "s"),
    ("arrow-row", "s"),
    ("arrow-schema", "s"),
    ("arrow-select", "z"),
    ("chrono", "s"),
    ("chrono-tz", "z"),
    ("lockstep-sdk", "s"),
    ("marrow", "z"),
    ("num-bigint", "s"),
    ("serde_arrow", "z"),
    ("zerocopy", "s"),
];

/// Additional flags for the library of a step crate, which contains its hot code.
pub const STEP: &[&str] = &["-Copt-level=3", INLINE];

fn settings() -> impl Iterator<Item = (String, String)> {
    let own = SETTINGS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let small = SMALL
        .iter()
        .map(|(name, level)| (format!("package.{name}.opt-level"), format!("\"{level}\"")));
    own.chain(small)
}

/// Returns the profile as part of a manifest.
pub fn profile() -> String {
    let settings = settings().map(|(key, value)| format!("{key} = {value}\n"));
    format!("[profile.{PROFILE}]\n{}", settings.collect::<String>())
}

/// Returns the profile as arguments of cargo, without the keys that a workspace's own `manifest` sets.
pub fn profile_arguments(manifest: &toml::Value) -> impl Iterator<Item = String> {
    let is_set = move |path: &str| path.split('.').try_fold(manifest, |value, key| value.get(key)).is_some();
    settings()
        .map(|(key, value)| (format!("profile.{PROFILE}.{key}"), value))
        .filter(move |(key, _)| !is_set(key))
        .flat_map(|(key, value)| ["--config".to_owned(), format!("{key}={value}")])
}

/// Returns the flags of all crates.
pub fn crate_flags() -> Vec<String> {
    vec![TARGET_FEATURES.to_owned(), INTERLEAVE.to_owned()]
}

/// The flags of a cell. Compiled for size, a loop takes a quarter of the time that it takes unoptimised, and rustc takes a tenth longer. With any
/// higher level, rustc would not reuse the instances of generic functions in the SDK (`lockstep::cell::common`).
///
/// Overflow panics, as in every unoptimised Rust program.
pub const CELL: &[&str] = &[
    "--edition=2024",
    "--crate-type=lib",
    "--crate-name=cell",
    "-Copt-level=s",
    "-Cpanic=abort",
    "-Cdebuginfo=0",
    "-Ccodegen-units=1",
    "-Cembed-bitcode=no",
    "-Coverflow-checks=on",
    "-Cdebug-assertions=off",
    TARGET_FEATURES,
];

/// Environment variables that make randomness and time in build scripts and proc macros reproducible. Without them the crate
/// const-random, which every hash map of Arrow uses, puts 64 bytes into the module that differ from build to build.
pub const ENVIRONMENT: &[(&str, &str)] = &[("CONST_RANDOM_SEED", "lockstep"), ("SOURCE_DATE_EPOCH", "0")];

/// Returns a flag that replaces the path prefix `from` by `to`.
pub fn remap(from: &std::path::Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}
