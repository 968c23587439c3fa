//! A report as headings, pairs and lines: what both forms of it have in common.
//!
//! Decides the order (what users met first, then data, why, who, how fast) and what stands in each
//! line; knows neither Markdown nor HTML.

use jiff::Timestamp;

use super::value::{Difference, Moment, Report, Users, Version, What};
use super::words::{self, Language, Phrase};
use super::{Style, plain};

/// A report, in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) title: String,
    /// The summary: a word and what it says.
    pub(super) pairs: Vec<(String, String)>,
    pub(super) sections: Vec<Section>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) heading: String,
    pub(super) body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// Rows of cells.
    Table(Vec<Vec<String>>),
    /// Lines as a program wrote them.
    Verbatim(Vec<String>),
    /// Words of people: paragraphs.
    Prose(String),
}

struct Writer<'a> {
    report: &'a Report,
    style: &'a Style<'a>,
    language: Language,
}

/// Puts a report into words.
pub(super) fn page(report: &Report, style: &Style<'_>) -> Page {
    let writer = Writer { report, style, language: style.language };
    let mut sections = vec![writer.timeline(), writer.checks()];
    sections.extend(writer.difference());
    sections.push(writer.logs());
    sections.extend(writer.written());
    Page { title: writer.title(), pairs: writer.pairs(), sections }
}

