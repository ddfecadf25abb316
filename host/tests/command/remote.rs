//! `lockstep --host URL`: the same digests and output as without a host.

use crate::place::{Place, Said, cat, signal, squeeze, steps};
use crate::serve::{Host, TOKEN, endless};
use crate::verify::forge_rows;

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
fn what_a_host_has_is_described_as_if_it_were_here() {
    let host = Host::start_with(place(), &[]);
    let here = &host.place;
    here.run(&["run", "copies.yaml", "--jobs", "1"]);
    here.run(&["run", "steps.wasm#copy", "-i", "raw=raw.csv", "-p", "share=1"]);
    here.write("more.csv", "name,mass\nGentoo,5000\n");
    here.run(&["run", "steps.wasm#copy", "-i", "raw=more.csv"]);
    here.run(&["run", "steps.wasm#copy", "-i", "raw=raw.csv", "--fuel", "10"]);
    let listed = here.json(&["log"])["runs"].as_array().unwrap().clone();
    let records: Vec<&str> = listed
        .iter()
        .filter(|run| run["is"] == "succeeded")
        .map(|run| &run["record"].as_str().unwrap()["sha256:".len()..][..20])
        .collect();
    let [more, .., first] = records[..] else {
        panic!("{listed:?}")
    };
    let (rows, first_rows) = (format!("{more}/rows"), format!("{first}/rows"));
    for arguments in [
        &["lineage", &rows][..],
        &["lineage", more],
        &["lineage", first, "--down"],
        &["lineage", "raw.csv", "--down"],
        &["lineage", "raw.csv", "--down", "--json"],
        &["lineage", "steps.wasm", "--down", "--graph", "mermaid"],
        &["lineage", "nothing"],
        &["diff", more, first],
        &["diff", more, first, "--json"],
        &["diff", &rows, &first_rows],
        &["diff", first, &rows],
        &["verify", more],
        &["verify", "copies.yaml", "--jobs", "1"],
        &["verify", "copies.yaml", "--on", "pulley", "--json"],
        &["verify", "--all", "-n", "3", "--jobs", "1"],
        &["verify", "--all", "--json"],
        &["gc", "--dry-run", "--json"],
        &["gc", "--dry-run", "--grace", "0s", "--older-than", "0s"],
    ] {
        // nothing but what the host sends
        let [said, expected] = [there(&place(), &host, arguments), here.run(arguments)]
            .map(|said| (said.code, squeeze(&said.stdout), squeeze(&said.stderr)));
        assert_eq!(said, expected, "{arguments:?}");
    }
    let signed = there(&place(), &host, &["verify", more, "--signed-by", "x.pem"]);
    assert!(
        signed
            .stderr
            .starts_with("error: --signed-by does not support --host: a host does not give out signatures\n"),
        "{signed:?}"
    );

    // outputs of a record that is here already
    let other = place();
    assert_eq!(there(&other, &host, &["show", first]).code, 0);
    assert_eq!(
        there(&other, &host, &["show", &first_rows, "--raw"]).stdout,
        "name,mass\nAdelie,3750\n"
    );

    // a real one
    let removed = there(&other, &host, &["gc", "--grace", "0s", "--older-than", "0s", "--json"]);
    let removed: serde_json::Value = serde_json::from_str(&removed.stdout).unwrap();
    assert_eq!(
        (&removed["removed"], removed["records"].as_array().unwrap().len()),
        (&serde_json::json!(true), listed.len())
    );
    assert_eq!(here.json(&["log"])["runs"], serde_json::json!([]));
}

#[test]
fn a_host_that_has_a_false_record_is_found_out() {
    let place = place();
    let run = place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv"]);
    let forged = forge_rows(&place, run["record"].as_str().unwrap());
    let host = Host::start_with(place, &[]);
    let other = Place::new();
    let [said, expected] = [
        there(&other, &host, &["verify", &forged]),
        host.place.run(&["verify", &forged]),
    ]
    .map(|said| (said.code, squeeze(&said.stdout), squeeze(&said.stderr)));
    assert_eq!(said, expected);
    assert_eq!(said.0, 4);
    assert!(said.1.contains("row 1, column mass: 3751 and 3750"), "{}", said.1);
}

#[test]
fn only_an_admin_has_a_host_collect_garbage() {
    let host = Host::start();
    let token = host.place.json(&["token", "create", "laptop", "--scope", "run"])["token"].clone();
    let place = Place::new();
    let mut command = place.command(&["gc", "--dry-run"]);
    command
        .env("LOCKSTEP_HOST", host.url())
        .env("LOCKSTEP_TOKEN", token.as_str().unwrap());
    let refused = place.said(&mut command);
    assert_eq!(
        (refused.code, refused.stderr.lines().next().unwrap()),
        (5, "error: permission denied: scope `admin` required, the token has `run`")
    );
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
        &["fsck", "--host", "http://127.0.0.1:1"],
        "error: `lockstep fsck` does not support --host
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
