//! What the proxy itself adds to requests, as it is told to the control plane.

use cutover_model::{AppName, Color, ReleaseId};
use serde::{Deserialize, Serialize};

/// The time that requests were with the proxy: from the end of the head to the first write to the
/// upstream, and from the end of the answer's head to the first write to the client. Requests that
/// waited at a gate, were tried twice, became tunnels or were not answered by an upstream are not
/// in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The app.
    pub app: AppName,
    /// The color.
    pub color: Color,
    /// The release in it.
    pub release: Option<ReleaseId>,
    /// Requests that were measured since the proxy started.
    pub requests: u64,
    /// The sum of their times in nanoseconds.
    pub sum_ns: u64,
}
