//! The dashboard of `lockstep serve` in Chromium, controlled by `browser/dashboard.mjs`. All traffic stays on the loopback
//! interface.
//!
//! `make test` installs the requirements. If one is missing, the tests are skipped with a message on stderr.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_runtime::store::Store;
use serde_json::{Value, json};

use crate::browser::{browser_parts, skip};
use crate::setup::{GUESTS, Place, ROOT, build};

const TOKEN: &str = "token-of-the-dashboard-tests";

/// A script that would run if a page included an artifact's markup unescaped.
const HARM: &str = "top.pwned=1;document.documentElement.setAttribute('data-pwned','');fetch('https://elsewhere.example/')";

#[test]
fn every_page_is_accessible_in_light_and_dark_and_on_phones() {
    play("tour", Visit::new(), "/");
}

#[test]
fn pages_work_below_a_base_path() {
    let mut visit = Visit::new();
    let some = ["overview", "filtered", "run", "figure", "table", "lineage", "compare"];
    let named = |name: &&str| ((*name).to_owned(), visit.pages[name].clone());
    visit.pages = some.iter().map(named).collect::<serde_json::Map<_, _>>().into();
    play("tour", visit, "/notebook/a/b/");
}

#[test]
fn errors_are_pages() {
    let mut visit = Visit::new();
    visit.wrong = json!([
        ["nowhere", 404, "resource not found"],
        ["runs/ffff", 404, "artifact or record ffff not found"],
        [
            "artifacts/<svg onload=alert(1)>",
            404,
            "artifact or record <svg onload=alert(1)> not found"
        ],
        [
            "runs?since=soon",
            400,
            "expected a duration with a unit, such as 500ms, 30s or 2m"
        ],
        [
            "runs?nope=1",
            400,
            "invalid query: nope: unknown field `nope`, expected one of `q`, `step`, `module`, `outcome`, `since`, `page`"
        ],
    ]);
    play("wrong", visit, "/");
}

#[test]
fn the_keyboard_reaches_everything() {
    play("keyboard", Visit::new(), "/");
}

#[test]
fn the_overview_keeps_itself_fresh() {
    play("live", Visit::new(), "/");
}

#[test]
fn work_is_watched_and_cancelled() {
    let visit = Visit {
        submit: vec!["run".to_owned(), format!("{}#endless", GUESTS.display())],
        ..Visit::empty()
    };
    play("cancel", visit, "/");
}

#[test]
fn curves_of_runs_are_chosen_and_drawn_in_one_chart() {
    play("curves", Visit::new(), "/");
}

#[test]
fn a_kernel_is_stopped_after_a_question() {
    play("kernels", Visit::empty(), "/");
}

#[test]
fn pages_of_an_empty_store_are_accessible() {
    let visit = Visit {
        pages: json!({ "empty": "", "empty-runs": "runs", "empty-notebooks": "notebooks", "empty-kernels": "kernels", "empty-curves": "curves?step=x", "empty-pipelines": "pipelines" }),
        ..Visit::empty()
    };
    play("tour", visit, "/");
}

