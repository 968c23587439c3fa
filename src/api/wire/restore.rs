//! The shapes of a database's way back: what is asked, the plan with its losses, what is kept.

use cutover_model::restore::Loss;
use cutover_model::{AppName, OperationId, ReleaseId};
use serde::{Deserialize, Serialize};

/// `POST …/restore/plan`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreAsk {
    /// The release that shall serve; `None`: as a rollback would choose.
    #[serde(default)]
    pub to: Option<ReleaseId>,
    /// The release whose data is wanted, where that is not the one that shall serve: a release that
    /// was composed of former parts serves on the data of the one they came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<ReleaseId>,
    /// Which data; `None`: the cheapest that is sufficient.
    #[serde(default)]
    pub data: DataAsk,
}

/// Which data is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataAsk {
    /// The cheapest way that is sufficient.
    #[default]
    Cheapest,
    /// A backup, by its id.
    Backup(String),
    /// The newest backup.
    NewestBackup,
    /// The restore point before this release.
    Point(ReleaseId),
    /// What this restore put aside: its way back.
    Aside(OperationId),
}

/// What a restore would do; nothing has happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestorePlanned {
    /// `cutover.restore-plan/1`
    pub schema: String,
    /// The app.
    pub app: AppName,
    /// The live database.
    pub database: String,
    /// Its size in bytes, when known.
    pub bytes: Option<u64>,
    /// Whether it is the undoing of a restore: nothing is dumped or copied then.
    #[serde(default)]
    pub is_way_back: bool,
    /// The release that serves on the restored data.
    pub to: ReleaseId,
    /// The release whose containers are stopped for it.
    pub from: Option<ReleaseId>,
    /// The release that has all traffic now.
    pub serves: Option<ReleaseId>,
    /// The ways back, cheapest first.
    pub ways: Vec<WayBack>,
    /// Which of them is taken.
    pub chosen: usize,
    /// The loss of that way, table by table; `null`: not counted before the exchange.
    pub loss: Option<Loss>,
    /// Since when what is written is lost.
    pub lost_since: i64,
    /// By how many rows a minute the loss grows, when it was seen.
    pub growing: Option<f64>,
    /// The name under which today's database is kept.
    pub aside: String,
    /// How long requests may wait at most, in milliseconds.
    pub max_hold_ms: u64,
    /// Names this plan when it is accepted; good for ten minutes.
    pub token: String,
}

/// One way back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WayBack {
    /// In a few words: `restore point before r7, 26 Nov 22:31`.
    pub what: String,
    /// Rows lost, or why the way cannot be taken.
    pub rows: Rows,
    /// About how long requests wait, in milliseconds.
    pub waits_ms: Option<u64>,
    /// About how long it takes, in milliseconds, by what was measured before.
    pub takes_ms: Option<u64>,
}

/// How many rows a way loses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rows {
    /// Exactly so many.
    Exact(u64),
    /// At most so many.
    AtMost(u64),
    /// It was not counted.
    NotCounted,
    /// The way cannot be taken, for this reason.
    Impossible(String),
}

/// `POST …/restore`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreGo {
    /// The plan.
    pub token: String,
    /// The most rows that may be lost.
    pub max_loss: u64,
}

/// `POST …/operations/o41/continue`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Continue {
    /// The most rows that may be lost, when it is accepted anew.
    #[serde(default)]
    pub max_loss: Option<u64>,
}

/// `GET …/db`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Databases {
    /// `cutover.databases/1`
    pub schema: String,
    /// The app.
    pub app: AppName,
    /// The live one, the restore points, those put aside, and candidates that go on.
    pub databases: Vec<DatabaseLine>,
}

/// One database of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseLine {
    /// Its name.
    pub name: String,
    /// `live`, `restore point`, `put aside`, `candidate`, or `copy` (of a backup).
    pub what: String,
    /// Since when it is that.
    pub since: Option<i64>,
    /// Its size in bytes, when known.
    pub bytes: Option<u64>,
    /// The operation that made it so.
    pub operation: Option<OperationId>,
    /// Rows in it that the live one has not, as they were counted when it was put aside.
    pub rows: Option<u64>,
}
