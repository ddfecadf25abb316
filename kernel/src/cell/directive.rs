use std::ops::Range;
use std::str::FromStr;

use lockstep_runtime::digest::Digest;

use super::evcxr::{self, Answer};
use crate::toolchain::{Dependency, DependencyError};

/// A command to the session: a line that starts with `:`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Directive {
    /// `:run penguins.wasm#clean raw=raw column="species" -> rows`
    Run {
        /// The module's file, relative to the notebook; `None` for a step of the session itself.
        module: Option<String>,
        /// The step; optional if the module has only one.
        step: Option<String>,
        /// Inputs and parameters by name, as typed, without quotes.
        given: Vec<(String, String)>,
        /// The variables that outputs are bound to.
        outputs: Binds,
    },
    /// `:input raw = penguins.csv`
    Input {
        /// The variable.
        name: String,
        /// The file, relative to the notebook.
        path: String,
    },
    /// `:fetch rows = "https://example.org/rows.csv" sha256:...`
    Fetch {
        /// The variable.
        name: String,
        /// The URL.
        url: String,
        /// The expected digest.
        digest: Option<Digest>,
    },
    /// `:use penguins.wasm as birds`
    Use {
        /// The module's file, or the directory of a crate of steps, relative to the notebook.
        path: String,
        /// The name in cells; defaults to the file's or the crate's name.
        name: Option<String>,
    },
    /// `:dep regex = "1"`
    Dependency(Dependency),
    /// `:run stale`
    RunStale,
    /// `:vars`
    Variables,
    /// `:undo`
    Undo,
    /// `:restore`
    Restore,
    /// `:clear`
    Clear,
    /// `:help`
    Help,
    /// `:type rows`, also `:t rows`
    Type(String),
    /// `:version`
    Version,
    /// A command of evcxr that has no effect here, and why.
    NoEffect(&'static str, &'static str),
}

/// The variables that outputs are bound to.
pub type Binds = Vec<Bind>;

/// An output bound to a variable: `rows`, or `output=rows`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bind {
    /// The output's name; `None` selects the output at the same position in the interface.
    pub output: Option<String>,
    /// The variable.
    pub variable: String,
}

/// The directives and their `:help` texts.
pub const KNOWN: [(&str, &str); 14] = [
    (
        ":run module.wasm#step name=value ... -> variable",
        "run a step of a module; `#step` alone runs a step of this notebook",
    ),
    (":run stale", "re-run the cells whose inputs have changed"),
    (
        ":use module.wasm",
        "import the steps of a module, or of a crate directory, as functions: `module::step(input, parameter)?`",
    ),
    (":input name = path", "read a file or directory into a variable"),
    (
        ":fetch name = \"https://...\"",
        "download a file into a variable; the notebook records its digest",
    ),
    (
        ":sql select ... from {name}",
        "query tables; `:sql variable = select ...` keeps the result",
    ),
    (":vars", "list variables with their type, size, digest and defining cell"),
    (":type name", "show the type of a variable; also `:t`"),
    (":undo", "revert the last cell"),
    (":restore", "restore the session from before the last restart"),
    (":clear", "delete all variables and items"),
    (
        ":dep name = \"1.2\"",
        "add a crate; also takes `{ version, features, default-features, path, git, rev }`",
    ),
    (":version", "show the version of Lockstep"),
    (":help", "list directives"),
];

/// An error in a directive.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DirectiveError {
    /// No directive has this name.
    #[error("unknown directive `:{word}`; {hint}", hint = hint(word))]
    Unknown {
        /// what was typed, without the colon
        word: String,
    },
    /// A command of evcxr that Lockstep does not support.
    #[error("`:{word}` is not available\nhint: {remedy}")]
    Evcxr {
        /// the command, without the colon
        word: &'static str,
        /// what to do instead
        remedy: &'static str,
    },
    /// The arguments are malformed.
    #[error("{problem}; usage: `{form}`")]
    Form {
        /// what is wrong
        problem: String,
        /// the usage
        form: &'static str,
    },
    /// The dependency is malformed.
    #[error("{error}")]
    Dependency {
        /// what is wrong
        error: DependencyError,
        /// its place, in bytes of the directive
        range: Range<usize>,
    },
}

impl DirectiveError {
    /// Returns the place of the error in a directive at `range`.
    pub fn place(&self, range: &Range<usize>) -> Range<usize> {
        match self {
            Self::Dependency { range: part, .. } if !part.is_empty() => range.start + part.start..range.start + part.end,
            _ => range.clone(),
        }
    }
}