impl Writer<'_> {
    fn say(&self, phrase: Phrase) -> String {
        self.language.say(phrase).to_owned()
    }

    fn at(&self, millis: i64, form: &str) -> String {
        let stamp = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
        stamp.to_zoned(self.style.zone.clone()).strftime(form).to_string()
    }

    /// With its day, where that is not the one in the title.
    fn dated(&self, millis: i64, form: &str) -> String {
        let day = self.day(millis);
        let is_same = day == self.day(self.report.started_at);
        let time = self.at(millis, form);
        if is_same { time } else { format!("{day} {time}") }
    }

    fn time(&self, millis: i64) -> String {
        self.dated(millis, "%H:%M:%S")
    }

    fn exact(&self, millis: i64) -> String {
        self.dated(millis, "%H:%M:%S%.3f")
    }

    fn day(&self, millis: i64) -> String {
        match self.language {
            Language::En => self.at(millis, "%-d %b %Y"),
            Language::Zh => self.at(millis, "%Y-%m-%d"),
        }
    }

    fn title(&self) -> String {
        let report = self.report;
        let from = report.from.as_ref().map(version);
        let to = report.to.as_ref().map_or_else(|| report.operation.to_string(), version);
        let app = report.app.as_str();
        let title = self.language.title(app, &report.what, from.as_deref(), &to);
        let between = if self.language == Language::En { ", " } else { "，" };
        let day = self.day(report.started_at);
        match &report.ended {
            Some((_, Some(_))) => {
                format!("{title}{between}{day}{between}{}", self.say(Phrase::NotWell))
            }
            _ => format!("{title}{between}{day}"),
        }
    }

    fn pairs(&self) -> Vec<(String, String)> {
        let report = self.report;
        let mut pairs = vec![
            (self.say(Phrase::Users), self.users(&report.users)),
            (self.say(Phrase::Data), self.data()),
            (self.say(Phrase::Reason), self.reason()),
            (
                self.say(Phrase::DecidedBy),
                match report.automatic {
                    true => self.say(Phrase::ByItself),
                    false => plain(&report.decided_by),
                },
            ),
            (self.say(Phrase::Recovered), self.recovered()),
        ];
        let versions = [&report.from, &report.to].into_iter().flatten().map(version);
        let versions: Vec<String> = versions.collect();
        if !versions.is_empty() {
            pairs.push((self.say(Phrase::Versions), versions.join(" → ")));
        }
        let ended = match &report.ended {
            None => self.say(Phrase::Running),
            Some((at, None)) => self.exact(*at),
            Some((at, Some(why))) => format!("{}: {}", self.exact(*at), plain(why)),
        };
        pairs.push((self.say(Phrase::Ended), format!("{} ({ended})", report.operation)));
        pairs
    }

    fn users(&self, users: &Users) -> String {
        let (Some(since), Some(until)) = (users.since, users.until) else {
            return self.say(if users.known { Phrase::UsersNone } else { Phrase::UsersUnknown });
        };
        // Failures end when traffic has moved, or with the last one that is on record.
        let until = self.report.traffic_at.map_or(until, |moved| moved.max(until));
        let (took, zone) = (self.language.duration(until - since), self.at(since, "%:z"));
        let (since, until) = (self.time(since), self.time(until));
        let failed = self.language.users(users.failed, users.clients, users.at_least);
        match self.language {
            Language::En => format!("{took}, {since} - {until} {zone}; {failed}"),
            Language::Zh => format!("{took}（{since} - {until} {zone}）；{failed}"),
        }
    }

    fn data(&self) -> String {
        let Some(data) = &self.report.data else { return self.say(Phrase::DataUntouched) };
        if data.at.is_none() {
            return self.say(Phrase::DataNotExchanged);
        }
        let kept = data.kept_as.as_deref().map(plain);
        let of = format!("{} {}", self.day(data.data_of), self.at(data.data_of, "%H:%M:%S"));
        self.language.restored(&plain(&data.source), &of, data.rows, kept.as_deref())
    }

    fn reason(&self) -> String {
        let said = &self.report.said;
        if said.is_empty() {
            return format!("{} {} \"...\"", self.say(Phrase::ReasonNone), self.report.operation);
        }
        let one = |said: &super::Said| {
            let (text, by, at) = (plain(&said.text), plain(&said.by), self.time(said.at));
            match self.language {
                Language::En => format!("\"{text}\" ({by}, {at})"),
                Language::Zh => format!("“{text}”（{by}，{at}）"),
            }
        };
        said.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    fn recovered(&self) -> String {
        let report = self.report;
        let mut text = match report.traffic_at {
            Some(at) => {
                let first = report.users.since.map(|since| self.language.duration(at - since));
                let asked = self.language.duration(at - report.asked_at);
                self.language.recovered(&self.exact(at), first, &asked)
            }
            None => self.say(Phrase::NotRecovered),
        };
        if let Some(exchanged) = report.data.as_ref().and_then(|data| data.at) {
            let after = self.language.duration(exchanged - report.asked_at);
            text.push_str("; ");
            text.push_str(&self.language.data_back(&after));
        }
        text
    }

    fn timeline(&self) -> Section {
        let moments = &self.report.timeline;
        let mut rows: Vec<Vec<String>> = moments.iter().map(|m| self.moment(m)).collect();
        if self.report.left_out > 0 {
            let middle = rows.len() / 2;
            let text = self.language.left_out(self.report.left_out);
            rows.insert(middle, vec![String::new(), String::new(), String::new(), text]);
        }
        Section { heading: self.say(Phrase::Timeline), body: Body::Table(rows) }
    }

    fn moment(&self, moment: &Moment) -> Vec<String> {
        let text = match &moment.what {
            What::FirstFailure => self.say(Phrase::FirstFailure),
            What::LastFailure => self.say(Phrase::LastFailure),
            What::Fact(fact) => {
                let own = self.language.fact(fact);
                plain(&own.unwrap_or_else(|| (self.style.tell)(fact)))
            }
        };
        let operation = moment.operation.map_or_else(String::new, |o| o.to_string());
        vec![self.exact(moment.at), operation, plain(&moment.by), text]
    }

    fn checks(&self) -> Section {
        let row = |check: &super::Check| {
            let at = check.at.map_or_else(String::new, |at| self.time(at));
            let (item, outcome) =
                (self.language.item(check.item), self.language.outcome(check.outcome));
            vec![item.to_owned(), outcome.to_owned(), plain(&check.text), at]
        };
        let rows = self.report.checks.iter().map(row).collect();
        Section { heading: self.say(Phrase::Verified), body: Body::Table(rows) }
    }

    fn difference(&self) -> Option<Section> {
        let (from, to) = (self.report.from.as_ref()?, self.report.to.as_ref()?);
        let difference = self.report.difference.as_ref()?;
        let heading =
            format!("{}: {} → {}", self.say(Phrase::Difference), to.release, from.release);
        Some(Section { heading, body: Body::Table(self.differences(difference)) })
    }

    fn differences(&self, difference: &Difference) -> Vec<Vec<String>> {
        let list = |items: Option<Vec<String>>| match items {
            None => vec![self.say(Phrase::NotKnown)],
            Some(items) if items.is_empty() => vec![self.say(Phrase::None)],
            Some(items) => items,
        };
        let plain_all = |names: &Vec<String>| names.iter().map(|name| plain(name)).collect();
        let commits = difference.commits.as_ref().map(plain_all);
        let migrations = difference.migrations.as_ref().map(plain_all);
        let env = difference.env.as_ref().map(|changes| {
            let one = |e: &super::EnvChange| format!("{}: {}", plain(&e.file), plain(&e.keys));
            changes.iter().map(one).collect()
        });
        let short = |id: &Option<String>| match id {
            None => self.say(Phrase::None),
            Some(id) => id.trim_start_matches("sha256:").chars().take(12).collect(),
        };
        let image = |i: &super::Image| {
            format!("{} {} → {}", plain(&i.service), short(&i.before), short(&i.after))
        };
        let images = Some(difference.images.iter().map(image).collect());
        let parts = [
            (Phrase::Commits, list(commits)),
            (Phrase::Migrations, list(migrations)),
            (Phrase::EnvKeys, list(env)),
            (Phrase::Images, list(images)),
        ];
        let mut rows = Vec::new();
        for (phrase, lines) in parts {
            for (index, line) in lines.into_iter().enumerate() {
                let word = if index == 0 { self.say(phrase) } else { String::new() };
                rows.push(vec![word, line]);
            }
        }
        rows
    }

    fn logs(&self) -> Section {
        let logs = &self.report.logs;
        let heading = self.say(Phrase::Logs);
        if let Some(why) = logs.why_none.as_ref().filter(|_| logs.lines.is_empty()) {
            return Section { heading, body: Body::Prose(plain(why)) };
        }
        let line =
            |(service, line): &(String, String)| format!("{:<10}  {}", plain(service), plain(line));
        Section { heading, body: Body::Verbatim(logs.lines.iter().map(line).collect()) }
    }

    fn written(&self) -> Vec<Section> {
        let written = &self.report.written;
        let texts = [&written.cause, &written.improvements, &written.prevention];
        let section = |(heading, text): (&str, &String)| {
            let body = match text.trim() {
                "" => self.language.edit(&self.report.operation.to_string()),
                text => text.to_owned(),
            };
            Section { heading: heading.to_owned(), body: Body::Prose(body) }
        };
        words::sections(self.language).into_iter().zip(texts).map(section).collect()
    }
}

fn version(version: &Version) -> String {
    match plain(&version.label) {
        label if label.is_empty() => version.release.to_string(),
        label => format!("{} ({label})", version.release),
    }
}
