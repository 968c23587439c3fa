//! Named places where the daemon can be made to die, for the tests that kill it at each of them.
//!
//! Compiled in by the feature `crash-points` alone; without it [`point`] is nothing. With it, a
//! process whose `CUTOVER_CRASH` is `NAME` or `NAME@N` ends by SIGKILL at the (N-th) passing of
//! that name: no destructor runs, no buffer is written, as with a power cut of this one process.
//! `panic:NAME` and `panic:NAME@N` panic there instead, as a defect would: one task falls.

/// Dies here if this place was named.
#[cfg(not(feature = "crash-points"))]
pub fn point(_name: impl std::fmt::Display) {}

/// Dies here if this place was named.
#[cfg(feature = "crash-points")]
pub fn point(name: impl std::fmt::Display) {
    use std::sync::atomic::{AtomicU32, Ordering};

    static PASSED: AtomicU32 = AtomicU32::new(0);
    let Ok(wanted) = std::env::var("CUTOVER_CRASH") else { return };
    let (panics, wanted) = match wanted.strip_prefix("panic:") {
        Some(wanted) => (true, wanted),
        None => (false, wanted.as_str()),
    };
    let (place, times) = match wanted.split_once('@') {
        Some((place, times)) => (place, times.parse().unwrap_or(1)),
        None => (wanted, 1),
    };
    if place != name.to_string() || PASSED.fetch_add(1, Ordering::SeqCst) + 1 != times {
        return;
    }
    assert!(!panics, "falls at {place}, as it was told to");
    tracing::warn!(%place, "dies here, as it was told to");
    let us = rustix::process::getpid();
    if let Err(error) = rustix::process::kill_process(us, rustix::process::Signal::KILL) {
        tracing::error!(%error, "it could not die");
    }
}