/// Returns the names of the directives, each with its colon.
fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = KNOWN.iter().filter_map(|(form, _)| form.split(' ').next()).collect();
    names.dedup();
    names
}

/// Suggests the known directive that is most similar to `word`, or lists all.
fn hint(word: &str) -> String {
    let near = |name: &&str| strsim::damerau_levenshtein(&name[1..], word);
    let best = names().into_iter().min_by_key(near).filter(|name| near(name) <= 2);
    match best {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("available: {}", names().join(", ")),
    }
}

const RUN: &str = ":run module.wasm#step name=value -> variable";
const USE: &str = ":use module.wasm as name";
const FETCH: &str = ":fetch name = \"https://example.org/rows.csv\"";
const SQL: &str = ":sql select ... from {name}";
const TYPE: &str = ":type name";
const INPUT: &str = ":input name = path";

impl FromStr for Directive {
    type Err = DirectiveError;

    /// Parses a directive without its colon.
    fn from_str(line: &str) -> Result<Self, DirectiveError> {
        let (word, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        match word {
            "run" if rest.trim() == "stale" => Ok(Self::RunStale),
            "run" => run(rest),
            "input" => {
                let form = |problem: &str| bad(problem, INPUT);
                let (name, path) = rest.split_once('=').ok_or_else(|| form("missing `=`"))?;
                let path = words(path.trim(), INPUT)?;
                match &path[..] {
                    [path] => Ok(Self::Input {
                        name: variable(name, INPUT)?,
                        path: path.clone(),
                    }),
                    _ => Err(form("expected exactly one path")),
                }
            }
            "fetch" => fetch(rest),
            "use" => use_module(rest),
            "dep" => Dependency::parse(rest).map(Self::Dependency).map_err(|error| {
                // The colon and the text before the dependency.
                let before = 1 + line.trim_end().len() - rest.len();
                let range = before + error.range.start..before + error.range.end;
                DirectiveError::Dependency { error, range }
            }),
            "sql" => Err(bad("a query is a cell of its own", SQL)),
            "vars" => Ok(Self::Variables),
            "undo" => Ok(Self::Undo),
            "restore" => Ok(Self::Restore),
            "clear" => Ok(Self::Clear),
            "help" => Ok(Self::Help),
            "type" | "t" => variable(rest, TYPE).map(Self::Type),
            "version" => Ok(Self::Version),
            other => match evcxr::answer(other) {
                Some((word, Answer::NoEffect(why))) => Ok(Self::NoEffect(word, why)),
                Some((word, Answer::Refused(remedy))) => Err(DirectiveError::Evcxr { word, remedy }),
                None => Err(DirectiveError::Unknown { word: other.to_owned() }),
            },
        }
    }
}

fn run(text: &str) -> Result<Directive, DirectiveError> {
    let words = words(text, RUN)?;
    let mut words = words.into_iter();
    let target = words.next().ok_or_else(|| bad("missing module", RUN))?;
    let (module, step) = match target.split_once('#') {
        Some((module, step)) => (module, Some(step)),
        None => (target.as_str(), None),
    };
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (module, step) = (some(module), step.and_then(some));
    if module.is_none() && step.is_none() {
        return Err(bad("missing module and step", RUN));
    }
    let mut given = Vec::new();
    for word in words.by_ref().take_while(|word| word != "->") {
        let (name, value) = word
            .split_once('=')
            .ok_or_else(|| bad(&format!("`{word}` is not `name=value`"), RUN))?;
        given.push((name.to_owned(), value.to_owned()));
    }
    let mut outputs = Vec::new();
    for word in words.flat_map(|word| word.split(',').map(str::to_owned).collect::<Vec<_>>()) {
        if !word.is_empty() {
            let (output, name) = match word.split_once('=') {
                Some((output, name)) => (Some(output.to_owned()), name),
                None => (None, word.as_str()),
            };
            outputs.push(Bind {
                output,
                variable: variable(name, RUN)?,
            });
        }
    }
    Ok(Directive::Run {
        module,
        step,
        given,
        outputs,
    })
}

fn fetch(text: &str) -> Result<Directive, DirectiveError> {
    let (name, rest) = text.split_once('=').ok_or_else(|| bad("missing `=`", FETCH))?;
    let words = words(rest, FETCH)?;
    let (url, digest) = match &words[..] {
        [url] => (url, None),
        [url, digest] => {
            let no_digest = |_| bad(&format!("`{digest}` is not a digest"), FETCH);
            (url, Some(digest.parse().map_err(no_digest)?))
        }
        _ => return Err(bad("expected a URL and optionally a digest", FETCH)),
    };
    Ok(Directive::Fetch {
        name: variable(name, FETCH)?,
        url: url.clone(),
        digest,
    })
}

fn use_module(text: &str) -> Result<Directive, DirectiveError> {
    let words = words(text, USE)?;
    let (path, name) = match &words[..] {
        [path] => (path, None),
        [path, as_, name] if as_ == "as" => (path, Some(module_name(name).map_err(|problem| bad(&problem, USE))?)),
        _ => return Err(bad("expected exactly one module", USE)),
    };
    let path = path.clone();
    Ok(Directive::Use { path, name })
}

/// Checks that `name` is valid for a module in cells.
pub fn module_name(name: &str) -> Result<String, String> {
    const TAKEN: [&str; 5] = ["lockstep", "std", "core", "alloc", "serde_json"];
    match syn::parse_str::<syn::Ident>(name) {
        Ok(_) if !TAKEN.contains(&name) => Ok(name.to_owned()),
        _ => Err(format!("`{name}` is not a valid module name")),
    }
}

fn bad(problem: &str, form: &'static str) -> DirectiveError {
    DirectiveError::Form {
        problem: problem.to_owned(),
        form,
    }
}

fn variable(name: &str, form: &'static str) -> Result<String, DirectiveError> {
    let name = name.trim();
    match is_variable(name) {
        true => Ok(name.to_owned()),
        false => Err(bad(&format!("`{name}` is not a valid variable name"), form)),
    }
}

/// Returns whether a variable can be called `name`.
pub fn is_variable(name: &str) -> bool {
    syn::parse_str::<syn::Ident>(name).is_ok()
}

/// Splits `text` at white space. Quotes group words and are removed; between double quotes, `\"` and `\\` are escapes.
fn words(text: &str, form: &'static str) -> Result<Vec<String>, DirectiveError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            c if c.is_whitespace() => words.extend(word.take()),
            quote @ ('"' | '\'') => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        None => return Err(bad("unterminated quote", form)),
                        Some(c) if c == quote => break,
                        Some('\\') if quote == '"' => word.extend(letters.next()),
                        Some(c) => word.push(c),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_has_inputs_parameters_and_outputs() {
        let parsed: Directive = r#"run a.wasm#clean raw=raw column="bill length" xs='[1, 2]' -> train, out=test"#
            .parse()
            .unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            parsed,
            Directive::Run {
                module: Some("a.wasm".into()),
                step: Some("clean".into()),
                given: vec![pair("raw", "raw"), pair("column", "bill length"), pair("xs", "[1, 2]")],
                outputs: vec![
                    Bind {
                        output: None,
                        variable: "train".into()
                    },
                    Bind {
                        output: Some("out".into()),
                        variable: "test".into()
                    }
                ],
            }
        );
    }

    #[test]
    fn errors_suggest_a_fix() {
        let message = |line: &str| line.parse::<Directive>().unwrap_err().to_string();
        assert_eq!(message("rnu x"), "unknown directive `:rnu`; did you mean `:run`?");
        assert_eq!(
            message("nonsense"),
            "unknown directive `:nonsense`; available: :run, :use, :input, :fetch, :sql, :vars, :type, :undo, :restore, :clear, :dep, :version, :help"
        );
        assert_eq!(message("input raw"), "missing `=`; usage: `:input name = path`");
        assert_eq!(
            message("input fn = a.csv"),
            "`fn` is not a valid variable name; usage: `:input name = path`"
        );
        assert_eq!(
            message("env A=b"),
            "`:env` is not available\nhint: a cell sees no environment variables; use a variable: `let name = \"value\";`"
        );
        assert!(matches!("opt 2".parse(), Ok(Directive::NoEffect("opt", _))));
        assert_eq!("t rows".parse(), Ok(Directive::Type("rows".into())));
        let error = "dep  a = { versio = \"1\" }".parse::<Directive>().unwrap_err();
        assert!(error.to_string().starts_with("unknown field `versio`"), "{error}");
        assert_eq!(error.place(&(100..125)), 112..118);
    }
}
