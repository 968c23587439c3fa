//! The name and version of each answer's form. A form that changes its meaning gets a new number.

/// [`super::Status`].
pub const STATUS: &str = "cutover.status/1";
/// [`super::Done`].
pub const DONE: &str = "cutover.done/1";
/// [`super::Problem`].
pub const PROBLEM: &str = "cutover.problem/1";
/// [`super::Releases`].
pub const RELEASES: &str = "cutover.releases/1";
/// [`super::ReleasesDiff`].
pub const RELEASES_DIFF: &str = "cutover.releases-diff/1";
/// [`super::Event`].
pub const EVENT: &str = "cutover.event/1";
/// [`super::Plan`].
pub const PLAN: &str = "cutover.plan/1";
/// [`super::RollbackPlan`].
pub const ROLLBACK_PLAN: &str = "cutover.rollback-plan/1";
/// [`super::RollbackSet`].
pub const ROLLBACK_SET: &str = "cutover.rollback-set/1";
/// [`super::RestorePlanned`].
pub const RESTORE_PLAN: &str = "cutover.restore-plan/1";
/// [`super::Databases`].
pub const DATABASES: &str = "cutover.databases/1";
/// [`super::Migrations`].
pub const MIGRATIONS: &str = "cutover.migrations/1";
/// [`super::Backups`].
pub const BACKUPS: &str = "cutover.backups/1";
/// [`super::Prunable`].
pub const PRUNE_PLAN: &str = "cutover.prune-plan/1";
/// [`super::RetirePlan`].
pub const RETIRE_PLAN: &str = "cutover.retire-plan/1";
/// [`super::Preview`].
pub const PREVIEW: &str = "cutover.preview/1";
/// [`super::Doctor`].
pub const DOCTOR: &str = "cutover.doctor/1";
/// [`crate::report::Report`].
pub const REPORT: &str = "cutover.report/1";
/// What people wrote in one is kept.
pub const REPORT_WRITTEN: &str = "cutover.report-written/1";
/// [`super::Turned`].
pub const MAINTENANCE: &str = "cutover.maintenance/1";
