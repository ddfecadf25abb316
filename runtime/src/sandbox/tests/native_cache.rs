use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;

fn cached(directory: &Path) -> Engine {
    Engine::new(&EngineOptions {
        native_cache: Some(directory.to_owned()),
        ..EngineOptions::default()
    })
    .unwrap()
}

fn the_file(directory: &Path) -> PathBuf {
    let engine = fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    let files: Vec<_> = fs::read_dir(engine).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    files[0].clone()
}

/// Loads the module with a new engine. Returns whether the code came from the cache, in which case the file is not replaced.
fn comes_from_cache(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let before = fs::symlink_metadata(the_file(directory)).unwrap().ino();
    let (_, log) = run(&load(&cached(directory), &says(1, "hello", "")), &Limits::default());
    assert_eq!(log, "hello");
    before == fs::symlink_metadata(the_file(directory)).unwrap().ino()
}

#[test]
fn code_is_kept_and_distrusted() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("native");
    load(&cached(&directory), &says(1, "hello", ""));
    let file = the_file(&directory);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(comes_from_cache(&directory));

    let whole = fs::read(&file).unwrap();
    for cut in [0, 1, 31, 32, 33, 4096, whole.len() - 1] {
        fs::write(&file, &whole[..cut]).unwrap();
        assert!(!comes_from_cache(&directory), "cut to {cut}");
    }
    for at in [0, 40, whole.len() / 2, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&file, changed).unwrap();
        assert!(!comes_from_cache(&directory), "changed at {at}");
    }
    assert!(comes_from_cache(&directory));

    fs::set_permissions(&file, fs::Permissions::from_mode(0o622)).unwrap();
    assert!(!comes_from_cache(&directory));
    let elsewhere = directory.with_extension("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    assert!(!comes_from_cache(&directory));
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    cached(directory.path());
    let engine = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    fs::set_permissions(&engine, fs::Permissions::from_mode(0o777)).unwrap();
    let options = EngineOptions {
        native_cache: Some(directory.path().to_owned()),
        ..EngineOptions::default()
    };
    let error = Engine::new(&options).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("other users can write to it"), "{error}");
}

/// Code that was compiled on another machine is accepted only with the same key and the same name.
#[test]
fn code_from_elsewhere_needs_the_seal() {
    let place = tempfile::tempdir().unwrap();
    let [here, there] = ["here", "there"].map(|name| cached(&place.path().join(name)));
    let key = |letter: &str| CodeKey::new(&letter.repeat(32)).unwrap();
    let (wasm, other) = (says(1, "hello", ""), says(1, "other", ""));
    let digest = load(&here, &wasm).digest();
    let sealed = here.sealed_code(&digest, &key("a")).unwrap();
    assert_eq!(here.code_name(&digest), there.code_name(&digest));

    assert!(!there.admit_code(&sealed, &digest, &key("b")));
    assert!(!there.admit_code(&sealed, &Digest::of(&other), &key("a")));
    for cut in [0, 31, 32, sealed.len() - 1] {
        assert!(!there.admit_code(&sealed[..cut], &digest, &key("a")), "cut to {cut}");
    }
    let mut changed = sealed.clone();
    changed[sealed.len() / 2] ^= 1;
    assert!(!there.admit_code(&changed, &digest, &key("a")));
    assert!(!there.has_code(&digest));

    assert!(there.admit_code(&sealed, &digest, &key("a")));
    assert!(there.has_code(&digest) && comes_from_cache(&place.path().join("there")));
    assert!(CodeKey::new(&"a".repeat(31)).is_none());
}
