//! `lockstep serve`: responses, permissions and limits of the HTTP API.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lockstep_runtime::digest::Digest;
use serde_json::{Value, json};

use crate::jobs::until;
use crate::place::{Place, cat, program, signal, steps};

/// A token with full access.
pub const TOKEN: &str = "everything-is-allowed";

/// A host in its own place. Dropping it ends the host.
pub struct Host {
    pub place: Place,
    pub port: u16,
    process: Child,
}

/// A response.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .next()
    }
}

impl Host {
    pub fn start() -> Self {
        Self::start_with(Place::new(), &[])
    }

    pub fn start_with(place: Place, arguments: &[&str]) -> Self {
        let mut command = place.command(&["--json", "serve", "--bind", "127.0.0.1:0"]);
        command.args(arguments).env("LOCKSTEP_TOKEN", TOKEN);
        let (process, port) = spawn(&mut command);
        Self { place, port, process }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sends a request with the token that has full access.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.ask_with(method, path, &[("authorization", &format!("Bearer {TOKEN}"))], body)
    }

    pub fn ask_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        if headers.iter().all(|(name, _)| *name != "host") {
            head.push_str(&format!("host: 127.0.0.1:{}\r\n", self.port));
        }
        headers
            .iter()
            .for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str("\r\n");
        read_answer(self.send(&[head.as_bytes(), body].concat()))
    }

    /// Opens a connection and sends these bytes.
    pub fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // the host may respond before it has read everything
        let _ = stream.write_all(bytes);
        stream
    }

    /// Uploads an artifact. Returns its digest.
    pub fn put(&self, bytes: &[u8]) -> String {
        let digest = Digest::of(bytes).hex();
        let answer = self.ask("PUT", &format!("/api/v1/artifacts/{digest}"), bytes);
        assert!(
            matches!(answer.status, 200 | 201),
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        digest
    }

    pub fn run(&self, request: &Value) -> Answer {
        self.ask("POST", "/api/v1/runs", request.to_string().as_bytes())
    }

    /// Kills the host with SIGKILL, and starts it again on the same port.
    pub fn kill_and_start(self, arguments: &[&str]) -> Self {
        self.kill_and_start_after(arguments, |_| ())
    }

    /// Like [`kill_and_start`](Self::kill_and_start). Calls `change` while the host does not run.
    pub fn kill_and_start_after(mut self, arguments: &[&str], change: impl FnOnce(&Place)) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        change(&self.place);
        let bind = format!("127.0.0.1:{}", self.port);
        let mut command = self.place.command(&["--json", "serve", "--bind", &bind]);
        command.args(arguments).env("LOCKSTEP_TOKEN", TOKEN);
        (self.process, self.port) = spawn(&mut command);
        self
    }

    /// Sends the host a signal, such as `-HUP`.
    pub fn signal(&self, name: &str) {
        signal(&self.process, name);
    }

    /// Terminates the host. Returns its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        signal(&self.process, "-TERM");
        self.process.wait().unwrap().code()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(command: &mut Command) -> (Child, u16) {
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    let (_, rest) = told["url"].as_str().unwrap().rsplit_once("127.0.0.1:").unwrap();
    let port = rest.split('/').next().unwrap().parse().unwrap();
    (process, port)
}

fn read_answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // a reset after the response is ignored
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {bytes:?}"));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut body = bytes[end + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = unchunked(&body);
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        let Some(piece) = rest.get(end + 2..end + 2 + len) else {
            break;
        };
        body.extend_from_slice(piece);
        rest = rest.get(end + 4 + len..).unwrap_or_default();
    }
    body
}

/// A program that runs until it is interrupted.
pub fn endless() -> Vec<u8> {
    program(
        "begun\n",
        "(call $write (i32.const 1) (i32.const 1024) (i32.const 6)) (loop $again (br $again))",
    )
}

