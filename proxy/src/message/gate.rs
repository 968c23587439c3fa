//! What the gate of an app is told, and what it says of itself.
//!
//! Two things can stand in a request's way, and each is set and taken away on its own: a hold of an
//! operation (requests wait for a moment) and a closed gate (clients get the maintenance page).
//! Invariant: a hold has a lease and ends by itself; a closed gate stays until it is opened.

use std::time::Duration;

use cutover_model::AppName;
use serde::{Deserialize, Serialize};

use crate::settings::Cidr;

/// One change of an app's gate. In force when the data plane has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// The app.
    pub app: AppName,
    /// What changes.
    pub change: GateChange,
}

/// What changes at a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateChange {
    /// Requests wait from now on. The same id again replaces limits and lease of a hold that lasts.
    Hold(Hold),
    /// The hold lasts at least so much longer from now on.
    Renew {
        /// The hold.
        hold: HoldId,
        /// Its lease, from now on.
        lease: Duration,
    },
    /// The hold ends: those that wait are let go, oldest first, at its rate.
    Open {
        /// The hold.
        hold: HoldId,
    },
    /// Clients get the maintenance page from now on.
    Close(Closed),
    /// They are served again.
    Reopen,
}

/// Names one hold; drawn by who asks for it, never used twice for one app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HoldId(pub u64);

/// How requests are held. Nobody is held for ever: not by a request's own limit, not by the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its name.
    pub id: HoldId,
    /// It ends by itself after this time, unless it is renewed.
    pub lease: Duration,
    /// Requests that may wait at one time; more are answered 503.
    pub most: u32,
    /// Bytes that they may keep in memory: their heads, and what came behind a head before it was
    /// held. Bodies are not read while a request waits.
    pub most_bytes: u64,
    /// How long one request may wait; then it is answered 503.
    pub wait: Duration,
    /// Requests let go in the first second; each further second twice as many, so that it ends even
    /// if more come than go.
    pub rate: u32,
    /// What becomes of streams that are open.
    pub streams: Streams,
}

/// What becomes of WebSockets and event streams that are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Streams {
    /// They go on.
    #[default]
    Stay,
    /// WebSockets are closed (1012, so that clients come back), event streams end.
    Reconnect,
}

/// How clients are sent away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// When clients shall come back, in seconds.
    pub retry_after_s: u32,
    /// The operator's page, HTML in UTF-8; `None`: ours.
    pub page: Option<String>,
    /// Clients that are served all the same.
    pub allow: Vec<Cidr>,
    /// What becomes of streams that are open.
    pub streams: Streams,
}

/// How a gate stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gated {
    /// The hold that lasts.
    pub hold: Option<HoldId>,
    /// Whether clients get the maintenance page.
    pub is_closed: bool,
    /// The figures of the hold that lasts, or of the last one.
    pub tally: Option<HoldTally>,
}

/// The figures of one hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldTally {
    /// The hold.
    pub hold: HoldId,
    /// Requests that wait now.
    pub waiting: u64,
    /// Requests that waited and were let go.
    pub waited: u64,
    /// The longest time that a request waited.
    pub longest: Duration,
    /// Requests that were answered 503: over a bound, or for too long.
    pub refused: u64,
    /// Requests whose client left.
    pub left: u64,
    /// How it ended.
    pub ended: Option<HoldEnd>,
}

/// How a hold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldEnd {
    /// It was opened.
    Opened,
    /// Its lease ran out.
    Lapsed,
}

/// Wait until everything that an app has now, in both colors, is answered. Requests that wait at
/// the gate and those that come later are not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainApp {
    /// The app.
    pub app: AppName,
    /// How long it may take.
    pub deadline: Duration,
    /// What becomes of streams; those that stay are not waited for.
    pub streams: Streams,
}

/// The end of a [`DrainApp`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppDrained {
    /// Requests that were open when it began.
    pub requests: u64,
    /// Tunnels (WebSockets) that were open when it began.
    pub tunnels: u64,
    /// Requests that were still open at the deadline.
    pub requests_left: u64,
    /// Tunnels that are still open.
    pub tunnels_left: u64,
}
