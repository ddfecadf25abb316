use super::*;
use proptest::prelude::*;

fn open() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

#[test]
fn bytes_come_back_from_both_backends() {
    let (_directory, on_disk) = open();
    for store in [on_disk, Store::memory().unwrap()] {
        for size in [0, 1, 20_000, 700_000] {
            let bytes = vec![7u8; size];
            let digest = store.put(bytes.clone()).unwrap();
            assert_eq!(store.get(&digest).unwrap(), bytes);
            assert_eq!(store.put(bytes).unwrap(), digest);
        }
        let missing = Digest::of("missing");
        assert!(matches!(store.get(&missing), Err(StoreError::Missing(digest)) if digest == missing));
    }
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

#[derive(Debug, Clone)]
enum Write {
    At(u64, Vec<u8>),
    Append(Vec<u8>),
    SetLen(u64),
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let data = || prop::collection::vec(any::<u8>(), 0..200_000);
    let write = prop_oneof![
        (0..400_000u64, data()).prop_map(|(offset, data)| Write::At(offset, data)),
        data().prop_map(Write::Append),
        (0..400_000u64).prop_map(Write::SetLen),
    ];
    prop::collection::vec(write, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However an artifact is written, it is the bytes that a plain vector would hold, under their digest.
    #[test]
    fn a_writer_is_a_vector(writes in writes(), on_disk: bool) {
        let (_directory, disk) = open();
        let store = if on_disk { disk } else { Store::memory().unwrap() };
        let (mut writer, mut model) = (store.writer(), Vec::new());
        for write in writes {
            let (offset, data) = match write {
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
        prop_assert_eq!(digest, Digest::of(&model));
        prop_assert_eq!(store.get(&digest).unwrap(), model);
    }
}
