//! A fact as the journal stores it, and the hash that chains it to the one before.
//!
//! Knows nothing of what the bytes mean. Invariant: the hash covers every stored column, each with
//! its length in front, so that no two different rows have the same input to the hash.

use cutover_model::{AppName, Epoch, Millis, OperationId, Seq};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::JournalError;

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// What stands before the first fact of an app.
pub const ORIGIN: Hash = [0; 32];

/// Bytes of one fact at most: the largest, a release record, has some kilobytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Facts in one append at most.
pub const MAX_FACTS: usize = 1_000;

/// A fact to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFact {
    /// The kind's stored name, at most 64 bytes; never changed once released.
    pub kind: String,
    /// The version of this kind's form, from 1.
    pub version: u32,
    /// Who asked, at most 256 bytes.
    pub actor: String,
    /// The operation it belongs to.
    pub operation: Option<OperationId>,
    /// When, by the wall clock.
    pub time: Millis,
    /// The fact itself.
    pub bytes: Vec<u8>,
}

impl NewFact {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`JournalError::Refused`] that names the bound.
    pub fn check(&self) -> Result<(), JournalError> {
        let refused = |text: String| Err(JournalError::Refused(text));
        if self.kind.is_empty() || self.kind.len() > 64 {
            return refused(format!("a kind has 1 to 64 bytes, not {}", self.kind.len()));
        }
        if self.version == 0 {
            return refused(format!("versions of \"{}\" begin with 1", self.kind));
        }
        if self.actor.len() > 256 {
            return refused(format!("an actor has at most 256 bytes, not {}", self.actor.len()));
        }
        if self.bytes.len() > MAX_BYTES {
            return refused(format!(
                "a fact \"{}\" of {} bytes; {MAX_BYTES} are allowed",
                self.kind,
                self.bytes.len()
            ));
        }
        Ok(())
    }
}

/// A fact of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFact {
    /// The app in whose chain it stands.
    pub app: AppName,
    /// Its place, from 1, without gaps.
    pub seq: Seq,
    /// The epoch of the daemon that wrote it.
    pub epoch: Epoch,
    /// The machine that wrote it.
    pub node: String,
    /// A UUID version 7.
    pub id: Uuid,
    /// The kind's stored name.
    pub kind: String,
    /// The version of the kind's form.
    pub version: u32,
    /// When, by the wall clock; order is by `seq`.
    pub time: Millis,
    /// Who asked.
    pub actor: String,
    /// The operation it belongs to.
    pub operation: Option<OperationId>,
    /// The fact itself.
    pub bytes: Vec<u8>,
    /// The hash of the fact before, or [`ORIGIN`].
    pub before: Hash,
}

impl StoredFact {
    /// The hash of this fact, which the next one carries.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let operation = self.operation.map(|o| o.0.to_be_bytes());
        digest(&[
            b"cutover.fact/1",
            &self.before,
            self.app.as_str().as_bytes(),
            &self.seq.0.to_be_bytes(),
            &self.epoch.0.to_be_bytes(),
            self.node.as_bytes(),
            self.id.as_bytes(),
            self.kind.as_bytes(),
            &self.version.to_be_bytes(),
            &self.time.0.to_be_bytes(),
            self.actor.as_bytes(),
            operation.as_ref().map_or(&[], |bytes| bytes.as_slice()),
            &self.bytes,
        ])
    }
}

/// SHA-256 over parts, each with its length in front.
#[must_use]
pub fn digest(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// A hash as 64 hexadecimal digits.
#[must_use]
pub fn hex(hash: &Hash) -> String {
    use std::fmt::Write as _;
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing into a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// The hash that 64 hexadecimal digits stand for.
#[must_use]
pub fn unhex(text: &str) -> Option<Hash> {
    let mut hash = ORIGIN;
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(place * 2..place * 2 + 2)?, 16).ok()?;
    }
    Some(hash)
}
