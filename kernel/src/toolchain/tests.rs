use super::*;
use std::fs;
use std::time::{Duration, Instant};

fn locations(cache: &Path) -> Locations {
    Locations {
        cache: cache.to_owned(),
        environment: std::env::vars_os().collect(),
        debian: false,
    }
}

fn ignore(_: BuildProgress) {}

/// Returns a toolchain, and the prelude in the user's cache, because compiling it takes minutes.
fn ready() -> (Toolchain, PreludeReady) {
    let kept = std::env::home_dir().unwrap().join(".cache/lockstep");
    let toolchain = Toolchain::find(&locations(&kept)).unwrap();
    let prelude = Prelude::new().ensure(&toolchain, &kept, &mut ignore).unwrap();
    (toolchain, prelude)
}

#[test]
fn a_missing_rustc_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = Locations {
        cache: dir.path().to_owned(),
        environment: BTreeMap::new(),
        debian: false,
    };
    let error = Toolchain::find(&nowhere).unwrap_err();
    assert!(matches!(error, ToolchainError::Missing), "{error}");
    let states: Vec<_> = doctor(&nowhere, None)
        .into_iter()
        .map(|check| (check.name, check.state))
        .collect();
    let expected = [
        ("rustc", CheckState::Missing),
        ("cargo", CheckState::Missing),
        ("target", CheckState::Missing),
        ("jupyter", CheckState::Warning),
        ("cache", CheckState::Ok),
    ];
    assert_eq!(states, expected);
}

#[test]
fn versions_are_compared_as_numbers() {
    let check = |release: &str| check_version(Path::new("rustc"), &format!("rustc\nrelease: {release}\n")).is_ok();
    assert!(check("1.95.0") && check("1.100.0-nightly") && check("2.0.0"));
    assert!(!check("1.94.1") && !check("1.9.0"));
}

/// Returns offline options: the crates of these tests are dependencies of the workspace.
fn offline() -> BuildOptions {
    BuildOptions {
        offline: true,
        ..BuildOptions::default()
    }
}

fn write_crate(dir: &Path, file: &str, source: &str) {
    fs::create_dir_all(dir.join("src")).unwrap();
    let manifest = "[package]\nname = \"sample\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\nconst-random = \"0.1\"\n[workspace]\n";
    fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    fs::write(dir.join("src").join(file), source).unwrap();
}

const LIBRARY: &str = r#"
#[used]
#[unsafe(link_section = "lockstep:interface")]
static INTERFACE: [u8; 32] = *b"{\"lockstep\": 1, \"step\": \"clean\"}";

#[unsafe(export_name = "_start")]
extern "C" fn start() {
    let text = std::env::args().next().expect("a name");
    println!("{}", text.parse::<u64>().unwrap() ^ const_random::const_random!(u64));
}
"#;

#[test]
fn a_crate_gives_the_same_module_in_every_directory() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let toolchain = Toolchain::find(&locations(a.path())).unwrap();
    let deeper = b.path().join("a/deeper/directory");
    let modules = [a.path(), &deeper].map(|dir| {
        write_crate(dir, "lib.rs", LIBRARY);
        let mut steps = Vec::new();
        let built = build_module(&toolchain, dir, &offline(), &|| false, &mut |step| steps.push(step)).unwrap();
        assert_eq!(built.len(), 1);
        assert_eq!(built[0].name, "sample");
        built.into_iter().next().unwrap().wasm
    });
    assert_eq!(Digest::of(&modules[0]), Digest::of(&modules[1]));
    let interfaces = lockstep_runtime::step::interfaces(&modules[0]).unwrap();
    assert_eq!(interfaces[0].step, "clean");
    let text = String::from_utf8_lossy(&modules[0]);
    assert!(text.contains("src/lib.rs") && !text.contains(a.path().to_str().unwrap()));
}

#[test]
fn a_program_is_built_as_a_module_with_rustcs_errors() {
    let dir = tempfile::tempdir().unwrap();
    let toolchain = Toolchain::find(&locations(dir.path())).unwrap();
    write_crate(dir.path(), "main.rs", "fn main() { println!(\"hello\"); }");
    let built = build_module(&toolchain, dir.path(), &offline(), &|| false, &mut ignore).unwrap();
    assert!(built[0].path.ends_with("target/wasm32-wasip1/lockstep/sample.wasm"));
    assert!(built[0].wasm.starts_with(b"\0asm"));

    write_crate(dir.path(), "main.rs", "fn main() { missing(); }");
    let error = build_module(&toolchain, dir.path(), &offline(), &|| false, &mut ignore).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("error[E0425]: cannot find function `missing`"), "{text}");
    assert!(text.contains("src/main.rs:1:13"), "{text}");
}

/// Compiles a cell with the base of [`ready`].
fn compile(source: &str, interrupt: &dyn Fn() -> bool) -> Result<(Base, Compiled), CompileError> {
    let (toolchain, prelude) = ready();
    let dir = tempfile::tempdir().unwrap();
    let base = Base::read(&fs::read(&prelude.base).unwrap()).unwrap();
    let compiled = compile_cell(&toolchain, &prelude, Some(&base), source, dir.path(), interrupt);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    Ok((base, compiled?))
}

/// Returns the source of a cell with these items and statements.
fn cell(items: &str, body: &str) -> String {
    format!(
        "{items}\n#[unsafe(no_mangle)]\nfn __cell(_: &mut ::lockstep::cell::Cell) -> ::lockstep::Result<()> {{ {body} ::lockstep::Result::Ok(()) }}"
    )
}

