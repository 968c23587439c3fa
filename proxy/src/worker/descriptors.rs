//! File descriptors: as many as the process may have, and not all of them for clients.
//!
//! A client's connection may need a second one to an upstream. Invariant: the limit of connections
//! leaves descriptors for the control plane (admin socket, journal, child processes).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that clients never get.
const RESERVED: u64 = 256;

/// Raises the soft limit of the process to the hard one, and lowers `wanted` connections to what it
/// then allows.
pub(crate) fn cap(wanted: usize) -> usize {
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, maximum: now.maximum };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => now.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of file descriptors stays");
            now.current
        }
    };
    let room = allowed.map_or(usize::MAX, |all| {
        usize::try_from(all.saturating_sub(RESERVED) / 2).unwrap_or(usize::MAX).max(16)
    });
    if room < wanted {
        tracing::warn!(wanted, room, "too few file descriptors for the limit of connections");
    }
    wanted.min(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_never_get_all_descriptors() {
        let all = getrlimit(Resource::Nofile).maximum;
        let capped = cap(usize::MAX - 1);
        if let Some(all) = all {
            assert!((capped as u64) * 2 + RESERVED <= all.max(RESERVED + 32));
        }
        assert_eq!(cap(1), 1);
    }
}
