//! Adoption: Cutover takes the public ports of an application that runs, and gives them back.
//!
//! Owns who holds a port, the plan that the operator reads, the comparison after the hand-over with
//! its way back, and the rule's upkeep. Does not journal, route or probe: the controller writes
//! each intent down before it calls here, and hands in what the proxy counted.
//!
//! INVARIANT: nothing here stops, starts or restarts a container of the adopted application, and
//! every function may run twice.

pub mod keep;
pub mod leave;
pub mod offline;
pub mod owner;
pub mod plan;
pub mod watch;

use crate::host::docker::DockerError;
use crate::host::redirect::RedirectError;
use crate::host::stack::StackError;

pub use owner::{Held, Owner, Published};
pub use plan::{HandOver, Plan, Wanted};
pub use watch::{Limits, Summary, Traffic};

/// Why the ports were not taken or not given back.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// A public port belongs to something that is not this app's.
    #[error(
        "port {port} belongs to {owner}, not to \"{project}\". Nothing was changed. \
         Take the port out of [[listen]], or adopt the app that has it"
    )]
    ForeignPort {
        /// The port.
        port: u16,
        /// Who has it.
        owner: String,
        /// The compose project that is adopted.
        project: String,
    },
    /// The rule could not be set, seen or removed.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// The comparison found something; the rule is gone again.
    #[error("undone: {0}. Clients reach the ports as before; nothing else was changed")]
    Undone(String),
    /// The kernel's tables could not be read.
    #[error("cannot find out who holds the public ports: {0}")]
    Look(#[source] std::io::Error),
    /// Docker did not do what was asked.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// The stack could not be put on the ports.
    #[error("docker compose could not put the release on the ports: {0}")]
    Compose(String),
    /// Something of our stacks is left; the ports are given back by then.
    #[error("the release runs from plain docker compose, but something of Cutover's is left: {0}")]
    Left(#[from] StackError),
}

/// `80`, `80 and 3001`, `80, 443 and 3001`.
#[must_use]
pub fn list<T: std::fmt::Display>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(T::to_string).collect();
    match texts.as_slice() {
        [] => "none".into(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}