fn error(source: &str) -> CompileError {
    compile(source, &|| false).map(drop).unwrap_err()
}

#[test]
fn a_cell_is_a_small_module_on_the_prelude() {
    let row = "#[derive(serde::Serialize)]\nstruct Row { n: i64 }";
    let body = "let unused = 1; println!(\"{}\", serde_json::to_string(&Row { n: 1 }).unwrap());";
    let (base, compiled) = compile(&cell(row, body), &|| false).unwrap();
    let wasm = compiled.wasm.unwrap();
    assert_eq!(lockstep_runtime::step::base(&wasm).unwrap(), Some(base.digest()));
    assert!(wasm.len() < 100_000, "{} bytes", wasm.len());
    let [warning] = &compiled.diagnostics[..] else {
        panic!("{:?}", compiled.diagnostics)
    };
    assert_eq!(warning.code.as_ref().unwrap().code, "unused_variables");
    assert_eq!(warning.spans[0].line_start, 4);
}

#[test]
fn compile_and_link_errors_are_reported() {
    let CompileError::Source(diagnostics) = error(&cell("", "let x: i32 = \"\";")) else {
        panic!("compiled")
    };
    let found = diagnostics.iter().find(|diagnostic| diagnostic.is_error()).unwrap();
    assert_eq!(found.code.as_ref().unwrap().code, "E0308");
    assert_eq!(found.spans[0].file_name, CELL_FILE);
    let missing = error(&cell("unsafe extern \"C\" { fn nowhere(); }", "unsafe { nowhere() };"));
    assert!(
        matches!(&missing, CompileError::Link(LinkError::Missing(name)) if name == "nowhere"),
        "{missing}"
    );
    let large = error(&cell(
        "static LARGE: [u8; 17 << 20] = [1; 17 << 20];",
        "println!(\"{}\", LARGE[std::env::args().count()]);",
    ));
    assert!(matches!(large, CompileError::Link(LinkError::TooLarge { .. })), "{large}");
}

#[test]
fn an_interrupt_stops_compilation_at_once() {
    let many: String = (0..4000)
        .map(|n| format!("fn f{n}() -> String {{ format!(\"{{}} {{:?}}\", {n}, \"{n}\") }}\n"))
        .collect();
    let calls: String = (0..4000).map(|n| format!("println!(\"{{}}\", f{n}());\n")).collect();
    let started = std::cell::OnceCell::new();
    let late = || started.get_or_init(Instant::now).elapsed() > Duration::from_millis(300);
    let error = compile(&cell(&many, &calls), &late).map(drop).unwrap_err();
    assert!(matches!(error, CompileError::Interrupted), "{error}");
    assert!(
        started.get().unwrap().elapsed() < Duration::from_millis(800),
        "{:?}",
        started.get()
    );
}

/// Returns the prelude with a crate `extra` of this source.
fn ready_with(source: &str) -> (PreludeReady, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let krate = dir.path().join("extra");
    fs::create_dir_all(krate.join("src")).unwrap();
    let manifest = "[package]\nname = \"extra\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    fs::write(krate.join("Cargo.toml"), manifest).unwrap();
    fs::write(krate.join("src/lib.rs"), source).unwrap();
    let dependency = Dependency::parse("extra = { path = \"extra\" }").unwrap();
    let dependencies = Dependencies::from([(dependency.name, dependency.requirement)]);
    let (toolchain, _) = ready();
    let prelude = Prelude::with(dependencies, dir.path(), &[]);
    let cache = &toolchain.locations().cache;
    (prelude.ensure(&toolchain, cache, &mut ignore).unwrap(), dir)
}

#[test]
fn a_small_crate_becomes_part_of_the_cells_that_use_it() {
    let source = "pub static TABLE: [&str; 2] = [\"used\", \"too\"];
#[inline(never)]
pub fn entry(at: usize) -> &'static str { TABLE[at % 2] }
#[inline(never)]
pub fn other() -> String { format!(\"{} is never called\", entry(1)) }
";
    let (toolchain, plain) = ready();
    let (prelude, _dir) = ready_with(source);
    let base = Base::read(&fs::read(&plain.base).unwrap()).unwrap();
    assert_eq!(Digest::of(fs::read(&prelude.base).unwrap()), base.digest());
    let dir = tempfile::tempdir().unwrap();
    let source = cell("", "println!(\"{}\", ::extra::entry(std::env::args().count()));");
    let compiled = compile_cell(&toolchain, &prelude, Some(&base), &source, dir.path(), &|| false).unwrap();
    let wasm = compiled.wasm.unwrap();
    assert_eq!(lockstep_runtime::step::base(&wasm).unwrap(), Some(base.digest()));
    let contains = |text: &str| wasm.windows(text.len()).any(|bytes| bytes == text.as_bytes());
    assert!(contains("used") && contains("too") && !contains("never called"));
}

#[test]
fn a_crate_with_symbols_missing_in_the_base_gets_its_own_base() {
    let source = "unsafe extern \"C\" { fn nowhere(); }\npub fn call() { unsafe { nowhere() } }\n";
    let (prelude, _dir) = ready_with(source);
    assert_eq!(prelude.extension, None);
    assert_ne!(fs::read(&prelude.base).unwrap(), fs::read(ready().1.base).unwrap());
}
