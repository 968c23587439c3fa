//! The readiness probe: a GET, passed some times in a row.
//!
//! Asks exactly the address it is given, with the `Host` that traffic carries, on a connection of
//! its own each time, so that it takes the path that the traffic takes. It follows no redirect and
//! reads no more of the body than it needs for a reason, or to find a text in it.

pub mod smoke;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::process::escape;

/// The shortest pause between two passes in a row.
const BETWEEN_PASSES: Duration = Duration::from_secs(1);
/// How much of a failing answer's body is shown.
const SHOWN: usize = 200;
/// How much of a body is searched for a text: more than any page that is made for people.
const SEARCHED: usize = 4 * 1024 * 1024;

/// What to ask, and what counts as ready.
#[derive(Debug, Clone)]
pub struct ProbeSpec {
    /// Whom to ask.
    pub address: SocketAddr,
    /// The `Host` of the request.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Further headers, for instance the override that chooses a color.
    pub headers: Vec<(String, String)>,
    /// The statuses that pass.
    pub expect: Vec<RangeInclusive<u16>>,
    /// A text that the body of an answer that passes has to hold.
    pub body: Option<String>,
    /// How many passes in a row are needed.
    pub passes: u32,
    /// How many failures are put up with.
    pub attempts: u32,
    /// The pause after a failure.
    pub interval: Duration,
    /// How long one request may take.
    pub timeout: Duration,
}

/// A probe that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// How many requests it took.
    pub requests: u32,
    /// How long the last one took.
    pub latency: Duration,
}

/// Why a probe did not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It failed as often as it may.
    #[error("GET {path} at {address} failed {failures} times, the last time: {reason}")]
    Failed {
        /// What was asked.
        path: String,
        /// Whom.
        address: SocketAddr,
        /// How often it failed.
        failures: u32,
        /// Why, the last time.
        reason: String,
    },
    /// The request cannot be made.
    #[error("the probe cannot be sent: {reason}; look at [apps.<app>.probe]")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
}

/// Asks until it passed `passes` times in a row, or failed `attempts` times.
///
/// # Errors
/// [`ProbeError`] with the last reason.
pub async fn probe(spec: &ProbeSpec) -> Result<Passed, ProbeError> {
    let (mut failures, mut streak, mut requests) = (0, 0, 0);
    loop {
        requests += 1;
        match once(spec).await {
            Ok(latency) => {
                streak += 1;
                if streak >= spec.passes.max(1) {
                    return Ok(Passed { requests, latency });
                }
                tokio::time::sleep(spec.interval.min(BETWEEN_PASSES)).await;
            }
            Err(Failure::Malformed(reason)) => return Err(ProbeError::Malformed { reason }),
            Err(Failure::Reason(reason)) => {
                streak = 0;
                failures += 1;
                if failures >= spec.attempts.max(1) {
                    let (path, address) = (spec.path.clone(), spec.address);
                    return Err(ProbeError::Failed { path, address, failures, reason });
                }
                tokio::time::sleep(spec.interval).await;
            }
        }
    }
}

/// Asks once.
///
/// # Errors
/// [`ProbeError::Failed`] with the reason.
pub async fn probe_once(spec: &ProbeSpec) -> Result<Passed, ProbeError> {
    let once = ProbeSpec { passes: 1, attempts: 1, ..spec.clone() };
    probe(&once).await
}

/// Whether something accepts connections, within a limit.
///
/// # Errors
/// [`ProbeError::Failed`] with the reason.
pub async fn probe_tcp(address: SocketAddr, limit: Duration) -> Result<Passed, ProbeError> {
    let began = Instant::now();
    let reason = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => return Ok(Passed { requests: 1, latency: began.elapsed() }),
        Ok(Err(error)) => connect_reason(&error),
        Err(_) => format!("no connection within {limit:?}"),
    };
    Err(ProbeError::Failed { path: "(connection)".to_owned(), address, failures: 1, reason })
}

enum Failure {
    Malformed(String),
    Reason(String),
}

async fn once(spec: &ProbeSpec) -> Result<Duration, Failure> {
    let began = Instant::now();
    match tokio::time::timeout(spec.timeout, exchange(spec)).await {
        Ok(result) => result.map(|()| began.elapsed()),
        Err(_) => Err(Failure::Reason(format!("no answer within {:?}", spec.timeout))),
    }
}

async fn exchange(spec: &ProbeSpec) -> Result<(), Failure> {
    let mut request = Request::get(&spec.path)
        .header(header::HOST, &spec.host)
        .header(header::USER_AGENT, "cutover-probe")
        .header(header::CONNECTION, "close");
    for (name, value) in &spec.headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failure::Malformed(error.to_string()))?;
    let stream = TcpStream::connect(spec.address)
        .await
        .map_err(|error| Failure::Reason(connect_reason(&error)))?;
    let broken = |error: hyper::Error| Failure::Reason(format!("the answer broke off: {error}"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if spec.expect.iter().any(|passes| passes.contains(&status.as_u16())) {
            return match &spec.body {
                Some(wanted) => find(response.into_body(), wanted).await,
                None => Ok(()),
            };
        }
        let mut body = response.into_body();
        let first = body.frame().await.and_then(Result::ok).and_then(|f| f.into_data().ok());
        let text = first.unwrap_or_default();
        let text = one_line(&text[..text.len().min(SHOWN)]);
        Err(Failure::Reason(if text.is_empty() {
            format!("it answered {status}")
        } else {
            format!("it answered {status}: {text}")
        }))
    };
    let mut answer = std::pin::pin!(answer);
    // The connection often ends in the same moment as the answer, which then still is to be had.
    tokio::select! {
        biased;
        result = &mut answer => result,
        result = connection => match (answer.await, result) {
            (Err(Failure::Reason(_)), Err(error)) => Err(broken(error)),
            (result, _) => result,
        },
    }
}

