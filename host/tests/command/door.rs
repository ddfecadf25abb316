//! `lockstep serve`: connections, sign-in and the audit log.

use std::io::{ErrorKind, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::jobs::until;
use crate::place::Place;
use crate::serve::{Host, TOKEN};

const AUDIT: &str = ".local/share/lockstep/store/host/audit.jsonl";

#[test]
fn silent_connections_give_their_places_to_others() {
    let host = Host::start_with(Place::new(), &["--connections", "2"]);
    let (mut silent, mut slow) = (host.send(b""), host.send(b"GET / HTTP/1.1\r\nhost:"));
    // waits until one of them is closed
    assert_eq!(host.ask("GET", "/api/v1/me", b"").status, 200);
    for stream in [&mut silent, &mut slow] {
        let mut rest = Vec::new();
        // closed in either way
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{rest:?}");
    }
}

#[test]
fn http_2_is_not_spoken() {
    let host = Host::start();
    let mut answer = Vec::new();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let _ = host.send(preface).read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
}

#[test]
fn a_web_socket_holds_its_place() {
    let host = Host::start_with(Place::new(), &["--connections", "1"]);
    let kernel = host.ask("POST", "/api/kernels", b"");
    assert_eq!(kernel.status, 201);
    let id = kernel.json()["id"].as_str().unwrap().to_owned();
    let head = format!("host: localhost\r\nauthorization: Bearer {TOKEN}\r\n");
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut socket = host.send(format!("GET /api/kernels/{id}/channels HTTP/1.1\r\n{head}{upgrade}\r\n").as_bytes());
    let mut begun = [0; 12];
    socket.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 101");
    let mut other = host.send(format!("GET /api/v1/me HTTP/1.1\r\n{head}connection: close\r\n\r\n").as_bytes());
    other.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let waited = other.read(&mut begun).unwrap_err();
    assert!(
        matches!(waited.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{waited}"
    );
    drop(socket);
    other.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    other.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
}

#[test]
fn a_link_signs_nobody_in_elsewhere_or_as_somebody_else() {
    let host = Host::start();
    let made = host.place.run(&["token", "create", "other", "--scope", "read"]);
    let other = made.stdout.trim();
    let open = |path: &str, token: &str, more: &[(&str, &str)]| {
        let headers = [&[("accept", "text/html")], more].concat();
        host.ask_with("GET", &format!("{path}?token={token}"), &headers, b"")
    };
    for (path, location) in [
        ("//evil.example/", "/evil.example/"),
        ("/\\evil.example", "/evil.example"),
        ("/runs", "/runs"),
    ] {
        let answer = open(path, TOKEN, &[]);
        assert_eq!((answer.status, answer.header("location")), (303, Some(location)), "{path}");
    }
    let cookie = format!("lockstep-token={TOKEN}");
    let session = ("cookie", cookie.as_str());
    for (more, status) in [
        (&[("sec-fetch-site", "none")][..], 303),
        (&[("sec-fetch-site", "same-origin")], 303),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "same-site")], 403),
        (&[session], 403),
        (&[session, ("sec-fetch-site", "none")], 303),
        (&[("cookie", "lockstep-token=of-an-earlier-host")], 303),
    ] {
        let answer = open("/", other, more);
        assert_eq!(
            (answer.status, answer.header("set-cookie").is_some()),
            (status, status == 303),
            "{more:?}"
        );
    }
    assert_eq!(open("/", TOKEN, &[session]).status, 303);

    let based = Host::start_with(Place::new(), &["--base-path", "/a"]);
    let headers = [("accept", "text/html")];
    for (path, location) in [
        ("/a//evil.example/", "/a/evil.example/"),
        ("/a/runs", "/a/runs"),
        ("/a/", "/a/"),
    ] {
        let answer = based.ask_with("GET", &format!("{path}?token={TOKEN}"), &headers, b"");
        assert_eq!((answer.status, answer.header("location")), (303, Some(location)), "{path}");
    }
}

