//! The shapes of `maintenance`: what is asked, what is answered, what `status` says of it.

use cutover_model::AppName;
use serde::{Deserialize, Serialize};

use super::{Recorded, Side};

/// A maintenance that lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Since when.
    pub since: i64,
    /// Who began it.
    pub by: String,
    /// When clients are told to come back, in seconds.
    pub retry_after_s: u32,
    /// Networks whose clients are served all the same.
    pub allow: Vec<String>,
    /// Whose page clients get.
    pub page: PageOf,
}

/// Whose page clients get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageOf {
    /// The operator's.
    Operator,
    /// That of Cutover, or of `[proxy.error_pages]`.
    Cutover,
}

/// `POST …/maintenance/on`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceOn {
    /// When clients shall come back, in seconds.
    pub retry_after_s: u32,
    /// Networks whose clients are served all the same, like `10.0.0.0/8`.
    #[serde(default)]
    pub allow: Vec<String>,
    /// The operator's page, HTML.
    #[serde(default)]
    pub page: Option<String>,
}

/// The answer to `maintenance on` and `off`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turned {
    /// `cutover.maintenance/1`
    pub schema: String,
    /// The app.
    pub app: AppName,
    /// Since when new requests find it so.
    pub at: i64,
    /// How long that took, in microseconds.
    pub took_us: u64,
    /// Where the change stands.
    pub recorded: Recorded,
    /// The maintenance before.
    pub before: Option<Maintenance>,
    /// The maintenance now; `None`: clients are served.
    pub maintenance: Option<Maintenance>,
    /// Requests that were let in before and are not answered yet.
    pub requests: u64,
    /// WebSockets that are open.
    pub tunnels: u64,
    /// The color with the larger share.
    pub serves: Side,
}
