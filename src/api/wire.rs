//! The shapes of the admin API: what goes over the socket, for the daemon and for its client.
//!
//! Each answer names its `schema`; fields may be added, a meaning never changes. Times are
//! milliseconds since the Unix epoch, shares are basis points, latencies are microseconds. No value
//! of an env file and no secret is ever in one of them.

mod backups;
mod restore;

pub use backups::{
    Aside, Backup, Backups, Drill, ExportLine, Import, Prunable, Prune, Retire, RetirePlan, Verify,
};
pub use restore::{
    Continue, DataAsk, DatabaseLine, Databases, RestoreAsk, RestoreGo, RestorePlanned, Rows,
    WayBack,
};

use cutover_model::{
    AppName, Color, Generation, Happened, OperationId, Parts, ReleaseId, ReleaseState, Way, Weight,
};
use serde::{Deserialize, Serialize};

mod doctor;
mod legs;
mod maintenance;
mod migrations;
mod readiness;
pub mod schema;

pub use doctor::{After, Doctor, Finding, Fix, Mended};
pub use legs::{
    EnvFileDiff, ImageDiff, ReleasesDiff, Rollback, RollbackAt, RollbackPlan, RollbackSet,
};
pub use maintenance::{Maintenance, MaintenanceOn, PageOf, Turned};
pub use migrations::{DownLine, MigrateDown, MigrationLine, Migrations, ToolLine};
pub use readiness::{BackupLine, DataReadiness, DrillLine, Rung};

/// `GET /v1/status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `cutover.status/1`
    pub schema: String,
    /// The daemon's version.
    pub version: String,
    /// When the daemon started.
    pub started_at: i64,
    /// The daemon's clock.
    pub now: i64,
    /// The addresses that it listens on.
    pub listen: Vec<String>,
    /// Every app.
    pub apps: Vec<AppStatus>,
    /// How full this machine is.
    #[serde(default)]
    pub host: Host,
}

/// How full the daemon's machine is, in percent; what could not be read is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Memory that cannot be had without swapping.
    pub memory: Option<u8>,
    /// The disk of the state folder.
    pub disk: Option<u8>,
}

/// A service that runs once, in the stable color: where it was last seen running, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Singleton {
    /// The service.
    pub service: String,
    /// Running containers in blue and in green.
    pub running: cutover_model::ByColor<u32>,
}

/// How an app is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mood {
    /// One release serves, nothing goes on.
    Calm,
    /// A release gets a share of the clients.
    Rollout,
    /// A deploy, an adoption or a leave runs.
    Working,
    /// Clients are sent away with the maintenance page.
    Maintenance,
    /// Users see errors, or the journal cannot be trusted.
    Trouble,
    /// No release serves yet.
    Empty,
}

/// One app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its name.
    pub app: AppName,
    /// How it is.
    pub mood: Mood,
    /// Since when, when known.
    pub since: Option<i64>,
    /// Why, when it is in trouble: a sentence.
    pub why: Option<String>,
    /// The color with the larger share.
    pub serves: Side,
    /// The other color.
    pub standby: Side,
    /// What a rollback would do now.
    pub rollback: Readiness,
    /// What a rollback of the data would do now; `None`: no way was ever on record.
    #[serde(default)]
    pub data: Option<DataReadiness>,
    /// The newest backup; `None`: there is no database, or they could not be listed.
    #[serde(default)]
    pub backup: Option<BackupLine>,
    /// The weights that are left of the recipe, 100 % not named; empty without a rollout.
    pub next_weights: Vec<Weight>,
    /// Operations that run.
    pub running: Vec<Running>,
    /// The last move of traffic.
    pub last_move: Option<LastMove>,
    /// What an operator should know: unrecorded facts, lost records, missing endpoints.
    pub notes: Vec<String>,
    /// Public ports that a rule of ours leads here.
    pub ports: Vec<u16>,
    /// The maintenance that lasts.
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
    /// The table in force.
    pub generation: Generation,
    /// Services that run once.
    #[serde(default)]
    pub singletons: Vec<Singleton>,
}

/// One color.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// The color.
    pub color: Color,
    /// Its share.
    pub weight: Weight,
    /// The release in it.
    pub release: Option<ReleaseId>,
    /// What people call it.
    pub label: String,
    /// What became of it.
    pub state: Option<ReleaseState>,
    /// Since when it is on record.
    pub since: Option<i64>,
    /// Endpoints in the table.
    pub endpoints: u32,
    /// Its traffic of the last minute.
    pub traffic: Traffic,
    /// The color's own address on loopback.
    pub address: Option<String>,
}

/// Traffic of one color over a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Requests a second.
    pub per_second: f64,
    /// Requests in that time.
    pub requests: u64,
    /// Failures of the color's own in that time.
    pub failed: u64,
    /// The bucket bound below which 99 % of the latencies lie.
    pub p99_us: Option<u64>,
}

/// What a rollback would do now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    /// Where it leads; `None`: nowhere.
    pub to: Option<ReleaseId>,
    /// What people call it.
    pub label: String,
    /// Whether it is instant: its stack runs.
    pub instant: bool,
    /// In a sentence.
    pub text: String,
}

/// An operation that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// It.
    pub operation: OperationId,
    /// Its command's word.
    pub what: String,
    /// When it began.
    pub started_at: i64,
    /// Who asked.
    pub actor: String,
}

/// The last move of traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMove {
    /// When.
    pub at: i64,
    /// By which operation.
    pub operation: Option<OperationId>,
    /// Its command's word.
    pub what: Option<String>,
}

