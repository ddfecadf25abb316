use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use object_store::ObjectStore;

use super::*;
use crate::step;
use proptest::prelude::*;

fn open() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

#[test]
fn bytes_come_back() {
    let (_directory, store) = open();
    for size in [0, 1, 20_000, 700_000] {
        let bytes = vec![7u8; size];
        let digest = store.put(bytes.clone()).unwrap();
        assert_eq!(store.get(&digest).unwrap(), bytes);
        assert_eq!(store.put(bytes).unwrap(), digest);
    }
    let missing = Digest::of("missing");
    assert!(matches!(store.get(&missing), Err(StoreError::Missing(digest)) if digest == missing));
}

#[test]
fn a_changed_file_is_found_by_reading_it() {
    let (directory, store) = open();
    for size in [10, 700_000] {
        let digest = store.put(vec![1; size]).unwrap();
        store.get(&digest).unwrap();
        let hex = digest.hex();
        let path = directory.path().join("blobs/sha256").join(&hex[..2]).join(&hex);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, vec![2; size]).unwrap();
        assert!(matches!(store.get(&digest), Err(StoreError::Corrupt { expected, .. }) if expected == digest));
    }
}

#[test]
fn files_and_directories_are_taken_in() {
    let (_directory, store) = open();
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir(outside.path().join("b")).unwrap();
    std::fs::write(outside.path().join("b/c.csv"), "x\n1\n").unwrap();
    std::fs::write(outside.path().join("a.bin"), vec![3; 2 << 20]).unwrap();
    let directory = store.import(outside.path()).unwrap();
    assert!(directory.is_directory());
    let files = store.list_directory(&directory).unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["a.bin", "b/c.csv"]);
    assert_eq!(files["b/c.csv"].media_type.as_str(), "text/csv");
    assert_eq!(store.get(&files["a.bin"].digest).unwrap().len(), 2 << 20);
    assert_eq!(store.import(outside.path()).unwrap(), directory);
    let error = store.import(&outside.path().join("nothing")).unwrap_err().to_string();
    assert!(error.starts_with("can't read ") && error.contains("nothing"), "{error}");
}

#[test]
fn a_damaged_index_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let digest = Store::open(directory.path()).unwrap().put("kept").unwrap();
    std::fs::write(directory.path().join("index.sqlite"), vec![b'x'; 8192]).unwrap();
    let _ = std::fs::remove_file(directory.path().join("index.sqlite-wal"));
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.get(&digest).unwrap(), "kept");
    assert_eq!(store.rows(&Runs::newest(5)).unwrap(), []);
}

/// Returns the row of a record that needs `artifacts`.
fn row(record: &str, started_ms: u64, artifacts: &[Digest]) -> Row {
    let link = |(at, artifact): (usize, &Digest)| Link {
        artifact: *artifact,
        role: Role::Output,
        name: at.to_string(),
    };
    Row {
        record: Digest::of(record),
        key: RunKey(Digest::of("key")),
        module: Digest::of("module"),
        step: "step".to_owned(),
        word: "succeeded".to_owned(),
        outcome: "succeeded".to_owned(),
        started_ms,
        wall_us: 1,
        artifacts: Vec::new(),
        links: artifacts.iter().enumerate().map(link).collect(),
    }
}

fn in_front_of(objects: &Arc<object_store::memory::InMemory>) -> (tempfile::TempDir, Store) {
    let (directory, store) = open();
    let shared = Shared::over(objects.clone(), "s3://team").unwrap();
    (directory, store.in_front_of(shared))
}

fn names(objects: &object_store::memory::InMemory) -> Vec<String> {
    let all: Vec<_> = futures::executor::block_on_stream(objects.list(None))
        .map(Result::unwrap)
        .collect();
    all.into_iter().map(|meta| meta.location.to_string()).collect()
}

#[test]
fn what_is_published_is_whole_and_found_elsewhere() {
    let objects = Arc::default();
    let ((_here, here), (_there, there)) = (in_front_of(&objects), in_front_of(&objects));
    let file = here.put_artifact("x", &MediaType::new(MediaType::TEXT)).unwrap();
    let directory = here.put_directory(&BTreeMap::from([("a".to_owned(), file.clone())])).unwrap();
    here.put("not needed").unwrap();
    let row = row("record", 1, &[directory.digest]);
    here.put_record(Some(b"{}".to_vec()), &row).unwrap();
    assert!(here.is_unpublished(&row.record).unwrap());
    here.publish(&row).unwrap();
    assert!(!here.is_unpublished(&row.record).unwrap());
    assert_eq!(names(&objects).iter().filter(|name| name.starts_with("blobs/")).count(), 2);
    assert_eq!(there.find_shared(&row.key).unwrap(), [row.record]);
    assert_eq!(there.get_shared_record(&row.record).unwrap().unwrap(), "{}");
    assert_eq!(
        there.get(&there.list_directory(&directory).unwrap()["a"].digest).unwrap(),
        "x"
    );
}

