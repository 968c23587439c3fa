//! The client of the admin API: HTTP/1.1 over the daemon's Unix socket, with time limits.
//!
//! Knows the shapes of `api::wire` and nothing of what they mean. One connection per request: a
//! command asks once or follows one stream.
//! Invariant: every wait has a limit, but that for the next line of a stream that is followed.

mod lines;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::wire::{Problem, schema};

pub use lines::Lines;

/// Until the daemon accepts the connection: it is on this machine.
const CONNECT: Duration = Duration::from_secs(2);

/// Until the head of an answer. The longest wait inside is the disk's, 5 s.
const ANSWER: Duration = Duration::from_secs(15);

/// Bytes of an answer that is read whole.
const MOST: usize = 8 * 1024 * 1024;

/// Why there is no answer to use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("no answer on its socket {}: {why}", .socket.display())]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The socket may not be opened.
    #[error("{} may be used by root and its group only", .socket.display())]
    NotPermitted {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon did not answer in time; what was asked may have been carried out.
    #[error("the daemon did not answer within {} s; see what is: cutover status", .limit.as_secs())]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The daemon refused it, or it failed.
    #[error("{}", .0.message)]
    Problem(Problem),
    /// The answer is not what this client knows.
    #[error("the daemon's answer cannot be read: {0}. Is it of another version?")]
    Strange(String),
    /// The connection broke while the answer came.
    #[error("the connection to the daemon broke: {0}")]
    Broken(String),
}

/// A way to one daemon.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client for the daemon behind a socket; nothing is opened yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        whole(answer).await
    }

    /// Asks for a change. The request carries an id of its own, so that a repeat would be one
    /// operation.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body =
            serde_json::to_vec(body).map_err(|error| ClientError::Strange(error.to_string()))?;
        let answer = self.send(Method::POST, path, body.into()).await?;
        whole(answer).await
    }

    /// Opens a stream of JSON lines.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn lines(&self, path: &str) -> Result<Lines, ClientError> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        if answer.status().is_success() {
            return Ok(Lines::new(answer.into_body()));
        }
        Err(problem(answer).await)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = self.connect().await?;
        let broken = |error: hyper::Error| ClientError::Broken(error.to_string());
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the connection: when the answer was read, or is dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the daemon ended");
            }
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "cutover")
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-request-id", uuid::Uuid::now_v7().to_string())
            .body(Full::new(body))
            .map_err(|error| ClientError::Strange(error.to_string()))?;
        tokio::time::timeout(ANSWER, sender.send_request(request))
            .await
            .map_err(|_| ClientError::TimedOut { limit: ANSWER })?
            .map_err(broken)
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let socket = self.socket.clone();
        match tokio::time::timeout(CONNECT, UnixStream::connect(&self.socket)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(ClientError::NotPermitted { socket })
            }
            Ok(Err(error)) => {
                let why = match error.kind() {
                    std::io::ErrorKind::NotFound => "it is not there".to_owned(),
                    std::io::ErrorKind::ConnectionRefused => "nobody listens".to_owned(),
                    _ => error.to_string(),
                };
                Err(ClientError::NoDaemon { socket, why })
            }
            Err(_) => Err(ClientError::NoDaemon { socket, why: "it is stuck".to_owned() }),
        }
    }
}

async fn whole<T: DeserializeOwned>(answer: Response<Incoming>) -> Result<T, ClientError> {
    if !answer.status().is_success() {
        return Err(problem(answer).await);
    }
    let bytes = read(answer).await?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(value),
        // "It is so already" is not a failure and comes with a good status.
        Err(error) => match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) if problem.schema == schema::PROBLEM => Err(ClientError::Problem(problem)),
            _ => Err(ClientError::Strange(error.to_string())),
        },
    }
}

async fn problem(answer: Response<Incoming>) -> ClientError {
    let status = answer.status();
    match read(answer).await {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(problem) => ClientError::Problem(problem),
            Err(_) => ClientError::Strange(format!("status {status} without a reason")),
        },
        Err(error) => error,
    }
}

async fn read(answer: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(answer.into_body(), MOST).collect();
    match tokio::time::timeout(ANSWER, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(ClientError::Broken(error.to_string())),
        Err(_) => Err(ClientError::TimedOut { limit: ANSWER }),
    }
}
