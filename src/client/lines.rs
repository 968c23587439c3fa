//! A stream of JSON lines from the daemon.
//!
//! Owns the cutting of the bytes into lines. Invariant: a line is bounded, and a half line at the
//! end of a broken stream is never taken for a whole one.

use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::ClientError;

/// Bytes of one line at most: a fact has at most 1 MiB.
const MOST: usize = 2 * 1024 * 1024;

/// The stream.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    waiting: BytesMut,
}

impl Lines {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, waiting: BytesMut::new() }
    }

    /// The next line; `None` when the daemon has ended the stream. Waits without a limit. Safe to
    /// drop while it waits.
    ///
    /// # Errors
    /// [`ClientError::Broken`] when the connection broke, [`ClientError::Strange`] for a line that
    /// is not the JSON that was expected.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.waiting.iter().position(|byte| *byte == b'\n') {
                let line = self.waiting.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| ClientError::Strange(error.to_string()));
            }
            if self.waiting.len() > MOST {
                return Err(ClientError::Strange("a line without an end".to_owned()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.waiting.extend_from_slice(&bytes);
                    }
                }
                Some(Err(error)) => return Err(ClientError::Broken(error.to_string())),
                None if self.waiting.is_empty() => return Ok(None),
                None => return Err(ClientError::Broken("in the middle of a line".to_owned())),
            }
        }
    }
}
