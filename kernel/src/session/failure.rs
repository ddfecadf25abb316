//! Errors of cells, shown at the lines of the cell.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use lockstep_runtime::step::{Failure, Interruption, Outcome};

use crate::cell::without_directives;
use crate::compile::{CellRef, Generated, Report, Titled, offset};
use crate::output::CellError;

/// The error of an interrupted cell.
pub(super) fn interrupted() -> CellError {
    CellError::new("Interrupted", "the cell was interrupted; variables are unchanged")
}

/// The error of a cell that rustc rejects.
pub(super) fn compile(reports: &[Report]) -> CellError {
    let errors: Vec<_> = reports.iter().filter(|report| report.is_error).collect();
    let evalue = errors
        .first()
        .map_or("the cell failed to compile".to_owned(), |report| report.summary.clone());
    let mut traceback = Vec::new();
    for report in errors {
        traceback.extend(report.rendered.lines().map(str::to_owned));
        traceback.push(String::new());
    }
    traceback.pop();
    CellError {
        ename: "CompileError".into(),
        evalue,
        traceback,
    }
}

pub(super) const NO_COMMANDS: &str = "a Rust cell can't run commands of a shell or of IPython\n\
                                      hint: run the command in a terminal; `:fetch name = \"https://...\"` downloads a file, and `:help` lists directives";

/// Returns the first line of a rejected cell that is a command of a shell (`!ls -l`) or of IPython (`%%bash`). `!done` is Rust, so the line counts
/// only if what follows the mark is no expression, or if rustc does not know its first word. An indented line continues an expression.
pub(super) fn command(code: &str, reports: &[Report]) -> Option<Range<usize>> {
    let is_unknown = |word: &str| {
        let unknown = format!("cannot find value `{word}`");
        reports.iter().any(|report| report.summary.contains(&unknown))
    };
    // errors of syntax have no code, and hide unknown names
    let is_malformed = reports.iter().any(|report| !report.summary.starts_with("[E"));
    let is_argument = |rest: &str| {
        let next = rest.trim_start();
        next.len() < rest.len()
            && !next.starts_with("as ")
            && next.starts_with(|c: char| c.is_alphanumeric() || "-./~$\"".contains(c))
    };
    let is_command = |line: &str| match line.strip_prefix('!') {
        Some(rest) => {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            is_unknown(&rest[..end]) || is_malformed && is_argument(&rest[end..]) || rest.starts_with(['.', '/', '$', '~'])
        }
        None => line.starts_with('%'),
    };
    let rust = without_directives(code);
    let mut lines = rust.split_inclusive('\n').scan(0, |end, line| {
        let start = *end;
        *end += line.len();
        Some(start..start + line.trim_end().len())
    });
    lines.find(|range| is_command(&rust[range.clone()]))
}

/// An error at a range of a cell. Text after `hint: ` in the message is shown below it.
pub(super) fn at(cell: Titled<'_>, range: Range<usize>, word: &str, ename: &str, message: &str) -> CellError {
    let Titled { title, text } = cell;
    let start = text.floor_char_boundary(range.start);
    let end = text.ceil_char_boundary(range.end.max(start));
    let (first, hint) = match message.split_once("\nhint: ") {
        Some((first, hint)) => (first, Some(hint)),
        None => (message, None),
    };
    let snippet = Snippet::source(text)
        .path(title)
        .annotation(AnnotationKind::Primary.span(start..end));
    let mut group = Level::ERROR.with_name(word).primary_title(first).element(snippet);
    if let Some(hint) = hint {
        group = group.element(Level::HELP.message(hint));
    }
    CellError {
        ename: ename.into(),
        evalue: first.into(),
        traceback: Renderer::styled().render(&[group]).lines().map(str::to_owned).collect(),
    }
}

const NO_THREADS: &str = "there are no threads in the sandbox, because their order would change results\n\
                          hint: call the closure where it would be spawned, or use an iterator";

