//! The shapes of backups: the list, what is asked of them, what the rule lets go, rows as exported.

use cutover_model::{AppName, OperationId, ReleaseId};
use serde::{Deserialize, Serialize};

/// `GET …/backups`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backups {
    /// `cutover.backups/1`
    pub schema: String,
    /// The app.
    pub app: AppName,
    /// Where they lie.
    pub folder: String,
    /// Whole ones, oldest first.
    pub backups: Vec<Backup>,
    /// Things in the folder that are no whole backup, each with what is wrong.
    pub broken: Vec<(String, String)>,
    /// When the next one is due by the schedule.
    pub next_at: Option<i64>,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Its id.
    pub id: String,
    /// The moment whose data it has.
    pub at: i64,
    /// Why it was made, in one or two words.
    pub why: String,
    /// The archive's bytes.
    pub bytes: u64,
    /// How large the database was, in bytes, where it is known.
    pub database_bytes: Option<u64>,
    /// When it was read back completely.
    pub verified_at: Option<i64>,
    /// How it is damaged, where that was found.
    pub damaged: Option<String>,
    /// The release that served.
    pub release: Option<ReleaseId>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// By which program, and when, a copy left this host.
    pub copied: Option<(i64, String)>,
    /// When and why a copy failed last.
    pub not_copied: Option<(i64, String)>,
    /// The archive's SHA-256.
    pub sha256: String,
    /// The server's version, as `150018`.
    pub server: i32,
    /// Its folder.
    pub folder: String,
}

/// `POST …/backups/verify`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// An id, or `newest`; `None`: all of them.
    pub backup: Option<String>,
}

/// `GET …/backups/prune`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prunable {
    /// `cutover.prune-plan/1`
    pub schema: String,
    /// The app.
    pub app: AppName,
    /// How many days keep their newest one.
    pub daily: u32,
    /// How many weeks.
    pub weekly: u32,
    /// How many months.
    pub monthly: u32,
    /// What would go, oldest first.
    pub going: Vec<Backup>,
    /// How many stay.
    pub staying: u64,
}

/// `POST …/backups/prune`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// What was shown.
    pub ids: Vec<String>,
}

/// `POST …/backups/aside`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aside {
    /// An id, or `newest`.
    pub backup: String,
    /// The database that it becomes; `None`: a name of its own.
    pub name: Option<String>,
}

/// `POST …/backups/import`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The file, on the daemon's host.
    pub path: String,
}

/// `POST …/drill`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// An id, or `newest`.
    pub backup: String,
}

/// `GET …/db/retire?operation=o41`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetirePlan {
    /// `cutover.retire-plan/1`
    pub schema: String,
    /// The app.
    pub app: AppName,
    /// The operation that left it.
    pub operation: OperationId,
    /// The database.
    pub name: String,
    /// Whether it was the live one: then it is dumped first.
    pub was_live: bool,
    /// Rows in it that the live one has not, as they were counted.
    pub rows: Option<u64>,
    /// Its size in bytes, when known.
    pub bytes: Option<u64>,
}

/// `POST …/db/retire`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retire {
    /// The operation that left it.
    pub operation: OperationId,
}

/// A line of `GET …/db/export?operation=o41&follow=1`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportLine {
    /// A table, before its rows.
    Table {
        /// Its quoted name with its schema.
        name: String,
        /// Its columns.
        columns: Vec<String>,
    },
    /// A row of the table before.
    Row {
        /// Whether the live database has it with other values.
        changed: bool,
        /// The values, in the order of the columns; `null`: NULL.
        values: Vec<Option<String>>,
    },
    /// The last line: all rows were sent.
    End {
        /// How many.
        rows: u64,
    },
    /// The last line: it broke off, for this reason.
    Failed {
        /// The reason.
        why: String,
    },
}
