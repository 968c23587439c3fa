//! File descriptors: as many as the process may have, and not all of them for clients.
//!
//! A client's connection may need a second one to an upstream. Invariant: the limit of connections
//! leaves descriptors for the control plane (admin socket, journal, child processes).

use crate::settings::Connections;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that clients never get.
const RESERVED: u64 = 256;

/// Connections below which even a small site would notice.
const SMALL: usize = 1_000;

/// Raises the soft limit of the process to the hard one; how many connections it then allows.
pub(crate) fn cap(wanted: Connections) -> usize {
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
    if is_too_low(wanted, room) {
        let (wanted, files) = (wanted.most(), wanted.most() as u64 * 2 + RESERVED);
        tracing::warn!(
            "file descriptors suffice for {room} connections of {wanted}: raise the hard limit to \
             {files} (LimitNOFILE= in the unit, or ulimit -Hn)"
        );
    }
    wanted.most().min(room)
}

/// Whether an operator should know: somebody asked for more, or it is too few for anybody.
fn is_too_low(wanted: Connections, room: usize) -> bool {
    match wanted {
        Connections::Asked(most) => room < most,
        Connections::UpTo(most) => room < most.min(SMALL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_never_get_all_descriptors() {
        let all = getrlimit(Resource::Nofile).maximum;
        let capped = cap(Connections::UpTo(usize::MAX - 1));
        if let Some(all) = all {
            assert!((capped as u64) * 2 + RESERVED <= all.max(RESERVED + 32));
        }
        assert_eq!(cap(Connections::Asked(1)), 1);
    }

    #[test]
    fn the_warning_is_for_a_limit_that_somebody_set_or_that_hurts() {
        assert!(is_too_low(Connections::Asked(20_000), 9_872));
        assert!(!is_too_low(Connections::UpTo(20_000), 9_872));
        assert!(is_too_low(Connections::UpTo(20_000), 384));
        assert!(!is_too_low(Connections::UpTo(5), 384));
    }
}
