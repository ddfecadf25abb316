use std::collections::BTreeMap;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level as Shown, Patch, Renderer, Snippet};

use super::map::{CellRef, Origin, SourceMap};
use crate::toolchain::{Diagnostic, Level, Span};

/// A cell with its title in errors: `[3]`.
#[derive(Clone, Debug)]
pub struct Titled<'a> {
    /// The text before `:line:column`.
    pub title: String,
    /// The whole text.
    pub text: &'a str,
}

/// A message of rustc, mapped to the lines of cells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Whether it is an error.
    pub is_error: bool,
    /// A one-line summary with the error code.
    pub summary: String,
    /// The full message with colours, as rustc shows it in a terminal.
    pub rendered: String,
}

/// Maps `diagnostics` to reports for the user: all errors, and warnings about the current cell. Generated code is hidden.
pub fn reports<'a>(diagnostics: &[Diagnostic], map: &SourceMap, cell: &dyn Fn(CellRef) -> Titled<'a>) -> Vec<Report> {
    let reader = Reader { map, cell };
    let mut reports: Vec<Report> = Vec::new();
    for diagnostic in diagnostics {
        if let Some(report) = reader.report(diagnostic)
            && !reports.contains(&report)
        {
            reports.push(report);
        }
    }
    reports
}

struct Reader<'m, 'a> {
    map: &'m SourceMap,
    cell: &'m dyn Fn(CellRef) -> Titled<'a>,
}

/// Spans of one cell.
type Places<'d> = BTreeMap<CellRef, Vec<(Range<usize>, &'d Span)>>;

