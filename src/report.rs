//! The incident report: a value that the daemon fills, and the texts that are made of it.
//!
//! Pure: no clock, no files, no questions. `value` is what goes over the wire; `page` puts it into
//! headings, tables and lines in one of two languages (`words`); `text` writes those as Markdown,
//! `html` as a page that needs nothing else.
//! INVARIANT: whatever came from outside (a note, a log line, a commit's title) is text in both: it
//! begins no line, no heading, no tag and no link.

mod html;
mod page;
mod text;
mod value;
mod words;

use jiff::tz::TimeZone;

pub use value::{
    Check, Difference, EnvChange, Image, Item, Logs, Moment, Outcome, Report, Restored, Said,
    Users, Version, What, Written,
};
pub use words::Language;

/// How a report is told.
pub struct Style<'s> {
    /// In which language.
    pub language: Language,
    /// In whose time.
    pub zone: TimeZone,
    /// What a fact says, in English.
    pub tell: &'s dyn Fn(&cutover_model::Fact) -> String,
}

impl std::fmt::Debug for Style<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Style").field("language", &self.language).finish_non_exhaustive()
    }
}

/// As Markdown.
#[must_use]
pub fn markdown(report: &Report, style: &Style<'_>) -> String {
    text::write(&page::page(report, style))
}

/// As one HTML page, without anything that has to be fetched.
#[must_use]
pub fn html(report: &Report, style: &Style<'_>) -> String {
    html::write(&page::page(report, style), style.language)
}

/// The sections that people write, as a text to edit.
#[must_use]
pub fn to_edit(written: &Written, language: Language) -> String {
    let [cause, improvements, prevention] = words::sections(language);
    let part = |heading: &str, text: &str| format!("## {heading}\n\n{}\n\n", text.trim());
    let mut whole = part(cause, &written.cause);
    whole.push_str(&part(improvements, &written.improvements));
    whole.push_str(&part(prevention, &written.prevention));
    whole
}

/// The sections out of an edited text; headings of either language count, what stands before the
/// first one is nobody's.
#[must_use]
pub fn edited(text: &str) -> Written {
    let mut parts: [Vec<&str>; 3] = Default::default();
    let mut at = None;
    for line in text.lines() {
        let heading = line.strip_prefix("## ").map(str::trim);
        let place = heading.and_then(|heading| {
            [Language::En, Language::Zh]
                .into_iter()
                .find_map(|l| words::sections(l).iter().position(|known| *known == heading))
        });
        match (place, at) {
            (Some(place), _) => at = Some(place),
            (None, Some(part)) => {
                let part: &mut Vec<&str> = &mut parts[part];
                part.push(line);
            }
            (None, None) => {}
        }
    }
    let [cause, improvements, prevention] = parts.map(|lines| lines.join("\n").trim().to_owned());
    Written { cause, improvements, prevention }
}

/// Text from outside on one line: what would move a cursor, hide or turn characters is written out.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}');
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() || turns => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out.trim().to_owned()
}

#[cfg(test)]
mod tests;