#[test]
fn a_short_token_is_refused() {
    let place = Place::new();
    let said = place.said(
        place
            .command(&["serve", "--bind", "127.0.0.1:0"])
            .env("LOCKSTEP_TOKEN", "fifteen-letters"),
    );
    assert_eq!(said.code, 3);
    assert!(
        said.stderr
            .starts_with("error: LOCKSTEP_TOKEN is too short: it must have at least 16 characters\nhint: "),
        "{}",
        said.stderr
    );
}

#[test]
fn the_audit_log_says_who_did_what_and_from_where() {
    let host = Host::start();
    let made = host
        .place
        .run(&["token", "create", "laptop", "--user", "ann", "--scope", "read"]);
    let token = format!("Bearer {}", made.stdout.trim());
    host.ask("POST", "/api/v1/runs?secret=1", b"{}");
    host.ask_with("POST", "/api/v1/runs", &[("authorization", &token)], b"{}");
    host.ask_with("GET", "/", &[("host", "evil.example")], b"");
    host.ask_with("POST", "/x", &[("origin", "http://evil.example")], b"");
    let read = || -> Vec<Value> {
        let text = host.place.read(AUDIT);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let lines = until("four lines", || (read().len() >= 4).then(read));
    let shown: Vec<Value> = lines
        .iter()
        .map(|line| {
            let mut line = line.clone();
            assert!(line.as_object_mut().unwrap().remove("at").is_some());
            assert_eq!(line.as_object_mut().unwrap().remove("address"), Some(json!("127.0.0.1")));
            assert!(line.as_object_mut().unwrap().remove("request_id").is_some());
            line
        })
        .collect();
    assert_eq!(
        shown,
        [
            json!({ "user": null, "token": "LOCKSTEP_TOKEN", "method": "POST", "path": "/api/v1/runs", "status": 400 }),
            json!({ "user": "ann", "token": "laptop", "method": "POST", "path": "/api/v1/runs", "status": 403, "refused": "scope" }),
            json!({ "user": null, "token": null, "method": "GET", "path": "/", "status": 403, "refused": "host" }),
            json!({ "user": null, "token": null, "method": "POST", "path": "/x", "status": 403, "refused": "origin" }),
        ]
    );
    // anyone can be refused, so not every refusal has a line
    for _ in 0..150 {
        assert_eq!(host.ask_with("GET", "/x", &[], b"").status, 401);
    }
    let more = until("the number of the others", || {
        read().into_iter().find(|line| !line["more"].is_null())
    });
    assert_eq!(more["refused"], "unknown");
    assert!(more["more"].as_u64().unwrap() >= 1);
}

#[test]
fn settings_are_checked_without_serving() {
    let place = Place::new();
    place.write("quotas.toml", "[users.ann]\nqueued = 1\n[users.bob]\n");
    let settings = [
        "serve",
        "--check",
        "--jobs",
        "2",
        "--memory",
        "3GiB",
        "--run-memory",
        "1GiB",
        "--max-time",
        "2h 30m",
        "--bind",
        "127.0.0.1:8000",
        "--base-path",
        "/a",
        "--quotas",
        "quotas.toml",
    ];
    let checked = place.run(&settings);
    assert_eq!(
        (checked.code, checked.stdout.as_str(), checked.stderr.as_str()),
        (
            0,
            "address  http://127.0.0.1:8000/a/\n\
             store    [PLACE]/.local/share/lockstep/store\n\
             access   a new token, printed at the start\n\
             jobs     2 at a time, 1000 in the queue\n\
             memory   3.0 GiB for all guests, 1.0 GiB for a run that sets no limit\n\
             time     at most 2h 30m for a run\n\
             quotas   of their own for ann, bob\n",
            ""
        )
    );
    let told = place.json(&settings);
    assert_eq!(
        (&told["memory"], &told["tokens"], &told["max_time_ms"]),
        (&json!(3u64 << 30), &json!(0), &json!(9_000_000))
    );
    for (name, text, says) in [
        ("quotas.toml", "[default]\nqueue = 1\n", "unknown field `queue`"),
        ("cert.pem", "no certificate", "can't parse cert.pem: no certificate found"),
    ] {
        place.write(name, text);
        let flags: &[&str] = match name {
            "quotas.toml" => &["--quotas", "quotas.toml"],
            _ => &["--tls-cert", "cert.pem", "--tls-key", "cert.pem"],
        };
        let said = place.run(&[&["serve", "--check"], flags].concat());
        assert_eq!(said.code, 3);
        assert!(said.stderr.contains(says), "{}", said.stderr);
    }
}

#[test]
fn sighup_loads_the_quotas_again() {
    let place = Place::new();
    place.write("quotas.toml", "[default]\nkernels = 0\n");
    let host = Host::start_with(place, &["--quotas", "quotas.toml"]);
    let start = || host.ask("POST", "/api/kernels", b"").status;
    assert_eq!(start(), 429);
    // what can't be read changes nothing
    host.place.write("quotas.toml", "[default]\nkernel = 1\n");
    host.signal("-HUP");
    host.place.write("quotas.toml", "[default]\nkernels = 1\n");
    host.signal("-HUP");
    until("the new quotas hold", || (start() == 201).then_some(()));
    assert_eq!(start(), 429);
}

#[test]
fn sighup_loads_the_certificate_again() {
    let place = Place::new();
    place.certify("first.example");
    let host = Host::start_with(place, &["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    let shown = || {
        let connect = format!("127.0.0.1:{}", host.port);
        let mut client = Command::new("openssl");
        let shown = client
            .args(["s_client", "-connect", &connect])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&shown.stdout).into_owned()
    };
    assert!(shown().contains("first.example"));
    host.place.certify("second.example");
    host.signal("-HUP");
    until("the new certificate is used", || {
        shown().contains("second.example").then_some(())
    });
    host.place.write("cert.pem", "broken");
    host.signal("-HUP");
    assert!(shown().contains("second.example"));
}

#[test]
fn every_request_has_an_id() {
    let host = Host::start();
    let made = host.ask("GET", "/api/v1/me", b"");
    assert_eq!(made.header("x-request-id").unwrap().len(), 32);
    let authorization = format!("Bearer {TOKEN}");
    let with = |id: &str| {
        let headers = [("authorization", authorization.as_str()), ("x-request-id", id)];
        host.ask_with("POST", "/api/v1/runs", &headers, b"{")
    };
    let kept = with("from-the-proxy.1");
    assert_eq!((kept.status, kept.header("x-request-id")), (400, Some("from-the-proxy.1")));
    let replaced = with("not well formed");
    assert_eq!(replaced.header("x-request-id").unwrap().len(), 32);
    // also of what needs no token
    assert!(
        host.ask_with("GET", "/health/live", &[], b"")
            .header("x-request-id")
            .is_some()
    );
    until("the audit log has it", || {
        let log = host.place.read(".local/share/lockstep/store/host/audit.jsonl");
        log.contains("\"request_id\":\"from-the-proxy.1\"").then_some(())
    });
}

#[test]
fn a_host_without_room_is_not_ready() {
    let host = Host::start();
    assert_eq!(host.ask("GET", "/health/ready", b"").status, 200);
    let host = Host::start_with(Place::new(), &["--min-free", "1000000GiB"]);
    let unready = host.ask_with("GET", "/health/ready", &[("x-request-id", "probe")], b"");
    let error = unready.json()["error"].clone();
    assert_eq!((unready.status, &error["request_id"]), (503, &serde_json::json!("probe")));
    assert!(error["message"].as_str().unwrap().contains(" free, less than "), "{error}");
    assert_eq!(host.ask("GET", "/health/live", b"").status, 200);
}
