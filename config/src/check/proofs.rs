//! `[[apps.NAME.integrity]]` and `[[apps.NAME.smoke]]`: what proves that an app works.
//!
//! Names are what messages and reports call a check by, so each list has every name once.

use std::time::Duration;

use super::compose::words;
use super::deadline;
use crate::checked::{Expected, Integrity, Smoke, SmokeKind, StatusRange};
use crate::problem::Sink;
use crate::raw::{RawIntegrity, RawSmoke};
use crate::read::At;
use crate::tree::Place;

/// A check that nobody would wait for.
const LONGEST: Duration = Duration::from_secs(600);
const USUAL: Duration = Duration::from_secs(10);

/// Checks the integrity queries. `database`: whether the app has one.
pub(super) fn integrity(
    list: Option<&At<Vec<At<RawIntegrity>>>>,
    database: Option<&Place>,
    sink: &mut Sink,
) -> Vec<Integrity> {
    let Some(list) = list else { return Vec::new() };
    if database.is_none() {
        sink.wrong(&list.place, "integrity queries need a database")
            .hint("add a section with .database, which says where they are asked");
    }
    unique(list.value.iter().filter_map(|at| at.value.name.as_ref()), sink);
    list.value.iter().filter_map(|at| query(at, sink)).collect()
}

fn query(at: &At<RawIntegrity>, sink: &mut Sink) -> Option<Integrity> {
    let raw = &at.value;
    let name = name(&at.place, raw.name.as_ref(), "orders_have_totals", sink);
    if raw.sql.is_none() {
        let hint = "add `sql`: a query that gives a row for each thing that is wrong";
        sink.missing(&at.place, "sql", "the check has no `sql`", hint);
    }
    let sql = raw.sql.as_ref()?;
    if sql.value.trim().is_empty() {
        sink.wrong(&sql.place, "the query is empty").hint("write one statement, as SELECT ...");
    }
    let expect = raw.expect.as_ref().map(|at| Expected::Value(at.value.0.clone()));
    Some(Integrity {
        name: name?,
        sql: sql.value.trim().trim_end_matches(';').to_owned(),
        expect: expect.unwrap_or(Expected::NoRows),
        timeout: limit(raw.timeout.as_ref(), sink),
    })
}

/// Checks the smoke probes.
pub(super) fn smoke(list: Option<&At<Vec<At<RawSmoke>>>>, sink: &mut Sink) -> Vec<Smoke> {
    let Some(list) = list else { return Vec::new() };
    unique(list.value.iter().filter_map(|at| at.value.name.as_ref()), sink);
    list.value.iter().filter_map(|at| probe(at, sink)).collect()
}

fn probe(at: &At<RawSmoke>, sink: &mut Sink) -> Option<Smoke> {
    let raw = &at.value;
    let name = name(&at.place, raw.name.as_ref(), "checkout", sink);
    let timeout = limit(raw.timeout.as_ref(), sink);
    let kind = match (&raw.path, &raw.command) {
        (Some(path), Some(command)) => {
            sink.wrong(&command.place, "a smoke probe has a `path` or a `command`, not both")
                .also(&path.place, "the path")
                .hint("make it two probes");
            return None;
        }
        (None, None) => {
            let what = "the smoke probe does nothing";
            let hint = "add path = \"/checkout\", or command = [\"scripts/smoke\"]";
            sink.missing(&at.place, "path", what, hint);
            return None;
        }
        (Some(path), None) => {
            let fine = StatusRange { first: 200, last: 299 };
            let expect = raw.expect.as_ref();
            if let Some(at) =
                expect.filter(|at| at.value.0.is_empty() && !sink.touched(&at.place.key))
            {
                sink.wrong(&at.place, "no status would pass").hint("write 200, or \"2xx\"");
            }
            SmokeKind::Http {
                path: path.value.0.clone(),
                host: raw.host.as_ref().map(|at| at.value.clone()),
                expect: expect
                    .map_or_else(|| vec![fine], |at| at.value.0.iter().map(|s| s.value).collect()),
                body: raw.body.as_ref().map(|at| at.value.clone()),
            }
        }
        (None, Some(command)) => {
            for (key, place) in [
                ("host", raw.host.as_ref().map(|at| &at.place)),
                ("expect", raw.expect.as_ref().map(|at| &at.place)),
                ("body", raw.body.as_ref().map(|at| &at.place)),
            ] {
                if let Some(place) = place {
                    sink.wrong(place, format!("`{key}` has no meaning for a command"))
                        .hint("leave it out: exit code 0 passes");
                }
            }
            let words = words(&command.value);
            if words.first().is_none_or(String::is_empty) && !sink.touched(&command.place.key) {
                sink.wrong(&command.place, "the command is empty")
                    .hint("write it like [\"scripts/smoke\"]");
            }
            SmokeKind::Command(words)
        }
    };
    Some(Smoke { name: name?, kind, timeout })
}

fn name(
    section: &Place,
    field: Option<&At<String>>,
    example: &str,
    sink: &mut Sink,
) -> Option<String> {
    let Some(at) = field else {
        let hint = format!("add `name`, as name = \"{example}\"");
        sink.missing(section, "name", "the check has no `name`", &hint);
        return None;
    };
    let good = (1..=40).contains(&at.value.len())
        && at.value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !good {
        let what = "the name of a check has 1 to 40 letters, digits, dots, dashes or underscores";
        sink.wrong(&at.place, what).hint(format!("write it like \"{example}\""));
        return None;
    }
    Some(at.value.clone())
}

fn unique<'a>(names: impl Iterator<Item = &'a At<String>>, sink: &mut Sink) {
    let mut seen: Vec<&At<String>> = Vec::new();
    for name in names {
        match seen.iter().find(|other| other.value == name.value) {
            Some(twin) => {
                sink.wrong(&name.place, format!("two checks are called \"{}\"", name.value))
                    .also(&twin.place, "the first one")
                    .hint("reports name a check by its name; choose another one");
            }
            None => seen.push(name),
        }
    }
}

fn limit(field: Option<&At<crate::scalar::Span>>, sink: &mut Sink) -> Duration {
    let limit = deadline(field, USUAL, sink);
    if let Some(at) = field.filter(|_| limit > LONGEST) {
        sink.wrong(&at.place, "a check may take ten minutes at most")
            .hint("users wait for its answer; the default is \"10s\"");
    }
    limit
}
