//! The restore of a database: what was agreed on, how far it has come, what is left to do.
//!
//! Live data is never overwritten: a candidate is built beside it, checked, and the two exchange
//! their names in one transaction. [`side`] tells from what is seen on which side of that exchange
//! the world is; a stage in the journal only adds the intent. [`left`] lists what is still to be
//! done, so that an operation killed anywhere goes on, or goes back, from what is there.
//! INVARIANT: nothing is planned on what could not be seen.

mod loss;
mod watched;

use std::fmt;

pub use loss::{Certainty, Loss, TableLoss, enough};
use serde::{Deserialize, Serialize};
pub use watched::{Watch, Watched, watch};

use crate::{Millis, OperationId, ReleaseId};

/// How long a person's acceptance of a loss is good before the names are exchanged.
pub const ACCEPTED_FOR_MS: i64 = 10 * 60 * 1_000;

/// A database's number in its server: it stays with the data when the name changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Oid(pub u32);

/// Where the data comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Source {
    /// The restore point that a deploy made before its migration.
    Point {
        /// The release that was deployed.
        release: ReleaseId,
    },
    /// A backup.
    Backup {
        /// Its id, like `b-118`.
        id: String,
    },
    /// The database that a restore put aside: the way back of that restore.
    Aside {
        /// That restore.
        operation: OperationId,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Point { release } => write!(f, "restore point before {release}"),
            Self::Backup { id } => write!(f, "backup {id}"),
            Self::Aside { operation } => write!(f, "the database put aside by {operation}"),
        }
    }
}

/// What was agreed on, with everything that tells afterwards whether it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePlan {
    /// The live database's name.
    pub database: String,
    /// Where the data comes from.
    pub source: Source,
    /// When that data was current.
    pub data_of: Millis,
    /// The release that serves on the restored data.
    pub to: ReleaseId,
    /// The release whose containers must not write into it; they are stopped.
    pub from: Option<ReleaseId>,
    /// The server's own identifier.
    pub system: String,
    /// The live database's number before: it is put aside, and keeps this number.
    pub live: Oid,
    /// The name of the database that is built, and takes the live name.
    pub candidate: String,
    /// The name under which the live one is kept.
    pub aside: String,
    /// The most rows that may be lost.
    pub max_loss: u64,
    /// How long requests may wait, in milliseconds.
    pub max_hold_ms: u64,
    /// When a person accepted the loss.
    pub accepted_at: Millis,
}

/// What is done next, in order; each is journalled before it is begun, and each may run twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Look for whatever stands in the way; nothing is changed.
    Preflight,
    /// Dump today's data, and read the dump back.
    Dump,
    /// Build the candidate; the live database keeps serving.
    Build,
    /// Check the candidate, and mark it as checked.
    Verify,
    /// Stop the release that must not write any more, where it has no traffic.
    Stop,
    /// Requests wait; open ones end; the loss is counted again.
    Hold,
    /// Exchange the names.
    Swap,
    /// Probe the release that serves; let requests go.
    Open,
    /// Stop what only waited to be stopped, and watch.
    Settle,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 9] = [
        Self::Preflight,
        Self::Dump,
        Self::Build,
        Self::Verify,
        Self::Stop,
        Self::Hold,
        Self::Swap,
        Self::Open,
        Self::Settle,
    ];

    /// The short word that progress lines begin with.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Preflight => "look",
            Self::Dump => "dump",
            Self::Build => "copy",
            Self::Verify => "verify",
            Self::Stop => "stop",
            Self::Hold | Self::Swap => "exchange",
            Self::Open => "check",
            Self::Settle => "settle",
        }
    }

    /// Whether a daemon that starts in this stage lets requests wait until it knows more.
    #[must_use]
    pub fn starts_held(self) -> bool {
        matches!(self, Self::Hold | Self::Swap | Self::Open)
    }
}

/// Why an operation waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "halt", rename_all = "snake_case")]
pub enum Halt {
    /// More would be lost than was accepted, or the acceptance is too old.
    Asks {
        /// Rows that would be lost now.
        rows: u64,
        /// Why it is asked again.
        why: String,
        /// Rows that are written a minute, roughly; 0: none, or it is not known.
        #[serde(default)]
        a_minute: u64,
    },
    /// It cannot go on until something outside is mended.
    Stuck {
        /// What and why, in the operator's words.
        why: String,
    },
    /// The daemon was started to wait for a person.
    Waits,
}

/// A restore that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// What was agreed on.
    pub plan: RestorePlan,
    /// The newest stage that was begun.
    pub stage: Option<Stage>,
    /// Why it waits, if it does.
    pub halted: Option<Halt>,
    /// The release that it started for the exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<ReleaseId>,
    /// The release that it stopped for the exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<ReleaseId>,
}

impl Restore {
    /// One that has begun nothing yet.
    #[must_use]
    pub fn new(plan: RestorePlan) -> Self {
        Self { plan, stage: None, halted: None, started: None, stopped: None }
    }
}

/// A database that a restore put aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// Its name now.
    pub name: String,
    /// The name that it had, and that the restored one has now.
    pub database: String,
    /// Its number.
    pub oid: Oid,
    /// When it was put aside.
    pub since: Millis,
    /// Rows in it that the restored one has not, as they were counted.
    pub rows: u64,
    /// The release that served on it.
    pub served: Option<ReleaseId>,
    /// The release that serves on the restored data.
    pub serves: ReleaseId,
    /// What came of watching the restored data, as far as anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched: Option<Watched>,
}

