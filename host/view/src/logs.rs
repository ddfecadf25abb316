//! Live output of guests, with progress bars.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar};
use lockstep_runtime::run::terminal::{Said, Terminal};
use lockstep_runtime::sandbox::Stream;

use crate::progress;
use crate::terminal::{self, Filter};

/// Prints the output of tasks: stdout to stdout, stderr to stderr. Progress reports in stderr are removed, and drawn as a bar if stderr is a
/// terminal.
pub struct Logs {
    bars: MultiProgress,
    /// The bar of all tasks.
    whole: Option<ProgressBar>,
    /// Whether all output goes to stderr, because stdout is in use.
    only_stderr: bool,
    /// Whether lines start with the name of the task.
    labelled: bool,
    /// Whether stdout and stderr go to a terminal.
    terminals: [bool; 2],
    tasks: BTreeMap<String, Task>,
}

#[derive(Default)]
struct Task {
    terminal: Terminal,
    bar: Option<ProgressBar>,
    /// Whether the bar is a spinner: no output and no progress yet.
    spinning: bool,
    filters: [Filter; 2],
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Logs {
    /// Creates the logs of a single run.
    pub fn of_run(only_stderr: bool) -> Self {
        Self {
            bars: MultiProgress::new(),
            whole: None,
            only_stderr,
            labelled: false,
            terminals: [
                if only_stderr {
                    io::stderr().is_terminal()
                } else {
                    io::stdout().is_terminal()
                },
                io::stderr().is_terminal(),
            ],
            tasks: BTreeMap::new(),
        }
    }

    /// Creates the logs of `count` tasks of `pipeline`, with the name of the task on each line.
    pub fn of_tasks(pipeline: &str, count: usize, only_stderr: bool) -> Self {
        let logs = Self::of_run(only_stderr);
        let shown = !logs.bars.is_hidden();
        let whole = shown.then(|| logs.bars.add(progress::steps(pipeline)));
        whole.iter().for_each(|whole| whole.set_length(count as u64));
        Self {
            whole,
            labelled: true,
            ..logs
        }
    }

    /// Replaces a task by `count` instances.
    pub fn expand(&mut self, task: &str, count: usize) {
        self.finish(task);
        self.whole.iter().for_each(|whole| whole.inc_length(count as u64));
        self.whole.iter().for_each(|whole| whole.inc(1));
    }

    /// Counts a finished task.
    pub fn advance(&self) {
        self.whole.iter().for_each(|whole| whole.inc(1));
    }

    /// Removes the bar of all tasks.
    pub fn end(&mut self) {
        if let Some(whole) = self.whole.take() {
            whole.finish_and_clear();
        }
    }

    /// Shows a spinner for `task` until it writes or reports progress.
    pub fn start(&mut self, task: &str) {
        if !self.bars.is_hidden() {
            let entry = self.tasks.entry(task.to_owned()).or_default();
            entry.bar = Some(self.bars.add(progress::spinner(task)));
            entry.spinning = true;
        }
    }

    /// Prints a line to stderr that is not from a guest.
    pub fn note(&self, line: &str) {
        let line = match self.terminals[1] {
            true => terminal::safe(line),
            false => line.into(),
        };
        self.bars.suspend(|| anstream::eprintln!("{line}"));
    }

    /// Prints a piece of the output of `task`.
    pub fn write(&mut self, task: &str, stream: Stream, bytes: &[u8]) {
        let entry = self.tasks.entry(task.to_owned()).or_default();
        if stream == Stream::Stdout {
            return match self.terminals[0] {
                true => {
                    let text = entry.filters[0].read(bytes);
                    self.emit(task, stream, text.as_bytes());
                }
                false => self.emit(task, stream, bytes),
            };
        }
        for said in entry.terminal.read(bytes) {
            match said {
                Said::Text(text) if self.terminals[1] => {
                    let entry = self.tasks.entry(task.to_owned()).or_default();
                    let text = entry.filters[1].read(text.as_bytes());
                    self.emit(task, stream, text.as_bytes());
                }
                Said::Text(text) => self.emit(task, stream, text.as_bytes()),
                Said::Progress(percent) => self.progress(task, percent),
            }
        }
    }

    /// Prints the rest of the output of `task`, and removes its bar.
    pub fn finish(&mut self, task: &str) {
        let Some(mut entry) = self.tasks.remove(task) else { return };
        if let Some(bar) = entry.bar.take() {
            bar.finish_and_clear();
        }
        let mut rest = entry.terminal.finish().unwrap_or_default();
        if self.terminals[1] {
            rest = entry.filters[1].read(rest.as_bytes()) + &entry.filters[1].finish();
        }
        entry.stderr.extend(rest.into_bytes());
        entry.stdout.extend(entry.filters[0].finish().into_bytes());
        for (stream, mut rest) in [(Stream::Stdout, entry.stdout), (Stream::Stderr, entry.stderr)] {
            if self.labelled && !rest.is_empty() {
                rest.push(b'\n');
            }
            self.put(task, stream, &rest);
        }
    }

    fn progress(&mut self, task: &str, percent: Option<u8>) {
        let entry = self.tasks.entry(task.to_owned()).or_default();
        entry.stop_spinning();
        match percent {
            Some(percent) => {
                let bar = entry.bar.get_or_insert_with(|| self.bars.add(progress::percent(task)));
                bar.set_position(percent.into());
            }
            None => {
                if let Some(bar) = entry.bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }

    /// Prints at once, or holds back an incomplete line if other tasks or a bar could interrupt it.
    fn emit(&mut self, task: &str, stream: Stream, bytes: &[u8]) {
        let entry = self.tasks.entry(task.to_owned()).or_default();
        if !self.labelled {
            entry.stop_spinning();
        }
        let whole_lines = self.labelled || entry.bar.is_some();
        let held = match stream {
            Stream::Stdout => &mut entry.stdout,
            Stream::Stderr => &mut entry.stderr,
        };
        held.extend_from_slice(bytes);
        let end = match whole_lines {
            true => held.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1),
            false => held.len(),
        };
        let ready: Vec<u8> = held.drain(..end).collect();
        self.put(task, stream, &ready);
    }

    /// Prints and ignores errors: a closed pipe must not end the run.
    fn put(&self, task: &str, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let label = if self.labelled { format!("{task} | ") } else { String::new() };
        let write = || match stream {
            Stream::Stdout if !self.only_stderr => put_lines(io::stdout().lock(), &label, bytes),
            _ => put_lines(io::stderr().lock(), &label, bytes),
        };
        let _ = self.bars.suspend(write);
    }
}

impl Task {
    fn stop_spinning(&mut self) {
        if std::mem::take(&mut self.spinning)
            && let Some(bar) = self.bar.take()
        {
            bar.finish_and_clear();
        }
    }
}

fn put_lines(mut out: impl Write, label: &str, bytes: &[u8]) -> io::Result<()> {
    if label.is_empty() {
        out.write_all(bytes)?;
    } else {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            out.write_all(label.as_bytes())?;
            out.write_all(line)?;
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_sequences_of_a_guest_but_colours() {
        let mut logs = Logs::of_tasks("p", 1, false);
        for (terminals, expected) in [([false; 2], "\x1b[31ma\x1b[2J"), ([true; 2], "\x1b[31ma\\u{1b}[2J")] {
            logs.terminals = terminals;
            for stream in [Stream::Stdout, Stream::Stderr] {
                logs.write("t", stream, b"\x1b[31ma\x1b");
                logs.write("t", stream, b"[2J");
            }
            let task = logs.tasks.remove("t").unwrap();
            assert_eq!(String::from_utf8(task.stdout).unwrap(), expected);
            assert_eq!(String::from_utf8(task.stderr).unwrap(), expected);
        }
    }
}