#[test]
fn a_run_is_the_one_that_the_command_carries_out() {
    let host = Host::start();
    let (module, raw) = (host.put(&steps()), host.put(b"name,mass\nAdelie,3750\n"));
    let request = json!({ "module": module, "step": "copy", "inputs": { "raw": raw } });
    let answer = host.run(&request);
    assert_eq!(answer.status, 200);
    let first = answer.json();
    assert_eq!(
        (&first["cached"], &first["outcome"]["is"]),
        (&json!(false), &json!("succeeded"))
    );
    for _ in 0..2 {
        let again = host.run(&request).json();
        assert_eq!((&again["cached"], &again["record"]), (&json!(true), &first["record"]));
    }

    let place = Place::new();
    place.write("steps.wasm", steps());
    place.write("raw.csv", "name,mass\nAdelie,3750\n");
    let here = place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv"]);
    assert_eq!((&here["record"], &here["outputs"]), (&first["record"], &first["outputs"]));

    let rows = first["outputs"]["rows"]["digest"]
        .as_str()
        .unwrap()
        .strip_prefix("sha256:")
        .unwrap();
    let artifact = format!("/api/v1/artifacts/{rows}");
    assert_eq!(host.ask("GET", &artifact, b"").body, b"name,mass\nAdelie,3750\n");
    let table = host.ask("GET", &format!("{artifact}/preview"), b"").json();
    assert_eq!(table["total_rows"], 1);
    let record = first["record"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let up = host.ask("GET", &format!("/api/v1/records/{record}/lineage"), b"").json();
    assert_eq!(up["runs"][0]["record"], first["record"]);
    let verified = host.ask("POST", &format!("/api/v1/records/{record}/verify"), b"").json();
    assert_eq!(
        verified,
        json!({ "record": first["record"], "again": first["record"], "same": true })
    );
    let listed = host.ask("GET", "/api/v1/records?step=copy", b"").json();
    assert_eq!(listed["runs"][0]["record"], first["record"]);
}

#[test]
fn what_a_run_lacks_is_named() {
    let host = Host::start();
    let raw = host.put(b"a\n");
    let missing = Digest::of(steps());
    let answer = host.run(&json!({ "module": missing.hex(), "inputs": { "raw": raw } }));
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.json(),
        json!({ "error": {
            "kind": "user",
            "message": format!("module is missing: {missing}"),
            "details": [],
            "hints": [format!("upload it with PUT /api/v1/artifacts/{}", missing.hex())],
            "missing": missing,
        }})
    );
    let module = host.put(&steps());
    for (request, message) in [
        (json!({ "module": module }), "the module has several steps"),
        (
            json!({ "module": module, "step": "cut" }),
            "the module has no step `cut`; it has `again`, `copy`",
        ),
        (
            json!({ "module": module, "step": "copy" }),
            "step `copy` needs its input `raw` (text/csv): give it",
        ),
        (
            json!({ "module": module, "step": "copy", "inputs": { "raw": raw }, "args": ["x"] }),
            "step `copy` does not accept `args`, which is only for plain programs",
        ),
        (
            json!({ "module": raw }),
            &format!("{} is not a WebAssembly module", &raw[..12]),
        ),
        (json!({ "module": "abc" }), "`abc` is not a digest"),
    ] {
        let answer = host.run(&request);
        assert!((400..500).contains(&answer.status), "{}", answer.status);
        assert!(
            answer.message().contains(message) || message.contains("digest") && answer.message().contains("digest"),
            "{}",
            answer.message()
        );
    }
}

#[test]
fn artifacts_come_in_pieces_and_go_in_ranges() {
    let host = Host::start();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| ((i * 31) >> 5) as u8).collect();
    let path = format!("/api/v1/artifacts/{}", Digest::of(&bytes).hex());
    let token = ("authorization", "Bearer everything-is-allowed");
    let piece = |offset: &str, complete: &str, bytes: &[u8]| {
        host.ask_with(
            "PATCH",
            &path,
            &[token, ("upload-offset", offset), ("upload-complete", complete)],
            bytes,
        )
    };
    assert_eq!(
        piece("0", "?0", &bytes[..1_000_000]).json(),
        json!({ "complete": false, "offset": 1_000_000 })
    );
    assert_eq!(
        host.ask("GET", &format!("{path}/upload"), b"").json(),
        json!({ "complete": false, "offset": 1_000_000 })
    );
    let wrong = piece("5", "?1", b"x");
    assert_eq!(
        (wrong.status, wrong.message().as_str()),
        (409, "Upload-Offset is 5, but 1000000 bytes were received")
    );
    assert_eq!(host.ask("GET", &path, b"").status, 404);
    assert_eq!(piece("1000000", "?1", &bytes[1_000_000..]).status, 201);
    assert_eq!(host.ask("PUT", &path, &bytes).status, 200);
    assert_eq!(host.ask("GET", &path, b"").body, bytes);

    let range = |range: &str| host.ask_with("GET", &path, &[token, ("range", range)], b"");
    let part = range("bytes=10-19");
    assert_eq!((part.status, &part.body[..]), (206, &bytes[10..20]));
    assert_eq!(part.header("content-range"), Some("bytes 10-19/3000000"));
    assert_eq!(range("bytes=3000000-").status, 416);
    let known = host.ask_with(
        "GET",
        &path,
        &[token, ("if-none-match", &format!("\"{}\"", Digest::of(&bytes).hex()))],
        b"",
    );
    assert_eq!(known.status, 304);

    // content with a wrong digest is rejected, small or large
    for bytes in [b"small".to_vec(), bytes[1..].to_vec()] {
        let path = format!("/api/v1/artifacts/{}", Digest::of(b"another").hex());
        let lie = host.ask("PUT", &path, &bytes);
        assert_eq!(lie.status, 422);
        assert_eq!(host.ask("GET", &path, b"").status, 404);
        assert_eq!(host.ask("GET", &format!("{path}/upload"), b"").json()["offset"], 0);
    }
}

