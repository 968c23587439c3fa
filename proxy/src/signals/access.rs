//! The record of one answered request, for the access log.
//!
//! The data plane only hands it over; the daemon writes lines. Invariant: one record for each
//! request that was answered or cut, carrying the generation of the table that routed it.

use std::net::IpAddr;

use cutover_model::{AppName, Color, Generation, ReleaseId, Role};
use serde::{Deserialize, Serialize};

use crate::message::{Class, Routed};

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRecord {
    /// When the head was parsed, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The table that routed it.
    pub generation: Generation,
    /// The app, if a route matched.
    pub app: Option<AppName>,
    /// The release that was asked.
    pub release: Option<ReleaseId>,
    /// The color that was asked.
    pub color: Option<Color>,
    /// Its role by that table.
    pub role: Option<Role>,
    /// How it came to its color.
    pub routed: Option<Routed>,
    /// How it ended.
    pub class: Class,
    /// The status that the client got; 0 when the connection ended before.
    pub status: u16,
    /// The method, cut to 32 bytes.
    pub method: String,
    /// The host, as asked for.
    pub host: String,
    /// Path and query, cut to 2,000 bytes.
    pub target: String,
    /// The client's address, by the rules of trusted proxies.
    pub client: IpAddr,
    /// `X-Request-Id` as sent to the upstream.
    pub request_id: String,
    /// From the end of the head to the end of the answer's head.
    pub latency_us: u64,
    /// Attempts made, 0 when none was.
    pub attempts: u8,
}
