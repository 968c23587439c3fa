//! How a command ended, as a number.

/// Exit codes; the numbers are part of the interface and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or it was so already.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// It ended in an automatic rollback.
    RolledBack = 3,
    /// Refused; nothing was changed.
    Refused = 4,
    /// It did not end in time.
    TimedOut = 5,
    /// Another operation runs.
    Busy = 6,
    /// It cannot go on without a person.
    Stuck = 7,
    /// The daemon is not reachable.
    NoDaemon = 69,
    /// Not permitted.
    NotPermitted = 77,
    /// The configuration is wrong.
    BadConfig = 78,
}

impl Exit {
    /// Every code.
    pub const ALL: [Self; 11] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::RolledBack,
        Self::Refused,
        Self::TimedOut,
        Self::Busy,
        Self::Stuck,
        Self::NoDaemon,
        Self::NotPermitted,
        Self::BadConfig,
    ];

    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The exit of a number that the daemon names; one that is unknown is a failure.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        Self::ALL.into_iter().find(|exit| exit.code() == code).unwrap_or(Self::Failed)
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
