//! Conformance with preview 1: links, rights, times, flags and error numbers.

use super::*;
use crate::step::{Failure, Outcome};

/// Returns a program that makes one call a line, and exits with the number of the first line that is not as expected.
///
/// `name arguments = errno` calls a function: a text in quotes is an address and a length. `@address = number` compares 8 bytes of
/// memory. A new descriptor is written to address 0.
fn script(lines: &str) -> String {
    let (mut imports, mut data, mut body, mut at) = (String::new(), String::new(), String::new(), 4096);
    for (name, parameters) in functions() {
        let types = types(parameters);
        imports += &format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {types}) (result i32)))\n");
    }
    for (line, number) in lines.lines().zip(1..) {
        let line = line.trim();
        let Some((act, expected)) = line.rsplit_once(" = ") else {
            assert!(line.is_empty(), "{line}");
            continue;
        };
        let found = match act.strip_prefix('@') {
            Some(address) => format!("(i64.load (i32.const {address}))"),
            None => {
                let (name, arguments) = act.split_once(' ').unwrap_or((act, ""));
                let parameters = functions().find(|(known, _)| *known == name).unwrap().1;
                let mut kinds = parameters.chars();
                let mut values = String::new();
                for argument in arguments.split_whitespace() {
                    let numbers = match argument.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
                        Some(text) => {
                            data += &format!("(data (i32.const {at}) \"{text}\")");
                            let wasm_len = text.replace("\\00", "0").len();
                            at += wasm_len;
                            vec![(at - wasm_len).to_string(), wasm_len.to_string()]
                        }
                        None => vec![argument.to_owned()],
                    };
                    for number in numbers {
                        let kind = if kinds.next() == Some('l') { "i64" } else { "i32" };
                        values += &format!("({kind}.const {number})");
                    }
                }
                format!("(i64.extend_i32_u (call ${name} {values}))")
            }
        };
        body += &format!("(if (i64.ne {found} (i64.const {expected})) (then (call $proc_exit (i32.const {number}))))\n");
    }
    format!(
        "(module {imports} (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $proc_exit (param i32)))
         (memory (export \"memory\") 1) {data} (func (export \"_start\") {body}))"
    )
}

/// Runs a script with an input at `/in/rows`, and returns its outputs and the outcome.
#[track_caller]
fn obey(lines: &str, outputs: &[&str]) -> (Outcome, BTreeMap<String, Made>) {
    let module = load(&engine(Target::Native, false), &script(lines));
    let mut log = |_, _: &[u8]| ();
    let world = World {
        files: BTreeMap::from([("/in/rows".to_owned().try_into().unwrap(), Node::File("1,2\n".into()))]),
        outputs: outputs.iter().map(|name| name.to_string()).collect(),
        ..world(&MemoryStorage::default(), &mut log)
    };
    let finished = module.run(world, &Limits::default(), &Interrupt::default()).unwrap();
    if let Outcome::Failed(Failure::Exit { code, .. }) = finished.outcome {
        let line = lines.lines().nth(code as usize - 1).unwrap();
        panic!("not as expected: {}", line.trim());
    }
    (finished.outcome, finished.outputs)
}

#[track_caller]
fn conforms(lines: &str) {
    assert_eq!(obey(lines, &[]).0, Outcome::Succeeded);
}

#[test]
fn symbolic_links() {
    conforms(
        r#"path_create_directory 3 "tmp/d" = 0
        path_symlink "d" 3 "tmp/l" = 0
        path_symlink "d" 3 "tmp/l" = 20
        path_symlink "d" 3 "tmp/new/" = 44
        path_symlink "/tmp/d" 3 "tmp/absolute" = 63
        path_symlink "" 3 "tmp/empty" = 44
        path_symlink "d" 3 "in/l" = 69
        path_readlink 3 "tmp/l" 64 4 128 = 0
        @64 = 100
        path_readlink 3 "tmp/d" 64 4 128 = 28
        path_readlink 3 "tmp/l" 65534 4 128 = 21
        path_open 3 0 "tmp/l" 0 0 0 0 0 = 32
        path_open 3 0 "tmp/l" 2 0 0 0 0 = 32
        path_open 3 1 "tmp/l" 2 0 0 0 0 = 0
        path_open 3 0 "tmp/l/" 2 0 0 0 0 = 0
        path_open 3 1 "tmp/l/f" 5 64 0 0 0 = 0
        path_filestat_get 3 0 "tmp/d/f" 64 = 0
        path_filestat_get 3 0 "tmp/l" 64 = 0
        @80 = 7
        @96 = 1
        path_filestat_get 3 1 "tmp/l" 64 = 0
        @80 = 3
        path_unlink_file 3 "tmp/l/" = 54
        path_remove_directory 3 "tmp/l" = 54
        path_rename 3 "tmp/l" 3 "tmp/m" = 0
        path_unlink_file 3 "tmp/m" = 0
        path_filestat_get 3 0 "tmp/d/f" 64 = 0
        path_symlink "there" 3 "tmp/dangling" = 0
        path_open 3 1 "tmp/dangling" 0 0 0 0 0 = 44
        path_open 3 1 "tmp/dangling" 5 64 0 0 0 = 20
        path_open 3 1 "tmp/dangling" 1 64 0 0 0 = 0
        path_filestat_get 3 0 "tmp/there" 64 = 0
        path_symlink "loop" 3 "tmp/loop" = 0
        path_open 3 1 "tmp/loop" 0 0 0 0 0 = 32
        path_filestat_get 3 1 "tmp/loop/x" 64 = 32
        path_symlink "../in/rows" 3 "tmp/input" = 0
        path_open 3 1 "tmp/input" 0 2 0 0 0 = 0
        path_open 3 1 "tmp/input" 0 64 0 0 0 = 69"#,
    );
}

#[test]
fn hard_links() {
    conforms(
        r#"path_open 3 0 "tmp/f" 1 66 0 0 0 = 0
        path_link 3 0 "tmp/f" 3 "out/g" = 0
        path_filestat_get 3 0 "out/g" 64 = 0
        @88 = 2
        path_link 3 0 "tmp/f" 3 "out/g" = 20
        path_link 3 0 "tmp/f" 3 "tmp/f" = 20
        path_link 3 0 "tmp/f" 3 "tmp/new/" = 44
        path_link 3 0 "tmp/none" 3 "tmp/h" = 44
        path_link 3 0 "tmp/f/" 3 "tmp/h" = 54
        path_link 3 0 "tmp" 3 "tmp/h" = 63
        path_link 3 0 "in/rows" 3 "tmp/h" = 75
        path_link 3 0 "tmp/f" 3 "in/h" = 69
        path_rename 3 "tmp/f" 3 "out/g" = 0
        fd_filestat_set_size 4 5 = 0
        path_unlink_file 3 "tmp/f" = 0
        path_filestat_get 3 0 "out/g" 64 = 0
        @88 = 1
        @96 = 5
        path_symlink "nothing" 3 "tmp/l" = 0
        path_link 3 1 "tmp/l" 3 "tmp/m" = 28
        path_link 3 0 "tmp/l" 3 "tmp/m" = 0
        path_readlink 3 "tmp/m" 64 9 128 = 0"#,
    );
}

#[test]
fn a_path_stays_below_its_descriptor() {
    conforms(
        r#"path_open 3 0 "tmp" 2 0 0 0 0 = 0
        path_create_directory 4 "d" = 0
        path_create_directory 4 "d/../d/../e" = 0
        path_filestat_get 4 0 ".." 64 = 63
        path_create_directory 4 "d/../../tmp/f" = 63
        path_symlink "../in" 4 "l" = 0
        path_open 4 1 "l" 0 0 0 0 0 = 63
        path_open 3 1 "tmp/l" 0 0 0 0 0 = 0
        path_open 3 0 "/tmp" 0 0 0 0 0 = 63
        path_filestat_get 3 0 "/in/rows" 64 = 63
        path_rename 4 "d" 4 "/d" = 63
        path_filestat_get 3 0 "../in/rows" 64 = 0
        path_filestat_get 3 0 "in/rows\00" 64 = 25"#,
    );
}

#[test]
fn rights_are_kept_until_given_up() {
    conforms(
        r#"path_open 3 0 "tmp/f" 1 66 0 0 0 = 0
        fd_fdstat_get 4 64 = 0
        @72 = 148898303
        fd_fdstat_set_rights 4 44 0 = 0
        fd_fdstat_get 4 64 = 0
        @72 = 44
        fd_read 4 0 0 0 = 76
        fd_write 4 0 0 0 = 76
        fd_pwrite 4 0 0 0 0 = 76
        fd_filestat_set_size 4 5 = 76
        fd_filestat_get 4 64 = 76
        fd_seek 4 0 2 64 = 0
        fd_fdstat_set_rights 4 46 0 = 76
        path_open 3 0 "tmp" 2 0 0 0 0 = 0
        fd_fdstat_set_rights 5 8192 64 = 0
        path_open 5 0 "f" 8 0 0 0 0 = 76
        path_open 5 0 "g" 1 0 0 0 0 = 76
        path_open 5 0 "f" 0 2 0 0 0 = 76
        path_open 5 0 "f" 0 64 0 0 0 = 0
        fd_fdstat_get 6 64 = 0
        @72 = 64
        path_create_directory 5 "d" = 76
        path_unlink_file 5 "f" = 76
        fd_readdir 5 64 64 0 128 = 76
        fd_fdstat_set_rights 99 0 0 = 8"#,
    );
}

#[test]
fn times_are_what_the_guest_sets() {
    conforms(
        r#"path_open 3 0 "tmp/f" 1 66 0 0 0 = 0
        path_symlink "f" 3 "tmp/l" = 0
        fd_filestat_get 4 64 = 0
        @104 = 0
        @112 = 0
        fd_filestat_set_times 4 7 8 4 = 0
        path_filestat_set_times 3 1 "tmp/l" 9 0 1 = 0
        path_filestat_set_times 3 0 "tmp/l" 1 1 5 = 0
        fd_filestat_set_size 4 5 = 0
        fd_filestat_get 4 64 = 0
        @104 = 9
        @112 = 8
        @120 = 0
        path_filestat_get 3 0 "tmp/l" 64 = 0
        @112 = 1
        fd_filestat_set_times 4 7 8 12 = 28
        fd_filestat_set_times 4 7 8 3 = 28
        fd_filestat_set_times 4 7 8 16 = 28
        path_filestat_set_times 3 0 "in/rows" 1 1 5 = 69
        fd_filestat_set_times 4 7 8 8 = 0
        fd_filestat_get 4 64 = 0
        @104 = 9
        @112 = 946684800000000000"#,
    );
}

#[test]
fn flags_and_descriptors() {
    conforms(
        r#"path_open 3 0 "tmp/f" 1 66 0 17 0 = 0
        fd_fdstat_get 4 64 = 0
        @64 = 1114116
        fd_fdstat_set_flags 4 30 = 0
        fd_fdstat_get 4 64 = 0
        @64 = 1966084
        fd_fdstat_set_flags 4 32 = 28
        path_open 3 0 "tmp/f" 1 66 0 32 0 = 28
        path_open 3 2 "tmp/f" 1 66 0 0 0 = 28
        path_open 3 0 "tmp/f" 16 66 0 0 0 = 28
        path_open 3 0 "tmp" 2 66 0 0 0 = 31
        path_open 3 0 "tmp" 2 2 0 0 0 = 0
        fd_renumber 4 99 = 8
        fd_renumber 99 4 = 8
        fd_renumber 4 4 = 0
        fd_renumber 4 5 = 0
        fd_close 4 = 8
        fd_renumber 5 4 = 8
        fd_filestat_get 5 64 = 0"#,
    );
}

#[test]
fn outputs_have_no_links() {
    let made = |bytes: &[u8]| Made::File {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    };
    let zeros = made(&[0; 5]);
    let (outcome, outputs) = obey(
        r#"path_create_directory 3 "out/d" = 0
        path_open 3 0 "out/d/f" 1 64 0 0 0 = 0
        fd_filestat_set_size 4 5 = 0
        path_link 3 0 "out/d/f" 3 "out/d/hard" = 0
        path_link 3 0 "out/d/f" 3 "out/same" = 0
        path_symlink "d/f" 3 "out/soft" = 0
        path_symlink "../../in" 3 "out/d/in" = 0
        path_symlink "d" 3 "out/e" = 0"#,
        &["d", "same", "soft", "e"],
    );
    assert_eq!(outcome, Outcome::Succeeded);
    let input = Made::Directory(BTreeMap::from([("rows".to_owned(), made(b"1,2\n"))]));
    let directory = Made::Directory(BTreeMap::from([
        ("f".to_owned(), zeros.clone()),
        ("hard".to_owned(), zeros.clone()),
        ("in".to_owned(), input),
    ]));
    let expected = [("d", &directory), ("e", &directory), ("same", &zeros), ("soft", &zeros)];
    assert_eq!(outputs, expected.map(|(name, made)| (name.to_owned(), made.clone())).into());
}

#[test]
fn a_link_to_nothing_or_around_itself_is_a_missing_output() {
    for (target, name) in [
        ("f", "d/l"),
        ("../d", "d/l"),
        (".", "d/l"),
        ("l", "d/l"),
        ("../../dev/null", "d/l"),
    ] {
        let lines = format!("path_create_directory 3 \"out/d\" = 0\npath_symlink \"{target}\" 3 \"out/d/l\" = 0");
        let missing = Outcome::Failed(Failure::MissingOutput { name: name.to_owned() });
        assert_eq!(obey(&lines, &["d"]).0, missing, "{target}");
    }
    // each level of directories has two links to the next
    let lines = (0..20).map(|level| {
        let next = level + 1;
        format!(
            "path_create_directory 3 \"out/d{level}\" = 0
             path_symlink \"../d{next}\" 3 \"out/d{level}/a\" = 0
             path_symlink \"../d{next}\" 3 \"out/d{level}/b\" = 0\n"
        )
    });
    let lines = format!("{}path_create_directory 3 \"out/d20\" = 0", lines.collect::<String>());
    let Outcome::Failed(Failure::MissingOutput { name }) = obey(&lines, &["d0"]).0 else {
        panic!("two million directories");
    };
    assert!(name.starts_with("d0/a/"), "{name}");
}
