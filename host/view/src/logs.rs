//! What guests write, as it comes, with their progress as bars.

use std::collections::BTreeMap;
use std::io::{self, Write};

use indicatif::{MultiProgress, ProgressBar};
use lockstep_runtime::run::terminal::{Said, Terminal};
use lockstep_runtime::sandbox::Stream;

use crate::progress;

/// Where the logs of tasks go: the guest's stdout to stdout, its stderr to stderr. What a guest says of its progress is taken
/// out of stderr and drawn as a bar where stderr is a terminal.
pub struct Logs {
    bars: MultiProgress,
    /// How many tasks there are and have ended.
    whole: Option<ProgressBar>,
    /// Whether stdout is for something else, so that all goes to stderr.
    only_stderr: bool,
    /// Whether lines start with the name of their task.
    labelled: bool,
    tasks: BTreeMap<String, Task>,
}

#[derive(Default)]
struct Task {
    terminal: Terminal,
    bar: Option<ProgressBar>,
    /// Whether the bar only says that it is at work: compiling, or running without a word.
    spinning: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Logs {
    /// The logs of one run.
    pub fn of_run(only_stderr: bool) -> Self {
        Self {
            bars: MultiProgress::new(),
            whole: None,
            only_stderr,
            labelled: false,
            tasks: BTreeMap::new(),
        }
    }

    /// The logs of `count` tasks of `pipeline`, whose lines are told apart by the task's name.
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

    /// A task turns out to be `count` of them.
    pub fn expand(&mut self, task: &str, count: usize) {
        self.finish(task);
        self.whole.iter().for_each(|whole| whole.inc_length(count as u64));
        self.whole.iter().for_each(|whole| whole.inc(1));
    }

    /// A task has ended.
    pub fn advance(&self) {
        self.whole.iter().for_each(|whole| whole.inc(1));
    }

    /// All tasks have ended.
    pub fn end(&mut self) {
        if let Some(whole) = self.whole.take() {
            whole.finish_and_clear();
        }
    }

    /// `task` is at work. A terminal says so until there is something better to see.
    pub fn start(&mut self, task: &str) {
        if !self.bars.is_hidden() {
            let entry = self.tasks.entry(task.to_owned()).or_default();
            entry.bar = Some(self.bars.add(progress::spinner(task)));
            entry.spinning = true;
        }
    }

    /// A line of lockstep's own on stderr.
    pub fn note(&self, line: &str) {
        self.bars.suspend(|| anstream::eprintln!("{line}"));
    }

    /// The next piece of what `task` wrote.
    pub fn write(&mut self, task: &str, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stdout {
            return self.emit(task, stream, bytes);
        }
        let entry = self.tasks.entry(task.to_owned()).or_default();
        for said in entry.terminal.read(bytes) {
            match said {
                Said::Text(text) => self.emit(task, stream, text.as_bytes()),
                Said::Progress(percent) => self.progress(task, percent),
            }
        }
    }

    /// The end of what `task` wrote.
    pub fn finish(&mut self, task: &str) {
        let Some(mut entry) = self.tasks.remove(task) else { return };
        if let Some(bar) = entry.bar.take() {
            bar.finish_and_clear();
        }
        entry
            .stderr
            .extend(entry.terminal.finish().into_iter().flat_map(String::into_bytes));
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

    /// Writes at once, or keeps an unfinished line back where others could come in between: other tasks, or a bar.
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

    /// A reader that went away does not end the run, whose outputs are kept.
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
