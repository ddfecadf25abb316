//! Two machines that share a store on a real S3 server: s3s-fs, which checks signatures and stores objects as files.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::bucket;
use crate::place::{Place, Said, listening, program, steps};

/// The server, behind a proxy that counts the parts of uploads and can kill it at one of them.
struct S3 {
    root: tempfile::TempDir,
    server: Arc<Mutex<Child>>,
    at: u16,
    front: u16,
    parts: Arc<AtomicUsize>,
    /// The part of an upload at which the server is killed.
    fatal: Arc<AtomicUsize>,
    /// The number of connections to break before serving one.
    broken: Arc<AtomicUsize>,
}

impl S3 {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("team")).unwrap();
        let at = free_port();
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let s3 = Self {
            server: Arc::new(Mutex::new(serve(root.path(), at))),
            root,
            at,
            front: front.local_addr().unwrap().port(),
            parts: Arc::default(),
            fatal: Arc::new(AtomicUsize::new(usize::MAX)),
            broken: Arc::default(),
        };
        let broken = s3.broken.clone();
        let (server, parts, fatal) = (s3.server.clone(), s3.parts.clone(), s3.fatal.clone());
        std::thread::spawn(move || {
            for mut client in front.incoming().flatten() {
                if broken
                    .try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                    .is_ok()
                {
                    // closes after the request was read: unread bytes would reset the connection at any time
                    let _ = client.read(&mut [0; 64 << 10]);
                    continue;
                }
                let (server, parts, fatal) = (server.clone(), parts.clone(), fatal.clone());
                let seen = move |bytes: &[u8]| {
                    let found = bytes.windows(11).filter(|window| window == b"partNumber=").count();
                    if found > 0 && parts.fetch_add(found, Ordering::SeqCst) + found >= fatal.load(Ordering::SeqCst) {
                        server.lock().unwrap().kill().unwrap();
                    }
                };
                std::thread::spawn(move || pipe(&client, at, seen));
            }
        });
        s3
    }

    fn kill(&self) {
        let mut server = self.server.lock().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    fn restart(&self) {
        self.kill();
        self.fatal.store(usize::MAX, Ordering::SeqCst);
        *self.server.lock().unwrap() = serve(self.root.path(), self.at);
    }

    /// Runs the command in `place` with this server.
    fn run(&self, place: &Place, arguments: &[&str]) -> Said {
        self.run_as(place, "secret", arguments)
    }

    fn run_as(&self, place: &Place, secret: &str, arguments: &[&str]) -> Said {
        let mut command = place.command(arguments);
        command
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.front))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "lockstep")
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("LOCKSTEP_SHARED", "s3://team/results");
        place.said(&mut command)
    }

    fn objects(&self, kind: &str) -> Vec<PathBuf> {
        let (mut open, mut found) = (vec![self.root.path().join("team/results").join(kind)], Vec::new());
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { open.push(path) } else { found.push(path) }
            }
        }
        found
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn serve(root: &Path, port: u16) -> Child {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/s3/bin/s3s-fs");
    assert!(program.exists(), "{} is missing: run `make test`", program.display());
    let keys = ["--access-key", "lockstep", "--secret-key", "secret"];
    let server = Command::new(program)
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .args(keys)
        .arg(root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    listening(server, port)
}

/// Copies bytes between `client` and the server in both directions, until either disconnects.
fn pipe(client: &TcpStream, port: u16, seen: impl Fn(&[u8]) + Send + 'static) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
        return;
    };
    let copy = |from: &TcpStream, to: &TcpStream, seen: &dyn Fn(&[u8])| {
        let (mut from, mut to) = (from, to);
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            seen(&buffer[..count]);
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| copy(&server, client, &|_| ()));
        copy(client, &server, &seen);
    });
}

fn place() -> Place {
    let place = Place::new();
    place.write("steps.wasm", steps());
    place.write("raw.csv", "name,mass\nAdelie,3750\n");
    place.write("big.wasm", big());
    place
}

/// Writes 72 MB to stdout.
fn big() -> Vec<u8> {
    let body = "(local $left i32)
        (local.set $left (i32.const 1200))
        (loop $again
            (i32.store (i32.const 4096) (local.get $left))
            (call $write (i32.const 1) (i32.const 4096) (i32.const 60000))
            (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))";
    program("", body)
}

const RUN: [&str; 6] = ["run", "steps.wasm#copy", "-i", "raw=raw.csv", "-o", "rows=rows.csv"];
const BIG: [&str; 4] = ["run", "big.wasm", "--stdout", "big=big.bin"];

