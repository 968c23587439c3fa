//! What can be wrong with a stack that starts, and with which container.

use std::path::PathBuf;
use std::time::Duration;

use cutover_model::ServiceName;

use crate::host::compose::ComposeError;
use crate::host::docker::{DockerError, LogLine};
use crate::host::endpoint::EndpointError;

/// Why a stack did not come up or go down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// The engine did not do what was asked.
    #[error(transparent)]
    Docker(DockerError),
    /// Compose did not do what was asked.
    #[error(transparent)]
    Compose(ComposeError),
    /// No endpoint could be made.
    #[error(transparent)]
    Endpoint(EndpointError),
    /// One container is at fault.
    #[error("{service} {fault}")]
    Faulty {
        /// The service.
        service: ServiceName,
        /// The container.
        container: String,
        /// What is wrong with it.
        fault: Fault,
        /// The last lines of its log, escaped, secrets masked.
        log: Vec<LogLine>,
    },
    /// A container that should be there is not.
    #[error(
        "{service} has no container in project {project}: it was removed. The release can be made \
         again from its file and images"
    )]
    NoContainer {
        /// The service.
        service: ServiceName,
        /// The project.
        project: String,
    },
    /// Another release's containers are where this one's should be.
    #[error("{container} belongs to {release} and is in the way; the color is to be cleared first")]
    OtherRelease {
        /// The container.
        container: String,
        /// What its label says.
        release: String,
    },
    /// An image that should be there is not.
    #[error(
        "the image {reference} of {service} is not on this host; build it, or pull it: docker pull \
         {reference}"
    )]
    NoImage {
        /// The service.
        service: ServiceName,
        /// The image's name.
        reference: String,
    },
    /// A folder that a container mounts cannot be made.
    #[error("cannot make the folder {}: {error}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A shared service is not up.
    #[error(
        "the shared service {service} {fault}; it was not touched. Look: docker logs {container}"
    )]
    Shared {
        /// The service.
        service: ServiceName,
        /// The container.
        container: String,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It could not be started at all.
    #[error("could not be started: {reason}")]
    NotStarted {
        /// The engine's words.
        reason: String,
    },
    /// Its process ended.
    #[error("ended with exit code {code}{}", killed(*oom))]
    Ended {
        /// The exit code.
        code: i64,
        /// Whether the kernel ended it for want of memory.
        oom: bool,
    },
    /// It ends and is started again, too often.
    #[error("was started again {times} times, it ends with exit code {code}{}", killed(*oom))]
    Restarting {
        /// How often.
        times: i64,
        /// The last exit code.
        code: i64,
        /// Whether the kernel ended it for want of memory.
        oom: bool,
    },
    /// Its own health check fails.
    #[error("is unhealthy by its own health check{}", said(output))]
    Unhealthy {
        /// What the check printed last.
        output: String,
    },
    /// It did not get there in time.
    #[error("was not ready within {limit:?}: {why}")]
    TooSlow {
        /// How long was waited.
        limit: Duration,
        /// What was missing.
        why: String,
    },
}

fn killed(oom: bool) -> &'static str {
    if oom { ": out of memory, the kernel ended it" } else { "" }
}

fn said(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(": {output}") }
}

impl StackError {
    /// The last lines of the faulty container's log; empty for other errors.
    #[must_use]
    pub fn log(&self) -> &[LogLine] {
        match self {
            Self::Faulty { log, .. } => log,
            _ => &[],
        }
    }
}
