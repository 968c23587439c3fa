//! Counters of one release in one color of one app.
//!
//! Made at a publish and kept over publishes, so that no label is built while a request runs.
//! Invariant: a worker adds to its own cells; counts never go down while the process lives.

use std::sync::atomic::{AtomicU64, Ordering};

use cutover_model::{AppName, Color, ReleaseId};

use crate::message::{Added, Class, Count, LATENCY_BOUNDS_US, Routed};

/// Counts of one (app, color, release).
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) app: AppName,
    pub(crate) color: Color,
    pub(crate) release: Option<ReleaseId>,
    cells: Box<[Cell]>,
}

/// One worker's part.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Cell {
    slot: [Tally; Class::ALL.len()],
    forced: [Tally; Class::ALL.len()],
    stays: AtomicU64,
    stays_ns: AtomicU64,
}

#[derive(Debug, Default)]
struct Tally {
    requests: AtomicU64,
    buckets: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Series {
    pub(crate) fn new(
        app: AppName,
        color: Color,
        release: Option<ReleaseId>,
        workers: usize,
    ) -> Self {
        Self { app, color, release, cells: (0..workers).map(|_| Cell::default()).collect() }
    }

    pub(crate) fn record(&self, worker: usize, routed: Routed, class: Class, latency_us: u64) {
        let Some(cell) = self.cells.get(worker) else { return };
        let tally = &cell.of(routed)[class as usize];
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < latency_us);
        tally.requests.fetch_add(1, Ordering::Relaxed);
        tally.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        tally.sum_us.fetch_add(latency_us, Ordering::Relaxed);
    }

    /// One request was with us for so long.
    pub(crate) fn stayed(&self, worker: usize, ns: u64) {
        if let Some(cell) = self.cells.get(worker) {
            cell.stays.fetch_add(1, Ordering::Relaxed);
            cell.stays_ns.fetch_add(ns, Ordering::Relaxed);
        }
    }

    /// What the proxy added to the requests of this color; `None`: nothing was measured yet.
    pub(crate) fn added(&self) -> Option<Added> {
        let sum = |of: fn(&Cell) -> &AtomicU64| -> u64 {
            self.cells.iter().map(|cell| of(cell).load(Ordering::Relaxed)).sum()
        };
        let (requests, sum_ns) = (sum(|cell| &cell.stays), sum(|cell| &cell.stays_ns));
        (requests > 0).then(|| Added {
            app: self.app.clone(),
            color: self.color,
            release: self.release,
            requests,
            sum_ns,
        })
    }

    /// One row for each class and way that has any.
    pub(crate) fn rows(&self, into: &mut Vec<Count>) {
        for routed in [Routed::Slot, Routed::Forced] {
            for class in Class::ALL {
                let row = self.row(routed, class);
                if row.requests > 0 {
                    into.push(row);
                }
            }
        }
    }

    fn row(&self, routed: Routed, class: Class) -> Count {
        let mut row = Count {
            app: self.app.clone(),
            color: self.color,
            release: self.release,
            class,
            routed,
            requests: 0,
            latency: vec![0; LATENCY_BOUNDS_US.len() + 1],
            latency_sum_us: 0,
        };
        for cell in &self.cells {
            let tally = &cell.of(routed)[class as usize];
            row.requests += tally.requests.load(Ordering::Relaxed);
            row.latency_sum_us += tally.sum_us.load(Ordering::Relaxed);
            let mut below = 0;
            for (sum, bucket) in row.latency.iter_mut().zip(&tally.buckets) {
                below += bucket.load(Ordering::Relaxed);
                *sum += below;
            }
        }
        row
    }
}

impl Cell {
    fn of(&self, routed: Routed) -> &[Tally; Class::ALL.len()] {
        match routed {
            Routed::Slot => &self.slot,
            Routed::Forced => &self.forced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_workers_add_up() {
        let series = Series::new(AppName::new("shop").unwrap(), Color::Blue, None, 2);
        series.record(0, Routed::Slot, Class::Ok, 1_000);
        series.record(1, Routed::Slot, Class::Ok, 1_001);
        series.record(1, Routed::Slot, Class::Ok, 99_000_000);
        series.record(1, Routed::Forced, Class::Reset, 5);
        let mut rows = Vec::new();
        series.rows(&mut rows);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].requests, rows[0].latency_sum_us), (3, 99_002_001));
        assert_eq!(rows[0].latency[..2], [1, 2]);
        assert_eq!(rows[0].latency[13..], [2, 3]);
        assert_eq!((rows[1].class, rows[1].routed), (Class::Reset, Routed::Forced));
    }

    #[test]
    fn the_time_with_us_is_summed_over_the_workers() {
        let series = Series::new(AppName::new("shop").unwrap(), Color::Blue, None, 2);
        assert_eq!(series.added(), None);
        series.stayed(0, 100);
        series.stayed(1, 20);
        series.stayed(2, 7);
        let added = series.added().unwrap();
        assert_eq!((added.requests, added.sum_ns), (2, 120));
    }
}
