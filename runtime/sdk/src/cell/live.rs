//! What a cell shows and asks while it runs, told to the notebook among the text of stdout: `ESC ] 9 ; lockstep ; WORD ; JSON ESC \`.
//! Terminals pass over such sequences.

use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Serialize;

use super::{Bundle, Show};
use crate::{Context, Result};

/// A place below the cell that shows a value, and can show another one later.
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

/// How many displays there are.
static DISPLAYS: AtomicU32 = AtomicU32::new(0);

/// Shows a value below the cell, at once, as its last expression would be.
pub fn display(value: &impl Show) -> Display {
    show(&value.show())
}

fn show(bundle: &Bundle) -> Display {
    let id = DISPLAYS.fetch_add(1, Ordering::Relaxed).to_string();
    say("show", &Shown { id: &id, bundle });
    Display { id }
}

impl Display {
    /// Shows another value in this place.
    pub fn update(&self, value: &impl Show) {
        let bundle = &value.show();
        say("update", &Shown { id: &self.id, bundle });
    }
}

/// Takes away what the cell has shown: now, or (`wait`) when the next thing is shown, so that nothing flickers.
pub fn clear_output(wait: bool) {
    say("clear", &Clear { wait });
}

/// Asks whoever looks at the notebook for a line. The answer is an input of the cell's run: who repeats the run need not type.
/// Reading from [`std::io::stdin`] asks, too, without a prompt.
pub fn input(prompt: &str) -> Result<String> {
    ask(prompt, false)
}

/// As [`input`], but what is typed is not shown. It is kept as an input of the run all the same.
pub fn password(prompt: &str) -> Result<String> {
    ask(prompt, true)
}

fn ask(prompt: &str, password: bool) -> Result<String> {
    say("prompt", &Prompt { prompt, password });
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("nobody answers")?;
    Ok(line.trim_end_matches('\n').to_owned())
}

/// Says something to the notebook. When stdout fails there is nobody to say it to.
fn say(word: &str, what: &dyn erased_serde::Serialize) {
    if let Ok(json) = serde_json::to_string(what) {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(format!("\x1b]9;lockstep;{word};{json}\x1b\\").as_bytes());
        let _ = stdout.flush();
    }
}
