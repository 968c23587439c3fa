//! One endpoint: its address, what each worker has in flight there, and idle connections to it.
//!
//! It survives publishes that do not change it. Invariant: a connection is on an idle list only if
//! its last request was sent whole and its last answer read whole; once the endpoint was removed no
//! connection goes back on a list.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Connection;
use super::idle::{IdlePlace, IdleRoom};

/// How long an endpoint is left alone after its first failed connection; doubles, up to the most.
const BACK_OFF_MS: u64 = 200;
const BACK_OFF_MOST_MS: u64 = 10_000;

/// One container of a service, or one static address.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    removed: AtomicBool,
    cells: Box<[Cell]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Cell {
    in_flight: AtomicU64,
    failures: AtomicU32,
    /// Left alone until then, in worker milliseconds.
    until_ms: AtomicU64,
    idle: Mutex<Vec<Idle>>,
}

/// A connection that waits for its next request.
#[derive(Debug)]
struct Idle {
    connection: Connection,
    since_ms: u64,
    _place: IdlePlace,
}

impl Endpoint {
    pub(crate) fn new(id: String, address: SocketAddr, workers: usize) -> Self {
        let cells = (0..workers).map(|_| Cell::default()).collect();
        Self { id, address, removed: AtomicBool::new(false), cells }
    }

    pub(crate) fn load(&self, worker: usize) -> u64 {
        self.cells.get(worker).map_or(0, |cell| cell.in_flight.load(Ordering::Relaxed))
    }

    /// Whether it may be asked now by the rule of back-off.
    pub(crate) fn is_ready(&self, worker: usize, now_ms: u64) -> bool {
        self.cells.get(worker).is_none_or(|cell| cell.until_ms.load(Ordering::Relaxed) <= now_ms)
    }

    /// Notes that no connection could be made.
    pub(crate) fn failed(&self, worker: usize, now_ms: u64) {
        if let Some(cell) = self.cells.get(worker) {
            let failures = cell.failures.fetch_add(1, Ordering::Relaxed).min(16);
            let pause = BACK_OFF_MS.saturating_mul(1 << failures).min(BACK_OFF_MOST_MS);
            cell.until_ms.store(now_ms + pause, Ordering::Relaxed);
        }
    }

    /// Notes that a connection was made.
    pub(crate) fn reached(&self, worker: usize) {
        if let Some(cell) = self.cells.get(worker)
            && cell.failures.load(Ordering::Relaxed) > 0
        {
            cell.failures.store(0, Ordering::Relaxed);
            cell.until_ms.store(0, Ordering::Relaxed);
        }
    }

    fn idle(&self, worker: usize) -> Option<MutexGuard<'_, Vec<Idle>>> {
        // The lock is this worker's own but for a publish that removes the endpoint.
        self.cells.get(worker).map(|cell| cell.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The connection that became idle last, if it is young enough and still stands.
    pub(crate) fn take(&self, worker: usize, now_ms: u64, keep: Duration) -> Option<Connection> {
        let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let mut idle = self.idle(worker)?;
        while let Some(at) = idle.iter().rposition(|idle| idle.connection.is_ready()) {
            let found = idle.swap_remove(at);
            if now_ms.saturating_sub(found.since_ms) < keep {
                return Some(found.connection);
            }
        }
        None
    }

    /// Gives a connection back after a whole exchange. It is closed if the worker has no room for
    /// it that an older one to this endpoint could leave.
    pub(crate) fn give(
        &self,
        worker: usize,
        connection: Connection,
        now_ms: u64,
        most: usize,
        room: &Arc<IdleRoom>,
    ) {
        if self.removed.load(Ordering::Acquire) || connection.is_closed() {
            return;
        }
        if let Some(mut idle) = self.idle(worker) {
            if idle.len() >= most || (room.is_full() && !idle.is_empty()) {
                idle.remove(0);
            }
            if let Some(place) = room.take() {
                idle.push(Idle { connection, since_ms: now_ms, _place: place });
            }
        }
        if self.removed.load(Ordering::Acquire) {
            self.clear();
        }
    }

    /// Closes what was idle for too long.
    pub(crate) fn sweep(&self, worker: usize, now_ms: u64, keep: Duration) {
        let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        if let Some(mut idle) = self.idle(worker) {
            idle.retain(|idle| {
                !idle.connection.is_closed() && now_ms.saturating_sub(idle.since_ms) < keep
            });
        }
    }

    /// It is in no table any more: idle connections close now, busy ones after their answer.
    pub(crate) fn remove(&self) {
        self.removed.store(true, Ordering::Release);
        self.clear();
    }

    fn clear(&self) {
        for cell in &self.cells {
            cell.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

/// One request in flight at an endpoint, as this worker sees it.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) endpoint: Arc<Endpoint>,
    worker: usize,
}

impl Load {
    pub(crate) fn new(endpoint: Arc<Endpoint>, worker: usize) -> Self {
        if let Some(cell) = endpoint.cells.get(worker) {
            cell.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        Self { endpoint, worker }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(cell) = self.endpoint.cells.get(self.worker) {
            cell.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
