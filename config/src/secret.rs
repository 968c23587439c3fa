//! Where a secret comes from, and the secret itself once it was read.
//!
//! A secret is named in the operator's file by value, by `*_file`, or not at all when the service
//! manager hands it over in `$CREDENTIALS_DIRECTORY`. It is read only when it is needed, and it
//! appears in no output: neither `Debug` nor `Serialize` shows it.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// More is not a secret but a mistake.
const LONGEST: u64 = 64 * 1024;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// It stands in the file or in an environment variable.
    Inline(Secret),
    /// This file holds it; one line end at its end is not part of it.
    File(PathBuf),
    /// A variable of a file as compose reads it; of a whole URL its password is taken.
    Variable {
        /// The file.
        file: PathBuf,
        /// The variable.
        key: String,
    },
    /// A file in `$CREDENTIALS_DIRECTORY`, named after the key: `apps.shop.database.password`.
    Credential(PathBuf),
}

/// Why a secret could not be read. Never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be opened or read.
    #[error("the secret in {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a regular file, too long, not text, or empty.
    #[error("the secret in {} cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
}

impl SecretSource {
    /// Fetches the secret.
    ///
    /// # Errors
    /// When its file is missing, unreadable, or cannot be a secret.
    pub fn read(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(path) | Self::Credential(path) => {
                let text = read_text(path)?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                let text = text.strip_suffix('\r').unwrap_or(text);
                usable(path, text)
            }
            Self::Variable { file, key } => {
                let text = read_text(file)?;
                let Some(value) = variable(&text, key) else {
                    let reason = "it has no such variable, or an empty one";
                    return Err(SecretError::Unusable { path: file.clone(), reason });
                };
                usable(file, &password_of_url(&value).unwrap_or(value))
            }
        }
    }
}

fn usable(path: &Path, text: &str) -> Result<Secret, SecretError> {
    let unusable = |reason| SecretError::Unusable { path: path.to_owned(), reason };
    match text {
        "" => Err(unusable("it is empty")),
        text if text.contains('\0') => Err(unusable("it holds a NUL character")),
        text => Ok(Secret(text.to_owned())),
    }
}

/// The value of a variable in a file of `KEY=value` lines; the last one counts.
fn variable(text: &str, key: &str) -> Option<String> {
    let mut values = text.lines().filter_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim())
    });
    let value = values.next_back()?;
    let quoted = ['"', '\''].into_iter().find_map(|quote| {
        let inside = value.strip_prefix(quote)?;
        inside.find(quote).map(|end| inside[..end].to_owned())
    });
    // Without quotes a comment begins at a blank and #.
    let value = quoted.unwrap_or_else(|| {
        value.find(" #").map_or(value, |end| &value[..end]).trim_end().to_owned()
    });
    (!value.is_empty()).then_some(value)
}

/// The password inside `postgres://user:password@host/name`, its `%41` made `A`.
fn password_of_url(value: &str) -> Option<String> {
    let rest = ["postgres://", "postgresql://"].iter().find_map(|s| value.strip_prefix(s))?;
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    let (user, _) = authority.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    let mut bytes = Vec::with_capacity(password.len());
    let mut left = password.as_bytes();
    while let [first, rest @ ..] = left {
        let hex = |byte: u8| char::from(byte).to_digit(16);
        match (first, rest) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                let code = hex(*high)? * 16 + hex(*low)?;
                bytes.push(u8::try_from(code).ok()?);
                left = after;
            }
            _ => {
                bytes.push(*first);
                left = rest;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn read_text(path: &Path) -> Result<String, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let unusable = |reason| SecretError::Unusable { path: path.to_owned(), reason };
    // Without waiting: a FIFO would hold the caller for ever.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(unusable("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST {
        return Err(unusable("it is longer than 64 KiB"));
    }
    String::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8 text"))
}
