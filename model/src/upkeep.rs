//! What is done with backups and with databases beside the live one: never a request's business.
//!
//! Each is one operation, recorded with everything that it needs before it begins, so that a daemon
//! that was killed goes on from what is there, or gives it up. None of them ever touches the live
//! database but to read it. What is remembered of them is only what `status` and the schedule ask.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Ending, Millis, OperationId};

/// Why a backup is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// A person asked for it.
    Asked,
    /// The schedule said so.
    Scheduled,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Upkeep {
    /// Make a backup, read it back, copy it elsewhere where a command for that is configured.
    BackUp {
        /// Why.
        occasion: Occasion,
    },
    /// Read backups back completely.
    Verify {
        /// Their ids.
        ids: Vec<String>,
    },
    /// Let backups go.
    Prune {
        /// Their ids.
        ids: Vec<String>,
    },
    /// Make a backup of a file that came from elsewhere, by way of a database beside the live one.
    Import {
        /// The file.
        path: String,
        /// The moment whose data it has, as far as that is known.
        data_of: Millis,
        /// Which file that was when its rights were looked at; `None`: an older record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<String>,
    },
    /// Restore a backup into a database beside the live one, and leave it there.
    Aside {
        /// The backup.
        backup: String,
        /// The database that it becomes.
        database: String,
    },
    /// Restore a backup beside the live one, ask the integrity queries, drop it again.
    Drill {
        /// The backup.
        backup: String,
    },
    /// Dump a database that a restore put aside, prove the dump, drop the database.
    Retire {
        /// The operation that put it aside, or made it.
        of: OperationId,
        /// The database.
        database: String,
        /// The live name that it had; `None`: it is a copy of a backup, and is dropped as it is.
        was: Option<String>,
    },
}

impl Upkeep {
    /// The command's word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::BackUp { .. } => "backup",
            Self::Verify { .. } => "backup verify",
            Self::Prune { .. } => "backup prune",
            Self::Import { .. } => "backup import",
            Self::Aside { .. } => "backup restore",
            Self::Drill { .. } => "drill",
            Self::Retire { .. } => "db retire",
        }
    }

    /// Whether it needs this backup.
    #[must_use]
    pub fn needs(&self, id: &str) -> bool {
        match self {
            Self::Aside { backup, .. } | Self::Drill { backup } => backup == id,
            Self::Verify { ids } => ids.iter().any(|one| one == id),
            _ => false,
        }
    }
}

impl fmt::Display for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BackUp { occasion: Occasion::Asked } => f.write_str("backup"),
            Self::BackUp { occasion: Occasion::Scheduled } => f.write_str("backup by schedule"),
            Self::Verify { ids } => write!(f, "reading back of {}", ids.join(", ")),
            Self::Prune { ids } => write!(f, "letting go of {}", ids.join(", ")),
            Self::Import { path, .. } => write!(f, "import of {path}"),
            Self::Aside { backup, database } => write!(f, "restore of {backup} as {database}"),
            Self::Drill { backup } => write!(f, "restore drill with {backup}"),
            Self::Retire { database, .. } => write!(f, "retiring of {database}"),
        }
    }
}

/// How the newest work of a kind ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The operation.
    pub operation: OperationId,
    /// The backup, where one was named.
    pub backup: Option<String>,
    /// When it began.
    pub began: Millis,
    /// When it ended.
    pub ended: Millis,
    /// How.
    pub ending: Ending,
}

impl Tried {
    /// How long it took, if it came to a good end.
    #[must_use]
    pub fn took(&self) -> Option<Duration> {
        let is_done = self.ending == Ending::Done;
        is_done.then(|| Duration::from_millis(self.ended.since(self.began)))
    }
}

/// What is remembered of this work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The newest backup that was tried.
    #[serde(default)]
    pub backup: Option<Tried>,
    /// When the newest one by schedule began: a run that was missed is one after this.
    #[serde(default)]
    pub scheduled: Option<Millis>,
    /// How often the schedule failed since it last succeeded.
    #[serde(default)]
    pub failures: u32,
    /// The newest drill.
    #[serde(default)]
    pub drill: Option<Tried>,
}

impl Kept {
    /// Takes in that such work ended.
    pub(crate) fn ended(&mut self, work: &Upkeep, tried: Tried) {
        match work {
            Upkeep::BackUp { occasion } => {
                if *occasion == Occasion::Scheduled {
                    self.failures = match tried.ending {
                        Ending::Failed(_) | Ending::Refused(_) => self.failures.saturating_add(1),
                        _ => 0,
                    };
                }
                self.backup = Some(tried);
            }
            // One that a person gave up says nothing of the backups.
            Upkeep::Drill { .. } if tried.ending != Ending::GivenUp => self.drill = Some(tried),
            _ => {}
        }
    }
}
