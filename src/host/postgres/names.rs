//! Names on a PostgreSQL server: which ones are made from which, how they are quoted, and the mark
//! that says what is ours.
//!
//! Pure. Any name that PostgreSQL takes is taken here, with quotes, capitals and blanks in it;
//! nothing is ever put into SQL but by [`identifier`] and [`literal`].
//! INVARIANT: two databases never get the same derived name, and each fits into 63 bytes.

use std::fmt;

use cutover_model::{OperationId, ReleaseId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The longest name that PostgreSQL keeps whole.
const LONGEST: usize = 63;
/// How every mark begins; the number is its form.
const MARK: &str = "cutover/1";

/// A text that cannot be a name or an id here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct NameError {
    /// The text, cut to 80 characters.
    pub text: String,
    /// What was wanted, and its rule.
    pub what: &'static str,
}

/// The name of a database: 1 to 63 bytes without NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DbName(String);

impl DbName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`NameError`] when PostgreSQL would refuse it or cut it.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        match (1..=LONGEST).contains(&text.len()) && !text.contains('\0') {
            true => Ok(Self(text)),
            false => Err(NameError {
                text: text.chars().take(80).collect(),
                what: "the name of a database: 1 to 63 bytes without NUL",
            }),
        }
    }

    /// The name as it is, without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as SQL takes it.
    #[must_use]
    pub fn quoted(&self) -> String {
        identifier(&self.0)
    }

    /// What an operation builds beside this one: `shop__cand_o41`.
    #[must_use]
    pub fn candidate(&self, operation: OperationId) -> Self {
        self.derived("cand", &operation.to_string())
    }

    /// What this one is called once an operation has put it aside: `shop__prev_o41`.
    #[must_use]
    pub fn previous(&self, operation: OperationId) -> Self {
        self.derived("prev", &operation.to_string())
    }

    /// The restore point from before a release: `shop__point_r7`.
    #[must_use]
    pub fn point(&self, release: ReleaseId) -> Self {
        self.derived("point", &release.to_string())
    }

    /// A scratch copy for a rehearsal or a drill: `shop__try_o41`.
    #[must_use]
    pub fn scratch(&self, operation: OperationId) -> Self {
        self.derived("try", &operation.to_string())
    }

    /// Where it does not fit, the end of the name gives way to a hash of all of it.
    fn derived(&self, kind: &str, tag: &str) -> Self {
        let suffix = format!("__{kind}_{tag}");
        if self.0.len() + suffix.len() <= LONGEST {
            return Self(format!("{}{suffix}", self.0));
        }
        let hash = &hex(&Sha256::digest(self.0.as_bytes()))[..12];
        let room = LONGEST - suffix.len() - hash.len() - 1;
        let mut end = room.min(self.0.len());
        while !self.0.is_char_boundary(end) {
            end -= 1;
        }
        Self(format!("{}_{hash}{suffix}", &self.0[..end]))
    }
}

impl fmt::Display for DbName {
    /// As it is, control characters written out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::host::process::escape(&self.0))
    }
}

impl TryFrom<String> for DbName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<DbName> for String {
    fn from(name: DbName) -> Self {
        name.0
    }
}

/// Which app of which installation of Cutover this is: 8 to 80 lower-case letters, digits or
/// dashes, best an id of the state folder and the app's name. Operations are numbered within it, so
/// two apps on one server need two of these.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Installation(String);

impl Installation {
    /// Checks and wraps an id, such as a UUID.
    ///
    /// # Errors
    /// [`NameError`] when it breaks the rule.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let good = (8..=80).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        match good {
            true => Ok(Self(text)),
            false => Err(NameError {
                text: text.chars().take(80).collect(),
                what: "an installation's id: 8 to 80 lower-case letters, digits or dashes",
            }),
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How the `application_name` of each of our sessions begins: `cutover:<12 of the hash>:`, so
    /// that two installations on one server leave each other's sessions alone.
    #[must_use]
    pub fn session_prefix(&self) -> String {
        format!("cutover:{}:", &hex(&Sha256::digest(self.0.as_bytes()))[..12])
    }

    /// The `application_name` of an operation's sessions.
    #[must_use]
    pub fn session_name(&self, operation: OperationId) -> String {
        format!("{}{operation}", self.session_prefix())
    }
}

