//! `lockstep serve`: how it carries out jobs, and what it does when it was killed.

use std::net::Shutdown;
use std::time::Duration;

use lockstep_runtime::digest::Digest;
use serde_json::{Value, json};

use crate::place::{Place, cat, program};
use crate::serve::{Answer, Host, TOKEN, endless};

const STORE: &str = ".local/share/lockstep/store";

/// Looks until it finds something, for at most half a minute.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1500 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("never happened: {what}");
}

/// The work item at `place`, once it has this state.
#[track_caller]
fn in_state(host: &Host, place: &str, state: &str) -> Value {
    until(&format!("{place} is {state}"), || {
        let work = host.ask("GET", place, b"").json();
        (work["state"] == state).then_some(work)
    })
}

fn submit(host: &Host, wait: u64, request: &Value) -> Answer {
    let path = format!("/api/v1/runs?wait={wait}");
    host.ask("POST", &path, request.to_string().as_bytes())
}

/// Submits a run without waiting for it. Returns the path of its work item.
#[track_caller]
fn queue(host: &Host, request: &Value) -> String {
    let answer = submit(host, 0, request);
    assert_eq!(answer.status, 202);
    answer.header("location").unwrap().to_owned()
}

/// A run that copies `text`.
fn copy(host: &Host, text: &str) -> Value {
    let (module, text) = (host.put(&cat()), host.put(text.as_bytes()));
    json!({ "module": module, "inputs": { "text": text }, "stdin": "text", "stdout": "out", "outputs": { "out": "text/plain" } })
}

fn metric(host: &Host, name: &str) -> String {
    let text = String::from_utf8(host.ask("GET", "/metrics", b"").body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name}: {text}")).to_owned()
}

#[test]
fn cancelled_jobs_stop_and_free_their_turns() {
    let host = Host::start_with(Place::new(), &["--jobs", "3"]);
    let module = host.put(&endless());
    let places: Vec<String> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..3)
            .map(|seed| {
                scope.spawn({
                    let (host, module) = (&host, &module);
                    move || submit(host, 1, &json!({ "module": module, "seed": seed }))
                })
            })
            .collect();
        let answers = asked.into_iter().map(|asked| asked.join().unwrap());
        answers.map(|answer| answer.header("location").unwrap().to_owned()).collect()
    });
    places.iter().for_each(|place| drop(in_state(&host, place, "running")));
    assert_eq!(metric(&host, "lockstep_sandboxes"), "3");
    let wanted = copy(&host, "text");
    let next = queue(&host, &wanted);
    assert_eq!(host.ask("GET", &next, b"").json()["state"], "queued");
    for place in &places {
        assert_eq!(host.ask("DELETE", place, b"").status, 202);
        let ended = in_state(&host, place, "interrupted");
        assert_eq!(ended["result"]["outcome"]["is"], "interrupted");
    }
    in_state(&host, &next, "succeeded");
    assert_eq!(
        (metric(&host, "lockstep_sandboxes"), metric(&host, "lockstep_queue")),
        ("0".to_owned(), "0".to_owned())
    );
    assert_eq!(metric(&host, "lockstep_guest_memory_bytes"), "0");
    assert_eq!(metric(&host, "lockstep_works_total{kind=\"run\",state=\"interrupted\"}"), "3");
    // one that waits for its turn can be cancelled, too
    let stuck: Vec<String> = (3..7)
        .map(|seed| queue(&host, &json!({ "module": module, "seed": seed })))
        .collect();
    assert_eq!(host.ask("DELETE", &stuck[3], b"").status, 202);
    let ended = in_state(&host, &stuck[3], "interrupted");
    assert_eq!(ended["result"]["error"]["message"], "cancelled before the start");
}

