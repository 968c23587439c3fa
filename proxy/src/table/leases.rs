//! Leases: how many requests hold on to one color of one published table.
//!
//! Each worker counts in a cell of its own, so that nothing is shared on the request path; a drain
//! reads all cells. Invariant: a cell is raised and lowered by its worker only, in pairs; the raise
//! is followed by a fence and a second look at the table (`worker::lease`), so that a drain that
//! read zero can never be followed by a request on the drained table.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// What holds a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Tunnel,
}

/// The leases of one color in one published table.
#[derive(Debug)]
pub(crate) struct Leases {
    /// Unique in this process; 0 is never given.
    pub(crate) id: u64,
    cells: Box<[Cell]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Cell {
    requests: AtomicU64,
    tunnels: AtomicU64,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Leases {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            cells: (0..workers).map(|_| Cell::default()).collect(),
        }
    }

    fn cell(&self, worker: usize, kind: Kind) -> Option<&AtomicU64> {
        self.cells.get(worker).map(|cell| match kind {
            Kind::Request => &cell.requests,
            Kind::Tunnel => &cell.tunnels,
        })
    }

    pub(crate) fn raise(&self, worker: usize, kind: Kind) {
        if let Some(cell) = self.cell(worker, kind) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        // INVARIANT: pairs with the fence in `open`: either the drain sees this lease, or the
        // second look at the table that follows sees the drain's table.
        fence(Ordering::SeqCst);
    }

    pub(crate) fn lower(&self, worker: usize, kind: Kind) {
        if let Some(cell) = self.cell(worker, kind) {
            cell.fetch_sub(1, Ordering::Release);
        }
    }

    /// Requests and tunnels that are open now.
    pub(crate) fn open(&self) -> (u64, u64) {
        fence(Ordering::SeqCst);
        self.cells.iter().fold((0, 0), |(requests, tunnels), cell| {
            (
                requests + cell.requests.load(Ordering::Acquire),
                tunnels + cell.tunnels.load(Ordering::Acquire),
            )
        })
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.open() == (0, 0)
    }
}
