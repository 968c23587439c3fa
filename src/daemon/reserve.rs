//! A few megabytes that are kept free for the worst day: a start on a full disk.
//!
//! SQLite and the lock need some room to open. A file of ours holds that room; when the disk is
//! full at a start it is let go, so that the daemon comes back on the color that the weights file
//! names and records what it could not record before. It is made again when there is space.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::host::facts::disk_free;
use crate::journal::disk;

/// What is held.
const SIZE: usize = 4 * 1024 * 1024;

/// Below this a start could fail.
const NEEDED: u64 = 1024 * 1024;

/// How often the reserve is looked at.
const EVERY: Duration = Duration::from_secs(60);

fn file(state: &Path) -> PathBuf {
    state.join("reserve")
}

/// Lets the reserve go when the disk is full. Call it before anything else writes.
pub fn release_if_full(state: &Path) {
    let is_full = disk_free(state).is_some_and(|free| free < NEEDED);
    if is_full && std::fs::remove_file(file(state)).is_ok() {
        tracing::warn!(
            folder = %state.display(),
            "the disk is full: the reserve was let go so that this daemon can start. Make space"
        );
    }
}

/// Makes the reserve when there is room for several of it.
pub fn make(state: &Path) {
    let (path, size) = (file(state), SIZE as u64);
    let is_there = std::fs::metadata(&path).is_ok_and(|about| about.len() == size);
    if is_there || disk_free(state).is_none_or(|free| free < 4 * size) {
        return;
    }
    // Written, not only sized: the blocks have to be ours.
    if let Err(error) = disk::replace_file(&path, &vec![0; SIZE]) {
        tracing::warn!(%error, "no reserve for a full disk could be made");
    }
}

/// Makes it again whenever it is gone, until the daemon stops.
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
        assert_eq!(std::fs::metadata(file(folder.path())).unwrap().len(), SIZE as u64);
        release_if_full(folder.path());
        assert!(file(folder.path()).exists(), "this disk is not full");
    }
}
