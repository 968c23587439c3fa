//! Migrations over the wire.

use cutover_model::{AppName, ReleaseId};
use serde::{Deserialize, Serialize};

/// `GET …/migrations`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrations {
    /// `cutover.migrations/1`
    pub schema: String,
    /// The app.
    pub app: AppName,
    /// What the database has, oldest first; `None`: it cannot be asked.
    pub applied: Option<Vec<MigrationLine>>,
    /// The way back; `None`: no release brought a migration that is still there.
    pub down: Option<DownLine>,
    /// What the tool says itself, where a command for that is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolLine>,
}

/// What the configured `status_command` printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolLine {
    /// Its last lines.
    pub lines: Vec<String>,
    /// Why it did not run, or what it said when it failed.
    pub failed: Option<String>,
}

/// A migration that the database has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationLine {
    /// Its name, as the tool's table has it.
    pub name: String,
    /// The release that brought it.
    pub release: Option<ReleaseId>,
    /// What was found out when it was tried.
    pub told: Option<String>,
}

/// What `migrate down` would take back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownLine {
    /// The release that brought them.
    pub release: ReleaseId,
    /// Names, in the order in which they go.
    pub names: Vec<String>,
    /// The configured command that does it; `None`: the release's down scripts do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Why it is impossible.
    pub impossible: Option<String>,
}

/// `POST …/migrations/down`: what was shown, and agreed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrateDown {
    /// The release whose migrations go back.
    pub release: ReleaseId,
    /// Their names, in the order in which they go.
    pub names: Vec<String>,
}
