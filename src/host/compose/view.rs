//! Small typed views of compose's JSON.
//!
//! Tolerant: a key that is absent, null or of another form reads as nothing. Writing goes through
//! the `serde_json` values themselves, so that keys nobody here knows stay as they are.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// The object under a key, or nothing.
pub(super) fn object<'a>(body: &'a Object, key: &str) -> Option<&'a Object> {
    body.get(key).and_then(Value::as_object)
}

/// The text under a key; empty text is nothing.
pub(super) fn text<'a>(body: &'a Object, key: &str) -> Option<&'a str> {
    body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The list under a key, or an empty one.
pub(super) fn list<'a>(body: &'a Object, key: &str) -> &'a [Value] {
    body.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether a key says `true`.
pub(super) fn is_true(body: &Object, key: &str) -> bool {
    match body.get(key) {
        Some(Value::Bool(value)) => *value,
        Some(Value::Object(inner)) => !inner.is_empty(),
        _ => false,
    }
}

/// A whole number that may be written as text.
pub(super) fn number(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// One `depends_on` entry.
pub(super) struct Dependency {
    /// The service waited for.
    pub(super) on: String,
    /// `service_started`, `service_healthy` or `service_completed_successfully`.
    pub(super) condition: String,
}

/// What a service depends on, by `depends_on` and `links`.
pub(super) fn dependencies(body: &Object) -> Vec<Dependency> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (on, entry) in object(body, "depends_on").into_iter().flatten() {
        let condition = entry.get("condition").and_then(Value::as_str);
        found.insert(on.clone(), condition.unwrap_or("service_started").to_owned());
    }
    for on in list(body, "depends_on").iter().filter_map(Value::as_str) {
        found.insert(on.to_owned(), "service_started".to_owned());
    }
    for (on, _) in links(body) {
        found.entry(on).or_insert_with(|| "service_started".to_owned());
    }
    found.into_iter().map(|(on, condition)| Dependency { on, condition }).collect()
}

/// `links`, as service and alias.
pub(super) fn links(body: &Object) -> Vec<(String, String)> {
    let entries = list(body, "links").iter().filter_map(Value::as_str);
    entries
        .map(|entry| match entry.split_once(':') {
            Some((service, alias)) => (service.to_owned(), alias.to_owned()),
            None => (entry.to_owned(), entry.to_owned()),
        })
        .collect()
}

/// The networks that a service is on, with its further names there.
pub(super) fn networks(body: &Object) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for (network, entry) in object(body, "networks").into_iter().flatten() {
        let aliases = entry.as_object().map(|entry| list(entry, "aliases"));
        let aliases = aliases.unwrap_or_default().iter().filter_map(Value::as_str);
        found.insert(network.clone(), aliases.map(str::to_owned).collect());
    }
    found
}

/// The environment that stands in the file, name and value.
pub(super) fn environment(body: &Object) -> Vec<(&str, &str)> {
    let mapped = object(body, "environment").into_iter().flatten();
    let mapped = mapped.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
    let listed = list(body, "environment").iter().filter_map(Value::as_str);
    mapped.chain(listed.map(|entry| entry.split_once('=').unwrap_or((entry, "")))).collect()
}

/// The words of `command` and `entrypoint`.
pub(super) fn words(body: &Object) -> Vec<&str> {
    let mut words = Vec::new();
    for key in ["entrypoint", "command"] {
        words.extend(text(body, key));
        words.extend(list(body, key).iter().filter_map(Value::as_str));
    }
    words
}

/// A duration as Go writes it: `45s`, `1m30s`, `1h0m0.5s`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (0.0_f64, text.trim());
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |end| digits + end);
        let seconds = match &rest[digits..unit_end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += value * seconds;
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(total).ok()
}

/// The memory limit of a service in bytes.
pub(super) fn memory_limit(body: &Object) -> Option<u64> {
    let limits = object(body, "deploy")
        .and_then(|deploy| object(deploy, "resources"))
        .and_then(|resources| object(resources, "limits"));
    number(limits.and_then(|limits| limits.get("memory")))
        .or_else(|| number(body.get("mem_limit")))
        .filter(|bytes| *bytes > 0)
}

/// How many containers a service has.
pub(super) fn containers(body: &Object) -> u32 {
    let replicas = object(body, "deploy").and_then(|deploy| deploy.get("replicas"));
    let count = number(replicas).or_else(|| number(body.get("scale"))).unwrap_or(1);
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(duration("45s"), Some(Duration::from_secs(45)));
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("1h0m0.5s"), Some(Duration::from_millis(3_600_500)));
        for bad in ["", "s", "5", "5x", "-5s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