/// Whether a body holds a text.
async fn find(body: Incoming, wanted: &str) -> Result<(), Failure> {
    let read = Limited::new(body, SEARCHED).collect().await;
    let bytes = match read {
        Ok(body) => body.to_bytes(),
        Err(error) => return Err(Failure::Reason(format!("its body cannot be read: {error}"))),
    };
    match String::from_utf8_lossy(&bytes).contains(wanted) {
        true => Ok(()),
        false => {
            let start = one_line(&bytes[..bytes.len().min(SHOWN)]);
            Err(Failure::Reason(format!("the answer does not hold \"{wanted}\": {start}")))
        }
    }
}

/// The beginning of a body on one line: its own lines joined, other control bytes escaped.
fn one_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words: Vec<&str> = text.split_whitespace().collect();
    escape(&words.join(" "))
}

fn connect_reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            "connection refused: nothing listens on that port".to_owned()
        }
        _ => format!("no connection: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that answers one connection after the other from a list, then no more.
    async fn server(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("accept");
                let mut buffer = [0; 1024];
                let count = stream.read(&mut buffer).await.expect("read");
                assert!(buffer[..count].starts_with(b"GET /health HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await.expect("write");
            }
        });
        address
    }

    fn spec(address: SocketAddr) -> ProbeSpec {
        ProbeSpec {
            address,
            host: "shop.example.com".to_owned(),
            path: "/health".to_owned(),
            headers: Vec::new(),
            expect: vec![200..=399],
            body: None,
            passes: 2,
            attempts: 3,
            interval: Duration::from_millis(1),
            timeout: Duration::from_secs(5),
        }
    }

    const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    const BAD: &str = "HTTP/1.1 500 Oops\r\ncontent-length: 14\r\n\r\nno\r\n \x1b[db\nup\n\n";

    #[tokio::test]
    async fn passes_must_come_in_a_row() {
        let address = server(&[BAD, GOOD, BAD, GOOD, GOOD]).await;
        let passed = probe(&spec(address)).await.expect("passes");
        assert_eq!(passed.requests, 5);
    }

    #[tokio::test]
    async fn a_status_between_two_that_pass_does_not() {
        let answers = [GOOD, "HTTP/1.1 204 No\r\n\r\n", "HTTP/1.1 301 Go\r\n\r\n"];
        let address = server(Box::leak(Box::new(answers))).await;
        let spec = ProbeSpec { expect: vec![200..=200, 301..=301], ..spec(address) };
        probe_once(&spec).await.expect("200 is named");
        let error = probe_once(&spec).await.expect_err("204 is not named").to_string();
        assert!(error.contains("204"), "{error}");
        probe_once(&spec).await.expect("301 is named");
    }

    #[tokio::test]
    async fn a_failure_says_status_and_body() {
        let address = server(&[BAD, GOOD, BAD, BAD]).await;
        let error = probe(&spec(address)).await.expect_err("fails").to_string();
        assert!(error.contains("failed 3 times"), "{error}");
        assert!(error.ends_with("500 Internal Server Error: no \\u{1b}[db up"), "{error}");
    }

    #[tokio::test]
    async fn a_body_without_the_wanted_text_does_not_pass() {
        let answers = [
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nThe Shop!",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nOops!",
            "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nThe Shop",
        ];
        let address = server(Box::leak(Box::new(answers))).await;
        let spec = ProbeSpec { body: Some("Shop".to_owned()), ..spec(address) };
        probe_once(&spec).await.expect("it is there");
        let error = probe_once(&spec).await.expect_err("it is not").to_string();
        assert!(error.ends_with("the answer does not hold \"Shop\": Oops!"), "{error}");
        let error = probe_once(&spec).await.expect_err("cut short").to_string();
        assert!(error.contains("its body cannot be read"), "{error}");
    }

    #[tokio::test]
    async fn silence_and_refusal_are_reasons() {
        let address = server(&[""]).await;
        let error = probe_once(&spec(address)).await.expect_err("fails").to_string();
        assert!(error.contains("closed") || error.contains("broke off"), "{error}");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        drop(listener);
        let error = probe_once(&spec(address)).await.expect_err("fails").to_string();
        assert!(error.contains("nothing listens"), "{error}");
        let error = probe_tcp(address, Duration::from_secs(1)).await.expect_err("fails");
        assert!(error.to_string().contains("nothing listens"), "{error}");
    }
}