#[test]
fn nobody_is_let_in_without_a_token_and_nobody_does_more_than_the_token_says() {
    let host = Host::start();
    for name in ["read", "run", "admin"] {
        let made = host.place.run(&["token", "create", name, "--scope", name]);
        assert_eq!(made.code, 0, "{}", made.stderr);
        host.place.write(name, made.stdout.trim());
    }
    let with = |method: &str, path: &str, name: &str| {
        let token = format!("Bearer {}", host.place.read(name));
        host.ask_with(method, path, &[("authorization", &token)], b"{}").status
    };
    for (path, method, read, run, admin) in [
        ("/api/v1/records", "GET", 200, 200, 200),
        ("/api/v1/runs", "POST", 403, 400, 400),
        ("/metrics", "GET", 403, 403, 200),
    ] {
        assert_eq!(
            (
                with(method, path, "read"),
                with(method, path, "run"),
                with(method, path, "admin")
            ),
            (read, run, admin),
            "{path}"
        );
        let none = host.ask_with(method, path, &[], b"{}");
        assert_eq!((none.status, none.header("www-authenticate")), (401, Some("Bearer")));
        assert_eq!(
            host.ask_with(method, path, &[("authorization", "Bearer wrong")], b"{}")
                .status,
            401
        );
    }
    assert_eq!(host.place.run(&["token", "revoke", "run"]).code, 0);
    until("the token is revoked", || {
        (with("GET", "/api/v1/records", "run") == 401).then_some(())
    });
    assert_eq!(host.ask_with("GET", "/health/live", &[], b"").status, 200);
    assert_eq!(host.ask_with("GET", "/health/ready", &[], b"").status, 200);

    let browser = [("accept", "text/html")];
    let opened = host.ask_with("GET", "/api/v1/records?most=1&token=everything-is-allowed", &browser, b"");
    assert_eq!(
        (opened.status, opened.header("location")),
        (303, Some("/api/v1/records?most=1"))
    );
    let cookie = opened.header("set-cookie").unwrap();
    assert_eq!(
        cookie,
        "lockstep-token=everything-is-allowed; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"
    );
    let cookie = [("cookie", "a=b; lockstep-token=everything-is-allowed")];
    assert_eq!(host.ask_with("GET", "/api/v1/records", &cookie, b"").status, 200);

    // a separate thread writes it
    let audit = || host.place.read(".local/share/lockstep/store/host/audit.jsonl");
    let has_all = |audit: &str| {
        ["unknown", "scope"]
            .iter()
            .all(|why| audit.contains(&format!("\"refused\":\"{why}\"")))
    };
    for _ in 0..200 {
        if has_all(&audit()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let audit = audit();
    assert!(has_all(&audit), "{audit}");
    assert!(
        !audit.contains("everything-is-allowed") && !audit.contains("wrong"),
        "{audit}"
    );
}

#[test]
fn pages_of_others_and_foreign_names_are_refused() {
    let host = Host::start();
    let token = ("authorization", "Bearer everything-is-allowed");
    let status =
        |method: &str, headers: &[(&str, &str)]| host.ask_with(method, "/api/v1/me", &[&[token], headers].concat(), b"").status;
    assert_eq!(status("GET", &[("host", "evil.example")]), 403);
    assert_eq!(status("POST", &[("origin", "http://evil.example")]), 403);
    assert_eq!(status("POST", &[("sec-fetch-site", "cross-site")]), 403);
    assert_eq!(status("POST", &[]), 405);
    assert_eq!(status("GET", &[("origin", "http://evil.example")]), 200);
}

#[test]
fn users_see_nothing_of_one_another() {
    let host = Host::start_with(Place::new(), &["--trust-header", "kubeflow-userid"]);
    let as_user =
        |user: &str, method: &str, path: &str, body: &[u8]| host.ask_with(method, path, &[("kubeflow-userid", user)], body);
    let module = Digest::of(cat()).hex();
    let path = format!("/api/v1/artifacts/{module}");
    assert_eq!(as_user("ann@example.org", "PUT", &path, &cat()).status, 201);
    let secret = Digest::of(b"ann's").hex();
    let secret_path = format!("/api/v1/artifacts/{secret}");
    assert_eq!(as_user("ann@example.org", "PUT", &secret_path, b"ann's").status, 201);
    let request = json!({ "module": module, "inputs": { "text": secret }, "stdin": "text", "stdout": "out", "outputs": { "out": "text/plain" } });
    let run = |user: &str| as_user(user, "POST", "/api/v1/runs", request.to_string().as_bytes());
    let ran = run("ann@example.org").json();
    assert_eq!(ran["outcome"]["is"], "succeeded");
    let record = ran["record"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();

    // the module is compiled in this process, but stays invisible to users who have not uploaded it
    let other = run("bob");
    assert_eq!(
        (other.status, other.json()["error"]["missing"].clone()),
        (422, json!(format!("sha256:{module}")))
    );
    for path in [
        secret_path.clone(),
        format!("{secret_path}/preview"),
        format!("{secret_path}/lineage"),
        format!("/api/v1/modules/{module}"),
        format!("/api/v1/records/{record}"),
    ] {
        assert_eq!(as_user("bob", "GET", &path, b"").status, 404, "{path}");
        assert_eq!(as_user("ann@example.org", "GET", &path, b"").status, 200, "{path}");
    }
    assert_eq!(as_user("bob", "PUT", &path, &cat()).status, 201);
    assert_eq!(run("bob").json()["error"]["missing"], format!("sha256:{secret}"));
    let digests = as_user("bob", "GET", &format!("/api/v1/digests/{}", &secret[..6]), b"").json();
    assert_eq!(digests, json!({ "digests": [] }));
    for user in ["../ann@example.org", "", "a\tb"] {
        assert!(matches!(as_user(user, "GET", "/api/v1/me", b"").status, 400 | 401), "{user}");
    }
    assert_eq!(as_user("..", "GET", "/api/v1/me", b"").json()["user"], "..");
}

#[test]
fn bad_requests_are_answered_and_harm_nobody() {
    let host = Host::start();
    let status = |bytes: &[u8]| read_answer(host.send(bytes)).status;
    let head = format!(
        "host: 127.0.0.1:{}\r\nauthorization: Bearer everything-is-allowed\r\n",
        host.port
    );
    assert_eq!(status(b"\x16\x03\x01 no http\r\n\r\n"), 400);
    assert_eq!(
        status(format!("GET /{} HTTP/1.1\r\n{head}\r\n", "a".repeat(100_000)).as_bytes()) / 100,
        4
    );
    for path in [
        "/../../etc/passwd",
        "/api/v1/artifacts/..%2f..%2fetc%2fpasswd",
        "/api/v1/artifacts/%00",
        "/%ff",
        "/api/v1/works/..%2fx",
    ] {
        let answer = status(format!("GET {path} HTTP/1.1\r\n{head}connection: close\r\n\r\n").as_bytes());
        assert!(matches!(answer, 400 | 404), "{path}: {answer}");
    }
    for body in ["", "{", "[]", "null", "{\"module\": 1}", "{\"modul\": \"x\"}"] {
        let answer = host.ask("POST", "/api/v1/runs", body.as_bytes());
        assert_eq!(
            (answer.status, answer.message().starts_with("invalid request body")),
            (400, true),
            "{body}"
        );
    }
    let large = format!("POST /api/v1/runs HTTP/1.1\r\n{head}connection: close\r\ncontent-length: 99999999999\r\n\r\n");
    assert_eq!(status(large.as_bytes()), 413);
    let artifact = format!(
        "PUT /api/v1/artifacts/{} HTTP/1.1\r\n{head}connection: close\r\ncontent-length: 99999999999999\r\n\r\n",
        Digest::of("x").hex()
    );
    assert_eq!(status(artifact.as_bytes()), 413);
    // a client that sends half a request blocks no other
    let mut slow = host.send(format!("POST /api/v1/runs HTTP/1.1\r\n{head}content-length: 10\r\n\r\n{{").as_bytes());
    let mut slower = host.send(b"GET / HT");
    assert_eq!(host.ask("GET", "/api/v1/me", b"").status, 200);
    slower.read_to_end(&mut Vec::new()).unwrap();
    drop(slower);
    slow.write_all(b"}").unwrap();
    assert_eq!(host.ask("GET", "/api/v1/nothing", b"").status, 404);
}

#[test]
fn too_much_work_is_told_to_come_again() {
    let host = Host::start_with(Place::new(), &["--jobs", "1", "--queue", "1"]);
    let module = host.put(&endless());
    let request = |seed: u64| json!({ "module": module, "seed": seed }).to_string();
    let submit = |seed| host.ask("POST", "/api/v1/runs?wait=0", request(seed).as_bytes());
    let first = submit(1);
    assert_eq!(first.status, 202);
    let place = first.header("location").unwrap().to_owned();
    let head = "host: localhost\r\nauthorization: Bearer everything-is-allowed\r\n";
    let watching = host.send(format!("GET {place}/events HTTP/1.1\r\n{head}\r\n").as_bytes());
    let mut lines = BufReader::new(watching).lines().map(Result::unwrap);
    lines.find(|line| line == "event: log").unwrap();
    assert_eq!(submit(2).status, 202);
    for _ in 0..100 {
        if submit(3).status == 503 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let refused = submit(4);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("2")));
    assert_eq!(refused.message(), "the queue is full: 1 runs are waiting");

    assert_eq!(host.ask("DELETE", &place, b"").status, 202);
    let events = String::from_utf8(host.ask("GET", &format!("{place}/events"), b"").body).unwrap();
    let names: Vec<&str> = events.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, ["started", "log", "finished", "ended"]);
    assert!(
        events.contains(r#"{"stream":"stdout","task":"program","text":"begun\n"}"#),
        "{events}"
    );
    let ended = host.ask("GET", &place, b"").json();
    assert_eq!(
        (&ended["state"], &ended["result"]["outcome"]["is"]),
        (&json!("interrupted"), &json!("interrupted"))
    );
}

#[test]
fn work_goes_on_after_the_host_was_killed() {
    let host = Host::start_with(Place::new(), &["--jobs", "1"]);
    let (stuck, module) = (host.put(&endless()), host.put(&cat()));
    let text = host.put(b"some text");
    let submit = |request: Value| {
        let answer = host.ask("POST", "/api/v1/runs?wait=0", request.to_string().as_bytes());
        answer.header("location").unwrap().to_owned()
    };
    let first = submit(json!({ "module": stuck, "limits": { "time_ms": 2000 } }));
    let second = submit(
        json!({ "module": module, "inputs": { "text": text }, "stdin": "text", "stdout": "out", "outputs": { "out": "text/plain" } }),
    );
    let host = host.kill_and_start(&["--jobs", "1"]);
    let events = |place: &str| String::from_utf8(host.ask("GET", &format!("{place}/events"), b"").body).unwrap();
    assert!(events(&first).contains("event: ended"));
    assert!(events(&second).contains("event: ended"));
    let ended = host.ask("GET", &second, b"").json();
    assert_eq!(ended["result"]["outputs"]["out"]["digest"], format!("sha256:{text}"));
}

#[test]
fn a_host_that_is_told_to_end_ends_its_work_first() {
    let mut host = Host::start_with(Place::new(), &["--grace", "300ms"]);
    let module = host.put(&endless());
    let request = json!({ "module": module }).to_string();
    let place = host
        .ask("POST", "/api/v1/runs?wait=0", request.as_bytes())
        .header("location")
        .unwrap()
        .to_owned();
    let text = format!(
        "GET {place}/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer everything-is-allowed\r\nconnection: close\r\n\r\n"
    );
    let mut watching = host.send(text.as_bytes());
    let mut begun = [0; 12];
    watching.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    assert_eq!(host.terminate(), Some(0));
    let mut rest = String::new();
    watching.read_to_string(&mut rest).unwrap();
    let told = String::from_utf8(unchunked(rest.split_once("\r\n\r\n").unwrap().1.as_bytes())).unwrap();
    assert!(
        told.contains(
            "event: ended\ndata: {\"error\":{\"details\":[],\"hints\":[\"the work item resumes under the same ID when the host starts again"
        ),
        "{told}"
    );
    let host = host.kill_and_start(&[]);
    let state = host.ask("GET", &place, b"").json()["state"].clone();
    assert!(state == "running" || state == "queued", "{state}");
}

#[test]
fn metrics_count_runs_and_requests() {
    let host = Host::start();
    let module = host.put(&cat());
    let text = host.put(b"x");
    let request = json!({ "module": module, "inputs": { "text": text }, "stdin": "text" });
    host.run(&request);
    host.run(&request);
    let text = String::from_utf8(host.ask("GET", "/metrics", b"").body).unwrap();
    for line in [
        "lockstep_runs_total{outcome=\"succeeded\",cached=\"No\"} 1",
        "lockstep_runs_total{outcome=\"succeeded\",cached=\"Yes\"} 1",
        "lockstep_requests_total{route=\"/api/v1/runs\",status=\"200\"} 2",
        "lockstep_sandboxes 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

/// The metrics that a text names, each with what follows the name.
fn metrics_in(text: &str) -> Vec<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    text.match_indices("lockstep_")
        .filter(|(at, _)| !text[..*at].ends_with(is_part))
        .map(|(at, _)| {
            let named = &text[at..];
            named.split_at(named.find(|c: char| !is_part(c)).unwrap_or(named.len()))
        })
        .collect()
}

#[test]
fn the_dashboard_and_the_alerts_use_metrics_of_the_host() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let monitoring = |name: &str| read(&format!("deploy/kustomize/components/monitoring/{name}"));
    let (dashboard, alerts) = (monitoring("dashboard.json"), monitoring("alerts.yaml"));
    let parsed: Value = serde_json::from_str(&dashboard).unwrap();
    assert_eq!(parsed["title"], "Lockstep");

    let host = Host::start_with(Place::new(), &["--gc-every", "1s"]);
    let (module, text) = (host.put(&cat()), host.put(b"x"));
    let ran = host.run(&json!({ "module": module, "inputs": { "text": text }, "stdin": "text" }));
    assert_eq!(ran.status, 200);
    // a counter with labels appears with its first event
    let served = until("a garbage collection is counted", || {
        let text = String::from_utf8(host.ask("GET", "/metrics", b"").body).unwrap();
        text.contains("lockstep_gc_total{").then_some(text)
    });
    for (file, text) in [("dashboard.json", &dashboard), ("alerts.yaml", &alerts)] {
        let used = metrics_in(text);
        assert!(!used.is_empty(), "{file}");
        for (name, rest) in used {
            let found: Vec<&str> = served
                .lines()
                .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
                .collect();
            assert!(!found.is_empty(), "{file}: the host has no metric {name}:\n{served}");
            let selector = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            for matcher in selector.map_or("", |(matchers, _)| matchers).split_terminator(',') {
                let label = matcher.trim().split(['=', '!']).next().unwrap();
                // Prometheus adds these
                let is_added = label == "namespace" || label == "job";
                let has = |line: &&str| line.contains(&format!("{{{label}=\"")) || line.contains(&format!(",{label}=\""));
                assert!(
                    is_added || found.iter().any(has),
                    "{file}: {name} has no label {label}: {found:?}"
                );
            }
        }
    }
    let page = read("docs/src/how-to/operate.md");
    let names: Vec<&str> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(!names.is_empty());
    for name in names {
        assert!(page.contains(&format!("\n### {name}\n")), "operate.md lacks {name}");
    }
}

#[test]
fn spans_are_sent_to_a_collector_below_those_of_the_caller() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", collector.local_addr().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in collector.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while reader.read_line(&mut head).unwrap() > 2 {
                let line = head.lines().last().unwrap().to_ascii_lowercase();
                length = line
                    .strip_prefix("content-length: ")
                    .map_or(length, |text| text.parse().unwrap());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            tell.send((head, body)).unwrap();
        }
    });
    let mut host = Host::start_with(Place::new(), &["--traces", &url]);
    let (module, text) = (host.put(&cat()), host.put(b"x"));
    let request = json!({ "module": module, "inputs": { "text": text }, "stdin": "text" }).to_string();
    let authorization = format!("Bearer {TOKEN}");
    let parent = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let headers = [("authorization", authorization.as_str()), parent];
    assert_eq!(
        host.ask_with("POST", "/api/v1/runs", &headers, request.as_bytes()).status,
        200
    );
    assert_eq!(host.terminate(), Some(0));
    let sent: Vec<(String, Vec<u8>)> = told.try_iter().collect();
    assert!(sent.iter().all(|(head, _)| head.starts_with("POST /v1/traces ")));
    let all: Vec<u8> = sent.into_iter().flat_map(|(_, body)| body).collect();
    let has = |bytes: &[u8]| all.windows(bytes.len()).filter(|window| *window == bytes).count();
    // the request and the run belong to the caller's trace
    let trace = [
        0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c,
    ];
    assert_eq!(has(&trace), 2);
    for text in ["POST /api/v1/runs", "lockstep.outcome", "succeeded", "service.version"] {
        assert!(has(text.as_bytes()) > 0, "{text}");
    }
}

