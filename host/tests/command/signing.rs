//! `sign`, `verify --signed-by` and `provenance`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lockstep_runtime::digest::Digest;
use serde_json::{Value, json};

use crate::place::{Place, steps};

const STORE: &str = ".local/share/lockstep/store";

/// Two key pairs, as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them.
const KEYS: [(&str, &str); 4] = [
    (
        "a.pem",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIFdFhpg6NeTRhTlWD6j7U7t8Tz/TH6cyMQUZG6hyWYjn\n-----END PRIVATE KEY-----\n",
    ),
    (
        "a.pub",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA0TvX2GqlM70WujN2XDAMCUpO42rIYwg46zdx6ZQG1Fk=\n-----END PUBLIC KEY-----\n",
    ),
    (
        "b.pem",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIGG/NFsDnps4BIRl7Q4tb0J9om7Sv9TWCZVhMFpFfAp4\n-----END PRIVATE KEY-----\n",
    ),
    (
        "b.pub",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAUJSvPfu2NLrnANgILmAeyjqSwRMTkcPQRY5gswiUuBM=\n-----END PUBLIC KEY-----\n",
    ),
];

/// Two records.
fn place() -> (Place, [String; 2]) {
    let place = Place::new();
    place.write("steps.wasm", steps());
    place.write("raw.csv", "name,mass\nAdelie,3750\n");
    KEYS.iter().for_each(|(name, text)| place.write(name, text));
    place.write("other.csv", "name,mass\nGentoo,5000\n");
    let run = |raw: &str| {
        let ran = place.json(&["run", "steps.wasm#copy", "-i", raw]);
        ran["record"].as_str().unwrap().to_owned()
    };
    let records = [run("raw=raw.csv"), run("raw=other.csv")];
    (place, records)
}

fn short(digest: &str) -> &str {
    &digest["sha256:".len()..][..12]
}

/// Returns the files of signatures.
fn signatures(place: &Place) -> Vec<PathBuf> {
    let list = |path: PathBuf| {
        std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
    };
    list(place.path(&format!("{STORE}/signatures"))).flat_map(list).collect()
}

/// Returns the id of key `a` or `b`: the prefix of its digest.
fn id(place: &Place, name: &str) -> String {
    let pem = place.read(&format!("{name}.pub"));
    let der = STANDARD.decode(pem.lines().nth(1).unwrap()).unwrap();
    Digest::of(der).short()
}

fn sign(place: &Place, record: &str, name: &str) {
    let key = format!("{name}.pem");
    let told = format!("record [RECORD] signed by key {}\n", id(place, name));
    place.says(&["sign", record, "--key", &key], &told, "");
}

fn hint(record: &str) -> String {
    let record = short(record);
    format!("hint: `lockstep sign {record} --key KEY.pem` signs it; `lockstep verify {record}` runs it again\n")
}

#[test]
fn a_signed_record_is_verified_without_running_it() {
    let (place, [record, _]) = place();
    let by_a = ["verify", &record, "--signed-by", "a.pub", "-q"];
    let by_b = ["verify", &record, "--signed-by", "b.pub", "-q"];
    let (a, b) = (id(&place, "a"), id(&place, "b"));
    place.fails(
        5,
        &by_a,
        &format!("error: record [RECORD] is not signed by key {a}\n{}", hint(&record)),
    );
    sign(&place, &record, "a");
    place.says(&by_a, "", "");
    place.fails(
        5,
        &by_b,
        &format!(
            "error: record [RECORD] is not signed by key {b}\n  it is signed by {a}\n{}",
            hint(&record)
        ),
    );
    // several keys may sign a record, and each key more than once
    sign(&place, &record, "b");
    sign(&place, &record, "b");
    place.says(&by_a, "", "");
    place.says(&by_b, "", "");
    assert_eq!(signatures(&place).len(), 2);
    assert_eq!(place.run(&["provenance", &record, "--signed"]).stdout.lines().count(), 2);
    let all = place.json(&["verify", "--all", "--signed-by", "a.pub"]);
    let mut verdicts: Vec<&str> = all["verified"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["verdict"].as_str().unwrap())
        .collect();
    verdicts.sort_unstable();
    assert_eq!((verdicts, &all["good"]), (vec!["failed", "good"], &json!(false)));
}

#[test]
fn a_signature_that_was_tampered_with_is_refused() {
    let (place, [record, other]) = place();
    sign(&place, &record, "a");
    let id = id(&place, "a");
    let file = signatures(&place).remove(0);
    let honest = std::fs::read_to_string(&file).unwrap();
    let verify = ["verify", &record, "--signed-by", "a.pub", "-q"];
    let mut envelope: Value = serde_json::from_str(&honest).unwrap();
    let payload = envelope["payload"].as_str().unwrap();
    envelope["payload"] = json!(payload.replacen("eyJ", "eyI", 1));
    let changed = format!(
        "error: invalid signature of record [RECORD] by key {}: the signature or the signed statement was changed\n{}",
        id,
        hint(&record)
    );
    std::fs::write(&file, envelope.to_string()).unwrap();
    place.fails(5, &verify, &changed);
    let unlike = honest.replacen("vnd.in-toto", "vnd.in.toto", 1);
    std::fs::write(&file, unlike).unwrap();
    place.fails(5, &verify, &changed);
    std::fs::write(&file, &honest[..honest.len() / 2]).unwrap();
    place.fails(
        5,
        &verify,
        &format!(
            "error: record [RECORD] is not signed by key {id}\n  a stored signature of it is malformed\n{}",
            hint(&record)
        ),
    );
    // the signature of one record is not valid for another
    let hex = &other["sha256:".len()..];
    let shelf = place.path(&format!("{STORE}/signatures/{}", &hex[..2]));
    std::fs::create_dir_all(&shelf).unwrap();
    std::fs::write(shelf.join(format!("{hex}.{}", Digest::of(&honest).hex())), &honest).unwrap();
    place.fails(
        5,
        &["verify", &other, "--signed-by", "a.pub", "-q"],
        &format!(
            "error: the signature stored for record [RECORD] by key {} is of record [RECORD]\n{}",
            id,
            hint(&other)
        ),
    );
}

