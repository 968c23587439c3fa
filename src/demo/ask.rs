//! The demo's hand on the admin socket: the same requests that the command line sends.
//!
//! Two commands and no more; what they mean is the daemon's business.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use cutover_model::Weight;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixStream;

use crate::api::wire;

/// Longer than the daemon's own limit for an answer.
const LIMIT: Duration = Duration::from_secs(40);

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
    socket: PathBuf,
}

impl Admin {
    /// The daemon behind this socket.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
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
        let asked = tokio::time::timeout(LIMIT, self.post(word, serde_json::to_vec(body)?));
        let answer = asked.await.context("the daemon of the demo does not answer")??;
        let answered = start.elapsed();
        let done: wire::Done = match serde_json::from_slice(&answer) {
            Ok(done) => done,
            Err(_) => {
                let problem: wire::Problem = serde_json::from_slice(&answer)
                    .with_context(|| format!("an answer to \"{word}\" that nobody knows"))?;
                bail!("{word}: {}", problem.message);
            }
        };
        let inside = done.moved.map_or(0, |moved| moved.took_us);
        Ok(Moved { inside: Duration::from_micros(inside), answered })
    }

    async fn post(&self, word: &str, body: Vec<u8>) -> anyhow::Result<Bytes> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer.
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/v1/apps/{}/{word}", super::stage::APP))
            .header(header::HOST, "cutover")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let answer = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
        drop(sender);
        connection.await??;
        Ok(answer)
    }
}
