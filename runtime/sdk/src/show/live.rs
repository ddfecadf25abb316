//! Display and input while a cell runs. The notebook receives them as escape sequences on stdout:
//! `ESC ] 9 ; lockstep ; WORD ; JSON ESC \`. Terminals ignore such sequences.

use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Serialize;

use super::{Bundle, Show};
use crate::{Context, Result};

/// A displayed value below the cell, which can be updated later.
#[derive(Clone, Debug)]
pub struct Display {
    id: String,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    bundle: &'a Bundle,
}

#[derive(Serialize)]
struct Clear {
    wait: bool,
}

#[derive(Serialize)]
struct Prompt<'a> {
    prompt: &'a str,
    password: bool,
}

/// The number of displays.
static DISPLAYS: AtomicU32 = AtomicU32::new(0);

/// Shows a value below the cell immediately, in the same way as the last expression.
pub fn display(value: &impl Show) -> Display {
    show(&value.show())
}

fn show(bundle: &Bundle) -> Display {
    let id = DISPLAYS.fetch_add(1, Ordering::Relaxed).to_string();
    say("show", &Shown { id: &id, bundle });
    Display { id }
}

impl Display {
    /// Replaces the displayed value.
    pub fn update(&self, value: &impl Show) {
        let bundle = &value.show();
        say("update", &Shown { id: &self.id, bundle });
    }
}

/// Clears the cell's output: now, or with `wait` when the next output is shown, to avoid flicker.
pub fn clear_output(wait: bool) {
    say("clear", &Clear { wait });
}

/// Asks the user of the notebook for a line. The answer becomes an input of the cell's run, so repeating the run does not ask.
/// Reading from [`std::io::stdin`] also asks, without a prompt.
pub fn input(prompt: &str) -> Result<String> {
    ask(prompt, false)
}

/// Like [`input`], but the text is not shown while typing. It is still stored as an input of the run.
pub fn password(prompt: &str) -> Result<String> {
    ask(prompt, true)
}

fn ask(prompt: &str, password: bool) -> Result<String> {
    say("prompt", &Prompt { prompt, password });
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("nobody answers")?;
    Ok(line.trim_end_matches('\n').to_owned())
}

/// Sends a sequence to the notebook. Ignores errors of stdout.
fn say(word: &str, what: &dyn erased_serde::Serialize) {
    if let Ok(json) = serde_json::to_string(what) {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(format!("\x1b]9;lockstep;{word};{json}\x1b\\").as_bytes());
        let _ = stdout.flush();
    }
}
