//! What is wrong with the operator's file, each with its place, and how that is shown.
//!
//! A problem says what is wrong and what to write instead. It is shown as a text with an excerpt of
//! the file, or as a list for programs. Values of secret keys are masked in every excerpt: the
//! source that is kept here has them overwritten before anything can be shown.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use crate::tree::{Place, Spot};

/// How every message about syntax begins.
pub(crate) const NOT_TOML: &str = "this is not TOML";

/// One mistake, or one remark, about the operator's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line in the file, from 1; absent when the value came from somewhere else.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// The environment variable that the value came from, if it did.
    pub variable: Option<String>,
    /// The key, as `apps.shop.routes[0].path`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub hint: Option<String>,
    #[serde(skip)]
    span: Option<Range<usize>>,
    #[serde(skip)]
    also: Vec<(Range<usize>, String)>,
}

impl Problem {
    fn at(place: &Place, what: String) -> Self {
        let (span, variable) = match &place.spot {
            Spot::Text(span) => (Some(span.clone()), None),
            Spot::Variable(name) => (None, Some(name.clone())),
            Spot::File => (None, None),
        };
        let key = place.key.clone();
        Self { line: None, column: None, variable, key, what, hint: None, span, also: Vec::new() }
    }

    /// Adds what to write instead.
    pub(crate) fn hint(&mut self, text: impl Into<String>) -> &mut Self {
        self.hint = Some(text.into());
        self
    }

    /// Points at a second place that has to do with it.
    pub(crate) fn also(&mut self, place: &Place, label: impl Into<String>) -> &mut Self {
        if let Spot::Text(span) = &place.spot {
            self.also.push((span.clone(), label.into()));
        }
        self
    }

    /// Where it stands in the text, for comparing; what is not in the text comes last.
    fn order(&self) -> usize {
        self.span.as_ref().map_or(usize::MAX, |span| span.start)
    }
}

/// How an output is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// No control sequences: files, pipes, `NO_COLOR`.
    Plain,
    /// ANSI colors.
    Colored,
}

/// How bad a list of problems is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used; the operator should know this.
    Warning,
}

/// Every problem (or every warning) of one file, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// The file, as it was named.
    pub origin: String,
    /// Whether these are errors or warnings.
    pub severity: Severity,
    /// The problems, first line first.
    pub problems: Vec<Problem>,
    #[serde(skip)]
    source: String,
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Paint::Plain))
    }
}

impl Problems {
    /// Sorts, places and keeps the problems. `source` must have its secrets masked.
    pub(crate) fn new(
        origin: &str,
        source: String,
        severity: Severity,
        mut problems: Vec<Problem>,
    ) -> Self {
        problems.sort_by_key(Problem::order);
        problems.dedup();
        drop_consequences(&source, &mut problems);
        for problem in &mut problems {
            if let Some(span) = &problem.span {
                let (line, column) = line_and_column(&source, span.start);
                (problem.line, problem.column) = (Some(line), Some(column));
            }
        }
        Self { origin: origin.to_owned(), severity, problems, source }
    }

    /// One problem with the file as a whole: it cannot be read at all.
    pub(crate) fn about_file(origin: &str, what: String, hint: Option<String>) -> Self {
        let mut problem = Problem::at(&Place::file(), what);
        problem.hint = hint;
        Self::new(origin, String::new(), Severity::Error, vec![problem])
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The whole text for a person: an excerpt for each, then the count. Empty if there are none.
    #[must_use]
    pub fn render(&self, paint: Paint) -> String {
        let renderer = match paint {
            Paint::Plain => Renderer::plain(),
            Paint::Colored => Renderer::styled(),
        }
        .decor_style(DecorStyle::Ascii);
        let mut text = String::new();
        for problem in &self.problems {
            text.push_str(&self.render_one(problem, &renderer));
            text.push_str("\n\n");
        }
        if !self.is_empty() {
            text.push_str(&self.total());
            text.push('\n');
        }
        text
    }

    fn render_one(&self, problem: &Problem, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = match (&problem.variable, &problem.span) {
            (Some(variable), _) => format!("{variable}: {}", problem.what),
            (None, None) => format!("{}: {}", self.origin, problem.what),
            (None, Some(_)) => problem.what.clone(),
        };
        let mut group: Group<'_> = Group::with_title(level.primary_title(one_line(&title)));
        if let Some(span) = &problem.span {
            let mut snippet = Snippet::source(self.source.as_str())
                .path(self.origin.as_str())
                .annotation(AnnotationKind::Primary.span(self.shown(span)));
            for (span, label) in &problem.also {
                let note = AnnotationKind::Context.span(self.shown(span)).label(label.as_str());
                snippet = snippet.annotation(note);
            }
            group = group.element(snippet);
        }
        if let Some(hint) = &problem.hint {
            group = group.element(Level::HELP.message(one_line(hint)));
        }
        renderer.render(&[group])
    }

    /// The part of a span that is worth pointing at: its first line, at least one character.
    fn shown(&self, span: &Range<usize>) -> Range<usize> {
        let start = span.start.min(self.source.len());
        let end = span.end.clamp(start, self.source.len());
        let cut = self.source.get(start..end).and_then(|text| text.find('\n'));
        start..cut.map_or(end, |line| start + line)
    }

    fn total(&self) -> String {
        let (one, many) = match self.severity {
            Severity::Error => ("problem", "problems"),
            Severity::Warning => ("warning", "warnings"),
        };
        let noun = if self.len() == 1 { one } else { many };
        format!("{}: {} {noun}", self.origin, self.len())
    }
}

/// Text from the file or the environment may hold control characters; a message is one line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Where the text is not TOML, what else is said about that line is most likely a consequence.
fn drop_consequences(source: &str, problems: &mut Vec<Problem>) {
    let line = |p: &Problem| p.span.as_ref().map(|span| line_and_column(source, span.start).0);
    let is_syntax = |problem: &Problem| problem.what.starts_with(NOT_TOML);
    let broken: Vec<usize> = problems.iter().filter(|p| is_syntax(p)).filter_map(line).collect();
    problems.retain(|p| is_syntax(p) || line(p).is_none_or(|line| !broken.contains(&line)));
}

fn line_and_column(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset.min(source.len())).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// Collects problems and warnings while a file is read and checked.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
    /// The text could not be read as TOML everywhere: what is missing may stand in that part.
    pub(crate) broken: bool,
    /// Files that were named, to be looked for once the text itself is right.
    pub(crate) files: Vec<(Place, PathBuf)>,
}

impl Sink {
    /// Notes a mistake.
    pub(crate) fn wrong(&mut self, place: &Place, what: impl Into<String>) -> &mut Problem {
        push(&mut self.problems, place, what.into())
    }

    /// Notes something that is accepted, but that the operator should know.
    pub(crate) fn warn(&mut self, place: &Place, what: impl Into<String>) -> &mut Problem {
        push(&mut self.warnings, place, what.into())
    }

    /// Whether a mistake was noted at this key or below it.
    pub(crate) fn touched(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| {
            problem
                .key
                .strip_prefix(key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Notes that a key has to be there, unless what was written there is already known to be bad.
    pub(crate) fn missing(&mut self, section: &Place, name: &str, what: &str, hint: &str) {
        let key = section.below(name);
        if !self.broken && !self.touched(&key.key) {
            self.wrong(&key, what).hint(hint);
        }
    }
}

fn push<'l>(list: &'l mut Vec<Problem>, place: &Place, what: String) -> &'l mut Problem {
    let last = list.len();
    list.push(Problem::at(place, what));
    &mut list[last]
}