#[test]
fn only_one_of_the_jobs_that_ran_when_the_host_ended_is_blamed() {
    let mut host = Host::start_with(Place::new(), &["--jobs", "4"]);
    let module = host.put(&endless());
    let stuck: Vec<String> = (0..3)
        .map(|seed| queue(&host, &json!({ "module": module, "seed": seed })))
        .collect();
    stuck.iter().for_each(|place| drop(in_state(&host, place, "running")));
    let states = |host: &Host| -> Vec<String> {
        let state = |place: &String| host.ask("GET", place, b"").json()["state"].as_str().unwrap().to_owned();
        stuck.iter().map(state).collect()
    };
    let count = |states: &[String], state: &str| states.iter().filter(|other| *other == state).count();
    for given_up in 0..3 {
        host = host.kill_and_start(&["--jobs", "4", "--grace", "0s"]);
        // one at a time, while new work runs, too
        until("one of them runs", || (count(&states(&host), "running") == 1).then_some(()));
        let copied = copy(&host, &format!("text {given_up}"));
        assert_eq!(host.run(&copied).status, 200);
        let states = states(&host);
        assert_eq!(
            (count(&states, "running"), count(&states, "queued"), count(&states, "failed")),
            (1, 2 - given_up, given_up)
        );
        if given_up > 0 {
            let counted = metric(&host, "lockstep_works_total{kind=\"run\",state=\"failed\"}");
            assert_eq!(counted, "1");
        }
    }
    // one that waits can be cancelled, and so can the one that runs
    for place in &stuck {
        host.ask("DELETE", place, b"");
    }
    until("none runs", || (count(&states(&host), "running") == 0).then_some(()));
    // those of earlier requests are closed soon
    until("only this connection is open", || {
        (metric(&host, "lockstep_connections") == "1").then_some(())
    });
}

#[test]
fn a_full_store_ends_a_plan_before_its_next_task() {
    let place = Place::new();
    place.write("quotas.toml", "[users.ann]\nstore = '40kB'\n");
    let host = Host::start_with(place, &["--jobs", "1", "--quotas", "quotas.toml"]);
    let token = host.place.json(&["token", "create", "laptop", "--user", "ann"])["token"].clone();
    let place = Place::new();
    let fill = |len: u32| program("", &format!("(call $write (i32.const 1) (i32.const 4096) (i32.const {len}))"));
    let mut pipeline = "name: fill\ntasks:\n".to_owned();
    for (task, len) in [("first", 60_000), ("second", 50_000)] {
        place.write(&format!("{task}.wasm"), fill(len));
        let program = format!("program: {task}.wasm, stdout: out, outputs: {{ out: application/octet-stream }}");
        pipeline.push_str(&format!("  {task}: {{ {program} }}\n"));
    }
    place.write("fill.yaml", pipeline);
    let run = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command
            .env("LOCKSTEP_HOST", host.url())
            .env("LOCKSTEP_TOKEN", token.as_str().unwrap());
        place.said(&mut command)
    };
    let full = run(&["run", "fill.yaml", "--keep-going", "--json"]);
    let tasks: Value = serde_json::from_str(&full.stdout).unwrap();
    let tasks = tasks["tasks"].as_array().unwrap();
    let is_quota = |task: &Value| task.to_string().contains("quota `store` is reached: your store has ");
    let outcomes: Vec<(bool, bool)> = tasks
        .iter()
        .map(|task| (task["record"].is_string(), is_quota(task)))
        .collect();
    assert_eq!(outcomes, [(true, false), (false, true)], "{tasks:?}");
    let refused = run(&["run", "fill.yaml"]);
    assert!(
        refused.stderr.starts_with("error: quota `store` is reached: your store has "),
        "{refused:?}"
    );
}

#[test]
fn a_job_that_ended_the_host_twice_is_given_up() {
    let mut host = Host::start();
    let stuck = queue(&host, &json!({ "module": host.put(&endless()) }));
    for _ in 0..2 {
        in_state(&host, &stuck, "running");
        host = host.kill_and_start(&["--grace", "0s"]);
    }
    let given_up = host.ask("GET", &stuck, b"").json();
    assert_eq!(
        (&given_up["state"], &given_up["result"]["error"]["message"]),
        (
            &json!("failed"),
            &json!("the host ended twice while this job ran; it is not started again")
        )
    );
    let events = String::from_utf8(host.ask("GET", &format!("{stuck}/events"), b"").body).unwrap();
    assert!(events.contains("event: ended"), "{events}");
    assert_eq!(host.run(&copy(&host, "text")).status, 200);
    // what is cancelled stays so, even if the host ends at once
    let cancelled = queue(&host, &json!({ "module": host.put(&endless()), "seed": 2 }));
    in_state(&host, &cancelled, "running");
    assert_eq!(host.ask("DELETE", &cancelled, b"").status, 202);
    let mut host = host.kill_and_start(&["--grace", "0s"]);
    assert_eq!(host.ask("GET", &cancelled, b"").json()["state"], "interrupted");
    // a shutdown is no reason to give up
    let stuck = queue(&host, &json!({ "module": host.put(&endless()), "seed": 1 }));
    for _ in 0..3 {
        in_state(&host, &stuck, "running");
        assert_eq!(host.terminate(), Some(0));
        host = host.kill_and_start(&["--grace", "0s"]);
    }
    in_state(&host, &stuck, "running");
}