#[test]
fn the_openapi_document_names_every_route() {
    let host = Host::start();
    let document = host.ask("GET", "/api/v1/openapi.json", b"").json();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        [
            "/api/v1/artifacts/{digest}",
            "/api/v1/artifacts/{digest}/lineage",
            "/api/v1/artifacts/{digest}/preview",
            "/api/v1/artifacts/{digest}/upload",
            "/api/v1/digests/{start}",
            "/api/v1/gc",
            "/api/v1/hooks/{id}",
            "/api/v1/me",
            "/api/v1/modules/{digest}",
            "/api/v1/openapi.json",
            "/api/v1/plans",
            "/api/v1/plans/explain",
            "/api/v1/records",
            "/api/v1/records/{digest}",
            "/api/v1/records/{digest}/lineage",
            "/api/v1/records/{digest}/verify",
            "/api/v1/runs",
            "/api/v1/schedules",
            "/api/v1/schedules/{name}",
            "/api/v1/schedules/{name}/pause",
            "/api/v1/schedules/{name}/resume",
            "/api/v1/schedules/{name}/trigger",
            "/api/v1/works",
            "/api/v1/works/{id}",
            "/api/v1/works/{id}/events",
        ]
    );
}

#[test]
fn settings_come_from_flag_variable_and_file_in_this_order() {
    let place = Place::new();
    place.write("serve.toml", "base-path = '/file'\nqueue = 7\nbind = '127.0.0.1:0'\n");
    let url = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = place.command(&["--json", "serve", "--config", "serve.toml"]);
        command
            .args(arguments)
            .envs(environment.iter().copied())
            .env("LOCKSTEP_TOKEN", TOKEN);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        told["url"]
            .as_str()
            .unwrap()
            .rsplit_once(':')
            .unwrap()
            .1
            .split_once('/')
            .unwrap()
            .1
            .to_owned()
    };
    assert_eq!(url(&[], &[]), "file/");
    assert_eq!(url(&[], &[("NB_PREFIX", "/env")]), "env/");
    assert_eq!(url(&["--base-path", "/flag"], &[("NB_PREFIX", "/env")]), "flag/");
    place.write("serve.toml", "queu = 7\n");
    let said = place.run(&["serve", "--config", "serve.toml"]);
    assert_eq!(said.code, 3);
    assert!(said.stderr.contains("unknown field `queu`"), "{}", said.stderr);
}

#[test]
fn tls_is_a_matter_of_two_files() {
    let place = Place::new();
    place.certify("localhost");
    place.fails(
        3,
        &[
            "serve",
            "--bind",
            "127.0.0.1:0",
            "--tls-cert",
            "key.pem",
            "--tls-key",
            "key.pem",
        ],
        "error: can't parse key.pem: no certificate found\n",
    );
    let host = Host::start_with(place, &["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    let connect = format!("127.0.0.1:{}", host.port);
    let mut client = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-verify_return_error",
            "-CAfile",
            "cert.pem",
            "-connect",
            &connect,
        ])
        .current_dir(host.place.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let request =
        format!("GET /api/v1/me HTTP/1.1\r\nhost: {connect}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n");
    client.stdin.as_mut().unwrap().write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    client.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    client.wait().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    // clients without TLS get no response
    let mut plain = Vec::new();
    let _ = host.send(request.as_bytes()).read_to_end(&mut plain);
    assert!(!plain.starts_with(b"HTTP"), "{plain:?}");
}
