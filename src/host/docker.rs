//! The Docker engine, through its socket.
//!
//! Owns the connection, the time limits and the translation of the engine's errors into sentences.
//! The API version is always negotiated, since older engines refuse the newest. Nothing here knows
//! of colors or releases; a container is found by its compose labels.
//!
//! INVARIANT: no call outlives its limit. A socket that accepts and never answers is an error, not
//! a hang; traffic does not depend on any of it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error as Bollard;

mod containers;
mod ending;
mod events;
mod exec;
mod images;
mod logs;
mod networks;
mod published;
mod stream;

pub use containers::{Attached, Container, Filter, Health, State, label};
pub use events::{Events, Notice, Watch};
pub use exec::ExecOutput;
pub use images::Image;
pub use logs::{LogLine, Source};
pub use networks::{Found, Network};
pub use published::Published;
pub use stream::Streamed;

/// How long a question to the engine may take.
const ASK: Duration = Duration::from_secs(10);
/// How long a change may take: creating, starting, removing.
const CHANGE: Duration = Duration::from_secs(60);

/// A connection to one engine. Cheap to clone; every call opens its own connection to the socket.
#[derive(Debug, Clone)]
pub struct Docker {
    client: bollard::Docker,
    socket: PathBuf,
}

/// Why the engine did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DockerError {
    /// The address is of a kind that is not spoken.
    #[error(
        "DOCKER_HOST is \"{address}\": only unix:// sockets are supported, since containers are \
         dialled by address from this host"
    )]
    Address {
        /// What the variable says.
        address: String,
    },
    /// There is no socket, or it may not be used.
    #[error("cannot use Docker's socket {}: {reason}", socket.display())]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The engine did not answer in time.
    #[error(
        "Docker did not answer within {limit:?} ({what}); look at it with: systemctl status docker"
    )]
    NoAnswer {
        /// What was asked.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The thing is not there.
    #[error("{what}: Docker knows no such thing ({text})")]
    Missing {
        /// What was asked.
        what: String,
        /// The engine's words.
        text: String,
    },
    /// The engine refused.
    #[error("{what}: Docker refused ({status}): {text}")]
    Refused {
        /// What was asked.
        what: String,
        /// The status code.
        status: u16,
        /// The engine's words.
        text: String,
    },
    /// The connection broke.
    #[error("{what}: the connection to Docker broke: {text}")]
    Broken {
        /// What was asked.
        what: String,
        /// The cause.
        text: String,
    },
    /// An answer lacked something that it must have.
    #[error("{what}: Docker's answer has no {field}")]
    Incomplete {
        /// What was asked.
        what: String,
        /// What it lacks.
        field: &'static str,
    },
}

impl DockerError {
    /// Whether the thing that was asked about is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// Whether the engine could not be reached, so that nothing is known about the thing.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Socket { .. } | Self::NoAnswer { .. } | Self::Broken { .. })
    }
}

/// What the engine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Its version.
    pub version: String,
    /// Whether containers go on when the engine is restarted; off unless the operator set it.
    pub live_restore: Option<bool>,
    /// Where it keeps images and volumes.
    pub root: PathBuf,
    /// The memory of its machine, bytes.
    pub memory: u64,
}

impl Docker {
    /// Connects and negotiates the API version. `socket`: an explicit path; else `DOCKER_HOST`;
    /// else the default.
    ///
    /// # Errors
    /// [`DockerError`]: no socket, no permission, no answer, or an address that is not a socket's.
    pub async fn connect(socket: Option<&Path>) -> Result<Self, DockerError> {
        let socket = match socket {
            Some(path) => path.to_owned(),
            None => default_socket(std::env::var("DOCKER_HOST").ok())?,
        };
        check_socket(&socket).await?;
        let text = socket.to_string_lossy().into_owned();
        let what = "asking Docker for its version";
        let client = bollard::Docker::connect_with_unix(
            &text,
            CHANGE.as_secs().saturating_mul(20),
            bollard::API_DEFAULT_VERSION,
        )
        .map_err(|error| translate(what, error))?;
        let client = within(ASK, what, client.negotiate_version()).await?;
        Ok(Self { client, socket })
    }

