//! Env files as text: which keys they have, what differs, and one brought back with some values of
//! today.
//!
//! Bytes that need no change stay as they are, comments and order too. No value leaves this file
//! but inside a whole env file.
//! INVARIANT: a merge that changes no value gives back the very bytes it was given.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Keys that keep today's value unless `pin` names them: a secret that was revoked since would
/// break what is brought back.
pub const FOLLOW: [&str; 4] = ["*_PASSWORD", "*_TOKEN", "*_KEY", "*_SECRET"];

/// Which keys come back with a release, and which keep today's value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvRules {
    /// Keys that come back, `*` and `?` allowed: stronger than everything else.
    pub pin: Vec<String>,
    /// Keys that follow today, beside [`FOLLOW`].
    pub follow: Vec<String>,
}

impl EnvRules {
    /// Whether a key keeps today's value.
    #[must_use]
    pub fn follows(&self, key: &str) -> bool {
        let is_in = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, key));
        !is_in(&self.pin) && (is_in(&self.follow) || FOLLOW.iter().any(|p| fits(p, key)))
    }
}

/// What differs between two env files, by key; never a value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvDiff {
    /// Only in the second one.
    pub added: Vec<String>,
    /// Only in the first one.
    pub removed: Vec<String>,
    /// In both, with another value.
    pub changed: Vec<String>,
}

impl EnvDiff {
    /// Between two texts.
    #[must_use]
    pub fn between(before: &str, after: &str) -> Self {
        let (before, after) = (values(before), values(after));
        let mut diff = Self::default();
        for (key, value) in &before {
            match after.get(key) {
                None => diff.removed.push(key.clone()),
                Some(now) if now != value => diff.changed.push(key.clone()),
                Some(_) => {}
            }
        }
        diff.added = after.into_keys().filter(|key| !before.contains_key(key)).collect();
        diff
    }

    /// Whether no key differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// In words: `PRICE_MODE added, LOG_LEVEL changed`.
    #[must_use]
    pub fn told(&self) -> String {
        let of = |keys: &[String], word| match keys.is_empty() {
            true => None,
            false => Some(format!("{} {word}", keys.join(", "))),
        };
        let parts =
            [of(&self.added, "added"), of(&self.changed, "changed"), of(&self.removed, "removed")];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// A former env file with today's values of the keys that follow; the names of the keys whose value
/// is another one now.
#[must_use]
pub fn bring_back(former: &str, today: &str, rules: &EnvRules) -> (String, Vec<String>) {
    let raw: BTreeMap<&str, &str> = entries(today).filter_map(Entry::pair).collect();
    let (mut text, mut kept) = (String::with_capacity(former.len()), Vec::new());
    for entry in entries(former) {
        match entry.pair() {
            Some((key, value))
                if rules.follows(key)
                    && let Some(now) = raw.get(key)
                    && unquoted(now) != unquoted(value) =>
            {
                text.push_str(entry.before_value());
                text.push_str(now);
                text.push_str(entry.end);
                kept.push(key.to_owned());
            }
            _ => {
                text.push_str(entry.text);
                text.push_str(entry.end);
            }
        }
    }
    kept.sort();
    kept.dedup();
    (text, kept)
}

/// The values of the lines that need no interpretation: no quote, variable, comment or escape.
#[must_use]
pub fn plain_values(text: &str) -> BTreeMap<String, String> {
    let doubtful = |value: &str| value.contains(['$', '\\', '#', '\n', '"', '\'']);
    let pairs = entries(text).filter_map(Entry::pair);
    let (sure, unsure): (Vec<_>, Vec<_>) = pairs.partition(|(_, value)| !doubtful(value));
    let mut values: BTreeMap<String, String> =
        sure.into_iter().map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect();
    values.retain(|key, _| !unsure.iter().any(|(other, _)| other == key));
    values
}

/// The last value of each key, without quotes.
#[must_use]
pub fn values(text: &str) -> BTreeMap<String, String> {
    let pairs = entries(text).filter_map(Entry::pair);
    pairs.map(|(key, value)| (key.to_owned(), unquoted(value).to_owned())).collect()
}

fn unquoted(value: &str) -> &str {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote)) {
            return inner;
        }
    }
    // As compose reads it: behind a blank, a comment begins.
    value.split_once(" #").map_or(value, |(value, _)| value.trim_end())
}

/// One line, or several where a quoted value goes over them.
#[derive(Debug, Clone, Copy)]
struct Entry<'t> {
    text: &'t str,
    /// The end of the line, where it has one.
    end: &'t str,
}

impl<'t> Entry<'t> {
    fn pair(self) -> Option<(&'t str, &'t str)> {
        let line = self.text.trim_start();
        if line.starts_with('#') {
            return None;
        }
        let (key, value) = line.split_once('=')?;
        let key = key.trim();
        let key = key.strip_prefix("export ").map_or(key, str::trim);
        let is_name = !key.is_empty() && !key.contains(char::is_whitespace);
        is_name.then_some((key, value))
    }