/// The answer to a command that was carried out or begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// `cutover.done/1`
    pub schema: String,
    /// The app.
    pub app: AppName,
    /// The operation; its lines can be followed.
    pub operation: OperationId,
    /// Its command's word.
    pub what: String,
    /// When traffic moved, or the operation was accepted.
    pub at: i64,
    /// The move of traffic, if there was one.
    pub moved: Option<Moved>,
    /// Where the change stands.
    pub recorded: Recorded,
    /// The color with the larger share now.
    pub serves: Side,
    /// The other color now.
    pub standby: Side,
    /// The weights that are left of the recipe.
    pub next_weights: Vec<Weight>,
    /// Remarks that belong right below the first line.
    pub remarks: Vec<String>,
    /// A rollback to what serves everyone already: only open requests are cut.
    #[serde(default)]
    pub cuts_only: bool,
    /// A database is configured: its data can be put back, too.
    #[serde(default)]
    pub has_database: bool,
    /// What a rollback would do from here.
    #[serde(default)]
    pub rollback: Option<Readiness>,
}

/// A move of traffic that is in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The canary's weight before and now.
    pub weight: (Weight, Weight),
    /// The stable color before and now.
    pub stable: (Color, Color),
    /// The table in force.
    pub generation: Generation,
    /// From the decision to the moment from which every new request uses it, in microseconds.
    pub took_us: u64,
}

/// Where a change stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "where", rename_all = "snake_case")]
pub enum Recorded {
    /// In the journal.
    Journal,
    /// In the weights file, not yet in the journal.
    WeightsOnly {
        /// Why.
        why: String,
    },
    /// Only in memory.
    MemoryOnly {
        /// Why.
        why: String,
    },
}

/// Nothing was done, or it failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `cutover.problem/1`
    pub schema: String,
    /// Which kind.
    pub kind: ProblemKind,
    /// What is wrong, in the operator's words.
    pub message: String,
    /// The ways on.
    pub ways: Vec<Way>,
    /// The exit code of a command that gets this.
    pub exit: u8,
}

/// Kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// It is already so: not a failure.
    NothingToDo,
    /// Refused: nothing was changed.
    Refused,
    /// Another operation runs.
    Busy,
    /// No such app, release, operation or route.
    NotFound,
    /// The request is malformed.
    Usage,
    /// The caller may not.
    NotPermitted,
    /// It could not be recorded, so nothing was changed.
    NotRecorded,
    /// Refused, because rows would be lost and nobody has accepted that.
    AsksLoss,
    /// Refused, because the release cannot run on today's database.
    Schema,
    /// It failed.
    Failed,
}

/// `POST …/shift`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shift {
    /// The canary's weight.
    pub weight: Weight,
}

/// `POST …/undo`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// The operation.
    pub operation: OperationId,
}

/// `POST …/note`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The operation.
    pub operation: OperationId,
    /// The words.
    pub text: String,
}

/// `POST …/deploy`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// The commit, tag or branch; `None`: HEAD.
    #[serde(default)]
    pub reference: Option<String>,
    /// `SERVICE=IMAGE`, split.
    #[serde(default)]
    pub images: Vec<(String, String)>,
    /// 100 % when ready.
    #[serde(default)]
    pub at_once: bool,
    /// No traffic when ready.
    #[serde(default)]
    pub no_traffic: bool,
    /// A release that was rolled back may come again.
    #[serde(default)]
    pub again: bool,
    /// Build the files as they lie in the folder.
    #[serde(default)]
    pub dirty: bool,
}

/// `POST …/adopt`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    /// How long old and new are compared, in milliseconds; `None`: 60 s.
    #[serde(default)]
    pub compare_ms: Option<u64>,
}

/// `GET …/adopt` and `GET …/leave`: the plan, before anything happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// `cutover.plan/1`
    pub schema: String,
    /// The plan as the operator reads it.
    pub text: String,
    /// Public ports that would be led or given back.
    pub ports: Vec<u16>,
}

/// `GET …/preview?release=r6`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// `cutover.preview/1`
    pub schema: String,
    /// The release.
    pub release: ReleaseId,
    /// Its color.
    pub color: Color,
    /// A link that shows it, to be put behind the site's own address.
    pub link: String,
    /// When the link ends.
    pub until: i64,
    /// The color's own address on loopback.
    pub address: Option<String>,
}

/// `GET …/releases`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Releases {
    /// `cutover.releases/1`
    pub schema: String,
    /// The app.
    pub app: AppName,
    /// Newest first.
    pub releases: Vec<ReleaseLine>,
}

/// One release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseLine {
    /// Its number.
    pub release: ReleaseId,
    /// What people call it.
    pub label: String,
    /// The commit in full.
    pub commit: Option<String>,
    /// Its color.
    pub color: Color,
    /// What became of it.
    pub state: ReleaseState,
    /// Its share of the traffic.
    pub weight: Weight,
    /// When it was made.
    pub made_at: i64,
    /// Since when it has the `stable` mark.
    pub proven_at: Option<i64>,
    /// Which operation rolled it back.
    pub rejected_by: Option<OperationId>,
    /// Image id by service.
    pub images: std::collections::BTreeMap<String, String>,
    /// What it was composed of; `None`: a deploy or an adoption made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Parts>,
    /// Migrations of the database when it was made, when visible.
    pub migrations: Option<Vec<String>>,
}

/// One thing that happened: a line of `events` and of a followed operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// `cutover.event/1`
    pub schema: String,
    /// The app.
    pub app: AppName,
    /// Its place in the journal, when it is known to stand there.
    pub seq: Option<u64>,
    /// What.
    pub happened: Happened,
}

/// `GET …/logs`: one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The service.
    pub service: String,
    /// The line with its time, control bytes escaped.
    pub line: String,
}