#[test]
fn artifacts_can_do_no_harm() {
    let visit = Visit::new();
    let store = Store::open(&visit.place.store()).unwrap();
    let put = |media_type: &str, text: &str| -> Artifact {
        let text = text.replace("HARM", HARM);
        store.put_artifact(text, &MediaType::new(media_type)).unwrap()
    };
    let svg = put(
        MediaType::FIGURE,
        "<svg xmlns='http://www.w3.org/2000/svg' xmlns:xlink='http://www.w3.org/1999/xlink' width='90' height='90' onload=\"HARM\"><script>HARM</script>\
         <image xlink:href='https://elsewhere.example/a.png' width='9' height='9'/><style>@import url(https://elsewhere.example/a.css);</style>\
         <foreignObject width='90' height='90'><iframe xmlns='http://www.w3.org/1999/xhtml' src='javascript:HARM'/></foreignObject><circle r='40'/></svg>",
    );
    let not_png = put("image/png", "<html><script>HARM</script>");
    let html = put(
        "text/html",
        "<!doctype html><script>HARM</script><img src=x onerror=\"HARM\">",
    );
    let json = put(
        MediaType::JSON,
        "{\"</script><script>HARM</script>\": \"<img src=x onerror='HARM'>\"}",
    );
    let csv = put(
        MediaType::CSV,
        "<script>HARM</script>,b\n<img src=x onerror='HARM'>,\u{202e}2\n",
    );
    let metrics = put(MediaType::METRICS, "{\"<img src=x onerror='HARM'>\": 1}");
    let odd = put("\"><script>HARM</script>", "x");
    let said = format!("<script>{HARM}</script>\u{1b}]0;\"><img src=x onerror={HARM}>\u{7}\n");
    let mut log = vec![1];
    log.extend((said.len() as u32).to_le_bytes());
    log.extend(said.bytes());
    let log = store.put_artifact(log, &MediaType::new(MediaType::LOG)).unwrap();
    let name = "<img src=x onerror='HARM'>".replace("HARM", HARM);
    let files = [(name.clone(), html.clone())].into_iter().collect();
    let directory = store.put_directory(&files).unwrap();
    let all = [&svg, &not_png, &html, &json, &csv, &metrics, &odd, &log, &directory];
    let mut hostile: Vec<String> = all
        .iter()
        .map(|artifact| format!("artifacts/{}", artifact.digest.hex()))
        .collect();
    let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
    hostile.extend(
        all.iter()
            .map(|artifact| format!("artifacts/{}?name={encoded}", artifact.digest.hex())),
    );
    hostile.extend(["search?q=", "runs?step=", "runs?q="].map(|address| format!("{address}{encoded}")));
    hostile.push(format!("lineage/{}", svg.digest.hex()));
    let mut visit = visit;
    visit.pages = json!({
        "hostile": hostile,
        "pictures": [svg.digest.hex(), not_png.digest.hex()],
        "downloads": [svg.digest.hex(), html.digest.hex(), not_png.digest.hex()],
    });
    play("hostile", visit, "/");
}

/// A store with runs, and the pages to visit.
struct Visit {
    place: Place,
    pages: Value,
    wrong: Value,
    /// The arguments of a command that submits work to the host.
    submit: Vec<String>,
}

/// The penguins' module.
static PENGUINS: LazyLock<Vec<u8>> = LazyLock::new(|| fs::read(build("examples/penguins", "penguins.wasm")).unwrap());

impl Visit {
    fn empty() -> Self {
        Self {
            place: Place::new(),
            pages: json!({}),
            wrong: json!([]),
            submit: Vec::new(),
        }
    }

    /// Creates a store with two runs of the penguins' pipeline, the second with fewer trees, and a failed run of `clean`.
    fn new() -> Self {
        let place = Place::new();
        for file in ["penguins.yaml", "penguins.csv"] {
            fs::copy(Path::new(ROOT).join("examples/penguins").join(file), place.path(file)).unwrap();
        }
        fs::write(place.path("penguins.wasm"), &*PENGUINS).unwrap();
        fs::write(place.path("not-a-table.txt"), "a\nb,c,d\n\"").unwrap();
        let failed = place.json(&["run", "penguins.wasm#clean", "-i", "raw=not-a-table.txt"]);
        let runs = [
            place.json(&["run", "penguins.yaml"]),
            place.json(&["run", "penguins.yaml", "-p", "trees=60"]),
        ];
        let learn = format!("{}#learn", GUESTS.display());
        let learned = ["0.1", "0.5"].map(|rate| hex(&place.json(&["run", &learn, "-p", &format!("rate={rate}")])["record"]));
        let task = |run: usize, name: &str| {
            let tasks = runs[run]["tasks"].as_array().unwrap();
            tasks.iter().find(|task| task["task"] == name).unwrap().clone()
        };
        let record = |run, name: &str| hex(&task(run, name)["record"]);
        let output = |name: &str, output: &str| hex(&task(0, name)["outputs"][output]["digest"]);
        let pages = json!({
            "overview": "",
            "runs": "runs",
            "filtered": "runs?outcome=failed&since=1h&q=CLEAN",
            "run": format!("runs/{}", record(1, "score")),
            "failed": format!("runs/{}", hex(&failed["record"])),
            "plot": format!("runs/{}", record(0, "plot")),
            "table": format!("artifacts/{}?name=rows&page=1", output("clean", "rows")),
            "model": format!("artifacts/{}?name=model", output("train", "model")),
            "figure": format!("artifacts/{}?name=figure", output("plot", "figure")),
            "metrics": format!("artifacts/{}", output("score", "metrics")),
            "module": format!("artifacts/{}", Digest::of(&*PENGUINS).hex()),
            "lineage": format!("lineage/{}", output("plot", "figure")),
            "compare": format!("compare/{}/{}", record(0, "score"), record(1, "score")),
            "compare-figures": format!("compare/{}/{}", record(0, "plot"), record(1, "plot")),
            "curves": format!("runs/{}", learned[0]),
            "compare-curves": format!("compare/{}/{}", learned[0], learned[1]),
            "curves-of-step": "curves?step=learn",
            "curves-of-runs": format!("curves?run={}&run={}", learned[1], learned[0]),
            "kernels": "kernels",
            "pipelines": "pipelines",
            "pipeline": "pipelines",
            "schedules": "schedules",
            "notebooks": "notebooks",
            "search": "search?q=train",
            "search-digest": format!("search?q={}", &record(0, "train")[..8]),
            "search-nothing": "search?q=zzz",
        });
        Self {
            place,
            pages,
            wrong: json!([]),
            submit: ["run", "penguins.yaml", "-p", "trees=40"].map(str::to_owned).to_vec(),
        }
    }
}