#[test]
fn damage_counts_as_missing_until_the_bytes_are_stored_again() {
    let (place, store) = open();
    let file = store.put_artifact("content", &MediaType::new(MediaType::TEXT)).unwrap();
    let large = store
        .put_artifact(vec![7; 1 << 20], &MediaType::new(MediaType::BYTES))
        .unwrap();
    let files = BTreeMap::from([("a".to_owned(), file.clone()), ("b".to_owned(), large.clone())]);
    let directory = store.put_directory(&files).unwrap();
    assert_eq!(store.lacking(&directory).unwrap(), None);
    for (artifact, bytes) in [(&file, b"content".to_vec()), (&large, vec![7; 1 << 20])] {
        let path = place.path().join(blobs::name("blobs", &artifact.digest).as_ref());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(store.lacking(&directory).unwrap(), Some(artifact.digest));
        std::fs::write(&path, vec![0; bytes.len()]).unwrap();
        assert_eq!(store.lacking(&directory).unwrap(), Some(artifact.digest));
        assert_eq!(store.damaged(), [artifact.digest]);
        assert!(store.get(&artifact.digest).is_err());
        store.put(bytes).unwrap();
        assert_eq!(store.lacking(&directory).unwrap(), None);
        store.damage().clear();
    }
}

#[test]
fn a_sweep_of_a_shared_store_removes_only_what_nothing_there_needs() {
    let objects: Arc<object_store::memory::InMemory> = Arc::default();
    let (_here, store) = in_front_of(&objects);
    let put = |text: &str| store.put_artifact(text.to_owned(), &MediaType::new(MediaType::TEXT)).unwrap();
    let directory = |name: &str, file: &Artifact| {
        store
            .put_directory(&BTreeMap::from([(name.to_owned(), file.clone())]))
            .unwrap()
    };
    let publish = |name: &str, needs: &[Digest]| {
        let json = format!(r#"{{"needs": "{}"}}"#, needs[0]);
        let row = Row {
            record: Digest::of(&json),
            ..row(name, 1, needs)
        };
        store.put_record(Some(json.into_bytes()), &row).unwrap();
        store.publish(&row).unwrap();
    };
    let has = |artifact: &Artifact| names(&objects).iter().any(|name| name.ends_with(&artifact.digest.hex()));
    let (nested, noted, empty, uploaded, late) = (put("nested"), put("noted"), put(""), put("uploaded"), put("late"));
    let outer = directory("d", &directory("f", &nested));
    publish("whole", &[outer.digest]);
    publish("nothing", &[empty.digest]);
    store
        .shared()
        .unwrap()
        .put_note("kernels/k.json", noted.digest.to_string().into())
        .unwrap();
    store.share([noted.digest, uploaded.digest, late.digest]).unwrap();
    let now = SystemTime::now() + Duration::from_secs(60);
    let young = store.plan_shared_sweep(now - Duration::from_secs(3600)).unwrap();
    assert_eq!((young.artifacts.len(), young.kept), (0, 7));
    let sweep = store.plan_shared_sweep(now).unwrap();
    let mut planned: Vec<_> = sweep.artifacts.iter().map(|(digest, _)| *digest).collect();
    planned.sort();
    let mut expected = [uploaded.digest, late.digest];
    expected.sort();
    assert_eq!(planned, expected);
    // published after the sweep was planned
    publish("late", &[late.digest]);
    let mut count = 0;
    store.carry_out_shared(&sweep, || count += 1).unwrap();
    assert_eq!((count, has(&uploaded)), (2, false));
    assert!([&nested, &noted, &empty, &late, &outer].into_iter().all(has));
    assert_eq!(store.plan_shared_sweep(now).unwrap().count(), 0);
}

#[test]
fn a_shared_store_that_lies_is_found_out() {
    let objects: Arc<object_store::memory::InMemory> = Arc::default();
    let (_here, here) = in_front_of(&objects);
    let wanted = Digest::of("wanted");
    let name = blobs::name("blobs", &wanted);
    let lie = object_store::ObjectStoreExt::put(&*objects, &name, "other".into());
    futures::executor::block_on(lie).unwrap();
    let error = here.get(&wanted).unwrap_err();
    assert!(matches!(error, StoreError::CorruptShared { expected, .. } if expected == wanted));
    assert!(!here.blobs.contains(&wanted).unwrap());
}

#[test]
fn a_sweep_leaves_the_parts_of_what_stays() {
    let (directory, store) = open();
    let store = store.unleased();
    let file = store.put_artifact("x", &MediaType::new(MediaType::TEXT)).unwrap();
    let kept = store
        .put_directory(&BTreeMap::from([("a".to_owned(), file.clone())]))
        .unwrap();
    let base = store.put("base").unwrap();
    let mut based = b"\0asm\x01\0\0\0".to_vec();
    let (name, digest) = (step::BASE_SECTION, base.to_string());
    based.extend([0, (1 + name.len() + digest.len()) as u8, name.len() as u8]);
    based.extend([name.as_bytes(), digest.as_bytes()].concat());
    let based = store.put(based).unwrap();
    let old = store.put("old").unwrap();
    let rows = [row("new", 2, &[kept.digest, based]), row("old", 1, &[old, base])];
    for row in &rows {
        store.put_record(Some(b"{}".to_vec()), row).unwrap();
    }
    let mut keep = Keep {
        now: std::time::SystemTime::now() + std::time::Duration::from_secs(60),
        older_than: None,
        size: Some(2000),
        grace: std::time::Duration::ZERO,
        roots: BTreeSet::new(),
        partial: Vec::new(),
    };
    assert_eq!(store.plan_sweep(&rows, &keep).unwrap().count(), 0);
    keep.size = Some(store.plan_sweep(&rows, &keep).unwrap().kept_bytes - 1);
    let sweep = store.plan_sweep(&rows, &keep).unwrap();
    assert_eq!(
        (&sweep.records[..], &sweep.artifacts[..]),
        (&[rows[1].record][..], &[(old, 3)][..])
    );
    // a blob that is written again meanwhile is kept
    std::fs::remove_file(directory.path().join(blobs::name("blobs", &old).as_ref())).unwrap();
    store.carry_out(&sweep, |_, _| None, || ()).unwrap();
    for digest in [kept.digest, file.digest, based, base] {
        assert!(store.contains(&digest).unwrap());
    }
    assert_eq!(store.rows(&Runs::newest(9)).unwrap().len(), 1);
    keep.roots = BTreeSet::from([rows[0].record]);
    keep.older_than = Some(std::time::Duration::ZERO);
    assert_eq!(store.plan_sweep(&rows[..1], &keep).unwrap().count(), 0);
}

#[test]
fn the_index_of_an_older_version_is_completed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.sqlite");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE records (record TEXT PRIMARY KEY, key TEXT); CREATE TABLE memo (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    let store = Store::open(directory.path()).unwrap();
    assert!(!store.is_indexed().unwrap());
    let made = row("record", 1, &[Digest::of("made")]);
    store.reindex(std::slice::from_ref(&made)).unwrap();
    assert!(Store::open(directory.path()).unwrap().is_indexed().unwrap());
    assert_eq!(
        store.links_of(&Digest::of("made")).unwrap(),
        [(made.record, made.links[0].clone())]
    );
}