/// The error of a run that did not succeed. `said` is the cell's failure message.
pub(super) fn of_outcome<'a>(
    outcome: &Outcome,
    said: &str,
    generated: &Generated,
    cell: &dyn Fn(CellRef) -> Titled<'a>,
) -> CellError {
    let ended = |failure: &Failure| match failure {
        Failure::Panic { message, .. } if message.starts_with("failed to spawn thread") => {
            let (place, range) = spawn(generated, cell);
            at(cell(place), range, "panic", "Panic", NO_THREADS)
        }
        Failure::Panic { message, location } => {
            let place = location.as_deref().and_then(|location| locate(location, generated));
            let hinted = match absent(message) {
                Some(hint) => format!("{message}\nhint: {hint}"),
                None => message.clone(),
            };
            match (place, location) {
                (Some((place, range)), _) => at(cell(place), range, "panic", "Panic", &hinted),
                (None, Some(location)) => CellError::new("Panic", format!("{message} (at {location})")),
                (None, None) => CellError::new("Panic", message),
            }
        }
        Failure::Exit { .. } if said.starts_with("error: ") => match holder(said, generated) {
            Some((range, message)) => at(cell(CellRef::Current), range, "error", "Error", message),
            None => returned(said),
        },
        Failure::Exit { code, .. } => CellError::new("Exit", format!("the cell exited with code {code}")),
        Failure::MissingOutput { .. } => CellError::new(
            "Exit",
            "the cell exited before its last statement (std::process::exit), so its variables are lost",
        ),
        Failure::Trap { .. } => CellError::new("Trap", format!("the cell {failure}")),
        Failure::Limit { .. } | Failure::Stack => CellError::new("Limit", failure.to_string()),
    };
    match outcome {
        Outcome::Failed(failure) => ended(failure),
        Outcome::Interrupted {
            by: Interruption::Caller | Interruption::Input,
        }
        | Outcome::Succeeded => interrupted(),
        Outcome::Interrupted { by: Interruption::Time } => CellError::new("TimeOut", outcome.to_string()),
        Outcome::Interrupted { by: Interruption::Host } => CellError::new("Interrupted", outcome.to_string()),
    }
}

/// Returns the place of the call that spawns a thread: the first `spawn` in the cell, or in the items of earlier cells that it uses.
fn spawn<'a>(generated: &Generated, cell: &dyn Fn(CellRef) -> Titled<'a>) -> (CellRef, Range<usize>) {
    fn find(tokens: proc_macro2::TokenStream) -> Option<Range<usize>> {
        tokens.into_iter().find_map(|token| match token {
            proc_macro2::TokenTree::Group(group) => find(group.stream()),
            proc_macro2::TokenTree::Ident(ident) if ident == "spawn" => Some(ident.span().byte_range()),
            _ => None,
        })
    }
    let current = find_in(&without_directives(cell(CellRef::Current).text), find);
    let mut earlier = generated.uses.iter().filter_map(|used| {
        let place = CellRef::Earlier(used.version);
        let found = find_in(cell(place).text.get(used.start..used.end)?, find)?;
        Some((place, used.start + found.start..used.start + found.end))
    });
    let first = current.map(|range| (CellRef::Current, range)).or_else(|| earlier.next());
    first.unwrap_or((CellRef::Current, 0..0))
}

fn find_in(text: &str, find: fn(proc_macro2::TokenStream) -> Option<Range<usize>>) -> Option<Range<usize>> {
    find(text.parse().ok()?)
}

/// Returns the place and the message of an error of the SDK about a variable that holds a lock until the end of the cell.
fn holder<'a>(said: &'a str, generated: &Generated) -> Option<(Range<usize>, &'a str)> {
    let message = said.lines().next()?.trim_start_matches("error: ");
    let (name, rest) = message.strip_prefix('`')?.split_once('`')?;
    let range = rest
        .starts_with(" borrows another variable")
        .then(|| generated.map.bound(name))??;
    Some((range, message))
}

/// Returns a hint about something that the sandbox does not have, if that is what an error is about.
fn absent(message: &str) -> Option<&'static str> {
    let hints = [
        (
            "operation not supported on this platform",
            "there are no sockets and no other programs in the sandbox; `:fetch name = \"https://...\"` downloads a file",
        ),
        (
            "Read-only file system",
            "a cell can write below /tmp, which is empty for each cell; keep what later cells need in a variable",
        ),
    ];
    hints
        .into_iter()
        .find(|(text, _)| message.contains(text))
        .map(|(_, hint)| hint)
}

/// An error returned by the cell with `?`: `error: ...` and its causes.
fn returned(said: &str) -> CellError {
    let (first, causes) = said.split_once('\n').unwrap_or((said, ""));
    let message = first.trim_start_matches("error: ");
    let mut traceback = vec![format!("\x1b[1m\x1b[91merror\x1b[0m\x1b[1m: {message}\x1b[0m")];
    traceback.extend(causes.lines().map(str::to_owned));
    traceback.extend(absent(said).map(|hint| format!("  = help: {hint}")));
    CellError {
        ename: "Error".into(),
        evalue: message.to_owned(),
        traceback,
    }
}

/// Returns the place in a cell for a location such as `cell.rs:12:5`.
fn locate(location: &str, generated: &Generated) -> Option<(CellRef, Range<usize>)> {
    let mut parts = location.rsplitn(3, ':');
    let column = parts.next()?.parse().ok()?;
    let line = parts.next()?.parse().ok()?;
    if !parts.next()?.ends_with("cell.rs") {
        return None;
    }
    let start = offset(&generated.source, line, column)?;
    let rest = generated.source.get(start..)?.lines().next().unwrap_or_default();
    generated.map.locate(&(start..start + rest.trim_end().len().max(1)))
}
