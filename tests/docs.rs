//! The documentation: its commands run as written, and its command-line reference is up to date.

use std::path::Path;
use std::process::Command;

use crate::setup::{ROOT, binary, python};

/// Runs the commands on all pages of `chapter`.
fn pages_run(chapter: &str) {
    let directory = Path::new(ROOT).join("docs/src").join(chapter);
    let mut pages: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    pages.sort();
    assert!(!pages.is_empty(), "no pages in {chapter}");
    let output = Command::new(python())
        .arg(Path::new(ROOT).join("tests/clients/docs.py"))
        .arg(binary())
        .args(pages)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_tutorial_runs() {
    pages_run("tutorial");
}

#[test]
fn the_how_to_pages_run() {
    pages_run("how-to");
}

#[test]
fn the_command_line_is_documented() {
    let output = Command::new(python())
        .arg(Path::new(ROOT).join("docs/reference.py"))
        .arg(binary())
        .arg("--check")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
