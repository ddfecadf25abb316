//! `lockstep schedule`: plans that a host starts at certain times, or when a webhook is called.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::jobs::until;
use crate::place::{Place, Said, steps};
use crate::serve::{Answer, Host, TOKEN, endless};

const TABLE: &str = ".local/share/lockstep/store/host/works.sqlite";

const PIPELINE: &str = "name: copies
tasks:
  first: { step: steps.wasm#copy, inputs: { raw: raw.csv } }
outputs: { rows: first.rows }
";

fn place() -> Place {
    let place = Place::new();
    place.write("steps.wasm", steps());
    place.write("raw.csv", "name,mass\nAdelie,3750\n");
    place.write("copies.yaml", PIPELINE);
    place.write("endless.wasm", endless());
    place.write("endless.yaml", "name: endless\ntasks:\n  loop: { program: endless.wasm }\n");
    place
}

fn with(place: &Place, host: &Host, token: &str, arguments: &[&str]) -> Said {
    let mut command = place.command(&["schedule"]);
    command
        .args(arguments)
        .env("LOCKSTEP_HOST", host.url())
        .env("LOCKSTEP_TOKEN", token);
    place.said(&mut command)
}

fn schedule(place: &Place, host: &Host, arguments: &[&str]) -> Said {
    with(place, host, TOKEN, arguments)
}

#[track_caller]
fn add(place: &Place, host: &Host, arguments: &[&str]) -> Value {
    let said = schedule(place, host, &[&["add"], arguments, &["--json"]].concat());
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    serde_json::from_str(&said.stdout).unwrap()
}

fn shown(host: &Host, name: &str) -> Value {
    host.ask("GET", &format!("/api/v1/schedules/{name}"), b"").json()
}

/// Waits until the newest start of a schedule is over.
fn last(host: &Host, name: &str) -> Value {
    until("the start is over", || {
        let start = shown(host, name)["starts"][0].clone();
        let over = start.is_object() && !["queued", "running"].iter().any(|state| start["state"] == *state);
        over.then_some(start)
    })
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Sets the next time of all schedules to `ago` milliseconds ago, as if the host had not run since.
fn due(place: &Place, ago: u64) {
    let connection = Connection::open(place.path(TABLE)).unwrap();
    let sql = "UPDATE schedules SET schedule = json_set(schedule, '$.next_ms', ?1)";
    assert!(connection.execute(sql, [(now_ms() - ago) as i64]).unwrap() > 0);
}

#[test]
fn a_schedule_runs_the_plan_that_was_added() {
    let host = Host::start();
    let place = place();
    let said = schedule(
        &place,
        &host,
        &[
            "add",
            "nightly",
            "copies.yaml",
            "--cron",
            "0 6 * * *",
            "--zone",
            "Europe/Vienna",
        ],
    );
    assert_eq!(said.code, 0, "{said:?}");
    let next = said.stdout.strip_prefix("next: ").unwrap();
    assert!(next.contains("T06:00:00+0"), "{next}");
    assert_eq!(
        said.stderr,
        "nightly always runs the plan of now: later changes of copies.yaml, its modules and inputs have no effect\n\
         hint: `lockstep schedule add nightly ... --replace` takes them\n"
    );
    // what it needs stays
    let kept = host.ask("POST", "/api/v1/gc", br#"{"grace_s": 0, "older_than_s": 0}"#);
    assert_eq!((kept.status, &kept.json()["artifacts"]), (200, &json!([])));
    place.write("raw.csv", "changed\n");
    let started = schedule(&place, &host, &["trigger", "nightly"]);
    assert!(started.stdout.starts_with("started, work item "), "{started:?}");
    let start = last(&host, "nightly");
    assert_eq!((&start["by"], &start["state"]), (&json!("trigger"), &json!("succeeded")));
    let work = host
        .ask("GET", &format!("/api/v1/works/{}", start["work"].as_str().unwrap()), b"")
        .json();
    let rows = work["result"]["outputs"]["rows"]["digest"].as_str().unwrap();
    let rows = host.ask("GET", &format!("/api/v1/artifacts/{rows}"), b"");
    assert_eq!(rows.body, b"name,mass\nAdelie,3750\n");

    let listed = schedule(&place, &host, &["list"]).stdout;
    let row = listed
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(row.starts_with("nightly active 0 6 * * * (Europe/Vienna) "), "{row}");
    assert!(row.contains(" succeeded "), "{row}");
    let told = schedule(&place, &host, &["show", "nightly"]).stdout;
    assert!(
        told.contains("skips missed times") && told.contains("LOCKSTEP_TOKEN"),
        "{told}"
    );
    let page = String::from_utf8(host.ask("GET", "/schedules", b"").body).unwrap();
    assert!(
        page.contains("/schedules/nightly") && page.contains("Europe/Vienna"),
        "{page}"
    );
    assert_eq!(host.ask("GET", "/schedules/nightly", b"").status, 200);

    assert_eq!(schedule(&place, &host, &["pause", "nightly"]).stdout, "paused\n");
    assert_eq!(shown(&host, "nightly")["next_ms"], Value::Null);
    // a person may start it anyway
    assert_eq!(schedule(&place, &host, &["trigger", "nightly"]).code, 0);
    let resumed = schedule(&place, &host, &["resume", "nightly"]).stdout;
    assert!(resumed.starts_with("active, next: "), "{resumed}");

    let again = schedule(&place, &host, &["add", "nightly", "copies.yaml", "--cron", "@daily"]);
    assert_eq!(
        again.stderr,
        "error: schedule nightly exists already\nhint: replace it with --replace, or choose another name\n"
    );
    add(&place, &host, &["nightly", "copies.yaml", "--cron", "@daily", "--replace"]);
    schedule(&place, &host, &["trigger", "nightly"]);
    let start = last(&host, "nightly");
    let work = host
        .ask("GET", &format!("/api/v1/works/{}", start["work"].as_str().unwrap()), b"")
        .json();
    let rows = work["result"]["outputs"]["rows"]["digest"].as_str().unwrap();
    let rows = host.ask("GET", &format!("/api/v1/artifacts/{rows}"), b"");
    assert_eq!(rows.body, b"changed\n");
    assert_eq!(shown(&host, "nightly")["starts"].as_array().unwrap().len(), 3);
    assert_eq!(schedule(&place, &host, &["remove", "nightly"]).code, 0);
    assert_eq!(
        schedule(&place, &host, &["show", "nightly"]).stderr,
        "error: schedule nightly not found\n"
    );
}

#[test]
fn what_is_wrong_is_named() {
    let host = Host::start();
    let place = place();
    let cron = |cron: &str| schedule(&place, &host, &["add", "a", "copies.yaml", "--cron", cron]).stderr;
    let hint = "hint: the fields are minute, hour, day of the month, month and day of the week, as in \"0 6 * * *\" for 6 o'clock every day\n";
    assert_eq!(
        cron("0 6 * *"),
        format!("error: invalid cron expression `0 6 * *`: expected 5 fields, found 4\n{hint}")
    );
    assert!(
        cron("61 6 * * *").starts_with("error: invalid cron expression `61 6 * * *`: field 1 (minute), `61`: "),
        "{}",
        cron("61 6 * * *")
    );
    assert_eq!(
        cron("0 0 30 2 *"),
        "error: the cron expression names no time that ever comes\n"
    );
    let zone = schedule(
        &place,
        &host,
        &["add", "a", "copies.yaml", "--cron", "@daily", "--zone", "Atlantis"],
    );
    assert_eq!(
        zone.stderr,
        "error: unknown time zone `Atlantis`\nhint: give a name of the IANA database, such as Europe/Vienna\n"
    );
    let named = schedule(&place, &host, &["add", "a b", "copies.yaml", "--webhook"]);
    assert!(named.stderr.starts_with("error: invalid name of a schedule: "), "{named:?}");
    assert_eq!(schedule(&place, &host, &["add", "a", "copies.yaml"]).code, 2);
    assert_eq!(schedule(&place, &host, &["pause", "../works"]).code, 2);
    place.fails(
        2,
        &["schedule", "list"],
        "error: a schedule needs a host, which runs it\nhint: give --host URL, or set LOCKSTEP_HOST\n",
    );
    assert_eq!(host.ask("GET", "/api/v1/schedules", b"").json(), json!({ "schedules": [] }));
}

#[test]
fn a_host_starts_what_is_due_and_what_it_missed_as_said() {
    let host = Host::start();
    let place = place();
    add(&place, &host, &["plain", "copies.yaml", "--cron", "0 6 * * *"]);
    add(&place, &host, &["eager", "copies.yaml", "--cron", "0 6 * * *", "--catch-up"]);
    // on time
    let host = host.kill_and_start_after(&[], |place| due(place, 1_000));
    let starts = ["plain", "eager"].map(|name| last(&host, name));
    for start in starts {
        assert_eq!((&start["by"], &start["state"]), (&json!("cron"), &json!("succeeded")));
        assert_eq!(start["why"], Value::Null);
    }
    // two hours late
    let host = host.kill_and_start_after(&[], |place| due(place, 2 * 60 * 60 * 1000));
    let missed = json!("the host did not run at this time");
    let late = until("the late start", || {
        let start = last(&host, "eager");
        (start["why"] == missed).then_some(start)
    });
    assert_eq!(late["state"], "succeeded");
    let skipped = until("the skipped start", || {
        let start = last(&host, "plain");
        (start["why"] == missed).then_some(start)
    });
    assert_eq!(skipped["work"], Value::Null);
    for name in ["plain", "eager"] {
        let schedule = shown(&host, name);
        assert!(schedule["next_ms"].as_u64().unwrap() > now_ms());
        assert_eq!(schedule["starts"].as_array().unwrap().len(), 2);
    }
    // the audit log names the token
    until("the audit log has the starts", || {
        let log = host.place.read(".local/share/lockstep/store/host/audit.jsonl");
        let lines = log.lines().filter(|line| line.contains("/api/v1/schedules/eager/trigger"));
        let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        let said = |line: &Value| line["token"] == "LOCKSTEP_TOKEN" && line["status"] == 202 && line["address"].is_null();
        (lines.len() == 2 && lines.iter().all(said)).then_some(())
    });
}

#[test]
fn a_schedule_does_not_overlap_itself_unless_told() {
    let host = Host::start();
    let place = place();
    add(&place, &host, &["one", "endless.yaml", "--cron", "@daily"]);
    add(
        &place,
        &host,
        &["many", "endless.yaml", "--cron", "@daily", "--overlap", "--no-cache"],
    );
    for name in ["one", "many"] {
        assert_eq!(schedule(&place, &host, &["trigger", name]).code, 0);
    }
    let again = schedule(&place, &host, &["trigger", "one"]);
    assert!(
        again.stderr.starts_with("error: the work item of the last start, ") && again.stderr.contains(", is still running\n"),
        "{again:?}"
    );
    let host = host.kill_and_start_after(&["--jobs", "4"], |place| due(place, 1_000));
    let skipped = until("the skipped start", || {
        let start = shown(&host, "one")["starts"][0].clone();
        (start["by"] == "cron").then_some(start)
    });
    assert_eq!(skipped["work"], Value::Null);
    assert!(skipped["why"].as_str().unwrap().ends_with(" is still running"), "{skipped}");
    let second = until("the second start", || {
        let start = shown(&host, "many")["starts"][0].clone();
        (start["by"] == "cron").then_some(start)
    });
    assert!(second["work"].is_string(), "{second}");
}

#[test]
fn a_schedule_stops_with_its_token() {
    let host = Host::start();
    let place = place();
    let token = host.place.json(&["token", "create", "laptop"])["token"].clone();
    let added = with(
        &place,
        &host,
        token.as_str().unwrap(),
        &["add", "nightly", "copies.yaml", "--cron", "@daily"],
    );
    assert_eq!(added.code, 0, "{added:?}");
    assert_eq!(host.place.run(&["token", "revoke", "laptop"]).code, 0);
    // another token of that name is another token
    host.place.json(&["token", "create", "laptop"]);
    let host = host.kill_and_start_after(&[], |place| due(place, 1_000));
    let why = "the token laptop, which added it, is revoked or expired";
    let stopped = until("it is stopped", || {
        let schedule = shown(&host, "nightly");
        (schedule["state"] == "stopped" && schedule["starts"][0].is_object()).then_some(schedule)
    });
    assert_eq!((&stopped["why"], &stopped["next_ms"]), (&json!(why), &Value::Null));
    assert_eq!(stopped["starts"][0]["why"], format!("stopped: {why}"));
    let resumed = schedule(&place, &host, &["resume", "nightly"]);
    assert!(resumed.stdout.starts_with("active, next: "), "{resumed:?}");
    assert_eq!(shown(&host, "nightly")["token"], "LOCKSTEP_TOKEN");
}

#[test]
fn the_number_of_schedules_is_a_quota() {
    let place = Place::new();
    place.write("quotas.toml", "[default]\nschedules = 1\n");
    let host = Host::start_with(place, &["--quotas", "quotas.toml"]);
    let place = self::place();
    add(&place, &host, &["one", "copies.yaml", "--cron", "@daily"]);
    let refused = schedule(&place, &host, &["add", "two", "copies.yaml", "--cron", "@daily"]);
    assert!(
        refused
            .stderr
            .starts_with("error: quota `schedules` is reached: you have 1 schedules\n"),
        "{refused:?}"
    );
    add(&place, &host, &["one", "copies.yaml", "--cron", "@daily", "--replace"]);
}

/// Returns what openssl says is the signature of `body`.
fn sign(secret: &str, body: &[u8]) -> String {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", secret, "-r"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(body).unwrap();
    let output = openssl.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    format!("sha256={}", text.split_whitespace().next().unwrap())
}

#[test]
fn a_signed_call_starts_a_schedule_once() {
    let host = Host::start();
    let place = place();
    let added = add(&place, &host, &["deploy", "copies.yaml", "--webhook"]);
    let (url, secret) = (added["url"].as_str().unwrap(), added["secret"].as_str().unwrap());
    let path = url.strip_prefix(&host.url()).unwrap();
    assert!(path.starts_with("/api/v1/hooks/"), "{path}");
    // it can't be shown again
    let told = shown(&host, "deploy");
    assert_eq!((&told["webhook"], told.to_string().contains(secret)), (&json!(true), false));
    let call = |path: &str, signature: &str, body: &[u8]| -> Answer {
        host.ask_with("POST", path, &[("x-hub-signature-256", signature)], body)
    };
    let body = br#"{"ref": "refs/heads/main"}"#;
    let good = sign(secret, body);
    let wrong = call(path, &sign("another", body), body);
    let unknown = call("/api/v1/hooks/nothing", &good, body);
    assert_eq!((wrong.status, unknown.status), (401, 401));
    assert_eq!(wrong.body, unknown.body);
    for (signature, body) in [
        (good.as_str(), &b"other"[..]),
        ("", body),
        ("sha256=zz", body),
        (&good[7..], body),
    ] {
        assert_eq!(call(path, signature, body).status, 401, "{signature}");
    }
    assert_eq!(shown(&host, "deploy")["starts"], json!([]));
    let ping = host.ask_with(
        "POST",
        path,
        &[("x-hub-signature-256", &good), ("x-github-event", "ping")],
        body,
    );
    assert_eq!((ping.status, ping.json()), (200, json!({ "schedule": "deploy" })));
    let started = call(path, &good, body);
    assert_eq!(started.status, 202);
    let work = started.json()["id"].clone();
    assert_eq!(last(&host, "deploy")["state"], "succeeded");
    let repeated = call(path, &good.to_uppercase().replace("SHA", "sha"), body);
    assert_eq!(
        (repeated.status, repeated.json()),
        (200, json!({ "work": work, "repeated": true }))
    );
    assert_eq!(shown(&host, "deploy")["starts"].as_array().unwrap().len(), 1);
    let body = b"another";
    let good = sign(secret, body);
    schedule(&place, &host, &["pause", "deploy"]);
    let paused = call(path, &good, body);
    assert_eq!(
        (paused.status, &paused.json()["error"]["message"]),
        (409, &json!("schedule deploy is paused"))
    );
    schedule(&place, &host, &["resume", "deploy"]);
    assert_eq!(call(path, &good, body).status, 202);
    assert_eq!(last(&host, "deploy")["by"], "webhook");
    // a large body is refused before all of it has come
    let large = host.send(
        format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-length: 99999999\r\n\r\n",
            host.port
        )
        .as_bytes(),
    );
    let mut large = large;
    let piece = vec![0; 1 << 20];
    while large.write_all(&piece).is_ok() {}
    until("the audit log has the calls", || {
        let log = host.place.read(".local/share/lockstep/store/host/audit.jsonl");
        let lines: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|line: &Value| line["path"] == path)
            .collect();
        let count = |status: u16| lines.iter().filter(|line| line["status"] == status).count();
        (count(202) == 2 && count(401) == 5).then_some(())
    });
}
