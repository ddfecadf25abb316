//! The output of a running cell, sent to the front ends.

use jupyter_protocol::{ClearOutput, InputRequest};
use lockstep_runtime::run::terminal::{Said, Terminal};
use lockstep_runtime::sandbox::Interrupt;
use serde_json::{Value, json};

use super::content::json_of;
use super::desk::{Desk, Request};
use super::message::Channel;
use crate::output::{MimeBundle, Output, Stream, Unanswered};

pub(super) struct CellOutput<'a, R> {
    desk: &'a Desk<R>,
    asked: &'a Request<R>,
    allow_stdin: bool,
    interrupt: &'a Interrupt,
    stdout: Terminal,
    stderr: Terminal,
    /// The number of progress bars shown.
    bars: u32,
    /// Whether the last progress bar is still active.
    moving: bool,
}

impl<'a, R: Clone> CellOutput<'a, R> {
    pub fn new(desk: &'a Desk<R>, asked: &'a Request<R>, allow_stdin: bool, interrupt: &'a Interrupt) -> Self {
        Self {
            desk,
            asked,
            allow_stdin,
            interrupt,
            stdout: Terminal::default(),
            stderr: Terminal::default(),
            bars: 0,
            moving: false,
        }
    }

    fn publish(&self, msg_type: &str, content: Value) {
        let message = self.desk.origin.message(msg_type, Some(&self.asked.parent), content);
        self.desk.publications.publish_output(message);
    }

    /// Publishes the rest of the streams.
    pub fn finish(&mut self) {
        for (stream, terminal) in [(Stream::Stdout, &mut self.stdout), (Stream::Stderr, &mut self.stderr)] {
            if let Some(text) = terminal.finish() {
                self.desk.publications.publish_text(&self.asked.parent, stream, &text);
            }
        }
    }
}

impl<R: Clone + Send + Sync> Output for CellOutput<'_, R> {
    fn stream(&mut self, stream: Stream, bytes: &[u8]) {
        let terminal = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        for said in terminal.read(bytes) {
            match said {
                Said::Text(text) => self.desk.publications.publish_text(&self.asked.parent, stream, &text),
                Said::Progress(percent) => self.progress(percent),
            }
        }
    }

    fn name(&self) -> String {
        self.asked.parent.msg_id.clone()
    }

    fn display(&mut self, bundle: MimeBundle, id: Option<&str>) {
        let transient = match id {
            Some(id) => json!({ "display_id": id }),
            None => json!({}),
        };
        self.publish("display_data", content(bundle, transient));
    }

    fn update(&mut self, bundle: MimeBundle, id: &str) {
        let transient = json!({ "display_id": id });
        self.publish("update_display_data", content(bundle, transient));
    }

    fn clear(&mut self, wait: bool) {
        self.publish("clear_output", json_of(ClearOutput { wait }));
    }

    fn ask(&mut self, prompt: &str, password: bool) -> Result<String, Unanswered> {
        if !self.allow_stdin {
            return Err(Unanswered::NotAllowed);
        }
        self.finish();
        self.desk.flush();
        let asked = self.desk.questions.ask();
        let prompt = prompt.to_owned();
        let content = json_of(InputRequest { prompt, password });
        let message = self.desk.origin.message("input_request", Some(&self.asked.parent), content);
        self.desk.send(Channel::Stdin, self.asked.route.clone(), message);
        asked.wait(self.interrupt)
    }

    fn progress(&mut self, percent: Option<u8>) {
        let Some(percent) = percent else {
            self.moving = false;
            return;
        };
        let msg_type = if self.moving { "update_display_data" } else { "display_data" };
        self.bars += u32::from(!self.moving);
        let id = format!("{}-progress-{}", self.asked.parent.msg_id, self.bars);
        let content = content(bar(percent), json!({ "display_id": id }));
        let message = self.desk.origin.message(msg_type, Some(&self.asked.parent), content);
        if self.moving {
            self.desk.publications.publish_latest(id, message);
        } else {
            self.desk.publications.publish_output(message);
        }
        self.moving = true;
    }
}

fn content(bundle: MimeBundle, transient: Value) -> Value {
    json!({ "data": bundle.data, "metadata": bundle.metadata, "transient": transient })
}

fn bar(percent: u8) -> MimeBundle {
    let percent = percent.min(100);
    let filled = usize::from(percent) / 5;
    let text = format!("[{}{}] {percent}%", "#".repeat(filled), ".".repeat(20 - filled));
    let html = format!(
        "<progress value=\"{percent}\" max=\"100\" style=\"width: 20em\">{percent}%</progress> <span>{percent}%</span>"
    );
    MimeBundle::text(text).with("text/html", html)
}
