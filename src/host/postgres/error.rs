//! What can go wrong with a database, whose fault it is, and whether another try can help.
//!
//! The six ways in which PostgreSQL ends or refuses a session (57P01, 55000, 3D000, 55006, 53300,
//! a closed socket) are told apart, because a swap makes all of them. Texts carry the server's
//! message, never its DETAIL line (which quotes rows) and never a password.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::names::DbName;
use crate::host::docker::DockerError;
use crate::host::process::escape;

/// Why something was not done on a database server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbError {
    /// No connection could be made.
    #[error("{server} cannot be reached: {reason}")]
    Unreachable {
        /// The server, as the operator knows it.
        server: String,
        /// Why.
        reason: String,
    },
    /// The role, its password or the server's rules do not let us in.
    #[error("{server} does not let the role in: {reason}; check `user` and its password")]
    NotLetIn {
        /// The server.
        server: String,
        /// Its words.
        reason: String,
    },
    /// It is not proved to be the server that was asked for, or nothing can be encrypted.
    #[error("{server} is not connected to: {reason}")]
    NotTrusted {
        /// The server.
        server: String,
        /// Why, and the remedy.
        reason: String,
    },
    /// The server is starting, stopping, or ended the session (57P01 to 57P03).
    #[error("{what}: the server ended the session or is not ready: {text}")]
    Ended {
        /// What was being done.
        what: String,
        /// The server's words.
        text: String,
    },
    /// The socket was closed.
    #[error("{what}: the connection broke: {text}")]
    Closed {
        /// What was being done.
        what: String,
        /// Why, as far as it is known.
        text: String,
    },
    /// The database does not take connections now (55000).
    #[error("{what}: the database is closed for connections: {text}")]
    Gated {
        /// What was being done.
        what: String,
        /// The server's words.
        text: String,
    },
    /// There is no such database (3D000).
    #[error("{what}: there is no such database: {text}")]
    NoDatabase {
        /// What was being done.
        what: String,
        /// The server's words.
        text: String,
    },
    /// Other sessions use it (55006).
    #[error("{what}: others are connected to it: {text}")]
    InUse {
        /// What was being done.
        what: String,
        /// The server's words.
        text: String,
    },
    /// The server has no connection left (53300).
    #[error("{what}: the server has no connection left: {text}; raise max_connections")]
    TooManySessions {
        /// What was being done.
        what: String,
        /// The server's words.
        text: String,
    },
    /// Its disk is full (53100).
    #[error("{what}: the server's disk is full: {text}")]
    DiskFull {
        /// What was being done.
        what: String,
        /// The server's words.
        text: String,
    },
    /// The role may not do this (42501).
    #[error("{what}: the role may not do this: {text}")]
    NotPermitted {
        /// What was being done.
        what: String,
        /// The server's words.
        text: String,
    },
    /// The server did not answer in time, or cancelled the statement at its limit.
    #[error("{what} took longer than {limit:?} and was given up")]
    TooSlow {
        /// What was being done.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// The server takes no writes: a standby, or set to read-only (25006).
    #[error(
        "{what}: the server takes no writes: {text}; it is a standby, or \
         default_transaction_read_only is on"
    )]
    ReadOnly {
        /// What was being done.
        what: String,
        /// The server's words.
        text: String,
    },
    /// The server refused for another reason.
    #[error("{what}: PostgreSQL says {code}: {text}")]
    Refused {
        /// What was being done.
        what: String,
        /// The SQLSTATE.
        code: String,
        /// The server's words.
        text: String,
    },
    /// A database is there that does not carry our mark.
    #[error(
        "\"{name}\" is not Cutover's ({why}), so it is not touched; rename or drop it yourself if \
         nobody needs it"
    )]
    NotOurs {
        /// The database.
        name: DbName,
        /// What was found instead of our mark.
        why: String,
    },
    /// Another operation works on this database.
    #[error("another operation works on \"{name}\": {who}")]
    Busy {
        /// The database.
        name: DbName,
        /// Who holds the lock.
        who: String,
    },
    /// A later process of this installation has taken over.
    #[error("a later daemon (epoch {newer}) has taken over from this one (epoch {ours})")]
    Fenced {
        /// Ours.
        ours: u64,
        /// The newest that was seen.
        newer: u64,
    },
    /// Names do not belong to the databases that were recorded.
    #[error("the databases are not those that were recorded: {what}")]
    Moved {
        /// What was found.
        what: String,
    },
    /// Sessions did not go in time; connections are allowed again.
    #[error("{left} sessions were still connected to \"{name}\" after {limit:?}; nothing changed")]
    NotEmptied {
        /// The database.
        name: DbName,
        /// How many were left.
        left: usize,
        /// The limit.
        limit: Duration,
    },
    /// What was asked for is not so, and another try changes nothing.
    #[error("{what}")]
    Preflight {
        /// What, and the remedy.
        what: String,
    },
    /// `pg_dump` or `pg_restore` failed.
    #[error("{tool} ended with code {code}: {tail}")]
    Tool {
        /// The program.
        tool: String,
        /// Its exit code.
        code: i64,
        /// The end of what it said, secrets masked.
        tail: String,
    },
    /// An archive is damaged or not what it should be.
    #[error("{} cannot be used: {why}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file of ours could not be written or read.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// Docker did not do what was asked.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// A program on this host did not run.
    #[error(transparent)]
    Process(#[from] crate::host::process::ProcessError),
    /// The server's answer cannot be understood.
    #[error("{what}: the server's answer cannot be understood: {text}")]
    Answer {
        /// What was asked.
        what: String,
        /// What is odd.
        text: String,
    },
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The operator's file, or rights that only a person can give.
    Operator,
    /// The database server or what stands on it.
    Server,
    /// This host: disk, Docker, missing programs.
    Host,
    /// Another operation, process or person on the same server.
    Others,
}