    fn before_value(self) -> &'t str {
        self.text.split_inclusive('=').next().unwrap_or_default()
    }
}

fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut length = rest.find('\n').map_or(rest.len(), |at| at + 1);
        if let Some(quote) = open_quote(&rest[..length])
            && let Some(close) = rest[length..].find(quote)
        {
            let after = length + close;
            length = rest[after..].find('\n').map_or(rest.len(), |at| after + at + 1);
        }
        let (line, others) = rest.split_at(length);
        rest = others;
        let text = line.strip_suffix('\n').map_or(line, |l| l.strip_suffix('\r').unwrap_or(l));
        Some(Entry { text, end: &line[text.len()..] })
    })
}

/// The quote that a line's value opens and does not close.
fn open_quote(line: &str) -> Option<char> {
    let (_, value) = Entry { text: line.trim_end(), end: "" }.pair()?;
    let value = value.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    (!value[1..].contains(quote)).then_some(quote)
}

/// Whether a name fits a pattern with `*` and `?`.
fn fits(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    loop {
        let rest = pattern.as_str();
        match pattern.next() {
            None => return name.as_str().is_empty(),
            Some('*') => {
                let rest = &rest[1..];
                let left = name.as_str();
                let cuts = left.char_indices().map(|(at, _)| at).chain([left.len()]);
                return cuts.into_iter().any(|at| fits(rest, &left[at..]));
            }
            Some('?') if name.next().is_some() => {}
            Some(wanted) if wanted != '?' && name.next() == Some(wanted) => {}
            Some(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(pin: &[&str], follow: &[&str]) -> EnvRules {
        let owned = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        EnvRules { pin: owned(pin), follow: owned(follow) }
    }

    #[test]
    fn secrets_follow_unless_they_are_pinned_and_the_rest_comes_back() {
        let usual = EnvRules::default();
        for key in ["DB_PASSWORD", "API_TOKEN", "STRIPE_KEY", "JWT_SECRET"] {
            assert!(usual.follows(key), "{key}");
        }
        for key in ["LOG_LEVEL", "PASSWORD_RULES", "KEYS", "MY_KEYS", "SECRETARY"] {
            assert!(!usual.follows(key), "{key}");
        }
        let said = rules(&["STRIPE_*", "FEATURE_?"], &["SMTP_*", "FEATURE_*"]);
        assert!(!said.follows("STRIPE_KEY"), "a pin is stronger than the default");
        assert!(!said.follows("FEATURE_A"), "and than follow");
        assert!(said.follows("FEATURE_AB") && said.follows("SMTP_HOST"));
        assert!(said.follows("DB_PASSWORD"), "the default stays");
    }

    #[test]
    fn a_former_file_keeps_its_bytes_but_for_the_values_that_follow() {
        let former = "# prices\r\nexport PRICE_MODE=old\nDB_PASSWORD='one' \nOLD=1\n\nA_KEY=x";
        let today = "PRICE_MODE=new\nDB_PASSWORD=two\nNEW=1\nA_KEY=\"x\"\n";
        let (text, kept) = bring_back(former, today, &EnvRules::default());
        assert_eq!(text, "# prices\r\nexport PRICE_MODE=old\nDB_PASSWORD=two\nOLD=1\n\nA_KEY=x");
        assert_eq!(kept, ["DB_PASSWORD"], "the quotes alone are no difference");
        let (same, kept) = bring_back(former, former, &EnvRules::default());
        assert_eq!((same.as_str(), kept.len()), (former, 0));
    }

    #[test]
    fn a_value_over_several_lines_is_one_value() {
        let former = "A=1\nTLS_KEY=\"-----BEGIN\nB=2\n-----END\"\nC=3\n";
        let today = "TLS_KEY=\"-----BEGIN\nX=9\n-----END\"\nB=7\n";
        let (text, kept) = bring_back(former, today, &EnvRules::default());
        assert_eq!(text, "A=1\nTLS_KEY=\"-----BEGIN\nX=9\n-----END\"\nC=3\n");
        assert_eq!(kept, ["TLS_KEY"]);
        let diff = EnvDiff::between(former, today);
        assert_eq!(diff.told(), "B added; TLS_KEY changed; A, C removed");
    }

    #[test]
    fn a_difference_names_keys_and_no_value() {
        let diff = EnvDiff::between("A=hunter1\nB=1\n#C=1\n", "A=hunter2\nC=hunter3\n");
        let told = diff.told();
        assert_eq!(told, "C added; A changed; B removed");
        assert!(!told.contains("hunter"));
        assert!(EnvDiff::between("A='1'\n", "A=1").is_empty());
    }
}
