//! Bundles that were tampered with. Each is rejected with an error that names the culprit, before anything enters the store.

use std::fs;

use super::*;

/// A bundle that can be changed before it is written.
#[derive(Clone)]
struct Forgery {
    files: BTreeMap<String, Bytes>,
    /// Headers and bytes to append to the tar after the files.
    extra: Vec<(tar::Header, Vec<u8>)>,
}

impl Forgery {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("bundle.tar");
        contents(true).write(&path).unwrap();
        let layout = layout::Layout::open(&path).unwrap();
        let read = |name: &String| layout.read(name, u64::MAX).unwrap();
        Self {
            files: layout.files().keys().map(|name| (name.clone(), read(name))).collect(),
            extra: Vec::new(),
        }
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.files[name]).unwrap()
    }

    fn set(&mut self, name: &str, bytes: impl Into<Bytes>) {
        self.files.insert(name.to_owned(), bytes.into());
    }

    /// Adds a blob and returns its descriptor.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let (digest, size) = (Digest::of(&bytes), bytes.len());
        self.set(&oci::blob_name(&digest), bytes);
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }

    fn index(&mut self, change: impl FnOnce(&mut Value)) {
        let mut index = self.json("index.json");
        change(&mut index);
        self.set("index.json", canonical_json(&index).unwrap());
    }

    /// Changes the manifest at position `at` of the index, and updates its digest.
    fn manifest(&mut self, at: usize, change: impl FnOnce(&mut Self, &mut Value)) {
        let mut manifest = self.json(&blob(&self.json("index.json")["manifests"][at]));
        change(self, &mut manifest);
        let named = self.add(oci::MANIFEST, canonical_json(&manifest).unwrap());
        self.index(|index| {
            let listed = index["manifests"][at].as_object_mut().unwrap();
            listed.extend(named.as_object().unwrap().clone());
        });
    }

    /// Changes the plan, and updates its digest.
    fn plan(&mut self, change: impl FnOnce(&mut Self, &mut Value)) {
        self.manifest(0, |forgery, manifest| {
            let mut plan = forgery.json(&blob(&manifest["config"]));
            change(forgery, &mut plan);
            manifest["config"] = forgery.add(oci::PLAN, canonical_json(&plan).unwrap());
        });
    }

    /// Changes the expected results, and updates their digest.
    fn expected(&mut self, change: impl FnOnce(&mut Value)) {
        self.manifest(0, |forgery, manifest| {
            let mut expected = forgery.json(&blob(&manifest["layers"][0]));
            change(&mut expected);
            manifest["layers"][0] = forgery.add(oci::EXPECTED, canonical_json(&expected).unwrap());
        });
    }

    /// Replaces the plan's directory by the last of `lists`, and adds all of them.
    fn directory(&mut self, lists: &[Value]) {
        let type_ = MediaType::DIRECTORY;
        let lists: Vec<Value> = lists
            .iter()
            .map(|list| self.add(type_, canonical_json(list).unwrap()))
            .collect();
        self.plan(|_, plan| {
            let Some(Value::Object(last)) = lists.last() else { panic!() };
            plan["tasks"][0]["run"]["inputs"]["directory"]["artifact"] =
                json!({ "media_type": type_, "digest": last["digest"], "size": last["size"] });
        });
        self.manifest(0, |_, manifest| manifest["layers"].as_array_mut().unwrap().extend(lists));
    }

    /// Appends an entry whose header is written without any checks.
    fn entry(&mut self, name: &str, kind: tar::EntryType, bytes: &[u8]) {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        self.extra.push((header, bytes.to_vec()));
    }

    fn tar(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in &self.files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, Cursor::new(bytes)).unwrap();
        }
        for (header, bytes) in &self.extra {
            tar.append(header, &bytes[..]).unwrap();
        }
        tar.into_inner().unwrap()
    }
}

fn blob(named: &Value) -> String {
    oci::blob_name(&named["digest"].as_str().unwrap().parse().unwrap())
}

/// Returns the position of the layer with this media type.
fn layer(manifest: &Value, media_type: &str) -> usize {
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().position(|layer| layer["mediaType"] == media_type).unwrap()
}

