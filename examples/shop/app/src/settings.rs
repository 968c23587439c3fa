//! What a copy of the shop is told: environment variables first, then the file `/release.env`
//! that the image carries, so that a commit can make a release slow, broken or unhealthy.
//!
//! | name | effect |
//! |---|---|
//! | `SHOP_RELEASE` | the label in every answer (`X-Release`) |
//! | `SHOP_FAIL_RATE` | share of requests that fail, `30%` |
//! | `SHOP_FAIL_STATUS` | their status (500), or `reset`: the connection is dropped |
//! | `SHOP_FAIL_PATH` | only paths that begin like this (`/api/`); never `/api/health` |
//! | `SHOP_LATENCY_MS` | every request takes that much longer |
//! | `SHOP_HEALTH` | `never`: `/api/health` answers 503 |
//! | `SHOP_HEALTH_AFTER_MS` | 503 until then |
//! | `SHOP_CRASH_AT_START` | a text: said on stderr, then exit 1 |
//! | `SHOP_EXIT_AFTER_MS` | exits with 42 after that time |
//! | `SHOP_DRAIN_MS` | how long open requests may finish after SIGTERM (8000) |
//! | `SHOP_DB_CONNECTIONS` | size of the pool (4) |

use std::collections::HashMap;
use std::time::Duration;

const RELEASE_FILE: &str = "/release.env";

/// All settings of this process, read once.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    values: HashMap<String, String>,
    pub(crate) role: String,
    pub(crate) release: String,
    pub(crate) hostname: String,
}

impl Settings {
    /// Reads the file first and lets the environment win. A missing file is normal.
    pub(crate) fn read(role: &str) -> Self {
        let file = std::env::var("SHOP_RELEASE_FILE").unwrap_or_else(|_| RELEASE_FILE.to_owned());
        let mut values = parse(&std::fs::read_to_string(file).unwrap_or_default());
        values.extend(std::env::vars().filter(|(_, value)| !value.is_empty()));
        let named = |name: &str| values.get(name).cloned();
        Self {
            role: role.to_owned(),
            release: named("SHOP_RELEASE").unwrap_or_else(|| "unnamed".to_owned()),
            hostname: named("HOSTNAME").unwrap_or_else(|| "unknown".to_owned()),
            values,
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.trim().parse().ok()
    }

    pub(crate) fn millis(&self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_millis)
    }

    /// A share between 0 and 1, written `30%` or `0.3`.
    pub(crate) fn share(&self, name: &str) -> f64 {
        let text = self.text(name).unwrap_or("0").trim();
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|number| number / 100.0),
            None => text.parse(),
        };
        share.unwrap_or(0.0).clamp(0.0, 1.0)
    }

    pub(crate) fn port(&self, default: u16) -> u16 {
        self.number("PORT").and_then(|port| u16::try_from(port).ok()).unwrap_or(default)
    }
}

fn parse(text: &str) -> HashMap<String, String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_file_skips_comments_and_empty_values() {
        let values = parse("# a comment\nSHOP_RELEASE=\"v2\"\nSHOP_FAIL_RATE = 30%\nEMPTY=\n");
        assert_eq!(values.len(), 2);
        assert_eq!(values["SHOP_RELEASE"], "v2");
        assert_eq!(values["SHOP_FAIL_RATE"], "30%");
    }
}
