//! Calls of `std::fs`, read from bytes, and what they return. Compiled twice: for this machine, and for the sandbox.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, Read, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Maximum number of calls.
const CALLS: usize = 64;

/// What is between the name of a call and its error.
const REFUSED: &str = ": ";

/// Names of the same errors on Linux and in WASI.
const ERRORS: [(i32, i32, &str); 21] = [
    (1, 63, "EPERM"),
    (2, 44, "ENOENT"),
    (9, 8, "EBADF"),
    (13, 2, "EACCES"),
    (16, 10, "EBUSY"),
    (17, 20, "EEXIST"),
    (18, 75, "EXDEV"),
    (20, 54, "ENOTDIR"),
    (21, 31, "EISDIR"),
    (22, 28, "EINVAL"),
    (24, 33, "EMFILE"),
    (27, 22, "EFBIG"),
    (28, 51, "ENOSPC"),
    (29, 70, "ESPIPE"),
    (30, 69, "EROFS"),
    (31, 34, "EMLINK"),
    (36, 37, "ENAMETOOLONG"),
    (39, 55, "ENOTEMPTY"),
    (40, 32, "ELOOP"),
    (84, 25, "EILSEQ"),
    (95, 58, "ENOTSUP"),
];

/// The arguments of the calls: bytes, then zeros.
struct Bytes<'a> {
    rest: &'a [u8],
    /// Whether a path of this call ends with a slash.
    slash: bool,
}

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        match self.rest {
            [] => 0,
            [first, rest @ ..] => {
                self.rest = rest;
                *first
            }
        }
    }

    fn below(&mut self, most: u8) -> usize {
        usize::from(self.next() % most)
    }

    /// A path without `..`, so that nothing outside the directory is reached.
    fn path(&mut self) -> PathBuf {
        let shape = self.next();
        let count = [1, 1, 1, 2, 2, 3][usize::from(shape % 6)];
        let names = (0..count).map(|_| ["a", "b", "c", "d", "a", "b", "c", "."][self.below(8)]);
        let mut path = names.collect::<Vec<_>>().join("/");
        if shape & 0x80 != 0 {
            path.push('/');
            self.slash = true;
        }
        PathBuf::from(path)
    }

    fn how(&mut self) -> OpenOptions {
        let bits = self.next();
        let mut how = OpenOptions::new();
        how.read(bits & 1 != 0).write(bits & 2 != 0).append(bits & 4 != 0);
        how.truncate(bits & 8 != 0).create(bits & 16 != 0).create_new(bits & 32 != 0);
        how
    }
}

/// Plays `calls` in the directory `root`. Returns a line for each, and the files that there are at the end.
pub fn play(calls: &[u8], root: &Path) -> String {
    let mut bytes = Bytes {
        rest: calls,
        slash: false,
    };
    let mut files: [Option<File>; 3] = [None, None, None];
    let mut lines = Vec::new();
    for _ in 0..CALLS {
        if bytes.rest.is_empty() {
            break;
        }
        bytes.slash = false;
        let call = bytes.below(20);
        let line = match call {
            0 | 1 => told("mkdir", fs::create_dir(root.join(bytes.path()))),
            2 => told("rmdir", fs::remove_dir(root.join(bytes.path()))),
            3 => told("unlink", fs::remove_file(root.join(bytes.path()))),
            4 => {
                let (from, to) = (root.join(bytes.path()), root.join(bytes.path()));
                told("rename", fs::rename(from, to))
            }
            5 => {
                let (from, to) = (root.join(bytes.path()), root.join(bytes.path()));
                told("link", fs::hard_link(from, to))
            }
            6 => {
                // without a slash at its end
                let (target, link) = (bytes.path().components().collect::<PathBuf>(), root.join(bytes.path()));
                told("symlink", link_to(&target, &link))
            }
            7 => told("readlink", fs::read_link(root.join(bytes.path()))),
            8 => told("stat", fs::metadata(root.join(bytes.path())).map(|found| facts(&found))),
            9 => told(
                "lstat",
                fs::symlink_metadata(root.join(bytes.path())).map(|found| facts(&found)),
            ),
            10 | 11 => {
                let (slot, how, path) = (bytes.below(3), bytes.how(), root.join(bytes.path()));
                files[slot] = None;
                let opened = how.open(&path).map(|file| {
                    // what can be done with an open directory differs
                    files[slot] = file.metadata().is_ok_and(|found| found.is_file()).then_some(file);
                });
                told("open", opened)
            }
            12 => told("list", names(&root.join(bytes.path()))),
            13 => {
                let (path, number) = (root.join(bytes.path()), bytes.next());
                told("save", fs::write(path, vec![number; usize::from(number)]))
            }
            14 => told("remove", fs::remove_dir_all(root.join(bytes.path()))),
            _ => {
                let (slot, number) = (bytes.below(3), bytes.next());
                match &mut files[slot] {
                    None => continue,
                    Some(file) => use_file(call, file, number),
                }
            }
        };
        lines.push(match line.split_once(REFUSED) {
            // which error it is differs: Linux first looks at where a link leads
            Some((call, _)) if bytes.slash => format!("{call}{REFUSED}an error"),
            _ => line,
        });
    }
    drop(files);
    tree(root, &mut lines);
    lines.join("\n")
}

