//! The only place that prints. Results go to stdout, talk goes to stderr.
//!
//! Colors only on a terminal and never with `NO_COLOR`; control bytes that came from elsewhere are
//! escaped before they get here. A reader that has gone away is no error.

use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::exit::Exit;
use super::failure::CliError;
use super::said::Said;
use super::show;

/// For people or for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON value a line.
    Json,
}

/// What a person answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// `y` or `yes`.
    Yes,
    /// Anything else, and when nobody can be asked.
    No,
}

/// Prints.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// For whom.
    pub format: Format,
}

/// Words that a tired reader should find first.
const GOOD: [&str; 3] = ["DONE:", "DONE", "CALM"];
const BAD: [&str; 6] =
    ["FAILED", "NOTHING WAS CHANGED", "NOT RECORDED YET", "TROUBLE", "STUCK", "ROLLED BACK"];

impl Output {
    /// Prints in a format.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// A result for people; nothing with `--json`. A line end is added.
    pub fn text(&self, text: &str) {
        if self.format == Format::Text {
            say(anstream::stdout().lock(), &paint(text));
        }
    }

    /// A result for scripts, on one line; nothing without `--json`.
    pub fn value(&self, value: &impl Serialize) {
        if self.format == Format::Json {
            match serde_json::to_string(value) {
                Ok(line) => say(anstream::stdout().lock(), &line),
                Err(error) => self.talk(&format!("cutover: this cannot be JSON: {error}")),
            }
        }
    }

    /// Text as it is, in both formats: a script of completions, a schema, a log line.
    pub fn raw(&self, text: &str) {
        say(anstream::stdout().lock(), text);
    }

    /// What a command that makes its own texts has to say, and its exit code.
    #[must_use]
    pub fn said(&self, said: &Said) -> Exit {
        if !said.err.is_empty() {
            say(anstream::stderr().lock(), said.err.trim_end());
        }
        if !said.out.is_empty() {
            say(anstream::stdout().lock(), said.out.trim_end());
        }
        Exit::from_code(said.exit)
    }

    /// Empties the screen before a picture that is drawn again.
    pub fn clear(&self) {
        if self.format == Format::Text && is_terminal() {
            let mut out = anstream::stdout().lock();
            drop(out.write_all(b"\x1b[H\x1b[2J").and_then(|()| out.flush()));
        }
    }

    /// Something that is not the result.
    pub fn talk(&self, text: &str) {
        say(anstream::stderr().lock(), &paint(text));
    }

    /// Asks a person; without one at the terminal, or with `--json`, the answer is no.
    #[must_use]
    pub fn ask(&self, question: &str) -> Consent {
        let is_person = std::io::IsTerminal::is_terminal(&std::io::stdin());
        if !is_person || self.format == Format::Json {
            self.talk("Nobody is there to be asked: add --yes.");
            return Consent::No;
        }
        let mut err = anstream::stderr().lock();
        drop(write!(err, "{question} [y/N] ").and_then(|()| err.flush()));
        let mut line = String::new();
        match std::io::stdin().read_line(&mut line) {
            Ok(_) if matches!(line.trim(), "y" | "Y" | "yes") => Consent::Yes,
            _ => Consent::No,
        }
    }

    /// Asks a person for a number; `None` for an empty line, for anything that is none, and when
    /// nobody can be asked.
    #[must_use]
    pub fn ask_number(&self, question: &str) -> Option<u64> {
        let is_person = std::io::IsTerminal::is_terminal(&std::io::stdin());
        if !is_person || self.format == Format::Json {
            return None;
        }
        let mut err = anstream::stderr().lock();
        drop(write!(err, "{question} ").and_then(|()| err.flush()));
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).ok()?;
        let digits: String = line.trim().chars().filter(|c| *c != ',').collect();
        digits.parse().ok()
    }

    /// Prints a failure and gives its exit code.
    #[must_use]
    pub fn failure(&self, error: &CliError) -> Exit {
        match self.format {
            Format::Text => self.talk(&show::failure(&error.message, &error.ways)),
            Format::Json => self.value(&error.line()),
        }
        error.exit
    }
}

/// Whether a person looks at stdout.
#[must_use]
pub fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}

/// Prints what the parser says: help and version on stdout, mistakes on stderr.
#[must_use]
pub fn usage(error: &clap::Error) -> Exit {
    let text = error.render().ansi().to_string();
    if error.use_stderr() {
        say(anstream::stderr().lock(), text.trim_end());
        Exit::Usage
    } else {
        say(anstream::stdout().lock(), text.trim_end());
        Exit::Done
    }
}

/// Writes and pushes it out at once: the first line of a rollback must not wait in a buffer.
fn say(mut out: impl std::io::Write, text: &str) {
    // A closed pipe (`| head`) is the reader's choice.
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}

fn paint(text: &str) -> String {
    let good = Style::new().bold().fg_color(Some(AnsiColor::Green.into()));
    let bad = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let words = GOOD.iter().map(|word| (word, good)).chain(BAD.iter().map(|word| (word, bad)));
    for (word, style) in words {
        if let Some((before, after)) = text.split_once(word) {
            return format!("{before}{style}{word}{style:#}{}", paint(after));
        }
    }
    text.to_owned()
}
