//! What can go wrong with the journal, in the words of the operator.
//!
//! Every text says what is wrong, where, and what to do. None of these is mended silently.
//! Invariant: after `Conflict`, `Fenced`, `Refused`, `Busy`, `Locked`, `Missing`, `Newer`, `Unsafe`
//! and `Untrusted` nothing was written; after `Full`, `Disk` and `Slow` a write is in doubt.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cutover_model::{Epoch, Seq};

use super::codec::CodecError;
use super::lock::Holder;

/// Why the journal, or another file of the state folder, cannot do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Somebody else appended meanwhile; read on from there and decide anew.
    #[error("the journal went on meanwhile: {expected} was expected, it is at {actual}")]
    Conflict {
        /// What the caller took for the last place.
        expected: Seq,
        /// The last place.
        actual: Seq,
    },
    /// A newer daemon has opened the state; this one must stop acting.
    #[error("another daemon has taken over (epoch {current}, ours is {epoch}): this one stops")]
    Fenced {
        /// The caller's epoch.
        epoch: Epoch,
        /// The epoch in force.
        current: Epoch,
    },
    /// Another daemon has the state folder.
    #[error(
        "another daemon has {}: {holder}. Only one can run on one state folder. Stop that one \
         first",
        .folder.display()
    )]
    Locked {
        /// The state folder.
        folder: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// No space or no inodes are left.
    #[error(
        "no space is left for {} ({step}). Free some, then repeat the command",
        .path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
    },
    /// The disk refused; nothing more is written before the file was opened again and checked.
    #[error("{} cannot be used ({step}): {why}", .path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// What the system says.
        why: String,
    },
    /// The file is not what was written. Never reset: traffic stays where it is.
    #[error(
        "{} is damaged: {what}. Nothing was changed in it, and traffic stays as it is. Stop the \
         daemon, put the file back from a copy, or move the whole state folder aside to begin anew",
        .path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        what: String,
    },
    /// Written by a newer Cutover.
    #[error(
        "{} was written by a newer Cutover: {what}, this one knows up to {known}. It was not \
         touched. Install the newer version again",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// What is newer, with its number.
        what: String,
        /// The newest version that this program knows.
        known: u32,
    },
    /// The journal is not there, but other state is.
    #[error(
        "{} is missing or empty, but {} has other state ({}). Put journal.db back from a copy, or \
         move the folder aside to begin anew; nothing was changed",
        .folder.join("journal.db").display(), .folder.display(), .found.join(", ")
    )]
    Missing {
        /// The state folder.
        folder: PathBuf,
        /// What was found there, at most five names.
        found: Vec<String>,
    },
    /// The folder or file could be changed by others.
    #[error("{} is not safe to use: {why}", .path.display())]
    Unsafe {
        /// The folder or file.
        path: PathBuf,
        /// Why, and what to type.
        why: String,
    },
    /// The request breaks a bound of the journal.
    #[error("the journal does not take this: {0}")]
    Refused(String),
    /// The disk did not answer in time; the write is in doubt.
    #[error("the disk did not answer within {} s: not known to be recorded", .limit.as_secs_f32())]
    Slow {
        /// The limit.
        limit: Duration,
    },
    /// What the app's facts say is not known, so nothing is added to them.
    #[error("{0}")]
    Untrusted(String),
    /// Too many calls wait for the disk already; nothing was written.
    #[error("too many calls wait for the disk already: not recorded")]
    Busy,
    /// A fact that this program cannot write or read.
    #[error(transparent)]
    Fact(#[from] CodecError),
    /// The writer has ended.
    #[error("the journal is closed")]
    Gone,
}

impl JournalError {
    /// Whether a write that ended so may have been recorded all the same.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Disk { .. } | Self::Slow { .. })
    }

    /// Whether no later call can succeed: what is recorded is not what this daemon takes it for.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. }
                | Self::Fenced { .. }
                | Self::Corrupt { .. }
                | Self::Newer { .. }
                | Self::Untrusted(_)
        )
    }

    /// An input or output error at a file.
    #[must_use]
    pub fn io(path: &Path, step: &'static str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let path = path.to_owned();
        if matches!(error.kind(), StorageFull | QuotaExceeded) {
            Self::Full { path, step }
        } else {
            Self::Disk { path, step, why: error.to_string() }
        }
    }

    /// An error of SQLite at the database file.
    pub(super) fn sql(path: &Path, step: &'static str, error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let owned = path.to_owned();
        let why = error.to_string();
        let Some(code) = error.sqlite_error_code() else {
            // A value of the wrong type or shape: the file's content is not what we wrote.
            return Self::Corrupt { path: owned, what: format!("{step}: {why}") };
        };
        match code {
            Code::DiskFull => Self::Full { path: owned, step },
            Code::SystemIoFailure | Code::CannotOpen if is_full(path) => {
                Self::Full { path: owned, step }
            }
            Code::DatabaseBusy | Code::DatabaseLocked => Self::Busy,
            Code::SystemIoFailure
            | Code::CannotOpen
            | Code::PermissionDenied
            | Code::ReadOnly
            | Code::OutOfMemory
            | Code::FileLockingProtocolFailed
            | Code::OperationInterrupted => Self::Disk { path: owned, step, why },
            _ => Self::Corrupt { path: owned, what: format!("{step}: {why}") },
        }
    }
}

/// Whether the file system of a path has next to nothing left, in bytes or inodes. SQLite reports a
/// full disk as an input/output error when it hits the index of the write-ahead file.
fn is_full(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    rustix::fs::statvfs(folder).is_ok_and(|stat| {
        stat.f_bavail.saturating_mul(stat.f_frsize) < 64 * 1024
            || (stat.f_files > 0 && stat.f_favail == 0)
    })
}