impl<'a> Reader<'_, 'a> {
    fn report(&self, diagnostic: &Diagnostic) -> Option<Report> {
        let (is_error, level) = match diagnostic.level {
            Level::Error | Level::InternalError => (true, Shown::ERROR),
            Level::Warning => (false, Shown::WARNING),
            _ => return None,
        };
        // `aborting due to 2 previous errors`, `1 warning emitted`
        if diagnostic.spans.is_empty() && diagnostic.code.is_none() && is_closing(&diagnostic.message) {
            return None;
        }
        let places = self.places(&diagnostic.spans);
        let primary = diagnostic.spans.iter().find(|span| span.is_primary);
        let at = primary.and_then(|span| self.locate(span)).map(|(place, _)| place);
        if !is_error && at != Some(CellRef::Current) {
            return None;
        }
        let load = primary.and_then(|span| match self.map.origin(span.outermost().byte_start as usize) {
            Some(Origin::Load(name)) => Some(name),
            _ => None,
        });
        let code = diagnostic
            .code
            .as_ref()
            .map(|code| code.code.as_str())
            .filter(|code| is_error && code.starts_with('E'));
        let message = match load {
            Some(name) => format!("variable `{name}` can't be used in this cell: {}", diagnostic.message),
            None => diagnostic.message.clone(),
        };
        let mut title = level.primary_title(message.clone());
        if let Some(code) = code {
            title = title.id(code.to_owned());
        }
        let mut main = self.with_snippets(Group::with_title(title), &places, at);
        if load.is_some() {
            let hint = "a variable that borrows can't leave its cell; make it own its data (`.clone()`, `move |..|`)";
            main = main.element(Shown::HELP.message(hint));
        }
        let mut groups = Vec::new();
        for child in diagnostic.children.iter().filter(|child| !is_generated(&child.message)) {
            match self.child(child) {
                Some(Child::Message(message)) => main = main.element(message),
                Some(Child::Group(group)) => groups.push(group),
                None => {}
            }
        }
        groups.insert(0, main);
        Some(Report {
            is_error,
            summary: match code {
                Some(code) => format!("[{code}] {message}"),
                None => message,
            },
            rendered: Renderer::styled().render(&groups),
        })
    }

    fn child(&self, child: &Diagnostic) -> Option<Child<'a>> {
        let level = if child.level == Level::Help {
            Shown::HELP
        } else {
            Shown::NOTE
        };
        // Skip the note that names the lint: rustc prints it only once per compilation.
        if child.message.contains("on by default") || child.message.starts_with("`#[warn(") {
            return None;
        }
        let replacements: Vec<_> = child
            .spans
            .iter()
            .filter(|span| span.suggested_replacement.is_some())
            .collect();
        let places = self.places(&child.spans);
        if let Some(name) = missing_crate(&child.message) {
            let hint = format!("`:dep {name}`, in a line before the code, adds the crate `{name}`");
            return Some(Child::Message(level.message(hint)));
        }
        if places.is_empty() {
            let lines = replacements
                .iter()
                .filter_map(|span| span.suggested_replacement.as_deref())
                .map(str::trim);
            let lines: Vec<&str> = lines.filter(|line| !line.is_empty() && !is_generated(line)).collect();
            return match (lines.is_empty(), child.spans.is_empty()) {
                (false, _) => Some(Child::Message(level.message(format!(
                    "{}: `{}`",
                    child.message,
                    lines.join("` or `")
                )))),
                (true, true) => Some(Child::Message(level.message(child.message.clone()))),
                (true, false) => None,
            };
        }
        let group = Group::with_title(level.secondary_title(child.message.clone()));
        if replacements.is_empty() {
            return Some(Child::Group(self.with_snippets(group, &places, None)));
        }
        let mut group = group;
        for (place, spans) in places {
            let Titled { title, text } = (self.cell)(place);
            let patches = spans
                .into_iter()
                .filter_map(|(range, span)| Some(Patch::new(range, span.suggested_replacement.clone()?)));
            group = group.element(Snippet::source(text).path(title).patches(patches));
        }
        Some(Child::Group(group))
    }

    fn places<'d>(&self, spans: &'d [Span]) -> Places<'d> {
        let mut places = Places::new();
        for span in spans {
            if let Some((place, range)) = self.locate(span) {
                places.entry(place).or_default().push((range, span));
            }
        }
        places
    }

    fn locate(&self, span: &Span) -> Option<(CellRef, Range<usize>)> {
        let span = span.outermost();
        if !span.file_name.ends_with("cell.rs") {
            return None;
        }
        let (place, range) = self.map.locate(&(span.byte_start as usize..span.byte_end as usize))?;
        let text = (self.cell)(place).text;
        let start = text.floor_char_boundary(range.start);
        Some((place, start..text.ceil_char_boundary(range.end.max(start))))
    }

    /// Adds a snippet for each cell to the group, starting with the cell `first`.
    fn with_snippets(&self, mut group: Group<'a>, places: &Places<'_>, first: Option<CellRef>) -> Group<'a> {
        let mut order: Vec<_> = places.iter().collect();
        order.sort_by_key(|(place, _)| Some(**place) != first);
        for (place, spans) in order {
            let Titled { title, text } = (self.cell)(*place);
            let annotations = spans.iter().map(|(range, span)| annotation(range.clone(), span));
            group = group.element(Snippet::source(text).path(title).annotations(annotations));
        }
        group
    }
}

enum Child<'a> {
    Message(annotate_snippets::Message<'a>),
    Group(Group<'a>),
}

fn annotation<'a>(range: Range<usize>, span: &Span) -> Annotation<'a> {
    let kind = if span.is_primary {
        AnnotationKind::Primary
    } else {
        AnnotationKind::Context
    };
    kind.span(range)
        .label(span.label.clone().filter(|label| !is_generated(label)))
}

/// Returns the crate that rustc misses.
fn missing_crate(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("you might be missing a crate named `")?;
    rest.split('`').next()
}

fn is_generated(text: &str) -> bool {
    ["__cell", "__witness", "__tags", "lockstep::cell"]
        .iter()
        .any(|name| text.contains(name))
}

fn is_closing(message: &str) -> bool {
    message.starts_with("aborting due to") || message.ends_with("emitted") || message.starts_with("could not compile")
}
