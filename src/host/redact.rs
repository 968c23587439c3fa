//! Secrets, taken out of text before it leaves the host.
//!
//! Knows the values that stand in the app's env files and environment under names that sound like a
//! secret, and the passwords inside URLs; replaces them by `***`. It cannot know a secret that an
//! application makes up by itself.
//!
//! INVARIANT: its `Debug` prints no value.

use std::collections::BTreeSet;
use std::fmt;

/// Shorter values are left: masking "1" or "yes" would make every text unreadable.
const SHORTEST: usize = 4;

/// The values to take out.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Longest first, so that a value that contains another is masked whole.
    values: Vec<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} values)", self.values.len())
    }
}

/// Whether a variable's name sounds like a secret.
#[must_use]
pub fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words = ["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "AUTH", "DSN", "PRIVATE", "SALT"];
    words.iter().any(|word| name.contains(word))
}

impl Secrets {
    /// No secrets but those that a text itself shows to be one (passwords in URLs).
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds the secret-sounding values among `name=value` pairs, and passwords inside URLs.
    #[must_use]
    pub fn with<'a>(self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut found: BTreeSet<String> = self.values.into_iter().collect();
        for (name, value) in pairs {
            if sounds_secret(name) {
                found.insert(value.to_owned());
            }
            found.extend(url_password(value).map(|(start, end)| value[start..end].to_owned()));
        }
        let mut values: Vec<_> = found.into_iter().filter(|v| v.len() >= SHORTEST).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { values }
    }

    /// Adds those of an env file's text.
    #[must_use]
    pub fn with_env_text(self, text: &str) -> Self {
        self.with(text.lines().filter_map(|line| {
            let line = line.trim().trim_start_matches("export ");
            let (name, value) = line.split_once('=')?;
            (!name.starts_with('#')).then(|| (name.trim(), value.trim().trim_matches(['"', '\''])))
        }))
    }

    /// The text without them.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.values {
            if text.contains(value) {
                text = text.replace(value, "***");
            }
        }
        mask_urls(&text)
    }
}

/// Where the password of `scheme://user:password@` stands, in the first URL of a text.
fn url_password(text: &str) -> Option<(usize, usize)> {
    let start = text.find("://")? + 3;
    let authority = &text[start..];
    let end = authority.find(|c: char| c == '/' || c == '"' || c.is_whitespace());
    let authority = &authority[..end.unwrap_or(authority.len())];
    let at = authority.rfind('@')?;
    let colon = authority[..at].find(':')?;
    Some((start + colon + 1, start + at))
}

fn mask_urls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find("://") {
        let password = url_password(rest);
        let next = position + 3;
        match password {
            Some((start, end)) => {
                out.push_str(&rest[..start]);
                out.push_str("***");
                rest = &rest[end..];
            }
            None => {
                out.push_str(&rest[..next]);
                rest = &rest[next..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_an_env_file_are_masked_and_other_values_stay() {
        let secrets = Secrets::none().with_env_text(
            "# x\nexport API_KEY='k-123456'\nDB_PASSWORD=hunter22\nLEVEL=debug\nPIN_TOKEN=1",
        );
        assert_eq!(
            secrets.mask("debug: k-123456 and hunter22, 1 retry"),
            "debug: *** and ***, 1 retry"
        );
        assert!(!format!("{secrets:?}").contains("hunter22"));
    }

    #[test]
    fn passwords_in_urls_are_masked_wherever_they_stand() {
        let text = "postgres://u:p@ss@db/x and http://a/b and redis://:word@h";
        assert_eq!(
            Secrets::none().mask(text),
            "postgres://u:***@db/x and http://a/b and redis://:***@h"
        );
        let secrets = Secrets::none().with([("DATABASE_URL", "postgres://u:qwerty@db/x")]);
        assert_eq!(secrets.mask("auth failed for qwerty"), "auth failed for ***");
    }
}