fn use_file(call: usize, file: &mut File, number: u8) -> String {
    let at = u64::from(number);
    match call {
        15 => told("write", file.write(&vec![number; usize::from(number)])),
        16 => {
            let mut data = vec![0; usize::from(number)];
            told("read", file.read(&mut data).map(|len| data[..len].to_vec()))
        }
        17 => told(
            "seek",
            file.seek(match number % 3 {
                0 => SeekFrom::Start(at),
                1 => SeekFrom::Current(at as i64 - 64),
                _ => SeekFrom::End(at as i64 - 64),
            }),
        ),
        18 => told("truncate", file.set_len(at * 16)),
        _ => told("fstat", file.metadata().map(|found| facts(&found))),
    }
}

#[cfg(unix)]
fn link_to(target: &Path, link: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
#[expect(deprecated, reason = "the function for WASI is unstable")]
fn link_to(target: &Path, link: &Path) -> Result<()> {
    fs::soft_link(target, link)
}

/// The kind, and the size of a file. Sizes of directories differ between file systems.
fn facts(of: &fs::Metadata) -> String {
    match of.file_type() {
        kind if kind.is_dir() => "directory".to_owned(),
        kind if kind.is_symlink() => "link".to_owned(),
        _ => format!("{} bytes", of.len()),
    }
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory)?.map(|entry| {
        let entry = entry?;
        Ok(format!("{}: {}", entry.file_name().display(), facts(&entry.metadata()?)))
    });
    let mut names = entries.collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn tree(directory: &Path, lines: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let path = entry.path();
        let Ok(found) = fs::symlink_metadata(&path) else {
            lines.push(format!("{} is gone", entry.file_name().display()));
            continue;
        };
        let content = match found.file_type() {
            kind if kind.is_symlink() => told("to", fs::read_link(&path)),
            kind if kind.is_file() => told("of", fs::read(&path)),
            _ => String::new(),
        };
        lines.push(format!("{}: {} {content}", entry.file_name().display(), facts(&found)));
        if found.is_dir() {
            tree(&path, lines);
        }
    }
}

fn told(call: &str, result: Result<impl Debug>) -> String {
    match result {
        Ok(value) => format!("{call} {value:?}"),
        Err(error) => format!("{call}{REFUSED}{}", name(&error)),
    }
}

fn name(error: &Error) -> String {
    let number = |(linux, wasi, _): &(i32, i32, &str)| Some(if cfg!(unix) { *linux } else { *wasi });
    match ERRORS.iter().find(|known| error.raw_os_error() == number(known)) {
        Some((_, _, name)) => (*name).to_owned(),
        None => format!("{:?} {:?}", error.kind(), error.raw_os_error()),
    }
}
