//! File descriptors: as many as the process may have, and not all of them for clients.
//!
//! A client's connection may need a second one to an upstream, and connections that wait to be used
//! again have one each. Invariant: the limits together leave descriptors for the control plane
//! (admin socket, journal, child processes).

use crate::settings::Connections;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that clients never get.
const RESERVED: u64 = 256;
/// Of nine descriptors four are for clients, four for what they ask, one for what is idle.
const SHARES: u64 = 9;
const CLIENTS: u64 = 4;

/// Connections below which even a small site would notice.
const SMALL: usize = 1_000;

/// What the process has descriptors for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Connections of clients.
    pub(crate) connections: usize,
    /// Idle connections to endpoints.
    pub(crate) idle: usize,
}

impl Allowed {
    fn of(descriptors: u64) -> Self {
        let share = descriptors.saturating_sub(RESERVED) / SHARES;
        let count =
            |shares: u64| usize::try_from(share.saturating_mul(shares)).unwrap_or(usize::MAX);
        Self { connections: count(CLIENTS).max(16), idle: count(1).max(4) }
    }
}

/// Raises the soft limit of the process to the hard one; how many connections it then allows.
pub(crate) fn cap(wanted: Connections) -> Allowed {
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, maximum: now.maximum };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => now.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of file descriptors stays");
            now.current
        }
    };
    let Allowed { connections: room, idle } = Allowed::of(allowed.unwrap_or(u64::MAX));
    if is_too_low(wanted, room) {
        let wanted = wanted.most();
        let files = (wanted as u64).div_ceil(CLIENTS) * SHARES + RESERVED;
        tracing::warn!(
            "file descriptors suffice for {room} connections of {wanted}: raise the hard limit to \
             {files} (LimitNOFILE= in the unit, or ulimit -Hn)"
        );
    }
    Allowed { connections: wanted.most().min(room), idle }
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
            assert_eq!(capped, Allowed::of(all));
        }
        assert_eq!(cap(Connections::Asked(1)).connections, 1);
        for all in [300, 1_024, 20_000, 1_048_576] {
            let Allowed { connections, idle } = Allowed::of(all);
            let used = connections as u64 * 2 + idle as u64 + RESERVED;
            assert!(used <= all.max(RESERVED + 36) && used + SHARES >= all, "{all} {used}");
        }
    }

    #[test]
    fn the_warning_is_for_a_limit_that_somebody_set_or_that_hurts() {
        assert!(is_too_low(Connections::Asked(20_000), 9_872));
        assert!(!is_too_low(Connections::UpTo(20_000), 9_872));
        assert!(is_too_low(Connections::UpTo(20_000), 384));
        assert!(!is_too_low(Connections::UpTo(5), 384));
    }
}
