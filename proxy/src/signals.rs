//! What the data plane tells about itself: counters, failures, access records.
//!
//! Successes are only counted; failures also leave a record on a bounded ring. Nothing here can
//! block a request: a full ring or channel loses records and counts the loss.
//! Invariant: each worker writes cells of its own; readers add them up.

mod access;
mod ring;
mod series;

pub use access::AccessRecord;
pub use ring::Cursor;
pub(crate) use ring::Ring;
pub(crate) use series::Series;

use serde::{Deserialize, Serialize};

use crate::message::{Added, Count};

/// The state of the data plane in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Client connections that are open, tunnels included.
    pub connections: u64,
    /// Client connections since the start.
    pub accepted: u64,
    /// Connections that were refused because of the limit.
    pub refused: u64,
    /// Requests that reached no app: no route, malformed, refused.
    pub unrouted: u64,
    /// Access records that were lost because the channel was full.
    pub access_lost: u64,
    /// Workers that panicked and began again; the connections that they had were lost.
    pub worker_restarts: u64,
    /// By app, color, release, class and way.
    pub outcomes: Vec<Count>,
    /// The time that the proxy added, by app, color and release.
    pub added: Vec<Added>,
}
