//! How many idle connections one worker may keep, to whatever endpoints.
//!
//! Each of them has a descriptor that a client may need. Invariant: there are never more places
//! than the room has, and a place comes back when what holds it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One worker's room for idle connections. Places are taken by that worker only; a publish may give
/// them back from elsewhere.
#[derive(Debug)]
pub(crate) struct IdleRoom {
    taken: AtomicUsize,
    most: usize,
}

/// The place of one idle connection.
#[derive(Debug)]
pub(crate) struct IdlePlace(Arc<IdleRoom>);

impl IdleRoom {
    pub(crate) fn new(most: usize) -> Self {
        Self { taken: AtomicUsize::new(0), most }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.most
    }

    /// A place, if there is one.
    pub(crate) fn take(self: &Arc<Self>) -> Option<IdlePlace> {
        if self.is_full() {
            return None;
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(IdlePlace(self.clone()))
    }
}

impl Drop for IdlePlace {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_has_its_places_and_no_more() {
        let room = Arc::new(IdleRoom::new(2));
        let (one, two) = (room.take(), room.take());
        assert!(one.is_some() && two.is_some() && room.take().is_none());
        drop(one);
        assert!(room.take().is_some());
        assert!(!room.is_full());
    }
}
