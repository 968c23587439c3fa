//! What an incident report is made of: what the journal, the data plane and the checks said.
//!
//! Times are milliseconds since the Unix epoch. What is not known is `None` or an empty list with a
//! reason beside it; nothing is guessed. No value of an env file is in it, only keys.

use cutover_model::{AppName, Fact, OperationId, ReleaseId};
use serde::{Deserialize, Serialize};

/// The whole report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `cutover.report/1`
    pub schema: String,
    /// The app.
    pub app: AppName,
    /// The operation.
    pub operation: OperationId,
    /// Its command's word.
    pub what: String,
    /// When it was asked for.
    pub started_at: i64,
    /// When people first asked for the way back: a restore follows a rollback that moved traffic.
    pub asked_at: i64,
    /// When it ended, and why not well, if so.
    pub ended: Option<(i64, Option<String>)>,
    /// The release that lost the traffic.
    pub from: Option<Version>,
    /// The release that got it.
    pub to: Option<Version>,
    /// What users met.
    pub users: Users,
    /// What became of the data; `None`: it was not touched.
    pub data: Option<Restored>,
    /// Why, in people's words.
    pub said: Vec<Said>,
    /// Who decided.
    pub decided_by: String,
    /// Whether it was the daemon itself.
    pub automatic: bool,
    /// When traffic moved.
    pub traffic_at: Option<i64>,
    /// What happened, oldest first.
    pub timeline: Vec<Moment>,
    /// Moments in the middle that were left out.
    pub left_out: u64,
    /// What differs between the releases.
    pub difference: Option<Difference>,
    /// What the release that lost the traffic wrote.
    pub logs: Logs,
    /// Each of the five checks after it.
    pub checks: Vec<Check>,
    /// What people wrote.
    pub written: Written,
    /// When the report was made.
    pub made_at: i64,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number.
    pub release: ReleaseId,
    /// What people call it.
    pub label: String,
}

/// What users met: failures of the release that lost the traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// Whether anything is known: records go with the daemon's end.
    pub known: bool,
    /// The first failed request.
    pub since: Option<i64>,
    /// The last one.
    pub until: Option<i64>,
    /// Failed requests.
    pub failed: u64,
    /// Clients that met one.
    pub clients: u64,
    /// Whether more failed than was recorded.
    pub at_least: bool,
}

/// What a restore did to the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Where the data came from.
    pub source: String,
    /// The moment whose data serves now.
    pub data_of: i64,
    /// When the names were exchanged; `None`: they were not.
    pub at: Option<i64>,
    /// Rows that were set aside.
    pub rows: Option<u64>,
    /// The database in which they are kept.
    pub kept_as: Option<String>,
}

/// A note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// When.
    pub at: i64,
    /// Who.
    pub by: String,
    /// The words.
    pub text: String,
}

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at: i64,
    /// The operation that it belongs to.
    pub operation: Option<OperationId>,
    /// Who.
    pub by: String,
    /// What.
    pub what: What,
}

/// What happened in a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It is in the journal.
    Fact(Box<Fact>),
    /// The first request that failed.
    FirstFailure,
    /// The last one.
    LastFailure,
}

/// What differs between two releases, from the former one to the one that was rolled back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Commits with their titles, newest first; `None`: not known.
    pub commits: Option<Vec<String>>,
    /// Migrations that only the later one has; `None`: not known.
    pub migrations: Option<Vec<String>>,
    /// Env keys; `None`: not known.
    pub env: Option<Vec<EnvChange>>,
    /// Images, by service.
    pub images: Vec<Image>,
}

/// A key of an env file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvChange {
    /// The file.
    pub file: String,
    /// The keys and what became of them: `PRICE_MODE added`.
    pub keys: String,
}

/// A service whose image differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The service.
    pub service: String,
    /// Before.
    pub before: Option<String>,
    /// After.
    pub after: Option<String>,
}

/// Log lines around the trigger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// Service and line, with secrets masked, oldest first.
    pub lines: Vec<(String, String)>,
    /// Why there are none.
    pub why_none: Option<String>,
}

/// One of the five checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Which.
    pub item: Item,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen, or why nothing was.
    pub text: String,
    /// When: a check that was run for the report has its time, a recorded one that of the record.
    pub at: Option<i64>,
}

/// What is checked after an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// The readiness probe of what serves.
    Health,
    /// The smoke probes.
    Core,
    /// The integrity queries.
    Data,
    /// Latency against the usual.
    Speed,
    /// A request on the way that users take.
    Access,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It passed.
    Pass,
    /// It failed.
    Fail,
    /// It was not made.
    NotKnown,
}

/// What only people can write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// The root cause.
    #[serde(default)]
    pub cause: String,
    /// Improvements.
    #[serde(default)]
    pub improvements: String,
    /// Prevention.
    #[serde(default)]
    pub prevention: String,
}
