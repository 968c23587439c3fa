//! Names and numbers with a meaning: checked once, then trusted.
//!
//! Each is a newtype, so that a generation cannot be passed where an operation is wanted. The text
//! forms (`r7`, `o40`) are the ones that the operator reads and types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not the name or number that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty, too long or has a character that is not allowed.
    #[error("\"{text}\" is not {what}: {rule}")]
    Malformed {
        /// What was given, cut to 80 characters.
        text: String,
        /// What was wanted, with its article, for instance "an app name".
        what: &'static str,
        /// The rule in the operator's words.
        rule: &'static str,
    },
}

fn malformed(text: &str, what: &'static str, rule: &'static str) -> IdError {
    IdError::Malformed { text: text.chars().take(80).collect(), what, rule }
}

/// The name of one application: a lower-case letter, then at most 30 lower-case letters, digits or
/// dashes. It becomes the compose project `<app>-<color>`, so compose's own rule holds too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

impl AppName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`IdError::Malformed`] when the text breaks the rule above.
    pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
        let text = text.into();
        let mut chars = text.chars();
        let good = chars.next().is_some_and(|c| c.is_ascii_lowercase())
            && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && text.len() <= 31;
        if good {
            Ok(Self(text))
        } else {
            Err(malformed(
                &text,
                "an app name",
                "a lower-case letter, then up to 30 lower-case letters, digits or dashes",
            ))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of one service of a compose file or of a static app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

impl ServiceName {
    /// Checks and wraps a name: compose's own rule, `[a-zA-Z0-9._-]`, 1 to 128 characters.
    ///
    /// # Errors
    /// [`IdError::Malformed`] when the text breaks the rule.
    pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
        let text = text.into();
        let good = (1..=128).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if good {
            Ok(Self(text))
        } else {
            Err(malformed(&text, "a service name", "letters, digits, dots, dashes, underscores"))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_name {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
text_name!(AppName);
text_name!(ServiceName);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one; stays at the largest number there is.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix)
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|digits| digits.parse().ok())
                    .map(Self)
                    .ok_or_else(|| {
                        malformed(text, $what, concat!("\"", $prefix, "\" and a number"))
                    })
            }
        }
    };
}

number!(
    /// A release of one app: `r1`, `r2`, … in the order in which they were made.
    ReleaseId(u64), "r", "a release"
);
number!(
    /// Something that was asked for: `o1`, `o2`, … in the order of one app's journal.
    OperationId(u64), "o", "an operation"
);
number!(
    /// The number of an immutable routing table; each publish makes the next one.
    Generation(u64), "g", "a generation"
);
number!(
    /// The place of a fact in the journal of its app; the first fact has 1.
    Seq(u64), "#", "a journal position"
);
number!(
    /// The fencing epoch: each daemon that opens the state for writing takes the next one.
    Epoch(u64), "e", "an epoch"
);
number!(
    /// The salt of one rollout: it decides which clients are the early ones.
    Salt(u64), "salt-", "a salt"
);

/// Milliseconds since the Unix epoch by the wall clock. Only for people and records: deadlines use
/// a monotonic clock, and order is by [`Seq`].
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl Millis {
    /// The time from `earlier` to here in milliseconds; 0 when the clock went backwards.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_names_follow_composes_rule() {
        for good in ["a", "shop", "shop-2", &"a".repeat(31)] {
            assert!(AppName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "Shop", "2shop", "-a", "a_b", "a.b", "ä", &"a".repeat(32)] {
            assert!(AppName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_print_what_they_parse() {
        assert_eq!("r7".parse::<ReleaseId>(), Ok(ReleaseId(7)));
        assert_eq!(ReleaseId(7).to_string(), "r7");
        for bad in ["7", "r", "r-7", "r+7", "o7", "r99999999999999999999"] {
            assert!(bad.parse::<ReleaseId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_clock_that_goes_backwards_gives_no_negative_time() {
        assert_eq!(Millis(5).since(Millis(9)), 0);
        assert_eq!(Millis(9).since(Millis(5)), 4);
    }
}