fn hex(digest: &Value) -> String {
    digest.as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned()
}

/// Runs `scene` of dashboard.mjs on the store of `visit` with base path `base`, or prints why it is skipped.
fn play(scene: &str, visit: Visit, base: &str) {
    let (node, browser) = match browser_parts("axe-core") {
        Ok(parts) => parts,
        Err(missing) => return skip(scene, missing),
    };
    let host = Host::start(&visit.place, base);
    let submitted = host.submit(&visit);
    let screenshots = Path::new(ROOT).join("target/screenshots");
    fs::create_dir_all(&screenshots).unwrap();
    let setting = json!({
        "scene": scene,
        "url": host.url,
        "token": TOKEN,
        "browser": browser,
        "screenshots": screenshots,
        "pages": visit.pages,
        "wrong": visit.wrong,
    });
    let played = Command::new(node)
        .arg(format!("{ROOT}/tests/browser/dashboard.mjs"))
        .arg(setting.to_string())
        .output()
        .unwrap();
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    if let Some(mut submitted) = submitted {
        submitted.wait().unwrap();
    }
}

/// A running host.
struct Host {
    process: Child,
    /// The URL, with a trailing slash.
    url: String,
}

impl Host {
    fn start(place: &Place, base: &str) -> Self {
        let mut process = place
            .lockstep(&["serve", "--bind", "127.0.0.1:0", "--base-path", base])
            .env("LOCKSTEP_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stderr.take().unwrap()).lines();
        let url = said
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("listening on ")?.1.trim().to_owned()));
        Self {
            url: url.expect("the host listens"),
            process,
        }
    }
}

impl Host {
    /// Submits the work of `visit` to the host, with a separate client store. Waits until the host has accepted it and, if it
    /// is not endless, until it ends.
    fn submit(&self, visit: &Visit) -> Option<Child> {
        let arguments: Vec<&str> = visit.submit.iter().map(String::as_str).collect();
        if arguments.is_empty() {
            return None;
        }
        let mut command = visit.place.lockstep(&arguments);
        command
            .env("LOCKSTEP_HOST", self.url.trim_end_matches('/'))
            .env("LOCKSTEP_TOKEN", TOKEN)
            .env("LOCKSTEP_STORE", visit.place.path("client"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        if !visit.submit[1].ends_with("#endless") {
            assert!(child.wait().unwrap().success());
            return None;
        }
        while !self.has_work() {
            assert!(
                matches!(child.try_wait(), Ok(None)),
                "the command ended before the host accepted its work"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(child)
    }

    /// Whether the host has a work item.
    fn has_work(&self) -> bool {
        let (address, base) = self.url.trim_start_matches("http://").split_once('/').unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!(
            "GET /{base}api/v1/works HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.contains("\"id\"")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