#[test]
fn events_of_a_job_outlive_the_host() {
    let host = Host::start();
    let place = queue(&host, &copy(&host, "text"));
    let events = |host: &Host| String::from_utf8(host.ask("GET", &format!("{place}/events"), b"").body).unwrap();
    let before = events(&host);
    in_state(&host, &place, "succeeded");
    let host = host.kill_and_start(&[]);
    assert_eq!(events(&host), before);
    let names: Vec<&str> = before.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, ["started", "finished", "ended"]);
    let listed = host.ask("GET", "/api/v1/works", b"").json();
    assert_eq!(listed["works"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&listed["works"][0]["state"], &listed["works"][0]["tasks"]),
        (&json!("succeeded"), &Value::Null)
    );
}

#[test]
fn a_job_goes_on_when_its_client_leaves() {
    let host = Host::start();
    let request = json!({ "module": host.put(&endless()) }).to_string();
    let head = format!(
        "host: localhost\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {}\r\n",
        request.len()
    );
    let client = host.send(format!("POST /api/v1/runs HTTP/1.1\r\n{head}\r\n{request}").as_bytes());
    let works = || host.ask("GET", "/api/v1/works", b"").json()["works"].clone();
    until("the job runs", || (works()[0]["state"] == "running").then_some(()));
    client.shutdown(Shutdown::Both).unwrap();
    drop(client);
    let place = format!("/api/v1/works/{}", works()[0]["id"].as_str().unwrap());
    let host = host.kill_and_start(&[]);
    in_state(&host, &place, "running");
    assert_eq!(host.ask("DELETE", &place, b"").status, 202);
    in_state(&host, &place, "interrupted");
}

#[test]
fn users_take_turns() {
    let host = Host::start_with(Place::new(), &["--jobs", "1", "--trust-header", "kubeflow-userid"]);
    let ask =
        |user: &str, method: &str, path: &str, body: &[u8]| host.ask_with(method, path, &[("kubeflow-userid", user)], body);
    let module = Digest::of(endless()).hex();
    let queue = |user: &str, seed: u64, limits: Value| {
        ask(user, "PUT", &format!("/api/v1/artifacts/{module}"), &endless());
        let request = json!({ "module": module, "seed": seed, "limits": limits }).to_string();
        let answer = ask(user, "POST", "/api/v1/runs?wait=0", request.as_bytes());
        (user.to_owned(), answer.header("location").unwrap().to_owned())
    };
    let (_, first) = queue("ann", 0, json!({}));
    let mut places: Vec<(String, String)> = (1..4).map(|seed| queue("ann", seed, json!({ "time_ms": 50 }))).collect();
    places.push(queue("bob", 0, json!({ "time_ms": 50 })));
    assert_eq!(ask("ann", "DELETE", &first, b"").status, 202);
    let mut started: Vec<(u64, &str)> = places
        .iter()
        .map(|(user, place)| {
            let started = until("it has run", || {
                let work = ask(user, "GET", place, b"").json();
                (work["state"] == "interrupted").then(|| work["started_ms"].as_u64().unwrap())
            });
            (started, user.as_str())
        })
        .collect();
    started.sort_unstable();
    let order: Vec<&str> = started.into_iter().map(|(_, user)| user).collect();
    assert_eq!(order, ["ann", "bob", "ann", "ann"]);
}

