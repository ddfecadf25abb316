//! The host over HTTP: runs compared with a bare axum handler that reads the same request and returns the same response, and kernels
//! compared with those of Jupyter's own gateway.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use lockstep_runtime::digest::Digest;
use serde_json::Value;

use crate::measure::{ROOT, Surroundings, TRIVIAL, Table};

const TOKEN: &str = "token-of-the-benches";

/// Number of concurrent clients.
const CLIENTS: &str = "64";

/// A running host, killed on drop.
struct Host {
    process: Child,
    address: String,
}

impl Host {
    fn start(surroundings: &Surroundings) -> Result<Self> {
        let mut process = Command::new(&surroundings.binary)
            .args(["--json", "serve", "--bind", "127.0.0.1:0", "--store"])
            .arg(surroundings.directory.path().join("host-store"))
            .env("LOCKSTEP_TOKEN", TOKEN)
            .env("LOCKSTEP_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = process.stdout.take().context("the host has no stdout")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line)?;
        let url = told["url"].as_str().context("the host did not print its URL")?;
        let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Ok(Self { process, address })
    }

    /// Sends a request, and returns the body of the response.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.address)?;
        let address = &self.address;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .context("a response without a body")?;
        Ok(answer.split_off(end + 4))
    }

    /// Returns the resident memory of the host, in bytes.
    fn resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        Ok(kibibytes.context("/proc does not show the memory of the host")? << 10)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // it may have exited already
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn measure(surroundings: &Surroundings, table: &mut Table) -> Result<()> {
    let host = Host::start(surroundings)?;
    runs(surroundings, &host, table)?;
    streamed(&host)?;
    kernels(surroundings, &host, table)
}

fn runs(surroundings: &Surroundings, host: &Host, table: &mut Table) -> Result<()> {
    let Some(wrk) = wrk() else {
        table.missing("a known run over HTTP", "wrk is not available from Debian's packages");
        return Ok(());
    };
    let trivial = wat::parse_str(TRIVIAL)?;
    let module = Digest::of(&trivial).hex();
    host.ask("PUT", &format!("/api/v1/artifacts/{module}"), &trivial)?;
    let request = format!("{{\"module\":\"{module}\"}}");
    host.ask("POST", "/api/v1/runs", request.as_bytes())?;
    let answer = host.ask("POST", "/api/v1/runs", request.as_bytes())?;

    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = threads.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let bare_address = listener.local_addr()?.to_string();
    let bare = Router::new().route(
        "/api/v1/runs",
        post(move |_: Bytes| {
            let answer = answer.clone();
            async move { ([(CONTENT_TYPE, "application/json")], answer) }
        }),
    );
    threads.spawn(async move { axum::serve(listener, bare).await });

    let head = format!("wrk.method = 'POST'\nwrk.headers['authorization'] = 'Bearer {TOKEN}'\n");
    let known = surroundings.directory.path().join("known.lua");
    std::fs::write(&known, format!("{head}wrk.body = '{request}'\n"))?;
    let fresh = surroundings.directory.path().join("fresh.lua");
    // each thread has its own range of seeds
    let count = format!(
        "local threads = 0\nfunction setup(thread) threads = threads + 1; thread:set('number', threads) end\nlocal asked = 0\n\
         function request() asked = asked + 1; return wrk.format(nil, nil, nil, '{{\"module\":\"{module}\",\"seed\":' .. (number * 1e9 + asked) .. '}}') end\n"
    );
    std::fs::write(&fresh, format!("{head}{count}"))?;

    let theirs = asked(&wrk, &known, &bare_address)?;
    let ours = asked(&wrk, &known, &host.address)?;
    table.ratio(
        "a known run over HTTP, 64 clients",
        ours,
        "a bare axum handler",
        theirs,
        "<= 1.43",
    );
    let new = asked(&wrk, &fresh, &host.address)?;
    table.time("a new trivial run over HTTP, 64 clients", new, "< 500 us");
    threads.shutdown_background();
    Ok(())
}

/// A program that writes 256 MiB to stdout, in lines of 64 KiB.
const WRITER: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start") (local $left i32)
    (memory.fill (i32.const 1024) (i32.const 120) (i32.const 65535))
    (i32.store8 (i32.const 66559) (i32.const 10))
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 65536))
    (local.set $left (i32.const 4096))
    (loop $again
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#;

/// Measures how fast a client receives a guest's output as events, and by how much the host's memory grows meanwhile.
fn streamed(host: &Host) -> Result<()> {
    let writer = wat::parse_str(WRITER)?;
    let module = Digest::of(&writer).hex();
    host.ask("PUT", &format!("/api/v1/artifacts/{module}"), &writer)?;
    let request = format!(r#"{{"module":"{module}","limits":{{"log":{}}}}}"#, 1_u64 << 30);
    let before = host.resident()?;
    let start = Instant::now();
    let work: Value = serde_json::from_slice(&host.ask("POST", "/api/v1/runs?wait=0", request.as_bytes())?)?;
    let id = work["id"].as_str().context("the work has no id")?;
    let mut stream = TcpStream::connect(&host.address)?;
    let address = &host.address;
    write!(
        stream,
        "GET /api/v1/works/{id}/events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
    )?;
    let (mut piece, mut came, mut largest) = (vec![0; 256 << 10], 0, before);
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            break;
        }
        // the letter that the program writes
        came += piece[..read].iter().filter(|byte| **byte == b'x').count();
        largest = largest.max(host.resident()?);
    }
    let rate = came as f64 / 1e6 / start.elapsed().as_secs_f64();
    eprintln!(
        "streamed output: a client received {:.0} of 268 MB at {rate:.0} MB/s (target: 24 MB/s), and the host's memory grew by {:.0} MB",
        came as f64 / 1e6,
        (largest - before) as f64 / 1e6
    );
    Ok(())
}

