//! The gate of an app, as operations and people use it: hold, wait until drained, let go; close.
//!
//! For an operation that must have the app idle for a moment (an exchange of databases):
//!
//! ```ignore
//! let hold = app.hold(HoldLimits::within(max_hold), max_hold + Duration::from_secs(1))?;
//! let drained = hold.drained(deadline).await;      // both colors; who waits is not counted
//! hold.renew(more)?;                               // HoldLost: the requests flow again
//! let figures = hold.release().await;              // how many waited, how long, how many got 503
//! ```
//!
//! INVARIANT: nobody is held for ever. The lease is the data plane's: it ends a hold whose
//! operation hangs or whose daemon died; dropping the guard ends it at once.

mod maintenance;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cutover_model::AppName;
use cutover_proxy::Proxy;
use cutover_proxy::message::{
    AppDrained, DrainApp, Gate, GateChange, Hold, HoldId, HoldTally, Streams,
};

use super::{App, Failure};

pub(super) use maintenance::first_gate;
pub use maintenance::{Closing, Turned};

/// How long [`HoldGuard::release`] waits until all are gone: with the default rate many more than
/// may wait.
const LETTING_GO: Duration = Duration::from_secs(5);

/// Between two looks whether all are gone.
const LOOK: Duration = Duration::from_millis(5);

/// The bounds of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldLimits {
    /// Requests that may wait at one time.
    pub requests: u32,
    /// Bytes that they may keep in memory.
    pub bytes: u64,
    /// How long one may wait.
    pub wait: Duration,
    /// How many are let go in the first second; each further second twice as many.
    pub rate: u32,
    /// What becomes of WebSockets and event streams that are open.
    pub streams: Streams,
}

impl HoldLimits {
    /// The usual bounds, for a hold of at most this time.
    #[must_use]
    pub fn within(wait: Duration) -> Self {
        let bytes = 32 * 1024 * 1024;
        Self { requests: 2_000, bytes, wait, rate: 1_000, streams: Streams::Reconnect }
    }

    fn hold(self, id: HoldId, lease: Duration) -> Hold {
        let Self { requests: most, bytes: most_bytes, wait, rate, streams } = self;
        Hold { id, lease, most, most_bytes, wait, rate, streams }
    }
}

/// The hold is over although nobody released it: its lease ran out, requests flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the requests were held for too long: the hold ended by itself, and they flow again")]
pub struct HoldLost;

/// A hold that lasts until it is released or dropped, or until its lease runs out.
#[derive(Debug)]
pub struct HoldGuard {
    proxy: Arc<Proxy>,
    app: AppName,
    id: HoldId,
    streams: Streams,
    is_open: bool,
}

impl App {
    /// Holds the app's requests from now on; see the module.
    ///
    /// # Errors
    /// [`Failure::Unknown`] when another operation holds them; nothing was changed.
    pub fn hold(&self, limits: HoldLimits, lease: Duration) -> Result<HoldGuard, Failure> {
        let id = HoldId(rand::random());
        let gate = first_hold(&self.name, id, limits, lease);
        self.shared.proxy.gate(&gate).map_err(|refused| Failure::Unknown(refused.to_string()))?;
        Ok(self.held_since_start(id, limits.streams))
    }

    /// The guard of a hold that the proxy was started with; see [`first_hold`].
    #[must_use]
    pub fn held_since_start(&self, id: HoldId, streams: Streams) -> HoldGuard {
        let (proxy, app) = (Arc::clone(&self.shared.proxy), self.name.clone());
        HoldGuard { proxy, app, id, streams, is_open: false }
    }

    /// The state folder.
    fn folder(&self) -> &Path {
        &self.shared.state
    }
}

/// A hold for `ProxySettings::gates`: in force before the first connection is accepted.
#[must_use]
pub fn first_hold(app: &AppName, id: HoldId, limits: HoldLimits, lease: Duration) -> Gate {
    Gate { app: app.clone(), change: GateChange::Hold(limits.hold(id, lease)) }
}

impl HoldGuard {
    /// The hold lasts at least so much longer.
    ///
    /// # Errors
    /// [`HoldLost`]: whatever was to happen while nobody asks must not happen now.
    pub fn renew(&self, lease: Duration) -> Result<(), HoldLost> {
        let change = GateChange::Renew { hold: self.id, lease };
        let gate = Gate { app: self.app.clone(), change };
        self.proxy.gate(&gate).map(|_| ()).map_err(|_| HoldLost)
    }

    /// Whether requests are still held.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.proxy.gated(&self.app).hold == Some(self.id)
    }

    /// Waits until nothing is left of what both colors had, or the deadline has passed. Requests at
    /// the gate, and those that come by a color's own address meanwhile, are not counted.
    pub async fn drained(&self, deadline: Duration) -> AppDrained {
        let (app, streams) = (self.app.clone(), self.streams);
        self.proxy.drain_app(DrainApp { app, deadline, streams }).await
    }

    /// The figures so far; `None` when another hold has begun since.
    #[must_use]
    pub fn figures(&self) -> Option<HoldTally> {
        self.proxy.gated(&self.app).tally.filter(|tally| tally.hold == self.id)
    }

    /// Lets go who waits, oldest first; the figures when all are gone.
    pub async fn release(mut self) -> Option<HoldTally> {
        self.open();
        let until = tokio::time::Instant::now() + LETTING_GO;
        loop {
            let figures = self.figures();
            let is_done = figures.is_none_or(|tally| tally.waiting == 0);
            if is_done || tokio::time::Instant::now() >= until {
                return figures;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn open(&mut self) {
        if !std::mem::replace(&mut self.is_open, true) {
            let gate = Gate { app: self.app.clone(), change: GateChange::Open { hold: self.id } };
            if let Err(ended) = self.proxy.gate(&gate) {
                tracing::warn!(app = %self.app, %ended, "a hold was over before it was released");
            }
        }
    }
}

impl Drop for HoldGuard {
    fn drop(&mut self) {
        self.open();
    }
}