#[test]
fn what_is_no_key_is_told() {
    let (place, [record, _]) = place();
    let refused = |arguments: &[&str], start: &str, hint: &str| {
        let said = place.run(arguments);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""));
        assert!(
            said.stderr.starts_with(start) && said.stderr.ends_with(hint),
            "{}",
            said.stderr
        );
    };
    refused(
        &["sign", &record, "--key", "a.pub"],
        "error: a.pub is not a private ed25519 key: ",
        "hint: `lockstep sign --new-key key.pem > key.pub` generates a key pair\n",
    );
    refused(
        &["verify", &record, "--signed-by", "a.pem"],
        "error: a.pem is not a public ed25519 key: ",
        "hint: `openssl pkey -in key.pem -pubout -out key.pub` writes the public key of a private key\n",
    );
    place.fails(
        2,
        &["sign", &record, "--key", "no.pem"],
        "error: can't read no.pem: No such file or directory (os error 2)\n",
    );
    place.fails(
        2,
        &["provenance", &record, "--signed"],
        &format!(
            "error: record [RECORD] is not signed\nhint: `lockstep sign {} --key KEY.pem` signs it\n",
            short(&record)
        ),
    );
}

#[test]
fn signatures_go_with_their_records() {
    let (place, [record, other]) = place();
    sign(&place, &record, "a");
    sign(&place, &other, "a");
    place.run(&["pin", &record]);
    let gone = place.json(&["gc", "--grace", "0s", "--older-than", "0s"]);
    assert_eq!(
        (&gone["records"], gone["leftovers"].as_array().unwrap().len()),
        (&json!([other]), 1)
    );
    place.says(&["verify", &record, "--signed-by", "a.pub", "-q"], "", "");
    assert_eq!(signatures(&place).len(), 1);
    assert_eq!(place.json(&["fsck"])["findings"], json!([]));
}

#[test]
fn provenance_is_an_in_toto_statement() {
    let (place, [record, _]) = place();
    let shown = place.json(&["show", &record]);
    let mut statement = place.json(&["provenance", &record]);
    let metadata = statement["predicate"]["runDetails"]["metadata"].take();
    let sha256 = |digest: &str| json!({ "sha256": digest.strip_prefix("sha256:").unwrap_or(digest) });
    let rows = shown["outputs"]["rows"]["digest"].as_str().unwrap();
    let expected = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "rows", "digest": sha256(rows)}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:lockstep:run:1",
                "externalParameters": {
                    "entry": {"kind": "step", "name": "copy", "parameters": {"column": "species", "share": 0.5}},
                    "inputs": {"raw": {"at": null}},
                    "outputs": {"rows": "text/csv"},
                    "seed": 0,
                },
                "internalParameters": {"key": shown["key"]},
                "resolvedDependencies": [
                    {"name": "module", "digest": sha256(&Digest::of(steps()).hex()), "mediaType": "application/wasm"},
                    {"name": "inputs/raw", "digest": sha256(&Digest::of("name,mass\nAdelie,3750\n").hex()), "mediaType": "text/csv"},
                ],
            },
            "runDetails": {
                "builder": {"id": "urn:lockstep", "version": {"lockstep": env!("CARGO_PKG_VERSION")}},
                "metadata": null,
                "byproducts": [
                    {"name": "record", "digest": sha256(&record)},
                    {
                        "name": "log",
                        "digest": sha256(shown["log"]["digest"].as_str().unwrap()),
                        "mediaType": shown["log"]["media_type"],
                    },
                ],
            },
        },
    });
    assert_eq!(statement, expected);
    assert_eq!(metadata["invocationId"], json!(record));
    for time in ["startedOn", "finishedOn"] {
        let time = metadata[time].as_str().unwrap();
        assert!(
            time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z'),
            "{time}"
        );
    }
    place.says(&["provenance", &record, "-o", "statement.json"], "", "");
    assert!(
        place
            .read("statement.json")
            .starts_with("{\n  \"_type\": \"https://in-toto.io/Statement/v1\",\n")
    );
}

#[test]
fn a_new_key_signs_is_nobody_elses_and_never_overwrites_another() {
    let (place, [record, _]) = place();
    let public = place.run(&["sign", "--new-key", "new.pem"]);
    assert_eq!((public.code, public.stderr.as_str()), (0, ""));
    place.write("new.pub", &public.stdout);
    let mode = std::fs::metadata(place.path("new.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    sign(&place, &record, "new");
    assert_eq!(place.run(&["verify", &record, "--signed-by", "new.pub"]).code, 0);
    assert_eq!(place.run(&["verify", &record, "--signed-by", "a.pub"]).code, 5);

    let before = place.read("new.pem");
    // the form of openssl, without the public key
    assert_eq!(before.len(), KEYS[0].1.len());
    place.fails(
        2,
        &["sign", "--new-key", "new.pem"],
        "error: new.pem already exists, and may be a key in use\nhint: give a file that does not exist\n",
    );
    assert_eq!(place.read("new.pem"), before);
    let other = place.json(&["sign", "--new-key", "other.pem"]);
    assert_ne!(other["public_key"], json!(public.stdout));
}
