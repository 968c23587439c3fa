//! A few megabytes that are kept free for the worst day: a disk that is full.
//!
//! Two files of ours hold the room. The larger one is for a start: SQLite and the lock need some of
//! it to open. The smaller one is for what has to be written down before it may be done, when a
//! cut-back has moved traffic already and its singletons have to follow.
//! Invariant: each is let go only when the disk is full, and made again when there is space.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::disk;

/// One of the two.
#[derive(Debug, Clone, Copy)]
struct Part {
    name: &'static str,
    size: usize,
    /// Who gets the room.
    why: &'static str,
}

const START: Part =
    Part { name: "reserve", size: 4 * 1024 * 1024, why: "so that this daemon can start" };
const END: Part = Part {
    name: "reserve-end",
    size: 1024 * 1024,
    why: "so that what a cut-back began can be ended",
};

/// Below this the disk counts as full.
const NEEDED: u64 = 512 * 1024;

/// How often they are looked at.
const EVERY: Duration = Duration::from_secs(60);

/// Before a start, before anything else writes.
pub fn release_to_start(state: &Path) {
    release(state, START);
}

/// When a fact that something waits for was refused; whether there is room now that was not there
/// before.
#[must_use]
pub fn release_to_end(state: &Path) -> bool {
    release(state, END)
}

fn file(state: &Path, part: Part) -> PathBuf {
    state.join(part.name)
}

fn release(state: &Path, part: Part) -> bool {
    let is_full = disk::free(state).is_some_and(|free| free < NEEDED);
    let is_gone = is_full && std::fs::remove_file(file(state, part)).is_ok();
    if is_gone {
        let folder = state.display();
        tracing::warn!(%folder, "the disk is full: a reserve was let go {}. Make space", part.why);
    }
    is_gone
}

/// Makes them where there is room for several of each.
pub fn make(state: &Path) {
    for part in [START, END] {
        let (path, size) = (file(state, part), part.size as u64);
        let is_there = std::fs::metadata(&path).is_ok_and(|about| about.len() == size);
        if is_there || disk::free(state).is_none_or(|free| free < 4 * size) {
            continue;
        }
        // Written, not only sized: the blocks have to be ours.
        if let Err(error) = disk::replace_file(&path, &vec![0; part.size]) {
            tracing::warn!(%error, "no reserve for a full disk could be made");
        }
    }
}

/// Makes them again whenever they are gone, until the daemon stops.
pub async fn keep(state: PathBuf, stop: CancellationToken) {
    let mut every = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stop.cancelled() => return,
        }
        let folder = state.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || make(&folder)).await {
            tracing::error!(%error, "making the reserve panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_made_once_and_stays_while_there_is_space() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path());
        make(folder.path());
        release_to_start(folder.path());
        assert!(!release_to_end(folder.path()), "this disk is not full");
        for part in [START, END] {
            let about = std::fs::metadata(file(folder.path(), part)).unwrap();
            assert_eq!(about.len(), part.size as u64);
        }
    }
}
