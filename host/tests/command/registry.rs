//! `bundle push` and `pull` with a real registry: Debian's docker-registry. Without it, these tests are skipped.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::bundle::place;
use crate::place::{Place, Said, listening};

/// Requires a password: that of `htpasswd` in the directory of the registry.
const PASSWORD: &str = "auth: { htpasswd: { realm: here, path: '[ROOT]/htpasswd' } }";

/// The registry, with its files.
struct Registry {
    root: tempfile::TempDir,
    server: Child,
    port: u16,
}

impl Registry {
    /// Returns `None`, with a note on stderr, if the program is missing.
    fn start(auth: &str) -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/registry/usr/bin/docker-registry");
        if !program.exists() {
            eprintln!(
                "skipped: {} is missing; `make test` gets it where Debian's packages can be had",
                program.display()
            );
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = format!(
            "version: 0.1\nlog: {{ level: error, accesslog: {{ disabled: true }} }}\n\
             storage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: '127.0.0.1:{port}' }}\n{}\n",
            root.path().join("data").display(),
            auth.replace("[ROOT]", &root.path().display().to_string()),
        );
        std::fs::write(root.path().join("config.yml"), config).unwrap();
        // lockstep:secret, by bcrypt
        let password = "lockstep:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
        std::fs::write(root.path().join("htpasswd"), password).unwrap();
        let server = Command::new(program)
            .arg("serve")
            .arg(root.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = listening(server, port);
        Some(Self { root, server, port })
    }

    fn name(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }

    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.root.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn bundled() -> Place {
    let place = place();
    place.run(&["bundle", "create", "two.yaml", "-o", "two.tar"]);
    place
}

fn names(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.path("")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_pulled_is_what_was_pushed() {
    let Some(registry) = Registry::start("") else { return };
    let here = bundled();
    let name = registry.name("team/two:1.0");
    let pushed = here.json(&["bundle", "push", "two.tar", &name]);
    assert_eq!((&pushed["blobs"], &pushed["known"]), (&json!(5), &json!(0)), "{pushed}");
    // existing blobs are not sent again, whatever the tag
    let again = here.json(&["bundle", "push", "two.tar", &registry.name("team/two:1.1")]);
    assert_eq!(
        (&again["blobs"], &again["known"], &again["digest"]),
        (&json!(0), &json!(5), &pushed["digest"])
    );

    let there = Place::new();
    let digest = pushed["digest"].as_str().unwrap();
    let by_digest = registry.name(&format!("team/two@{digest}"));
    for (name, to) in [(&name, "a.tar"), (&by_digest, "b.tar"), (&name, "c")] {
        let pulled = there.json(&["bundle", "pull", name, "-o", to]);
        assert_eq!((&pulled["digest"], &pulled["blobs"]), (&pushed["digest"], &json!(5)));
        assert_eq!(there.json(&["bundle", "replay", to])["equal"], true);
    }
    let tar = std::fs::read(here.path("two.tar")).unwrap();
    assert!(std::fs::read(there.path("a.tar")).unwrap() == tar);
    assert!(std::fs::read(there.path("b.tar")).unwrap() == tar);
}

#[test]
fn modules_are_in_the_registry_too() {
    let Some(registry) = Registry::start("") else { return };
    let here = bundled();
    here.run(&["bundle", "push", "two.tar", &registry.name("two:1.0")]);
    here.run(&["bundle", "create", "two.yaml", "-o", "two"]);
    let index: serde_json::Value = serde_json::from_str(&here.read("two/index.json")).unwrap();
    let module = index["manifests"][1]["digest"].as_str().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", registry.port)).unwrap();
    let accept = "application/vnd.oci.image.manifest.v1+json";
    write!(stream, "GET /v2/two/manifests/{module} HTTP/1.0\r\nAccept: {accept}\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    let hex = module.trim_start_matches("sha256:");
    let expected = here.read(&format!("two/blobs/sha256/{hex}"));
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, expected);
}

#[test]
fn large_blobs_go_in_parts() {
    let Some(registry) = Registry::start("") else { return };
    let here = place();
    here.write("large.bin", (0..20u32 << 18).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    here.write(
        "large.yaml",
        "name: large\ntasks: { copy: { step: steps.wasm#copy, inputs: { raw: large.bin } } }\n",
    );
    here.run(&["bundle", "create", "large.yaml", "-o", "large.tar"]);
    let name = registry.name("large:1");
    let pushed = here.json(&["bundle", "push", "large.tar", &name]);
    assert_eq!(pushed["blobs"], 5, "{pushed}");
    here.json(&["bundle", "pull", &name, "-o", "back.tar"]);
    assert!(std::fs::read(here.path("large.tar")).unwrap() == std::fs::read(here.path("back.tar")).unwrap());
}

#[test]
fn passwords_are_those_that_docker_keeps() {
    let Some(registry) = Registry::start(PASSWORD) else {
        return;
    };
    let here = bundled();
    let name = registry.name("two:1.0");
    let said = here.run(&["bundle", "push", "two.tar", &name]);
    let hint = "hint: run `docker login HOST`; lockstep uses the credentials that it saves";
    assert_eq!((said.code, said.stderr.lines().last()), (5, Some(hint)), "{said:?}");
    std::fs::create_dir(here.path(".docker")).unwrap();
    // bG9ja3N0ZXA6c2VjcmV0 is lockstep:secret
    let config = json!({ "auths": { (format!("127.0.0.1:{}", registry.port)): { "auth": "bG9ja3N0ZXA6c2VjcmV0" } } });
    here.write(".docker/config.json", config.to_string());
    assert_eq!(here.json(&["bundle", "push", "two.tar", &name])["blobs"], 5);
    assert_eq!(here.json(&["bundle", "pull", &name, "-o", "back.tar"])["blobs"], 5);
    here.write(
        ".docker/config.json",
        config.to_string().replace("bG9ja3N0ZXA6c2VjcmV0", "bG9ja3N0ZXA6d3Jvbmc="),
    );
    assert_eq!(here.run(&["bundle", "pull", &name, "-o", "other.tar"]).code, 5);
    assert!(!here.path("other.tar").exists());
}

#[test]
fn a_credential_helper_is_asked() {
    let Some(registry) = Registry::start(PASSWORD) else {
        return;
    };
    let here = bundled();
    let name = registry.name("two:1.0");
    std::fs::create_dir(here.path(".docker")).unwrap();
    here.write(".docker/config.json", r#"{ "auths": {}, "credsStore": "test" }"#);
    let push = || {
        let mut command = here.command(&["bundle", "push", "two.tar", &name]);
        let path = std::env::var("PATH").unwrap();
        here.said(command.env("PATH", format!("{}:{path}", here.path("bin").display())))
    };
    let said = push();
    assert_eq!(said.code, 5, "{said:?}");
    assert!(said.stderr.contains("hint: install the helper"), "{said:?}");
    let helper = |script: &str| {
        std::fs::create_dir_all(here.path("bin")).unwrap();
        let file = "bin/docker-credential-test";
        here.write(file, format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(here.path(file), std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    helper("cat > /dev/null; echo credentials not found in native keychain; exit 1");
    let said = push();
    assert!(
        said.stderr.contains("denied permission"),
        "a helper without credentials: {said:?}"
    );
    helper("cat > /dev/null; echo no keychain >&2; exit 1");
    let said = push();
    assert!(
        said.stderr.contains("`docker-credential-test get` reports:  no keychain"),
        "{said:?}"
    );
    helper("cat > asked; echo '{\"ServerURL\":\"x\",\"Username\":\"lockstep\",\"Secret\":\"secret\"}'");
    let said = push();
    assert_eq!(said.code, 0, "{said:?}");
    let asked = std::fs::read_to_string(here.path("asked")).unwrap();
    assert_eq!(asked, format!("127.0.0.1:{}", registry.port));
}

#[test]
fn tokens_are_asked_for_where_the_registry_says() {
    let tokens = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = tokens.local_addr().unwrap().port();
    // the token mode of the registry: it accepts any token
    let auth = format!("auth: {{ silly: {{ realm: 'http://127.0.0.1:{at}/token', service: here }} }}");
    let Some(registry) = Registry::start(&auth) else { return };
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = asked.clone();
    std::thread::spawn(move || {
        for mut client in tokens.incoming().flatten() {
            let mut line = String::new();
            BufReader::new(&client).read_line(&mut line).unwrap();
            told.lock().unwrap().push(line.trim_end().to_owned());
            let token = r#"{"token":"abc"}"#;
            let _ = write!(
                client,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{token}",
                token.len()
            );
        }
    });
    let here = bundled();
    let name = registry.name("team/two:1.0");
    assert_eq!(here.json(&["bundle", "push", "two.tar", &name])["blobs"], 5);
    assert_eq!(here.json(&["bundle", "pull", &name, "-o", "back.tar"])["blobs"], 5);
    let asked = asked.lock().unwrap();
    let scope = |actions: &str| format!("GET /token?service=here&scope=repository%3Ateam%2Ftwo%3A{actions} HTTP/1.1");
    assert!(asked.contains(&scope("pull%2Cpush")), "{asked:?}");
    assert!(asked.contains(&scope("pull")), "{asked:?}");
}

#[test]
fn a_registry_that_lies_is_found_out() {
    let Some(registry) = Registry::start("") else { return };
    let here = bundled();
    let name = registry.name("two:1.0");
    here.run(&["bundle", "push", "two.tar", &name]);
    let before = names(&here);
    let inspected = here.json(&["bundle", "inspect", "two.tar"]);
    let raw = inspected["inputs"][0]["digest"].as_str().unwrap();
    let blob = registry.blob(raw);
    let whole = std::fs::read(&blob).unwrap();
    for lie in [&whole[..10], &[&whole[..], b"more"].concat(), &vec![b'x'; whole.len()]] {
        std::fs::write(&blob, lie).unwrap();
        let said = here.run(&["bundle", "pull", &name, "-o", "back.tar"]);
        assert_ne!(said.code, 0);
        assert!(said.stderr.contains(raw), "{said:?}");
        assert_eq!(names(&here), before, "nothing is left");
    }
}

#[test]
fn what_is_not_there_and_what_is_no_bundle_is_told() {
    let Some(mut registry) = Registry::start("") else { return };
    let here = bundled();
    let name = registry.name("two:1.0");
    let pull = |name: &str| here.run(&["bundle", "pull", name, "-o", "back.tar"]);
    let said = |code: i32, stderr: String| Said {
        code,
        stdout: String::new(),
        stderr,
    };
    assert_eq!(pull(&name), said(2, format!("error: {name} not found in the registry\n")));
    registry.server.kill().unwrap();
    registry.server.wait().unwrap();
    let away = pull(&name);
    let first = format!(
        "error: can't reach http://127.0.0.1:{}/v2/two/manifests/1.0: error sending request: Connection refused (os error 111)",
        registry.port
    );
    assert_eq!((away.code, away.stderr.lines().next()), (6, Some(first.as_str())));
    let wrong = here.run(&["bundle", "pull", "team/two:1.0", "-o", "back.tar"]);
    assert_eq!(wrong.code, 2);
    assert!(!here.path("back.tar").exists());
}
