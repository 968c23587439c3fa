//! A report as Markdown.
//!
//! Everything from outside is escaped, so that it stays the text that it is, and a block of log
//! lines has a fence that none of them can close.

use super::page::{Body, Page};

/// Characters that mean something to a reader of Markdown somewhere in a line.
const MEANING: &str = "\\`*_[]<>#|~!&";

pub(super) fn write(page: &Page) -> String {
    let mut out = format!("# {}\n\n", escape(&page.title));
    for (word, text) in &page.pairs {
        out.push_str(&format!("- **{}**: {}\n", escape(word), escape(text)));
    }
    for section in &page.sections {
        out.push_str(&format!("\n## {}\n\n", escape(&section.heading)));
        match &section.body {
            Body::Table(rows) => table(&mut out, rows),
            Body::Verbatim(lines) => verbatim(&mut out, lines),
            Body::Prose(text) => prose(&mut out, text),
        }
    }
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if MEANING.contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Rows without a heading of their own: Markdown wants one, so it is empty.
fn table(out: &mut String, rows: &[Vec<String>]) {
    let Some(width) = rows.iter().map(Vec::len).max() else { return };
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    out.push_str(&line(vec![String::new(); width]));
    out.push_str(&line(vec!["---".to_owned(); width]));
    for row in rows {
        out.push_str(&line(row.iter().map(|cell| escape(cell)).collect()));
    }
}

fn verbatim(out: &mut String, lines: &[String]) {
    let longest = lines.iter().map(|line| longest_run(line)).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    out.push_str(&format!("{fence}text\n{}\n{fence}\n", lines.join("\n")));
}

fn longest_run(line: &str) -> usize {
    line.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// What people wrote is theirs, Markdown included; only what would be a tag is not.
fn prose(out: &mut String, text: &str) {
    for line in text.lines() {
        // A heading of theirs must not look like one of the report's.
        let line = line.trim_end().replace('<', "\\<");
        let line = if line.starts_with('#') { format!("\\{line}") } else { line };
        out.push_str(&line);
        out.push('\n');
    }
}
