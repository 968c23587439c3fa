//! How good a rollback of the data would be now: what `status` says of restore points and backups.

use cutover_model::OperationId;
use serde::{Deserialize, Serialize};

/// What a rollback of the data would do now, by what is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataReadiness {
    /// Which kind of way it is.
    pub rung: Rung,
    /// In words.
    pub what: String,
    /// The moment whose data it has.
    pub at: Option<i64>,
    /// How long it took to make: what a copy of it will take, in milliseconds.
    pub takes_ms: Option<u64>,
}

/// The newest backup, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupLine {
    /// Its id.
    pub id: Option<String>,
    /// The moment whose data it has.
    pub at: Option<i64>,
    /// When it was read back completely.
    pub verified_at: Option<i64>,
    /// When a copy left this host.
    pub copied_at: Option<i64>,
    /// How many are kept.
    pub kept: u64,
    /// Things in the folder that are no whole backup.
    pub broken: u64,
    /// When and why the copy of it failed.
    #[serde(default)]
    pub not_copied: Option<(i64, String)>,
    /// When the next one is due by the schedule.
    #[serde(default)]
    pub next_at: Option<i64>,
    /// The operation that keeps one that is due from being made, until a person ends it.
    #[serde(default)]
    pub waits_for: Option<OperationId>,
    /// When and why the newest try to make one failed.
    #[serde(default)]
    pub failed: Option<(i64, String)>,
    /// The newest drill.
    #[serde(default)]
    pub drill: Option<DrillLine>,
}

/// A restore drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillLine {
    /// When it ended.
    pub at: i64,
    /// The backup.
    pub backup: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Why it did not pass; `None`: it did.
    pub failed: Option<String>,
}

/// Kinds of ways back for the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// A restore point.
    Point,
    /// A backup.
    Backup,
    /// None.
    None,
}
