//! `lockstep serve`: who is let in, and what is noted of it.

use std::io::{ErrorKind, Read};
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