/// Returns the error of opening and importing the tar. Only the store may be written to.
fn refused(tar: &[u8]) -> String {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("inner/bundle.tar");
    fs::create_dir(place.path().join("inner")).unwrap();
    fs::write(&path, tar).unwrap();
    let store = Store::temporary().unwrap();
    let taken = Bundle::open(&path).and_then(|bundle| bundle.take(&store, &mut |_| ()));
    let names = |directory: &Path| fs::read_dir(directory).unwrap().count();
    assert_eq!((names(place.path()), names(&place.path().join("inner"))), (1, 1));
    match taken {
        Ok(()) => "taken in".to_owned(),
        Err(error) => steady(&error.to_string()).replace(&path.display().to_string(), "[BUNDLE]"),
    }
}

/// Replaces digests by `[DIGEST]`.
fn steady(text: &str) -> String {
    let mut steady = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("sha256:") {
        let is_digest = rest.get(at..at + 71).is_some_and(|text| text.parse::<Digest>().is_ok());
        let (shown, length) = if is_digest { ("[DIGEST]", 71) } else { ("sha256:", 7) };
        steady.push_str(&rest[..at]);
        steady.push_str(shown);
        rest = &rest[at + length..];
    }
    steady + rest
}

type Change = fn(&mut Forgery);

#[track_caller]
fn all_refused(cases: &[(Change, &str)]) {
    let honest = Forgery::new();
    assert_eq!(refused(&honest.tar()), "taken in");
    let told = cases.iter().map(|(change, _)| {
        let mut forgery = honest.clone();
        change(&mut forgery);
        refused(&forgery.tar())
    });
    let expected: Vec<&str> = cases.iter().map(|(_, expected)| *expected).collect();
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[test]
fn names_stay_inside() {
    const ALLOWED: &str = "in the bundle: a bundle contains only oci-layout, index.json and blobs/sha256/DIGEST";
    let honest = Forgery::new();
    for name in [
        "../evil",
        "/tmp/evil",
        "blobs/sha256/../../../evil",
        "./../evil",
        "blobs/sha256/",
        "blobs/sha256/AB",
        "blobs/sha512/00",
        "evil",
        "",
    ] {
        let mut forgery = honest.clone();
        forgery.entry(name, tar::EntryType::Regular, b"evil");
        let told = name.strip_prefix("./").unwrap_or(name);
        assert_eq!(refused(&forgery.tar()), format!("unexpected `{told}` {ALLOWED}"));
    }
    let mut forgery = honest.clone();
    forgery.entry("../evil/", tar::EntryType::Directory, b"");
    assert_eq!(refused(&forgery.tar()), format!("unexpected `../evil` {ALLOWED}"));
}

#[test]
fn only_plain_files_are_let_in() {
    use tar::EntryType;
    let honest = Forgery::new();
    for (kind, word) in [
        (EntryType::Symlink, "symbolic link"),
        (EntryType::Link, "hard link"),
        (EntryType::Char, "device or pipe"),
        (EntryType::Block, "device or pipe"),
        (EntryType::Fifo, "device or pipe"),
        (EntryType::GNUSparse, "sparse file"),
        (EntryType::GNULongName, "extended header"),
        (EntryType::GNULongLink, "extended header"),
        (EntryType::XHeader, "extended header"),
        (EntryType::XGlobalHeader, "extended header"),
    ] {
        let mut forgery = honest.clone();
        forgery.entry("index.json", kind, b"");
        let expected = format!("`index.json` in the bundle is a {word}: a bundle contains only regular files");
        assert_eq!(refused(&forgery.tar()), expected);
    }
}

#[test]
fn a_directory_with_links_or_pipes_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("layout");
    contents(false).write(&path).unwrap();
    let config = Bundle::open(&path).unwrap().blobs().keys().next().copied().unwrap();
    let name = oci::blob_name(&config);
    fs::rename(path.join(&name), place.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(place.path().join("elsewhere"), path.join(&name)).unwrap();
    let error = Bundle::open(&path).err().unwrap().to_string();
    assert_eq!(
        error,
        format!("`{name}` in the bundle is a symbolic link: a bundle contains only regular files")
    );
    fs::remove_file(path.join(&name)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path.join("blobs/s")).unwrap();
    let error = Bundle::open(&path).err().unwrap().to_string();
    assert_eq!(
        error,
        "`blobs/s` in the bundle is a device, pipe or socket: a bundle contains only regular files"
    );
}

#[test]
fn what_is_cut_short_is_found_wherever_that_is() {
    let tar = Forgery::new().tar();
    // the two blocks of zeros at the end and the padding of the last file are not needed
    let end = tar.len() - 1024 - (512 - oci::LAYOUT.len());
    for end in (0..end).step_by(97).chain([end - 1]) {
        assert_ne!(refused(&tar[..end]), "taken in", "cut after {end} bytes");
    }
}

#[test]
fn every_changed_byte_is_found() {
    let honest = Forgery::new();
    for (name, bytes) in honest.files.iter().filter(|(name, _)| name.starts_with("blobs")) {
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 20) {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("bundle.tar");
            let mut forgery = honest.clone();
            forgery.set(name, changed);
            fs::write(&path, forgery.tar()).unwrap();
            let verified = Bundle::open(&path).and_then(|bundle| bundle.verify(&mut |_| ()));
            let hex = name.rsplit('/').next().unwrap();
            let error = verified.unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("blob sha256:{hex} of the bundle is corrupt: ")),
                "{error}"
            );
        }
    }
}

