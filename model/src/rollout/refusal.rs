//! Why an input changed nothing, in the operator's words, with the ways on.

use serde::{Deserialize, Serialize};

use crate::{Millis, OperationId, ReleaseId, Split};

/// A command that leads on, and what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// What to type.
    pub command: String,
    /// What it does.
    pub what: String,
}

impl Way {
    pub(super) fn new(command: impl Into<String>, what: impl Into<String>) -> Self {
        Self { command: command.into(), what: what.into() }
    }
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum Refusal {
    /// It is already so: not a failure.
    #[error("nothing to do: {release} has all traffic")]
    AlreadyThere {
        /// The release that has all traffic.
        release: ReleaseId,
        /// Since when, and by which operation, if it was one.
        since: Option<(Millis, Option<OperationId>)>,
    },
    /// The weight is already the one asked for.
    #[error("nothing to do: the weight is already {}", split.weight)]
    SameWeight {
        /// The split in force.
        split: Split,
    },
    /// Another operation has to end first.
    #[error("{operation} ({what}) is running")]
    Busy {
        /// It.
        operation: OperationId,
        /// Its command's word.
        what: String,
    },
    /// It cannot or should not be done, for this reason.
    #[error("{why}")]
    Cannot {
        /// The reason.
        why: String,
        /// The ways on.
        ways: Vec<Way>,
    },
    /// The release cannot run on today's database, by what was recorded of a migration.
    #[error("{why}")]
    Schema {
        /// The reason.
        why: String,
        /// The ways on.
        ways: Vec<Way>,
    },
    /// It would lose rows, and nobody has accepted that.
    #[error("undoing {operation} loses what was written after it")]
    LosesRows {
        /// The restore that would be undone.
        operation: OperationId,
    },
    /// No such release or operation.
    #[error("there is no {what}")]
    Unknown {
        /// What was asked for.
        what: String,
    },
}

impl Refusal {
    pub(super) fn cannot(why: impl Into<String>, ways: Vec<Way>) -> Self {
        Self::Cannot { why: why.into(), ways }
    }
}
