//! An interpreter for a tiny language, to test a kernel without a compiler.

use std::thread::sleep;
use std::time::{Duration, Instant};

use lockstep_kernel::jupyter::{Assistant, Completion, Completions, Execute, Interpreter, Interrupt};
use lockstep_kernel::output::{CellError, MimeBundle, Output, Stream};
use serde_json::{Value, json};

/// Executes these lines:
///
/// | line | effect |
/// |---|---|
/// | `1 + 2`, also `-` and `*` | the result |
/// | `print TEXT`, `eprint TEXT` | a line on stdout or stderr |
/// | `lines COUNT TEXT` | many lines, written one by one |
/// | `sleep MS` | waits; can be interrupted |
/// | `progress` | a bar from 0 to 100 |
/// | `display TEXT`, `again TEXT` | a rich value, and its replacement |
/// | `clear` | clears the output |
/// | `ask PROMPT` | returns a line from stdin |
/// | `cell` | the cell's metadata from the front end |
/// | `error TEXT` | fails |
/// | `panic` | panics |
pub struct Echo;

const WORDS: [&str; 12] = [
    "again", "ask", "cell", "clear", "display", "eprint", "error", "lines", "panic", "print", "progress", "sleep",
];

impl Interpreter for Echo {
    fn execute(
        &mut self,
        cell: &Execute,
        output: &mut dyn Output,
        interrupt: &Interrupt,
    ) -> Result<Option<MimeBundle>, CellError> {
        let mut value = None;
        for line in cell.code.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "print" => output.stream(Stream::Stdout, format!("{rest}\n").as_bytes()),
                "eprint" => output.stream(Stream::Stderr, format!("{rest}\n").as_bytes()),
                "lines" => {
                    let (count, text) = rest.split_once(' ').unwrap_or((rest, ""));
                    let line = format!("{text}\n");
                    for _ in 0..count.parse().unwrap_or(0u32) {
                        output.stream(Stream::Stdout, line.as_bytes());
                    }
                }
                "sleep" => wait(Duration::from_millis(rest.parse().unwrap_or(0)), interrupt)?,
                "progress" => {
                    for percent in 0..=100 {
                        output.stream(Stream::Stderr, format!("\x1b]9;4;1;{percent}\x1b\\").as_bytes());
                    }
                    output.stream(Stream::Stderr, b"\x1b]9;4;0\x1b\\");
                }
                "display" => {
                    let id = format!("{}-one", output.name());
                    output.display(MimeBundle::text(rest).with("text/html", format!("<b>{rest}</b>")), Some(&id));
                }
                "again" => {
                    let id = format!("{}-one", output.name());
                    output.update(MimeBundle::text(rest), &id);
                }
                "clear" => output.clear(true),
                "ask" => {
                    let answer = output.ask(rest, false);
                    value = Some(answer.map_err(|error| CellError::new("StdinNotAllowed", error.to_string()))?);
                }
                "cell" => value = Some(format!("{:?} {:?} {}", cell.cell_id, cell.deleted_cells, cell.number)),
                "error" => return Err(CellError::new("EchoError", rest)),
                "panic" => panic!("as asked"),
                _ => value = Some(calculate(line)?.to_string()),
            }
        }
        Ok(value.map(MimeBundle::text))
    }

    fn evaluate(&mut self, expression: &str, _: &Interrupt) -> Result<MimeBundle, CellError> {
        Ok(MimeBundle::text(calculate(expression)?.to_string()))
    }

    fn assistant(&self) -> Box<dyn Assistant> {
        Box::new(Echo)
    }
}

impl Assistant for Echo {
    fn complete(&mut self, code: &str, cursor: usize) -> Completions {
        let start = code[..cursor].rfind(char::is_whitespace).map_or(0, |space| space + 1);
        let matches = WORDS.iter().filter(|word| word.starts_with(&code[start..cursor]));
        let matches = matches.map(|word| Completion {
            text: (*word).to_owned(),
            kind: "keyword".to_owned(),
        });
        Completions {
            replaced: start..cursor,
            matches: matches.collect(),
        }
    }

    fn inspect(&mut self, code: &str, _cursor: usize) -> Option<MimeBundle> {
        let known = WORDS.contains(&code.trim());
        known.then(|| MimeBundle::text(format!("{} is a word of the echo language", code.trim())))
    }

    fn variables(&mut self) -> Value {
        json!([{ "name": "echo" }])
    }
}

fn wait(time: Duration, interrupt: &Interrupt) -> Result<(), CellError> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if interrupt.is_triggered() {
            return Err(CellError::new("Interrupted", "the cell was interrupted"));
        }
        sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn calculate(line: &str) -> Result<i64, CellError> {
    let unknown = || CellError::new("EchoError", format!("cannot calculate `{line}`"));
    for (sign, apply) in [
        ('+', i64::checked_add as fn(i64, i64) -> Option<i64>),
        ('-', i64::checked_sub),
        ('*', i64::checked_mul),
    ] {
        if let Some((left, right)) = line.split_once(sign) {
            return apply(calculate(left.trim())?, calculate(right.trim())?).ok_or_else(unknown);
        }
    }
    line.parse().map_err(|_| unknown())
}