#[test]
fn files_of_the_layout_are_checked() {
    all_refused(&[
        (
            |f| f.entry("index.json", tar::EntryType::Regular, b"{}"),
            "`index.json` is in the bundle twice",
        ),
        (
            |f| f.entry("./oci-layout", tar::EntryType::Regular, b"{}"),
            "`oci-layout` is in the bundle twice",
        ),
        (|f| drop(f.files.remove("oci-layout")), "the bundle has no `oci-layout`"),
        (|f| drop(f.files.remove("index.json")), "the bundle has no `index.json`"),
        (
            |f| f.set("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#),
            "oci-layout: expected version 1.0.0, found version 2.0.0",
        ),
        (
            |f| f.set("oci-layout", vec![b' '; 5000]),
            "`oci-layout` in the bundle is too large: 5000 bytes, limit 4096",
        ),
        (
            |f| f.set("index.json", vec![b' '; 5 << 20]),
            "`index.json` in the bundle is too large: 5242880 bytes, limit 4194304",
        ),
        (
            |f| f.set("index.json", "[".repeat(1 << 20)),
            "can't parse index.json: invalid type: sequence, expected u32 at line 1 column 1",
        ),
        (
            |f| f.set("index.json", format!(r#"{{"schemaVersion":2,"a":{}"#, "[".repeat(1 << 20))),
            "can't parse index.json: EOF while parsing a list at line 1 column 1048599",
        ),
        (
            |f| f.index(|index| index["manifests"] = json!([])),
            "index.json: expected 1 bundle, found 0",
        ),
        (
            |f| f.index(|index| index["manifests"][1] = index["manifests"][0].clone()),
            "index.json: expected 1 bundle, found 2",
        ),
        (
            |f| f.index(|index| index["manifests"][0]["digest"] = json!("../../etc/passwd")),
            "can't parse index.json: `../../etc/passwd` is not a digest: write sha256: and 64 hexadecimal digits at line 1 column 94",
        ),
        (
            |f| f.index(|index| index["manifests"][1]["mediaType"] = json!(oci::INDEX)),
            "[DIGEST] in index.json: expected `application/vnd.oci.image.manifest.v1+json`, found `application/vnd.oci.image.index.v1+json`",
        ),
    ]);
}

#[test]
fn manifests_hold_what_the_plan_needs_and_nothing_else() {
    all_refused(&[
        (
            |f| f.index(|index| index["manifests"][0]["size"] = json!(1)),
            "blob [DIGEST] has 1102 bytes, but the bundle declares 1",
        ),
        (
            |f| f.manifest(0, |_, manifest| manifest["layers"] = json!([])),
            "the bundle's manifest: expected layers, found none",
        ),
        (
            |f| f.manifest(0, |_, manifest| manifest["config"]["mediaType"] = json!("application/x")),
            "the bundle's config: expected `application/vnd.lockstep.plan.v1+json`, found `application/x`",
        ),
        (
            |f| f.manifest(0, |_, manifest| drop(manifest["layers"].as_array_mut().unwrap().remove(0))),
            "the bundle's first layer: expected `application/vnd.lockstep.expected.v1+json`, found `text/plain`",
        ),
        (
            |f| {
                f.manifest(0, |_, manifest| {
                    let at = layer(manifest, "application/wasm");
                    manifest["layers"].as_array_mut().unwrap().remove(at);
                });
            },
            "the bundle is missing [DIGEST] (module `cat`)",
        ),
        (
            |f| {
                f.manifest(0, |_, manifest| {
                    let at = layer(manifest, "text/plain");
                    manifest["layers"].as_array_mut().unwrap().remove(at);
                });
            },
            "the bundle is missing [DIGEST] (input `cat.directory/sub/a.txt`)",
        ),
        (
            |f| {
                let manifest = f.json(&blob(&f.json("index.json")["manifests"][0]));
                f.files.remove(&blob(&manifest["layers"][layer(&manifest, "text/plain")]));
            },
            "the bundle is missing [DIGEST] (listed as text/plain)",
        ),
        (
            |f| {
                f.manifest(0, |_, manifest| {
                    let again = manifest["layers"][1].clone();
                    manifest["layers"].as_array_mut().unwrap().push(again);
                });
            },
            "`layer [DIGEST]` is in the bundle twice",
        ),
        (
            |f| {
                f.manifest(0, |f, manifest| {
                    let bomb = f.add("application/vnd.oci.image.layer.v1.tar+gzip", b"\x1f\x8b".to_vec());
                    manifest["layers"].as_array_mut().unwrap().push(bomb);
                });
            },
            "the bundle lists [DIGEST], which its plan does not need",
        ),
        (
            |f| {
                f.manifest(0, |_, manifest| {
                    let at = layer(manifest, "text/plain");
                    manifest["layers"][at]["mediaType"] = json!("text/plain+gzip");
                });
            },
            "layer [DIGEST]: expected `text/plain`, found `text/plain+gzip`",
        ),
        (
            |f| {
                f.manifest(0, |_, manifest| {
                    let at = layer(manifest, "text/plain");
                    manifest["layers"][at]["size"] = json!(u64::MAX);
                });
            },
            "blob [DIGEST] has 23 bytes, but the bundle declares 18446744073709551615",
        ),
        (
            |f| {
                f.manifest(1, |f, manifest| {
                    manifest["layers"] = json!([f.add("application/wasm", b"other".to_vec())])
                })
            },
            "manifest [DIGEST]: expected a module of the bundle, found another blob",
        ),
    ]);
}

#[test]
fn plans_and_expectations_are_checked() {
    all_refused(&[
        (
            |f| {
                f.manifest(0, |f, manifest| {
                    let plan = f.json(&blob(&manifest["config"]));
                    manifest["config"] = f.add(oci::PLAN, serde_json::to_vec_pretty(&plan).unwrap());
                });
            },
            "the bundle's plan: expected canonical JSON, found other JSON",
        ),
        (
            |f| f.plan(|_, plan| plan["tasks"][0]["run"]["module"] = json!(Digest::of("elsewhere"))),
            "the bundle is missing [DIGEST] (module `cat`)",
        ),
        (
            |f| f.plan(|_, plan| plan["tasks"][0]["run"]["modules"] = json!({ "called": Digest::of("elsewhere") })),
            "the bundle is missing [DIGEST] (module `called`)",
        ),
        (
            |f| f.plan(|_, plan| plan["tasks"][0]["run"]["inputs"]["text"]["artifact"]["size"] = json!(7)),
            "blob [DIGEST] has 6 bytes, but the bundle declares 7",
        ),
        (
            |f| f.plan(|_, plan| plan["more"] = json!(1)),
            "can't use the bundle's plan: invalid plan: unknown field `more`, expected one of `version`, `name`, `tasks`, `outputs`, `empty` at line 1 column 7",
        ),
        (
            |f| {
                f.manifest(0, |f, manifest| {
                    let plan = f.json(&blob(&manifest["config"])).to_string();
                    let deep = "[".repeat(1 << 20);
                    let when = format!(r#""tasks":[{{"when":[{{"left":{{"value":{deep}"#);
                    let deep = plan.replacen(r#""tasks":[{"#, &when, 1);
                    manifest["config"] = f.add(oci::PLAN, deep.into_bytes());
                });
            },
            "can't use the bundle's plan: invalid plan: recursion limit exceeded at line 1 column 171",
        ),
        (
            |f| f.expected(|expected| expected["version"] = json!(2)),
            "the bundle's expected results: expected version 1, found version 2",
        ),
        (
            |f| f.expected(|expected| expected["records"] = json!([])),
            "the bundle is missing [DIGEST] (record of task `cat`)",
        ),
        (
            |f| f.expected(|expected| expected["tasks"] = json!([{ "task": "a" }, { "task": "a" }])),
            "`task a` is in the bundle twice",
        ),
    ]);
}

#[test]
fn directories_stay_inside_and_do_not_grow() {
    let entry = |list: &Value| {
        let bytes = canonical_json(list).unwrap();
        json!({ "digest": Digest::of(&bytes), "media_type": MediaType::DIRECTORY, "size": bytes.len() })
    };
    let file = json!({ "digest": Digest::of("hello\n"), "media_type": "text/plain", "size": 6 });
    let honest = Forgery::new();
    let refused = |lists: &[Value]| {
        let mut forgery = honest.clone();
        forgery.directory(lists);
        super::hostile::refused(&forgery.tar())
    };
    for path in ["../evil", "/evil", "a/../../evil", "a//b", ""] {
        let told = refused(&[json!({ path: file })]);
        assert_eq!(
            told,
            format!("[DIGEST] in the bundle is not a valid directory: invalid path `{path}`")
        );
    }
    // the file of the replaced directory is no longer needed
    assert_eq!(
        refused(&[json!({ "a": file })]),
        "the bundle lists [DIGEST], which its plan does not need"
    );
    let nested = |levels: usize, twice: bool| {
        let mut lists = vec![json!({ "a": file, "b": file })];
        for _ in 1..levels {
            let below = entry(lists.last().unwrap());
            lists.push(if twice {
                json!({ "a": below, "b": below })
            } else {
                json!({ "a": below })
            });
        }
        lists
    };
    assert_eq!(
        refused(&nested(100, false)),
        "[DIGEST] in the bundle is not a valid directory: nested more than 64 levels deep"
    );
    assert_eq!(
        refused(&nested(60, true)),
        "[DIGEST] in the bundle is not a valid directory: more than 1048576 files"
    );
    assert_eq!(
        refused(&[json!([1])]),
        "[DIGEST] in the bundle is not a valid directory: invalid type: sequence, expected a map at line 1 column 0"
    );
}

#[test]
fn what_was_changed_is_not_in_the_store() {
    let mut forgery = Forgery::new();
    let text = oci::blob_name(&Digest::of("hello\n"));
    forgery.set(&text, "hullo\n");
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("bundle.tar");
    fs::write(&path, forgery.tar()).unwrap();
    let store = Store::temporary().unwrap();
    let error = Bundle::open(&path).unwrap().take(&store, &mut |_| ()).unwrap_err();
    let (digest, found) = (Digest::of("hello\n"), Digest::of("hullo\n"));
    assert_eq!(
        error.to_string(),
        format!("blob {digest} of the bundle is corrupt: its content has digest {found}")
    );
    assert!(!store.contains(&digest).unwrap() && !store.contains(&found).unwrap());
}

#[test]
fn what_is_compressed_or_no_tar_is_refused() {
    for magic in [
        &b"\x1f\x8b\x08"[..],
        b"\x28\xb5\x2f\xfd",
        b"\xfd7zXZ\0",
        b"BZh9",
        b"PK\x03\x04",
    ] {
        let expected = "[BUNDLE] is compressed: a bundle is an uncompressed tar archive or a directory";
        assert_eq!(refused(&[magic, &[0; 600]].concat()), expected);
    }
    assert_eq!(refused(b"name,mass\n"), "[BUNDLE] is not a tar archive, or it is damaged");
    assert_eq!(
        refused("\u{1b}[2J".repeat(1000).as_bytes()),
        "[BUNDLE] is not a tar archive, or it is damaged"
    );
    assert_eq!(refused(b""), "the bundle has no `oci-layout`");
}
