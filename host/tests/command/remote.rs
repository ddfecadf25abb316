//! `lockstep --host URL`: the same digests and output as without a host.

use crate::place::{Place, Said, cat, signal, squeeze, steps};
use crate::serve::{Host, TOKEN, endless};

fn place() -> Place {
    let place = Place::new();
    place.write("steps.wasm", steps());
    place.write("cat.wasm", cat());
    place.write("raw.csv", "name,mass\nAdelie,3750\n");
    place.write(
        "copies.yaml",
        "name: copies
tasks:
  first: { step: steps.wasm#copy, inputs: { raw: raw.csv } }
  second: { step: steps.wasm#copy, inputs: { raw: first.rows }, parameters: { column: other } }
outputs: { rows: second.rows }
",
    );
    place
}

/// Runs the command with the host, in a new place.
fn there(place: &Place, host: &Host, arguments: &[&str]) -> Said {
    let mut command = place.command(arguments);
    place.said(command.env("LOCKSTEP_HOST", host.url()).env("LOCKSTEP_TOKEN", TOKEN))
}

#[test]
fn a_host_changes_nothing_of_what_is_said() {
    let host = Host::start();
    let (here, other) = (place(), place());
    for arguments in [
        &["plan", "copies.yaml"][..],
        &["run", "steps.wasm#copy", "-i", "raw=raw.csv", "-o", "rows=rows.csv"],
        &["run", "steps.wasm#copy", "-i", "raw=raw.csv", "-o", "rows=rows.csv"],
        &[
            "run",
            "cat.wasm",
            "-i",
            "text=raw.csv",
            "--stdin",
            "text",
            "--stdout",
            "out:text/plain",
        ],
        &["run", "copies.yaml", "-o", "rows=copy.csv", "--jobs", "1"],
        &["run", "copies.yaml", "--jobs", "1"],
        &["plan", "copies.yaml"],
        &["run", "steps.wasm#again", "-i", "raw=raw.csv", "-p", "times=2"],
        &["run", "steps.wasm#copy", "-i", "raw=raw.csv", "--fuel", "10"],
        &["run", "steps.wasm#copy"],
    ] {
        // times differ in length, and so does the space beside them
        let [said, expected] = [there(&other, &host, arguments), here.run(arguments)]
            .map(|said| (said.code, squeeze(&said.stdout), squeeze(&said.stderr)));
        assert_eq!(said, expected, "{arguments:?}");
    }
    assert_eq!(other.read("rows.csv"), here.read("rows.csv"));
    assert_eq!(other.read("copy.csv"), here.read("copy.csv"));

    // the records are on the host
    let listed = there(&other, &host, &["log", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let record = listed["runs"][0]["record"].as_str().unwrap();
    let shown = there(&other, &host, &["show", &record[..20]]);
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""));
    let listed = listed["runs"].as_array().unwrap().clone();
    let copy = listed
        .iter()
        .find(|run| run["step"] == "copy" && run["is"] == "succeeded")
        .unwrap();
    let copy = copy["record"].as_str().unwrap();
    let rows = there(&other, &host, &["show", &format!("{copy}/rows"), "--raw"]);
    assert_eq!(rows.stdout, "name,mass\nAdelie,3750\n");
    assert_eq!(there(&other, &host, &["verify", copy]).code, 0);
}

#[test]
fn a_host_that_is_away_or_refuses_is_named() {
    let host = Host::start();
    let place = place();
    let run = ["run", "steps.wasm#copy", "-i", "raw=raw.csv"];
    let refused = place.said(
        place
            .command(&run)
            .env("LOCKSTEP_HOST", host.url())
            .env("LOCKSTEP_TOKEN", "wrong"),
    );
    assert_eq!(refused.code, 5);
    let expected = format!(
        "error: {} refused the request: invalid or expired token
hint: set LOCKSTEP_TOKEN to a token of that host; `lockstep token create NAME` creates one there
",
        host.url()
    );
    assert_eq!(refused.stderr, expected);
    let url = host.url();
    drop(host);
    let away = place.said(place.command(&["log"]).args(["--host", &url]));
    assert_eq!(away.code, 6);
    assert!(
        away.stderr.starts_with(&format!("error: {url} can't be reached: ")),
        "{}",
        away.stderr
    );
    place.fails(
        2,
        &["gc", "--host", "http://127.0.0.1:1"],
        "error: `lockstep gc` does not support --host
hint: run it on the machine of the host, with the host's --store; or omit --host
",
    );
    let odd = place.run(&["log", "--host", "ftp://x"]);
    assert_eq!(
        (odd.code, odd.stderr.lines().next()),
        (
            2,
            Some("error: ftp://x is not the URL of a host: it must start with https:// or http://")
        )
    );
}

#[test]
fn ctrl_c_here_ends_the_work_there() {
    let host = Host::start();
    let place = place();
    place.write("endless.wasm", endless());
    let mut command = place.command(&["run", "endless.wasm"]);
    command.env("LOCKSTEP_HOST", host.url()).env("LOCKSTEP_TOKEN", TOKEN);
    let mut process = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut begun = [0; 6];
    std::io::Read::read_exact(process.stdout.as_mut().unwrap(), &mut begun).unwrap();
    assert_eq!(&begun, b"begun\n");
    signal(&process, "-INT");
    assert_eq!(process.wait().unwrap().code(), Some(130));
    let works = host.ask("GET", "/api/v1/works", b"").json();
    assert_eq!(works["works"][0]["state"], "interrupted");
}