#[test]
fn what_does_not_fit_into_the_memory_waits() {
    let host = Host::start_with(Place::new(), &["--jobs", "3", "--memory", "1GiB", "--run-memory", "200MiB"]);
    let module = host.put(&endless());
    let run = |seed: u64, memory: u64| {
        queue(
            &host,
            &json!({ "module": module, "seed": seed, "limits": { "memory": memory } }),
        )
    };
    let first = run(1, 900 << 20);
    in_state(&host, &first, "running");
    let second = queue(&host, &json!({ "module": module, "seed": 2 }));
    until("the second has a turn", || {
        (metric(&host, "lockstep_sandboxes") == "2").then_some(())
    });
    assert_eq!(host.ask("GET", &second, b"").json()["state"], "queued");
    assert_eq!(metric(&host, "lockstep_guest_memory_bytes"), (900u64 << 20).to_string());
    assert_eq!(host.ask("DELETE", &first, b"").status, 202);
    in_state(&host, &second, "running");
    assert_eq!(metric(&host, "lockstep_guest_memory_bytes"), (200u64 << 20).to_string());
    assert_eq!(host.ask("DELETE", &second, b"").status, 202);
    // what is larger than all runs alone
    let large = run(3, 3 << 30);
    in_state(&host, &large, "running");
    let waits = run(4, 1 << 20);
    until("it has a turn", || (metric(&host, "lockstep_sandboxes") == "2").then_some(()));
    assert_eq!(host.ask("DELETE", &waits, b"").status, 202);
    in_state(&host, &waits, "interrupted");
}

#[test]
fn no_run_has_more_time_than_the_host_allows() {
    let host = Host::start_with(Place::new(), &["--max-time", "200ms"]);
    let module = host.put(&endless());
    for limits in [json!({}), json!({ "time_ms": 3_600_000 })] {
        let answer = submit(&host, 60, &json!({ "module": module, "limits": limits }));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["outcome"], json!({ "is": "interrupted", "by": "time" }));
    }
}

#[test]
fn a_user_has_no_more_than_its_quotas() {
    let place = Place::new();
    place.write(
        "quotas.toml",
        "[default]\nqueued = 2\nrunning = 1\nmemory = '1GiB'\nkernels = 0\n[users.small]\nstore = '10B'\n",
    );
    let arguments = ["--jobs", "4", "--trust-header", "kubeflow-userid", "--quotas", "quotas.toml"];
    let host = Host::start_with(place, &arguments);
    let ask =
        |user: &str, method: &str, path: &str, body: &[u8]| host.ask_with(method, path, &[("kubeflow-userid", user)], body);
    let put = |user: &str, bytes: &[u8]| ask(user, "PUT", &format!("/api/v1/artifacts/{}", Digest::of(bytes).hex()), bytes);
    let module = Digest::of(endless()).hex();
    ["ann", "bob"]
        .iter()
        .for_each(|user| assert_eq!(put(user, &endless()).status, 201));
    let run = |user: &str, seed: u64, limits: Value| {
        let request = json!({ "module": module, "seed": seed, "limits": limits }).to_string();
        ask(user, "POST", "/api/v1/runs?wait=0", request.as_bytes())
    };
    let refused = |answer: Answer, quota: &str, says: &str| {
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("10")));
        let error = &answer.json()["error"];
        assert_eq!(error["message"], format!("quota `{quota}` is reached: {says}"));
        assert!(error["hints"][0].as_str().unwrap().contains("--quotas"), "{error}");
    };
    let places: Vec<String> = (0..3)
        .map(|seed| run("ann", seed, json!({})).header("location").unwrap().to_owned())
        .collect();
    refused(run("ann", 3, json!({})), "queued", "2 of your jobs are waiting");
    // the others wait though the host has turns, and another user has a turn of its own
    let bob = run("bob", 0, json!({})).header("location").unwrap().to_owned();
    let state = |user: &str, place: &str| ask(user, "GET", place, b"").json()["state"].as_str().unwrap().to_owned();
    until("both have a turn", || {
        (state("ann", &places[0]) == "running" && state("bob", &bob) == "running").then_some(())
    });
    assert_eq!(
        (state("ann", &places[1]), state("ann", &places[2])),
        ("queued".to_owned(), "queued".to_owned())
    );
    refused(
        run("bob", 1, json!({ "memory": 2u64 << 30 })),
        "memory",
        "a run with a memory limit of 2.0 GiB exceeds your 1.0 GiB",
    );
    assert_eq!(put("small", b"0123456789").status, 201);
    refused(put("small", b"more"), "store", "your store has 10 B, and may have 10 B");
    let kernel = ask("ann", "POST", "/api/kernels", b"");
    assert_eq!((kernel.status, kernel.header("retry-after")), (429, Some("10")));
    assert_eq!(
        kernel.json()["message"].as_str().unwrap().lines().next(),
        Some("quota `kernels` is reached: you have 0 kernels; shut one down first")
    );
    let wrong = Place::new();
    wrong.write("quotas.toml", "[default]\nqueue = 2\n");
    let said = wrong.run(&["serve", "--bind", "127.0.0.1:0", "--quotas", "quotas.toml"]);
    assert_eq!(said.code, 3);
    assert!(said.stderr.contains("unknown field `queue`"), "{}", said.stderr);
}

