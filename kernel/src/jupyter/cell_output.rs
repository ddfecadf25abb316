//! The output of one running cell, on its way to the front ends.

use std::sync::Arc;

use serde_json::json;

use super::message::{Header, Origin};
use super::publications::Publications;
use crate::output::{MimeBundle, Output, Stream};
use crate::terminal::{Said, Terminal};

pub(super) struct CellOutput<'a> {
    origin: &'a Origin,
    publications: &'a Publications,
    parent: &'a Arc<Header>,
    stdout: Terminal,
    stderr: Terminal,
    /// How many bars were drawn, and whether the last is still moving.
    bars: u32,
    moving: bool,
}

impl<'a> CellOutput<'a> {
    pub fn new(origin: &'a Origin, publications: &'a Publications, parent: &'a Arc<Header>) -> Self {
        Self {
            origin,
            publications,
            parent,
            stdout: Terminal::default(),
            stderr: Terminal::default(),
            bars: 0,
            moving: false,
        }
    }

    /// Publishes what the streams held back.
    pub fn finish(&mut self) {
        for (stream, terminal) in [(Stream::Stdout, &mut self.stdout), (Stream::Stderr, &mut self.stderr)] {
            if let Some(text) = terminal.finish() {
                self.publications.publish_text(self.parent, stream, &text);
            }
        }
    }
}

impl Output for CellOutput<'_> {
    fn stream(&mut self, stream: Stream, bytes: &[u8]) {
        let terminal = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        for said in terminal.read(bytes) {
            match said {
                Said::Text(text) => self.publications.publish_text(self.parent, stream, &text),
                Said::Progress(percent) => self.progress(percent),
            }
        }
    }

    fn display(&mut self, bundle: MimeBundle) {
        let content = json!({ "data": bundle.data, "metadata": bundle.metadata, "transient": {} });
        let message = self.origin.message("display_data", Some(self.parent), content);
        self.publications.publish_output(message);
    }

    fn progress(&mut self, percent: Option<u8>) {
        let Some(percent) = percent else {
            self.moving = false;
            return;
        };
        let msg_type = if self.moving { "update_display_data" } else { "display_data" };
        self.bars += u32::from(!self.moving);
        let id = format!("progress-{}-{}", self.parent.msg_id, self.bars);
        let content = json!({
            "data": bar(percent).data,
            "metadata": {},
            "transient": { "display_id": id },
        });
        let message = self.origin.message(msg_type, Some(self.parent), content);
        if self.moving {
            self.publications.publish_latest(id, message);
        } else {
            self.publications.publish_output(message);
        }
        self.moving = true;
    }
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