    /// The socket in use.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether the engine answers, within two seconds.
    ///
    /// # Errors
    /// [`DockerError`] when it does not.
    pub async fn ping(&self) -> Result<(), DockerError> {
        within(Duration::from_secs(2), "asking Docker whether it is there", self.client.ping())
            .await
            .map(drop)
    }

    /// What the engine says about itself.
    ///
    /// # Errors
    /// [`DockerError`] when it does not answer.
    pub async fn engine(&self) -> Result<Engine, DockerError> {
        let answer = within(ASK, "asking Docker about itself", self.client.info()).await?;
        Ok(Engine {
            version: answer.server_version.unwrap_or_default(),
            live_restore: answer.live_restore_enabled,
            root: answer.docker_root_dir.unwrap_or_default().into(),
            memory: answer.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
        })
    }
}

fn default_socket(docker_host: Option<String>) -> Result<PathBuf, DockerError> {
    match docker_host.filter(|address| !address.is_empty()) {
        None => Ok(PathBuf::from("/var/run/docker.sock")),
        Some(address) => match address.strip_prefix("unix://") {
            Some(path) => Ok(PathBuf::from(path)),
            None => Err(DockerError::Address { address }),
        },
    }
}

/// Tries the socket itself first, because that tells "not there", "not running" and "not
/// permitted" apart.
async fn check_socket(socket: &Path) -> Result<(), DockerError> {
    let limit = Duration::from_secs(3);
    let reason = match tokio::time::timeout(limit, tokio::net::UnixStream::connect(socket)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => match error.kind() {
            std::io::ErrorKind::NotFound => {
                "it does not exist; is Docker installed and running?".to_owned()
            }
            std::io::ErrorKind::PermissionDenied => {
                "permission denied; run as root or as a member of the group docker".to_owned()
            }
            std::io::ErrorKind::ConnectionRefused => {
                "nobody listens; start Docker: systemctl start docker".to_owned()
            }
            _ => error.to_string(),
        },
        Err(_) => {
            return Err(DockerError::NoAnswer { what: "opening its socket".to_owned(), limit });
        }
    };
    Err(DockerError::Socket { socket: socket.to_owned(), reason })
}

/// One call, bounded, its error translated.
async fn within<T>(
    limit: Duration,
    what: impl Into<String>,
    call: impl Future<Output = Result<T, Bollard>>,
) -> Result<T, DockerError> {
    let what = what.into();
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(translate(&what, error)),
        Err(_) => Err(DockerError::NoAnswer { what, limit }),
    }
}

fn translate(what: &str, error: Bollard) -> DockerError {
    let what = what.to_owned();
    match error {
        Bollard::DockerResponseServerError { status_code: 404, message } => {
            DockerError::Missing { what, text: super::process::escape(&message) }
        }
        Bollard::DockerResponseServerError { status_code, message } => DockerError::Refused {
            what,
            status: status_code,
            text: super::process::escape(&message),
        },
        Bollard::RequestTimeoutError => DockerError::NoAnswer { what, limit: CHANGE },
        other => DockerError::Broken { what, text: other.to_string() },
    }
}

/// The first twelve characters of a container's or image's id, as Docker prints them.
#[must_use]
pub fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_are_spoken() {
        let socket = |text: &str| default_socket(Some(text.to_owned()));
        assert_eq!(default_socket(None).ok(), Some(PathBuf::from("/var/run/docker.sock")));
        assert_eq!(socket("unix:///run/d.sock").ok(), Some(PathBuf::from("/run/d.sock")));
        assert!(matches!(socket("tcp://10.0.0.1:2375"), Err(DockerError::Address { .. })));
    }

    #[tokio::test]
    async fn an_absent_socket_says_what_to_do() {
        let error = Docker::connect(Some(Path::new("/nonexistent/docker.sock"))).await;
        let text = error.expect_err("absent").to_string();
        assert!(text.contains("does not exist; is Docker installed"), "{text}");
    }

    #[tokio::test]
    async fn a_socket_that_never_answers_is_an_error_and_not_a_hang() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("docker.sock");
        let _listener = tokio::net::UnixListener::bind(&path).expect("bind");
        tokio::time::pause();
        let error = Docker::connect(Some(&path)).await.expect_err("no answer");
        assert!(matches!(error, DockerError::NoAnswer { .. }), "{error}");
        assert!(error.is_away());
    }
}