#[derive(Debug, Clone)]
enum Write {
    At(u64, Vec<u8>),
    Append(Vec<u8>),
    SetLen(u64),
    Share,
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let data = || prop::collection::vec(any::<u8>(), 0..200_000);
    let write = prop_oneof![
        (0..400_000u64, data()).prop_map(|(offset, data)| Write::At(offset, data)),
        data().prop_map(Write::Append),
        (0..400_000u64).prop_map(Write::SetLen),
        Just(Write::Share),
    ];
    prop::collection::vec(write, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// An artifact has the bytes of an equivalent vector, and their digest, in whatever order it is written.
    #[test]
    fn a_writer_is_a_vector(writes in writes()) {
        let (_directory, store) = open();
        let (mut writer, mut model, mut shared) = (store.writer(), Vec::new(), Vec::new());
        for write in writes {
            let (offset, data) = match write {
                Write::Share => {
                    let (digest, size) = writer.share(&mut || Ok(())).unwrap();
                    prop_assert_eq!(size, model.len() as u64);
                    shared.push((digest, model.clone()));
                    let mut start = [0; 9];
                    let count = writer.read_at(3, &mut start).unwrap();
                    prop_assert_eq!(&start[..count], &model[model.len().min(3)..model.len().min(12)]);
                    continue;
                }
                Write::SetLen(len) => {
                    writer.set_len(len).unwrap();
                    model.resize(len as usize, 0);
                    continue;
                }
                Write::At(offset, data) => (offset, data),
                Write::Append(data) => (writer.len(), data),
            };
            writer.write_at(offset, &data).unwrap();
            let (start, end) = (offset as usize, offset as usize + data.len());
            model.resize(model.len().max(end), 0);
            model[start..end].copy_from_slice(&data);
        }
        let (digest, size) = writer.finish().unwrap();
        prop_assert_eq!(size, model.len() as u64);
        shared.push((digest, model));
        for (digest, model) in shared {
            prop_assert_eq!(digest, Digest::of(&model));
            prop_assert_eq!(store.get(&digest).unwrap(), model);
        }
    }
}

#[test]
fn files_being_written_take_few_descriptors() {
    let (directory, store) = open();
    let directory = directory.path().canonicalize().unwrap();
    let mut writers: Vec<_> = (0..400).map(|_| store.staged_writer().unwrap()).collect();
    for (n, writer) in (0u32..).zip(&mut writers) {
        writer.write_at(0, &n.to_le_bytes()).unwrap();
        writer.write_at(5000, b"!").unwrap();
    }
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let open = open.filter(|path| path.starts_with(&directory)).count();
    assert!(open < 100, "{open}");
    for (n, mut writer) in (0u32..).zip(writers) {
        let mut start = [0; 4];
        assert_eq!((writer.read_at(0, &mut start).unwrap(), start), (4, n.to_le_bytes()));
        let (digest, _) = writer.finish().unwrap();
        assert_eq!(store.get(&digest).unwrap().len(), 5001);
    }
}

#[test]
fn links_out_of_a_directory_and_special_files_are_refused_by_name() {
    let (outside, store) = open();
    let input = tempfile::tempdir().unwrap();
    let at = |name: &str| input.path().join(name);
    let error = |path: &Path| store.import(path).unwrap_err().to_string();
    std::fs::create_dir(at("rows")).unwrap();
    std::fs::write(at("rows/a.csv"), "a\n1\n").unwrap();
    std::os::unix::fs::symlink("rows/a.csv", at("first.csv")).unwrap();
    std::os::unix::fs::symlink(at("rows"), at("same")).unwrap();
    let directory = store.import(input.path()).unwrap();
    let names: Vec<_> = store.list_directory(&directory).unwrap().into_keys().collect();
    assert_eq!(names, ["first.csv", "rows/a.csv", "same/a.csv"]);
    // the input itself may be a link
    let link = outside.path().join("link");
    std::os::unix::fs::symlink(input.path(), &link).unwrap();
    assert_eq!(store.import(&link).unwrap(), directory);
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    for target in [secret.as_path(), outside.path(), Path::new("/etc/passwd"), Path::new("../..")] {
        std::os::unix::fs::symlink(target, at("rows/out")).unwrap();
        let said = error(input.path());
        assert!(
            said.contains("rows/out: it is a symbolic link to /") && said.contains("outside of the input"),
            "{said}"
        );
        std::fs::remove_file(at("rows/out")).unwrap();
    }
    std::os::unix::fs::symlink("nothing", at("rows/out")).unwrap();
    let said = error(input.path());
    assert!(
        said.contains("rows/out: it is a symbolic link to nothing: No such file"),
        "{said}"
    );
    std::fs::remove_file(at("rows/out")).unwrap();
    for target in [".", ".."] {
        std::os::unix::fs::symlink(target, at("rows/out")).unwrap();
        let said = error(input.path());
        assert!(
            said.contains("rows/out: it is a symbolic link to a directory that contains it"),
            "{said}"
        );
        std::fs::remove_file(at("rows/out")).unwrap();
    }
    let socket = std::os::unix::net::UnixListener::bind(at("rows/socket")).unwrap();
    assert!(error(input.path()).contains("rows/socket: it is a socket;"));
    assert!(error(&at("rows/socket")).contains("it is a socket;"));
    drop(socket);
    std::fs::remove_file(at("rows/socket")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(at("rows/fifo")).status().unwrap();
    assert!(made.success());
    assert!(error(input.path()).contains("rows/fifo: it is a FIFO;"));
    assert!(error(&at("rows/fifo")).contains("it is a FIFO;"));
    assert!(error(Path::new("/dev/zero")).contains("it is a device;"));
}

/// A sweep of everything that is not used.
fn all() -> Keep {
    Keep {
        now: std::time::SystemTime::now() + std::time::Duration::from_secs(60),
        older_than: Some(std::time::Duration::ZERO),
        size: None,
        grace: std::time::Duration::ZERO,
        roots: BTreeSet::new(),
        partial: Vec::new(),
    }
}

#[test]
fn a_sweep_leaves_what_work_uses_until_it_ends() {
    let (place, store) = open();
    let store = store.unleased();
    let [unused, put, read, seen, file] = ["unused", "put", "read", "seen", "file"].map(|text| store.put(text).unwrap());
    let entry = Artifact {
        digest: file,
        media_type: MediaType::default(),
        size: 4,
    };
    let directory = store.put_directory(&BTreeMap::from([("a".to_owned(), entry)])).unwrap();
    let old = row("old", 1, &[seen, read]);
    store.put_record(Some(b"{}".to_vec()), &old).unwrap();
    let sweep = || store.plan_sweep(std::slice::from_ref(&old), &all()).unwrap();
    let digests = |sweep: &Sweep| sweep.artifacts.iter().map(|(digest, _)| *digest).collect::<BTreeSet<_>>();
    assert_eq!(digests(&sweep()), [unused, put, read, seen, file, directory.digest].into());
    let planned = sweep();
    // another process
    let work = Store::open(place.path()).unwrap();
    work.put("put").unwrap();
    work.get(&read).unwrap();
    assert!(work.contains(&seen).unwrap());
    work.get(&directory.digest).unwrap();
    assert_eq!(digests(&sweep()), [unused].into());
    // it has made what the work uses
    assert_eq!(sweep().records, []);
    store.carry_out(&planned, |_, _| None, || ()).unwrap();
    for digest in [put, read, seen, file] {
        assert!(work.contains(&digest).unwrap());
    }
    assert!(!work.contains(&unused).unwrap());
    let other = work.leased();
    other.get(&read).unwrap();
    drop(work);
    // the record is gone
    let sweep = || store.plan_sweep(&[], &all()).unwrap();
    assert_eq!(digests(&sweep()), [put, seen, file, directory.digest].into());
    drop(other);
    store.carry_out(&sweep(), |_, _| None, || ()).unwrap();
    assert!(!store.contains(&read).unwrap());
    let left = std::fs::read_dir(place.path().join("leases")).unwrap().count();
    assert_eq!(left, 1, "only the gate is left");
}

#[test]
fn a_sweep_leaves_what_a_record_that_was_written_or_used_meanwhile_needs() {
    let (_place, store) = open();
    let store = store.unleased();
    let [input, output, made] = ["input", "output", "made"].map(|text| store.put(text).unwrap());
    let (old, new) = (row("old", 1, &[input, output]), row("new", 2, &[made]));
    let json = |row: &Row| Some(row.step.clone().into_bytes());
    store.put_record(json(&old), &old).unwrap();
    let planned = store.plan_sweep(std::slice::from_ref(&old), &all()).unwrap();
    assert_eq!((planned.records.len(), planned.artifacts.len()), (1, 3));
    // this work has ended when the sweep is carried out
    store.put_record(json(&new), &new).unwrap();
    let work = store.leased();
    assert!(work.get_record(&old.record).unwrap().is_some());
    let parse = |digest: &Digest, _: &[u8]| (*digest == new.record).then(|| new.clone());
    store.carry_out(&planned, parse, || ()).unwrap();
    for digest in [input, output, made] {
        assert!(store.contains(&digest).unwrap());
    }
    assert_eq!(store.rows(&Runs::newest(9)).unwrap().len(), 2);
}

#[test]
fn the_lease_of_a_dead_process_holds_nothing() {
    let (place, store) = open();
    let store = store.unleased();
    let used = store.put("used").unwrap();
    let leases = place.path().join("leases");
    std::fs::create_dir_all(&leases).unwrap();
    for (name, text) in [
        ("abc", String::new()),
        ("abc.0", format!("{}\n", used.hex())),
        ("other.7", used.hex()),
    ] {
        std::fs::write(leases.join(name), text).unwrap();
    }
    let process = std::fs::File::open(leases.join("abc")).unwrap();
    process.lock().unwrap();
    assert_eq!(store.plan_sweep(&[], &all()).unwrap().artifacts, []);
    // as the operating system does when a process is killed
    drop(process);
    let sweep = store.plan_sweep(&[], &all()).unwrap();
    assert_eq!(sweep.artifacts, [(used, 4)]);
    store.carry_out(&sweep, |_, _| None, || ()).unwrap();
    let left = std::fs::read_dir(&leases).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["gate"]);
}