#[test]
fn what_one_machine_ran_the_other_finds() {
    let (s3, here, there) = (S3::start(), place(), place());
    let said = |how: &str| Said {
        code: 0,
        stdout: String::new(),
        stderr: format!("half the way\ncopy {how}\n  rows  c539c7b3ab29  text/csv  22 B\n  record [RECORD]\n"),
    };
    assert_eq!(s3.run(&here, &RUN), said("[TIME]"));
    assert_eq!(s3.run(&there, &RUN), said("cached"));
    assert_eq!(there.read("rows.csv"), here.read("rows.csv"));
    // module, input (which is also the output), log, record and key
    let count = |kind| s3.objects(kind).len();
    assert_eq!((count("blobs"), count("records"), count("keys")), (3, 1, 1));
    let clean = s3.run(&there, &["fsck"]);
    assert_eq!(
        (clean.code, clean.stdout.ends_with("1 records read, 0 damaged\n")),
        (0, true),
        "{clean:?}"
    );
    std::fs::remove_file(&s3.objects("records")[0]).unwrap();
    assert_eq!(s3.run(&there, &["fsck", "--fix", "--json"]).code, 0);
    assert_eq!(count("keys"), 0);
}

#[test]
fn a_plan_uploads_nothing_and_a_run_does() {
    let s3 = S3::start();
    let place = place();
    place.write(
        "two.yaml",
        "name: two\ntasks: { copy: { step: './steps.wasm#copy', inputs: { raw: ./raw.csv } } }\n",
    );
    place.run(&["run", "two.yaml"]);
    let planned = s3.run(&place, &["plan", "two.yaml"]);
    assert_eq!(planned.code, 0, "{planned:?}");
    assert!(s3.objects("").is_empty());
    assert_eq!(s3.run(&place, &["run", "two.yaml"]).code, 0);
    assert!(!s3.objects("records").is_empty());
}

#[test]
fn a_large_artifact_goes_in_parts_and_comes_in_parts() {
    let (s3, here, there) = (S3::start(), place(), place());
    assert_eq!(s3.run(&here, &BIG).code, 0);
    assert_eq!(s3.parts.load(Ordering::SeqCst), 72_000_000_usize.div_ceil(8 << 20));
    let said = s3.run(&there, &[&BIG[..], &["--json"]].concat());
    let said: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(
        (&said["cached"], &said["outputs"]["big"]["size"]),
        (&json!(true), &json!(72_000_000))
    );
    assert!(std::fs::read(here.path("big.bin")).unwrap() == std::fs::read(there.path("big.bin")).unwrap());
}

#[test]
fn a_server_that_dies_loses_nothing() {
    let (s3, here, there) = (S3::start(), place(), place());
    s3.fatal.store(4, Ordering::SeqCst);
    let died = s3.run(&here, &BIG);
    assert_eq!(died.code, 6, "{died:?}");
    let hints = died.stderr.split_once("not shared\n").unwrap().1;
    assert_eq!(
        hints,
        "hint: run the command again when the shared store is reachable; that uploads what is missing\n\
         hint: check the network, AWS_ENDPOINT_URL and AWS_REGION; without AWS_ACCESS_KEY_ID, credentials come from the instance metadata service\n"
    );
    assert_eq!(std::fs::metadata(here.path("big.bin")).unwrap().len(), 72_000_000);
    assert_eq!((s3.objects("records").len(), s3.objects("keys").len()), (0, 0));
    // local results are found without the server; another machine runs it again
    assert_eq!(here.run(&BIG).code, 0);
    assert_eq!(s3.run(&here, &["show", "big.wasm"]).code, 0);
    assert_eq!(s3.run(&there, &RUN).code, 6);
    assert_eq!(there.read("rows.csv"), "name,mass\nAdelie,3750\n");
    s3.restart();
    let again = s3.run(&here, &[&BIG[..], &["--json"]].concat());
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stdout.contains("\"cached\":true"), "{again:?}");
    let found = s3.run(&there, &[&BIG[..], &["--json"]].concat());
    assert!(found.stdout.contains("\"cached\":true"), "{found:?}");
    assert!(std::fs::read(here.path("big.bin")).unwrap() == std::fs::read(there.path("big.bin")).unwrap());
}

#[test]
fn a_connection_that_breaks_is_tried_again() {
    let (s3, here) = (S3::start(), place());
    s3.broken.store(3, Ordering::SeqCst);
    assert_eq!(s3.run(&here, &RUN).code, 0);
    assert_eq!((s3.broken.load(Ordering::SeqCst), s3.objects("keys").len()), (0, 1));
}