/// A restore point: a copy of the database from right before a deploy's migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The release that was deployed.
    pub release: ReleaseId,
    /// The copy's name.
    pub name: String,
    /// The database that it is a copy of.
    pub database: String,
    /// Its number.
    pub oid: Oid,
    /// The moment whose data it has.
    pub at: Millis,
    /// Its size in bytes.
    pub bytes: u64,
    /// How long it took to make, in milliseconds: what a copy of it will take.
    pub took_ms: u64,
}

/// Whose mark a database carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// None.
    None,
    /// This operation's.
    Ours(Checked),
    /// Somebody else's, or another operation's; cut to a readable length.
    Foreign(String),
}

/// Whether a candidate has passed its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Not yet.
    NotYet,
    /// It passed.
    Passed,
}

/// A database that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub oid: Oid,
    /// Its mark.
    pub mark: Mark,
}

/// What was seen on the server of an operation's three names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Databases {
    /// The server's own identifier.
    pub system: String,
    /// Under the live name.
    pub live: Option<Found>,
    /// Under the candidate's name.
    pub candidate: Option<Found>,
    /// Under the name for what is put aside.
    pub aside: Option<Found>,
}

/// On which side of the exchange the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The live name still means the old data.
    Before,
    /// The live name means the restored data; the old ones are put aside.
    After,
}

/// What was seen cannot have come from this operation: nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Strange {
    /// It is another server.
    #[error("this is another PostgreSQL server: its identifier is {seen}, the plan's {planned}")]
    OtherServer {
        /// The plan's.
        planned: String,
        /// This one's.
        seen: String,
    },
    /// The live name means nothing, or data that neither side of the exchange has.
    #[error(
        "\"{database}\" is not what it was when this began and not what this made of it: somebody \
         changed it"
    )]
    OtherLive {
        /// The live name.
        database: String,
    },
    /// Somebody exchanged it between the look and the acceptance: nothing was begun.
    #[error("\"{database}\" was exchanged since this was shown: look at it again")]
    Overtaken {
        /// The live name.
        database: String,
    },
    /// A name that this operation wants is taken by something that is not its own.
    #[error(
        "there is a database \"{name}\" that this operation did not make ({whose}): rename or drop \
         it yourself if nobody needs it; it is not touched"
    )]
    Foreign {
        /// Its name.
        name: String,
        /// Whose it is.
        whose: String,
    },
}

/// On which side of the exchange the world is, by the numbers of the databases alone.
///
/// # Errors
/// [`Strange`]: what was seen fits neither side.
pub fn side(plan: &RestorePlan, seen: &Databases) -> Result<Side, Strange> {
    if seen.system != plan.system {
        let (planned, seen) = (plan.system.clone(), seen.system.clone());
        return Err(Strange::OtherServer { planned, seen });
    }
    let oid = |found: &Option<Found>| found.as_ref().map(|found| found.oid);
    match (oid(&seen.live), oid(&seen.aside)) {
        (Some(live), _) if live == plan.live => Ok(Side::Before),
        (Some(_), Some(aside)) if aside == plan.live => Ok(Side::After),
        _ => Err(Strange::OtherLive { database: plan.database.clone() }),
    }
}

/// What is still to be done, in order, given what is there and the newest stage that was begun.
///
/// # Errors
/// [`Strange`]; [`Strange::Overtaken`] where nothing was begun and the live name means other data
/// than what the person saw who accepted it.
pub fn left(
    plan: &RestorePlan,
    begun: Option<Stage>,
    seen: &Databases,
) -> Result<Vec<Stage>, Strange> {
    let side = match (side(plan, seen), begun) {
        (Ok(Side::After) | Err(Strange::OtherLive { .. }), None) => {
            return Err(Strange::Overtaken { database: plan.database.clone() });
        }
        (side, _) => side?,
    };
    if side == Side::After {
        // Once is enough for the checks, but a start in the middle of them repeats them.
        return Ok(match begun {
            Some(Stage::Settle) => vec![Stage::Settle],
            _ => vec![Stage::Open, Stage::Settle],
        });
    }
    if let Some(aside) = &seen.aside {
        let whose = format!("number {}", aside.oid.0);
        return Err(Strange::Foreign { name: plan.aside.clone(), whose });
    }
    let is_way_back = matches!(plan.source, Source::Aside { .. });
    let has_candidate = match seen.candidate.as_ref().map(|found| &found.mark) {
        None => None,
        // A way back takes a database that was whole when it was put aside.
        Some(_) if is_way_back => Some(Checked::Passed),
        Some(Mark::Ours(checked)) => Some(*checked),
        // Killed between its making and its marking: the name carries this operation's number.
        Some(Mark::None) => Some(Checked::NotYet),
        Some(Mark::Foreign(whose)) => {
            let whose = format!("it is marked \"{whose}\"");
            return Err(Strange::Foreign { name: plan.candidate.clone(), whose });
        }
    };
    let mut stages = vec![Stage::Preflight];
    // A dump that was not finished is no dump; one that was is older than what was written since.
    if begun.is_none_or(|begun| begun <= Stage::Dump) && !is_way_back {
        stages.push(Stage::Dump);
    }
    match has_candidate {
        Some(Checked::Passed) => {}
        // A candidate that was not checked may be half of one.
        Some(Checked::NotYet) | None => stages.extend([Stage::Build, Stage::Verify]),
    }
    stages.extend([Stage::Stop, Stage::Hold, Stage::Swap, Stage::Open, Stage::Settle]);
    Ok(stages)
}

#[cfg(test)]
mod tests;
