//! The kernel over ZeroMQ, with the order, signatures and time limits that Jupyter relies on.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod client;
mod echo;

use std::time::{Duration, Instant};

use client::{Process, Told};
use serde_json::{Value, json};

fn process() -> Process {
    Process::start(echo::Echo)
}

/// Returns the types of publications; for a status, its state.
fn kinds(published: &[Told]) -> Vec<String> {
    let kind = |told: &Told| match told.content["execution_state"].as_str() {
        Some(state) => state.to_owned(),
        None => told.msg_type().to_owned(),
    };
    published.iter().map(kind).collect()
}

#[tokio::test]
async fn a_cell_is_busy_input_outputs_idle_and_one_reply() {
    let process = process();
    let mut client = process.client().await;
    let (reply, published) = client.execute("print a\nprint b\neprint c\nprint d\n1 + 2").await;
    assert_eq!(
        reply,
        json!({ "status": "ok", "execution_count": 1, "payload": [], "user_expressions": {} })
    );
    let expected = [
        "busy",
        "execute_input",
        "stream",
        "stream",
        "stream",
        "execute_result",
        "idle",
    ];
    assert_eq!(kinds(&published), expected);
    let texts: Vec<_> = published[2..5]
        .iter()
        .map(|told| told.content["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["a\nb\n", "c\n", "d\n"]);
    assert_eq!(published[5].content["data"], json!({ "text/plain": "3" }));
    assert!(published.iter().all(|told| told.header["version"] == "5.5"));
}

#[tokio::test]
async fn a_failed_cell_publishes_one_error_and_replies_with_the_same() {
    let process = process();
    let mut client = process.client().await;
    for (code, ename) in [("error no luck", "EchoError"), ("panic", "KernelPanic")] {
        let (reply, published) = client.execute(code).await;
        assert_eq!(kinds(&published), ["busy", "execute_input", "error", "idle"]);
        assert_eq!(reply["status"], "error");
        for field in ["ename", "evalue", "traceback"] {
            assert_eq!(reply[field], published[2].content[field]);
        }
        assert_eq!(reply["ename"], ename);
    }
    let (reply, _) = client.execute("1 + 1").await;
    assert_eq!((&reply["status"], &reply["execution_count"]), (&json!("ok"), &json!(3)));
}

#[tokio::test]
async fn cells_queued_behind_a_failure_are_aborted_and_other_requests_answered() {
    let process = process();
    let mut client = process.client().await;
    let failing = client.send("execute_request", json!({ "code": "sleep 50\nerror x" })).await;
    let waiting = client.send("execute_request", json!({ "code": "1 + 1" })).await;
    let info = client.send("kernel_info_request", json!({})).await;
    assert_eq!(client.reply(&failing).await["status"], "error");
    assert_eq!(client.reply(&waiting).await, json!({ "status": "aborted" }));
    assert_eq!(client.reply(&info).await["status"], "ok");
    assert_eq!(client.execute("1 + 1").await.0["execution_count"], 2);
}

#[tokio::test]
async fn stop_on_error_false_lets_the_others_run() {
    let process = process();
    let mut client = process.client().await;
    let content = json!({ "code": "sleep 50\nerror x", "stop_on_error": false });
    let failing = client.send("execute_request", content).await;
    let waiting = client.send("execute_request", json!({ "code": "1 + 1" })).await;
    assert_eq!(client.reply(&failing).await["status"], "error");
    assert_eq!(client.reply(&waiting).await["status"], "ok");
}

#[tokio::test]
async fn a_silent_cell_shows_nothing_and_is_not_counted() {
    let process = process();
    let mut client = process.client().await;
    let expressions = json!({ "x": "1 + 1", "y": "nonsense" });
    let content = json!({ "code": "print a\ndisplay b\n1 + 2", "silent": true, "user_expressions": expressions });
    let id = client.send("execute_request", content).await;
    let reply = client.reply(&id).await;
    assert_eq!(reply["status"], "ok");
    assert_eq!(reply["user_expressions"]["x"]["data"], json!({ "text/plain": "2" }));
    assert_eq!(reply["user_expressions"]["y"]["ename"], "EchoError");
    assert_eq!(kinds(&client.published(&id).await), ["busy", "idle"]);
    assert_eq!(client.execute("1").await.0["execution_count"], 1);
    let history = client
        .ask(
            "history_request",
            json!({ "hist_access_type": "tail", "n": 9, "output": true, "raw": true }),
        )
        .await;
    assert_eq!(history["history"], json!([[1, 1, ["1", "1"]]]));
}

#[tokio::test]
async fn an_interrupt_ends_the_cell_and_the_status_stays_busy_until_then() {
    let process = process();
    let mut client = process.client().await;
    let cell = client.send("execute_request", json!({ "code": "sleep 60000" })).await;
    client.published_until(&cell, "execute_input").await;
    let info = client.control("kernel_info_request", json!({})).await;
    assert_eq!(info["language_info"]["file_extension"], ".rs");
    let states: Vec<_> = client.take_states(3).await;
    assert_eq!(
        states,
        ["busy", "idle", "busy"],
        "a control request must not make the kernel look idle"
    );
    let start = Instant::now();
    assert_eq!(
        client.control("interrupt_request", json!({})).await,
        json!({ "status": "ok" })
    );
    assert_eq!(client.reply(&cell).await["ename"], "Interrupted");
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(client.execute("1 + 1").await.0["status"], "ok");
    client.control("interrupt_request", json!({})).await;
    assert_eq!(
        client.execute("1 + 1").await.0["status"],
        "ok",
        "an interrupt of an idle kernel affects no later cell"
    );
}

#[tokio::test]
async fn messages_with_a_wrong_signature_are_dropped() {
    let process = process();
    let mut stranger = process.client_with_key("another key").await;
    stranger.send("execute_request", json!({ "code": "print stolen" })).await;
    stranger.send_raw(&["<IDS|MSG>", "00", "{}", "{}", "{}", "{}"]).await;
    let mut client = process.client().await;
    let (reply, published) = client.execute("1 + 1").await;
    assert_eq!((&reply["status"], &reply["execution_count"]), (&json!("ok"), &json!(1)));
    assert_eq!(published.len(), 4);
    assert!(stranger.is_left_without_reply().await);
}

#[tokio::test]
async fn malformed_messages_are_survived_and_answered_if_possible() {
    let process = process();
    let mut client = process.client().await;
    for frames in [
        &["x"] as &[&str],
        &["<IDS|MSG>"],
        &["", "", ""],
        &["<IDS|MSG>", "zz", "{}", "{}", "{}", "{}"],
        &["<IDS|MSG>", "\u{0}", "[", "1", "", "{"],
    ] {
        client.send_raw(frames).await;
    }
    for (msg_type, content) in [
        ("execute_request", json!({})),
        ("execute_request", json!({ "code": 5 })),
        ("complete_request", json!([])),
        ("history_request", json!({ "hist_access_type": "dream" })),
        ("fancy_request", json!({})),
    ] {
        let reply = client.ask(msg_type, content).await;
        assert_eq!(reply["status"], "error", "{msg_type}");
        assert!(reply["traceback"].is_array());
    }
    assert_eq!(client.control("debug_request", json!({})).await["status"], "error");
    let comm = client
        .send("comm_open", json!({ "comm_id": "c", "target_name": "t", "data": {} }))
        .await;
    assert_eq!(kinds(&client.published(&comm).await), ["busy", "comm_close", "idle"]);
    assert_eq!(client.execute("1 + 1").await.0["status"], "ok");
}

#[tokio::test]
async fn language_requests_are_answered() {
    let process = process();
    let mut client = process.client().await;
    let found = client
        .ask("complete_request", json!({ "code": "é pr", "cursor_pos": 4 }))
        .await;
    assert_eq!(found["matches"], json!(["print", "progress"]));
    assert_eq!((&found["cursor_start"], &found["cursor_end"]), (&json!(2), &json!(4)));
    assert_eq!(found["metadata"]["_jupyter_types_experimental"][0]["type"], "keyword");
    let found = client
        .ask("inspect_request", json!({ "code": "print", "cursor_pos": 2 }))
        .await;
    assert_eq!(found["found"], true);
    let found = client
        .ask("inspect_request", json!({ "code": "dunno", "cursor_pos": 2 }))
        .await;
    assert_eq!((&found["status"], &found["found"]), (&json!("ok"), &json!(false)));
    let open = client.ask("is_complete_request", json!({ "code": "fn f() {" })).await;
    assert_eq!(open, json!({ "status": "incomplete", "indent": "    " }));
    assert_eq!(
        client.ask("comm_info_request", json!({})).await,
        json!({ "status": "ok", "comms": {} })
    );
}

#[tokio::test]
async fn cell_metadata_reaches_the_interpreter() {
    let process = process();
    let mut client = process.client().await;
    client.metadata = json!({ "cellId": "c1", "deletedCells": ["c0"], "trusted": true });
    let (_, published) = client.execute("cell").await;
    assert_eq!(published[2].content["data"]["text/plain"], r#"Some("c1") ["c0"] 1"#);
}

#[tokio::test]
async fn subshells_are_created_and_deleted() {
    let process = process();
    let mut client = process.client().await;
    let info = client.control("kernel_info_request", json!({})).await;
    assert_eq!(info["supported_features"], json!(["kernel subshells"]));
    let made = client.control("create_subshell_request", json!({})).await;
    let id = made["subshell_id"].as_str().unwrap().to_owned();
    let list = client.control("list_subshell_request", json!({})).await;
    assert_eq!(list["subshell_id"], json!([id]));
    client.subshell = Some(id.clone());
    let (reply, published) = client.execute("1 + 1").await;
    assert_eq!(reply["status"], "ok");
    assert!(published.iter().all(|told| told.parent["subshell_id"] == id.as_str()));
    client.control("delete_subshell_request", json!({ "subshell_id": id })).await;
    assert_eq!(client.execute("1 + 1").await.0["ename"], "SubshellNotFound");
    let again = client.control("delete_subshell_request", json!({ "subshell_id": id })).await;
    assert_eq!(again["status"], "error");
}

#[tokio::test]
async fn requests_are_answered_while_a_cell_runs() {
    let process = process();
    let mut client = process.client().await;
    let cell = client.send("execute_request", json!({ "code": "sleep 60000" })).await;
    client.published_until(&cell, "execute_input").await;
    let start = Instant::now();
    let found = client.ask("complete_request", json!({ "code": "pr", "cursor_pos": 2 })).await;
    assert_eq!(found["matches"], json!(["print", "progress"]));
    let found = client
        .ask("inspect_request", json!({ "code": "print", "cursor_pos": 2 }))
        .await;
    assert_eq!(found["found"], true);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(client.take_states(6).await, ["busy", "idle", "busy", "busy", "idle", "busy"]);
    client.control("interrupt_request", json!({})).await;
    assert_eq!(client.reply(&cell).await["ename"], "Interrupted");
}

#[tokio::test]
async fn a_cell_asks_its_own_front_end() {
    let process = process();
    let mut client = process.client().await;
    let cell = client
        .send("execute_request", json!({ "code": "print hello\nask your name? " }))
        .await;
    let asked = client.asked().await;
    assert_eq!(asked.content, json!({ "prompt": "your name?", "password": false }));
    assert_eq!(asked.parent["msg_id"], cell.as_str());
    client.answer("Ada").await;
    let published = client.published(&cell).await;
    assert_eq!(
        kinds(&published),
        ["busy", "execute_input", "stream", "execute_result", "idle"]
    );
    assert_eq!(published[3].content["data"]["text/plain"], "Ada");

    let content = json!({ "code": "ask x", "allow_stdin": false });
    assert_eq!(client.ask("execute_request", content).await["ename"], "StdinNotAllowed");
    let cell = client.send("execute_request", json!({ "code": "ask x" })).await;
    client.asked().await;
    client.control("interrupt_request", json!({})).await;
    assert_eq!(client.reply(&cell).await["status"], "error");
}

#[tokio::test]
async fn displays_are_updated_and_cleared() {
    let process = process();
    let mut client = process.client().await;
    let (_, published) = client.execute("display a\nagain b\nclear").await;
    let expected = [
        "busy",
        "execute_input",
        "display_data",
        "update_display_data",
        "clear_output",
        "idle",
    ];
    assert_eq!(kinds(&published), expected);
    let id = |at: usize| published[at].content["transient"]["display_id"].as_str().unwrap().to_owned();
    assert_eq!(id(2), id(3));
    let (_, other) = client.execute("display a").await;
    assert_ne!(other[2].content["transient"]["display_id"], id(2).as_str());
}

#[tokio::test]
async fn a_comm_sends_the_variables() {
    let process = process();
    let mut client = process.client().await;
    let open = json!({ "comm_id": "c", "target_name": "lockstep.variables", "data": {} });
    let comm = client.send("comm_open", open).await;
    let published = client.published(&comm).await;
    assert_eq!(kinds(&published), ["busy", "comm_msg", "idle"]);
    let expected = json!({ "comm_id": "c", "data": { "variables": [{ "name": "echo" }] } });
    assert_eq!(published[1].content, expected);
    let info = client
        .ask("comm_info_request", json!({ "target_name": "lockstep.variables" }))
        .await;
    assert_eq!(info["comms"], json!({ "c": { "target_name": "lockstep.variables" } }));
    let cell = client.send("execute_request", json!({ "code": "1 + 1" })).await;
    client.reply(&cell).await;
    client.published_until(&comm, "comm_msg").await;
    client.send("comm_close", json!({ "comm_id": "c" })).await;
    let info = client.ask("comm_info_request", json!({})).await;
    assert_eq!(info["comms"], json!({}));
}

#[tokio::test]
async fn progress_is_one_display_that_is_updated() {
    let process = process();
    let mut client = process.client().await;
    let (_, published) = client.execute("progress\neprint done").await;
    assert_eq!(published[2].msg_type(), "display_data");
    let id = &published[2].content["transient"]["display_id"];
    let updates: Vec<_> = published
        .iter()
        .filter(|told| told.msg_type() == "update_display_data")
        .collect();
    assert!(updates.iter().all(|told| told.content["transient"]["display_id"] == *id));
    let last = updates.last().unwrap();
    assert_eq!(last.content["data"]["text/plain"], "[####################] 100%");
    let text: String = published.iter().filter_map(|told| told.content["text"].as_str()).collect();
    assert_eq!(text, "done\n");
}

#[tokio::test]
async fn the_heartbeat_echoes_bytes_unchanged() {
    let process = process();
    let mut client = process.client().await;
    client.send("execute_request", json!({ "code": "sleep 300" })).await;
    let start = Instant::now();
    for beat in [b"ping".as_slice(), b"\0\xff", &[7; 70_000]] {
        assert_eq!(process.heartbeat(beat).await, beat);
    }
    assert!(
        start.elapsed() < Duration::from_millis(250),
        "a running cell does not block the heartbeat"
    );
}

#[tokio::test]
async fn many_lines_are_sent_in_few_messages() {
    let process = process();
    let mut client = process.client().await;
    let start = Instant::now();
    let (_, published) = client.execute("lines 20000 hello").await;
    let text: String = published.iter().filter_map(|told| told.content["text"].as_str()).collect();
    assert_eq!(text, "hello\n".repeat(20_000));
    assert!(published.len() < 200, "{} messages", published.len());
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn text_is_seen_while_the_cell_runs() {
    let process = process();
    let mut client = process.client().await;
    let start = Instant::now();
    let cell = client
        .send("execute_request", json!({ "code": "print early\nsleep 2000" }))
        .await;
    client.published_until(&cell, "stream").await;
    assert!(start.elapsed() < Duration::from_secs(1));
    client.control("interrupt_request", json!({})).await;
    client.reply(&cell).await;
}

#[tokio::test]
async fn a_stalled_subscriber_blocks_no_other() {
    let process = process();
    let stalled = process.stalled_subscriber().await;
    let mut client = process.client().await;
    let code = format!("lines 40000 {}", "x".repeat(1000));
    let start = Instant::now();
    let (reply, published) = client.execute(&code).await;
    assert_eq!(reply["status"], "ok");
    let bytes: usize = published
        .iter()
        .filter_map(|told| told.content["text"].as_str())
        .map(str::len)
        .sum();
    assert_eq!(bytes, 40_000 * 1001, "the other subscriber misses nothing");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    let start = Instant::now();
    client.execute("1 + 1").await;
    assert!(
        start.elapsed() < Duration::from_millis(500),
        "the stalled subscriber is not waited for again: {:?}",
        start.elapsed()
    );
    drop(stalled);
}

#[tokio::test]
async fn a_new_subscriber_is_welcomed() {
    let process = process();
    let mut client = process.client().await;
    let welcome = client.first_publication().await;
    assert_eq!(welcome.msg_type(), "iopub_welcome");
    assert_eq!(welcome.content, json!({ "subscription": "" }));
    assert_eq!(welcome.parent, json!({}));
}

#[tokio::test]
async fn shutdown_replies_and_ends_the_process_even_during_a_cell() {
    for (control, code, restart) in [(true, "sleep 60000", true), (false, "1 + 1", false)] {
        let process = process();
        let mut client = process.client().await;
        let cell = client.send("execute_request", json!({ "code": code })).await;
        client.published_until(&cell, "execute_input").await;
        let start = Instant::now();
        let content = json!({ "restart": restart });
        let reply: Value = match control {
            true => client.control("shutdown_request", content).await,
            false => {
                let id = client.send("shutdown_request", content).await;
                client.reply(&id).await
            }
        };
        assert_eq!(reply, json!({ "status": "ok", "restart": restart }));
        assert_eq!(process.end().restart, restart);
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}
