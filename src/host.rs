//! The host: everything outside of this program that an operation looks at or changes.
//!
//! Owns the adapters to Docker, `docker compose`, git, `/proc` and the release folders: plain async
//! functions, each with a time limit, a typed error that says what is wrong, where, and what to do,
//! and no state of its own. Every change looks first and may run twice.
//!
//! It never touches traffic, knows no rollout and no journal, and does not know the operator's
//! configuration file: callers hand in small settings. What may be decided without asking the
//! outside world (the coloring of a compose file) is a pure function over data.

pub mod backups;
pub mod compose;
pub mod docker;
pub mod endpoint;
pub mod env;
pub mod facts;
pub mod files;
pub mod git;
pub mod postgres;
pub mod probe;
pub mod process;
pub mod redact;
pub mod redirect;
pub mod settings;
pub mod shared;
pub mod stack;

pub use compose::{ColorTarget, ColoredStack, Compose, ComposeError, ComposeProblem, Rendered};
pub use docker::{Docker, DockerError};
pub use endpoint::{Endpoint, Proof, prove};
pub use postgres::DbError;
pub use settings::{NetworkClass, PortClass, RoutedPort, StackSettings, VolumeClass};
pub use stack::StackError;

/// Any failure of the host port. Its text is that of the part that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Docker did not do what was asked.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// `docker compose` did not do what was asked, or the file cannot run in two colors.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// A stack did not come up or go down.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// git did not do what was asked.
    #[error(transparent)]
    Git(#[from] git::GitError),
    /// A release folder could not be written or read.
    #[error(transparent)]
    Files(#[from] files::FilesError),
    /// A database server did not do what was asked.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The readiness probe did not pass.
    #[error(transparent)]
    Probe(#[from] probe::ProbeError),
}