#[test]
fn who_may_not_is_told_what_to_check() {
    let (s3, here) = (S3::start(), place());
    let hint =
        "hint: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, that the bucket exists, and its permissions\n";
    let refused = s3.run_as(&here, "guessed", &RUN);
    assert_eq!((refused.code, refused.stdout.as_str()), (5, ""));
    let (message, rest) = refused.stderr.split_once('\n').unwrap();
    let expected = "error: the shared store refused to list s3://team/results/keys/sha256/";
    assert!(
        message.starts_with(expected) && message.contains(": 403 Forbidden: SignatureDoesNotMatch"),
        "{refused:?}"
    );
    assert_eq!(rest, hint);
    let doctor = |secret| {
        let said = s3.run_as(&here, secret, &["doctor", "--json"]).stdout;
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        said["checks"][1].clone()
    };
    assert_eq!(
        doctor("secret"),
        json!({"name": "shared store", "state": "ok", "detail": "s3://team/results", "mend": null})
    );
    let refused = doctor("guessed");
    assert_eq!(
        (&refused["state"], refused["mend"].as_str()),
        (&json!("missing"), hint.trim_end().strip_prefix("hint: "))
    );
    let lost = s3.run(&here, &[&RUN[..], &["--shared", "s3://nobody"]].concat());
    assert_eq!(lost.code, 5);
    assert!(lost.stderr.contains(": 404 Not Found: NoSuchBucket"), "{lost:?}");
    here.fails(
        2,
        &["log", "--shared", "http://team"],
        "error: `http://team` is not a shared store: write s3://BUCKET or s3://BUCKET/PREFIX\n",
    );
}

#[test]
fn a_shared_store_alone_has_its_local_part_in_the_cache() {
    let (s3, here, there) = (S3::start(), place(), place());
    let with = |place: &Place| {
        let mut command = place.command(&RUN);
        command
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", s3.front))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_ACCESS_KEY_ID", "lockstep")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .args(["--store", "s3://team/results", "--json"]);
        serde_json::from_slice::<serde_json::Value>(&command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(with(&here)["cached"], false);
    assert_eq!(with(&there)["cached"], true);
    assert!(!there.path(".local").exists() && there.path(".cache/lockstep/shared").exists());
}

#[test]
fn a_kernel_is_told_what_it_shares() {
    let here = place();
    let install = ["kernel", "install", "--prefix", "p", "-q", "--shared", "s3://team/results"];
    here.says(&install, "", "");
    let spec: serde_json::Value = serde_json::from_str(&here.read("p/share/jupyter/kernels/lockstep/kernel.json")).unwrap();
    let arguments = spec["argv"].as_array().unwrap();
    assert_eq!(
        arguments[1..],
        [
            json!("kernel"),
            json!("run"),
            json!("{connection_file}"),
            json!("--shared"),
            json!("s3://team/results")
        ]
    );
    here.fails(
        2,
        &["log", "--store", "s3://team/a", "--shared", "s3://team/b"],
        "error: store s3://team/a can't be combined with shared store s3://team/b\n\
         hint: give only one of them, or use --store DIR --shared URL\n",
    );
}

#[test]
fn a_run_that_can_not_be_published_has_succeeded_and_says_what_is_missing() {
    let (port, here) = (bucket::read_only(), place());
    here.write(
        "two.yaml",
        "name: two\ntasks:\n  first: { step: './steps.wasm#copy', inputs: { raw: ./raw.csv } }\n  \
         second: { step: './steps.wasm#copy', inputs: { raw: first.rows }, parameters: { share: 1 } }\n",
    );
    let run = |arguments: &[&str]| {
        let mut command = here.command(arguments);
        command
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "lockstep")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("LOCKSTEP_SHARED", "s3://team/results");
        here.said(&mut command)
    };
    let warnings = |said: &Said| {
        let lines = said.stderr.lines().filter(|line| line.starts_with("warning: "));
        for line in lines.clone() {
            assert!(
                line.starts_with("warning: record [RECORD] is complete, but not in the shared store: the shared store refused to write s3://team/results/blobs/sha256/")
                    && line.ends_with(": 403 Forbidden: AccessDenied: read only"),
                "{line}"
            );
        }
        lines.count()
    };
    let hint = "hint: fix the cause, then run the same command again to upload the result\n";
    let alone = run(&RUN);
    assert_eq!((alone.code, warnings(&alone)), (0, 1), "{alone:?}");
    assert!(alone.stderr.ends_with(hint), "{alone:?}");
    assert_eq!(here.read("rows.csv"), "name,mass\nAdelie,3750\n");
    // also from the cache
    let again = run(&RUN);
    assert_eq!((again.code, warnings(&again)), (0, 1), "{again:?}");
    let both = run(&["run", "two.yaml"]);
    assert_eq!((both.code, warnings(&both)), (0, 2), "{both:?}");
    // a pod has not: others wait for its results in the shared store
    let pod = run(&["run", "two.yaml", "--events"]);
    assert_eq!(pod.code, 6, "{pod:?}");
}
