//! What adopting, leaving and everything between them may not touch: the containers that run from
//! plain compose, the database's server, and its sessions.

use super::observer::{Observer, Session};
use super::shop::Shop;

pub(crate) struct Witness {
    /// Its own session is the first one that a reset would end.
    observer: Observer,
    containers: Vec<(String, String)>,
    server: String,
    sessions: Vec<Session>,
}

impl Witness {
    /// Remembers how it is now; the application has its sessions open by then.
    pub(crate) fn look(shop: &Shop) -> Self {
        let observer = shop.observer();
        let sessions = observer.sessions("shop");
        let names: Vec<&str> = sessions.iter().map(|session| session.name.as_str()).collect();
        for role in ["backend", "agent"] {
            assert!(names.iter().any(|name| name.contains(role)), "{role} has none: {names:?}");
        }
        Self { containers: shop.starts(), server: observer.server_start(), sessions, observer }
    }

    /// Every container is the same one and was never restarted, the database too; the sessions
    /// that were there are there.
    #[track_caller]
    pub(crate) fn nothing_was_touched(&self, shop: &Shop) {
        assert_eq!(shop.starts(), self.containers, "a container was restarted or replaced");
        self.the_database_was_not_touched("shop");
    }

    /// The same for the database alone: the server, and every session that was there whose name
    /// begins so.
    #[track_caller]
    pub(crate) fn the_database_was_not_touched(&self, prefix: &str) {
        assert_eq!(self.observer.server_start(), self.server, "the database was restarted");
        let now = self.observer.sessions(prefix);
        let of_these = self.sessions.iter().filter(|session| session.name.starts_with(prefix));
        let lost: Vec<_> = of_these.filter(|session| !now.contains(session)).collect();
        assert!(lost.is_empty(), "sessions were reset: {lost:?}, now {now:?}");
    }
}
