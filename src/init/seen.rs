//! What runs now, as far as `init` cares: addresses that answered, memory in use, since when.
//!
//! A plain value; `init::running` fills it by asking Docker and the containers. Everything may be
//! unknown: the stack may be down.

use std::collections::BTreeMap;
use std::time::Duration;

/// What runs now.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// For how long the oldest container runs; `None`: nothing runs.
    pub up: Option<Duration>,
    /// The services that have a running container.
    pub services: BTreeMap<String, SeenService>,
    /// Memory that can be had, bytes.
    pub memory_free: Option<u64>,
}

/// One service that runs.
#[derive(Debug, Clone, Default)]
pub struct SeenService {
    /// Memory in use by all its containers, bytes.
    pub memory: Option<u64>,
    /// How its ports answered an HTTP request.
    pub ports: BTreeMap<u16, Spoken>,
}

/// What came back from a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spoken {
    /// An answer in HTTP: the best path, and its status.
    Http {
        /// The path that was asked for.
        path: String,
        /// The status.
        status: u16,
    },
    /// Something that is not HTTP.
    Other,
    /// Nothing listens there, or nothing came back.
    Nothing,
}

impl Seen {
    /// How a port of a service answered, if it was asked.
    #[must_use]
    pub fn spoken(&self, service: &str, port: u16) -> Option<&Spoken> {
        self.services.get(service)?.ports.get(&port)
    }
}