/// Whether another try can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// At once: the same call may succeed now.
    Now,
    /// After a pause: something has to come back or end first.
    Later,
    /// Not before a person changed something.
    Never,
}

/// What PostgreSQL's programs print when the server went away under them.
const LOST: [&str; 6] = [
    "server closed the connection unexpectedly",
    "the server terminated abnormally",
    "terminating connection due to administrator command",
    "the database system is shutting down",
    "the database system is starting up",
    "Connection refused",
];

impl DbError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::NotLetIn { .. }
            | Self::NotTrusted { .. }
            | Self::NotPermitted { .. }
            | Self::Preflight { .. } => Fault::Operator,
            Self::Docker(_) | Self::Process(_) | Self::File { .. } | Self::Archive { .. } => {
                Fault::Host
            }
            Self::NotOurs { .. }
            | Self::Busy { .. }
            | Self::Fenced { .. }
            | Self::Moved { .. }
            | Self::InUse { .. }
            | Self::NotEmptied { .. } => Fault::Others,
            _ => Fault::Server,
        }
    }

    /// Whether another try can help.
    #[must_use]
    pub fn again(&self) -> Again {
        match self {
            Self::Ended { .. } | Self::Closed { .. } | Self::InUse { .. } => Again::Now,
            Self::Unreachable { .. }
            | Self::Gated { .. }
            | Self::TooManySessions { .. }
            | Self::TooSlow { .. }
            | Self::Busy { .. }
            | Self::NotEmptied { .. } => Again::Later,
            Self::NoDatabase { .. } => Again::Now,
            Self::Docker(error) if error.is_away() => Again::Later,
            // The program lost its server, which may have been restarted.
            Self::Tool { tail, .. } if LOST.iter().any(|words| tail.contains(words)) => {
                Again::Later
            }
            _ => Again::Never,
        }
    }

    /// Whether the connection may have ended after the server did what was asked: observe, then
    /// repeat.
    #[must_use]
    pub fn leaves_doubt(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::Closed { .. } | Self::TooSlow { .. })
    }

    /// Translates the client's error. `limit`: that of the statement.
    pub(super) fn of(what: &str, limit: Duration, error: &tokio_postgres::Error) -> Self {
        let what = what.to_owned();
        let Some(db) = error.as_db_error() else {
            return Self::Closed { what, text: causes(error) };
        };
        let (text, code) = (escape(db.message()), db.code().clone());
        let ended = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::DATABASE_DROPPED,
        ];
        if ended.contains(&code) {
            return Self::Ended { what, text };
        }
        match code {
            SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE => {
                Self::TooSlow { what, limit }
            }
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => Self::Gated { what, text },
            SqlState::UNDEFINED_DATABASE => Self::NoDatabase { what, text },
            SqlState::OBJECT_IN_USE => Self::InUse { what, text },
            SqlState::TOO_MANY_CONNECTIONS => Self::TooManySessions { what, text },
            SqlState::DISK_FULL => Self::DiskFull { what, text },
            SqlState::READ_ONLY_SQL_TRANSACTION => Self::ReadOnly { what, text },
            SqlState::INSUFFICIENT_PRIVILEGE => Self::NotPermitted { what, text },
            code => Self::Refused { what, code: code.code().to_owned(), text },
        }
    }
}

/// The causes of an error in one line.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    escape(&text)
}