/// Returns the path of wrk, if `make bench` could install it.
fn wrk() -> Option<PathBuf> {
    let wrk = Path::new(ROOT).join("target/wrk/usr/bin/wrk");
    wrk.exists().then_some(wrk)
}

/// Returns the time per answered request.
fn asked(wrk: &Path, script: &Path, address: &str) -> Result<Duration> {
    let libraries = Path::new(ROOT).join("target/wrk/usr/lib").join("x86_64-linux-gnu");
    let output = Command::new(wrk)
        .args(["-t2", "-d5", "-c", CLIENTS, "-s"])
        .arg(script)
        .arg(format!("http://{address}/api/v1/runs"))
        .env("LD_LIBRARY_PATH", libraries)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && !said.contains("Non-2xx"), "wrk: {said}");
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    match rate.and_then(|rate| rate.trim().parse::<f64>().ok()) {
        Some(rate) if rate > 0.0 => Ok(Duration::from_secs_f64(1.0 / rate)),
        _ => bail!("can't parse the output of wrk: {said}"),
    }
}

fn kernels(surroundings: &Surroundings, host: &Host, table: &mut Table) -> Result<()> {
    let prefix = crate::kernels::install(surroundings)?;
    let output = Command::new(Path::new(ROOT).join("target/venv/bin/python"))
        .arg(format!("{ROOT}/benches/serving.py"))
        .env("JUPYTER_PATH", prefix.join("share/jupyter"))
        .env("LOCKSTEP_STORE", surroundings.directory.path().join("kernel-store"))
        .args([&format!("http://{}", host.address), TOKEN, &host.process.id().to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("can't run target/venv/bin/python: run `make bench`")?;
    ensure!(output.status.success(), "benches/serving.py failed");
    let all: Value = serde_json::from_slice(&output.stdout)?;
    let time = |who: &str, what: &str| all[who][what].as_f64().map(Duration::from_secs_f64);
    let rows = [
        (
            "start",
            "kernel of a host, start to first reply",
            "jupyter-kernel-gateway, ipykernel",
            "gateway",
            "",
        ),
        (
            "repeated",
            "the same cell again over WebSocket",
            "jupyter-kernel-gateway, ipykernel",
            "gateway",
            "",
        ),
        (
            "p99",
            "the same cell again over WebSocket, p99",
            "a local lockstep kernel, p99",
            "local",
            "<= 2",
        ),
    ];
    for (what, title, peer, who, target) in rows {
        match (time("host", what), time(who, what)) {
            (Some(ours), Some(theirs)) => table.ratio(title, ours, peer, theirs, target),
            _ => table.missing(title, &format!("{peer}: could not be measured")),
        }
    }
    if let Some(bytes) = all["host"]["memory"].as_f64() {
        eprintln!(
            "200 kernels that each ran a cell: {:.0} MB resident in total (target: 1000 MB)",
            bytes / 1e6
        );
    }
    Ok(())
}