#[test]
fn work_items_of_earlier_versions_are_taken_over() {
    let host = Host::start();
    let ran = host.run(&copy(&host, "text")).json();
    let record = ran["record"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    let run = host.ask("GET", &format!("/api/v1/records/{record}"), b"").json()["run"].clone();
    let works = format!("{STORE}/host/works");
    std::fs::create_dir_all(host.place.path(&works)).unwrap();
    let file = |id: &str, ended: Value| {
        let mut work = json!({ "id": id, "submitted_ms": 1, "submission": { "run": { "run": run } } });
        if !ended.is_null() {
            work["ended"] = ended;
        }
        host.place.write(&format!("{works}/{id}.json"), work.to_string());
    };
    file("000000000001aaaa", Value::Null);
    let task = json!({ "task": "program", "state": "failed", "says": "it failed" });
    let error = json!({ "error": { "kind": "host", "message": "it failed", "details": [], "hints": [] } });
    file(
        "000000000002aaaa",
        json!({ "state": "failed", "started_ms": 2, "ended_ms": 3, "tasks": [task], "result": error }),
    );
    host.place.write(&format!("{works}/odd.json"), "{");
    let host = host.kill_and_start(&[]);
    let first = in_state(&host, "/api/v1/works/000000000001aaaa", "succeeded");
    assert_eq!(first["result"]["record"], ran["record"]);
    let second = host.ask("GET", "/api/v1/works/000000000002aaaa", b"").json();
    assert_eq!((&second["state"], &second["result"]), (&json!("failed"), &error));
    let left: Vec<_> = std::fs::read_dir(host.place.path(&works))
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(left, ["odd.json"]);
}

#[test]
fn a_store_has_one_host() {
    let host = Host::start();
    host.place.fails(
        6,
        &["serve", "--bind", "127.0.0.1:0"],
        &format!(
            "error: another host serves the store [PLACE]/{STORE}\n\
             hint: stop it first, or give this host a store of its own with --store DIR\n"
        ),
    );
    drop(host.kill_and_start(&[]));
}

#[test]
fn a_broken_store_of_a_user_concerns_nobody_else() {
    let place = Place::new();
    std::fs::create_dir_all(place.path(&format!("{STORE}/users/ann/host"))).unwrap();
    place.write(
        &format!("{STORE}/users/ann/host/works.sqlite"),
        "no database, but long enough to be one ".repeat(100),
    );
    place.write(&format!("{STORE}/users/bob"), "no directory");
    let host = Host::start_with(place, &["--trust-header", "kubeflow-userid"]);
    let ask = |user: &str| host.ask_with("GET", "/api/v1/me", &[("kubeflow-userid", user)], b"");
    assert_eq!(ask("eve").status, 200);
    assert_eq!(ask("bob").status, 500);
    let ann = ask("ann");
    assert_eq!(ann.status, 500);
    let error = ann.json()["error"].clone();
    assert!(
        error["message"].as_str().unwrap().contains("users/ann/host/works.sqlite"),
        "{error}"
    );
    assert!(
        error["hints"][0]
            .as_str()
            .unwrap()
            .starts_with("the file is damaged: move it away"),
        "{error}"
    );
    std::fs::remove_file(host.place.path(&format!("{STORE}/users/ann/host/works.sqlite"))).unwrap();
    assert_eq!(ask("ann").status, 200);
}

#[test]
fn garbage_collection_and_backups_see_the_work_of_a_host() {
    let host = Host::start();
    let module = host.put(&endless());
    let place = queue(&host, &json!({ "module": module }));
    in_state(&host, &place, "running");
    let gone = host.place.json(&["gc", "--grace", "0s"]);
    assert_eq!(gone["artifacts"], json!([]));
    let copied = host.place.run(&["backup", "copy"]);
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    // a second backup replaces the table
    assert_eq!(host.place.run(&["backup", "copy"]).code, 0);
    let store = host.place.path("copy").display().to_string();
    let copy = Host::start_with(Place::new(), &["--store", &store]);
    in_state(&copy, &place, "running");
    assert_eq!(copy.ask("DELETE", &place, b"").status, 202);
    in_state(&copy, &place, "interrupted");
    assert_eq!(host.ask("GET", &place, b"").json()["state"], "running");
}