impl TryFrom<String> for Installation {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<Installation> for String {
    fn from(id: Installation) -> Self {
        id.0
    }
}

/// What a database of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// What may become the live one.
    Candidate,
    /// The one that was live before an operation.
    Previous,
    /// A restore point.
    Point,
    /// For a rehearsal, a drill, or to look at.
    Scratch,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Previous => "previous",
            Self::Point => "point",
            Self::Scratch => "scratch",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        [Self::Candidate, Self::Previous, Self::Point, Self::Scratch]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

/// How far a database of ours has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Made {
    /// It may be incomplete.
    Building,
    /// It passed every check after it was complete.
    Verified,
}

/// What the comment of a database says, if it is one of Cutover's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Whose it is.
    pub installation: Installation,
    /// Which operation made it (or put it aside).
    pub operation: OperationId,
    /// What it is for.
    pub kind: Kind,
    /// How far it has come.
    pub made: Made,
}

impl Marker {
    /// Reads a comment; `None`: it is not a mark of Cutover's.
    #[must_use]
    pub fn read(comment: &str) -> Option<Self> {
        let mut words = comment.split(';').next()?.split(' ');
        if words.next() != Some(MARK) {
            return None;
        }
        let kind = Kind::from_word(words.next()?)?;
        let made = match words.next()? {
            "building" => Made::Building,
            "verified" => Made::Verified,
            _ => return None,
        };
        let operation = words.next()?.parse().ok()?;
        let installation = Installation::new(words.next()?).ok()?;
        Some(Self { installation, operation, kind, made })
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = match self.made {
            Made::Building => "building",
            Made::Verified => "verified",
        };
        let (kind, operation) = (self.kind.word(), self.operation);
        let id = self.installation.as_str();
        write!(f, "{MARK} {kind} {made} {operation} {id}; made by Cutover, which removes it")
    }
}

/// A name as SQL takes it: in quotes, with those inside doubled.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL takes it, whatever `standard_conforming_strings` says.
#[must_use]
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    match doubled.contains('\\') {
        true => format!(" E'{}'", doubled.replace('\\', "\\\\")),
        false => format!("'{doubled}'"),
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(text: &str) -> OperationId {
        text.parse().expect("an operation")
    }

    #[test]
    fn derived_names_fit_and_do_not_collide() {
        let short = DbName::new("shop").expect("a name");
        assert_eq!(short.candidate(operation("o41")).as_str(), "shop__cand_o41");
        let mut seen = std::collections::HashSet::new();
        for end in ["a", "b", "ab", "ä", "\"x\"", "; drop"] {
            let long = format!("{}{end}", "L".repeat(63 - end.len()));
            let name = DbName::new(long).expect("63 bytes");
            for made in [name.candidate(operation("o123456")), name.previous(operation("o1"))] {
                assert!(made.as_str().len() <= 63, "{made}");
                assert!(made.as_str().contains("__"), "{made}");
                assert!(seen.insert(made.clone()), "{made} twice");
            }
        }
        assert!(DbName::new("").is_err() && DbName::new("x".repeat(64)).is_err());
        assert!(DbName::new("a\0b").is_err());
    }

    #[test]
    fn quotes_keep_any_name_in_its_place() {
        assert_eq!(identifier("a\"; drop database x; --"), "\"a\"\"; drop database x; --\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
    }

    #[test]
    fn a_mark_reads_back_and_nothing_else_is_one() {
        let installation = Installation::new("0192f0c1-aaaa").expect("an id");
        for kind in [Kind::Candidate, Kind::Previous, Kind::Point, Kind::Scratch] {
            for made in [Made::Building, Made::Verified] {
                let operation = operation("o41");
                let mark = Marker { installation: installation.clone(), operation, kind, made };
                assert_eq!(Marker::read(&mark.to_string()), Some(mark));
            }
        }
        for other in
            ["", "the shop", "cutover", "cutover/1", "cutover/2 candidate verified o1 abcdefgh"]
        {
            assert_eq!(Marker::read(other), None, "{other}");
        }
        let name = installation.session_name(operation("o41"));
        assert!(name.len() <= 63 && name.starts_with(&installation.session_prefix()), "{name}");
    }
}
