//! The demo's hand on the admin socket: the same requests that the command line sends.
//!
//! Two commands and no more; what they mean is the daemon's business.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use cutover_model::Weight;
use serde::Serialize;

use crate::api::wire;
use crate::client::Client;

/// How long a move of traffic took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// From the decision to the moment from which every new request uses the new table.
    pub inside: Duration,
    /// From the command to its answer.
    pub answered: Duration,
}

/// The daemon's admin socket.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

impl Admin {
    /// The daemon behind this socket.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { client: Client::new(socket) }
    }

    /// Sets the canary's weight.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses.
    pub async fn shift(&self, weight: Weight) -> anyhow::Result<Moved> {
        self.command("shift", &wire::Shift { weight }).await
    }

    /// Traffic back to the release that proved itself.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses.
    pub async fn rollback(&self) -> anyhow::Result<Moved> {
        self.command("rollback", &wire::Rollback::default()).await
    }

    async fn command(&self, word: &str, body: &impl Serialize) -> anyhow::Result<Moved> {
        let start = Instant::now();
        let path = format!("/v1/apps/{}/{word}", super::stage::APP);
        let done: wire::Done = match self.client.post(&path, body).await {
            Ok(done) => done,
            Err(error) => bail!("{word}: {error}"),
        };
        let answered = start.elapsed();
        let inside = done.moved.map_or(0, |moved| moved.took_us);
        Ok(Moved { inside: Duration::from_micros(inside), answered })
    }
}
