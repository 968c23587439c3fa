//! Plain HTTP on TCP for what is read only: bounded in connections and in time.
//!
//! Whoever reaches the address may ask, so nothing that a client does or leaves undone may hold
//! more than one of a few places for a few seconds. Over the bound a connection is closed at once.
//! Invariant: every place is given back at a deadline, whatever the client does.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How accepting rests when the process is out of file descriptors.
const BREATH: Duration = Duration::from_millis(50);

/// What a listener puts up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at one time: some scrapers and health checks, and a person.
    pub connections: usize,
    /// From one request's end, or the start, to the end of the next head.
    pub head: Duration,
    /// All of a connection.
    pub life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head: Duration::from_secs(10),
            // Scrapers that keep a connection make a new one every few minutes.
            life: Duration::from_secs(300),
        }
    }
}

/// Serves until `stop`; requests that run then are answered.
///
/// # Errors
/// None as yet: a listener that cannot be accepted from is tried again.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: Limits,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.connections));
    let open = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        // Dropping the stream is the answer to one too many.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (routes, stop) = (routes.clone(), stop.clone());
        open.spawn(async move {
            connection(stream, routes, limits, stop).await;
            drop(place);
        });
    }
    open.close();
    open.wait().await;
    Ok(())
}

async fn connection(stream: TcpStream, routes: Router, limits: Limits, stop: CancellationToken) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut serving = std::pin::pin!(serving);
    let end = tokio::time::sleep(limits.life);
    let mut end = std::pin::pin!(end);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = end.as_mut() => return,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = serving.as_mut() => ended,
                () = tokio::time::sleep(limits.head) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client of the metrics listener");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const WHOLE: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";

    async fn start(limits: Limits) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/healthz", get(|| async { "ok\n" }));
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, routes, limits, stop.clone()));
        (address, stop)
    }

    async fn answer(stream: &mut TcpStream) -> String {
        let mut bytes = [0; 512];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut bytes));
        let count = read.await.expect("an answer or an end in time").unwrap_or(0);
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[tokio::test]
    async fn half_a_head_and_a_connection_that_says_nothing_are_ended() {
        let head = Duration::from_millis(100);
        let (address, _stop) = start(Limits { head, ..Limits::default() }).await;
        for begun in [&b"GET /healthz HT"[..], b"", WHOLE] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(begun).await.unwrap();
            if begun == WHOLE {
                assert!(answer(&mut stream).await.contains("200 OK"));
            }
            let last = answer(&mut stream).await;
            assert!(last.is_empty() || last.contains("408"), "{last}");
        }
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed_and_a_place_that_is_given_back_is_taken() {
        let (address, _stop) = start(Limits { connections: 2, ..Limits::default() }).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(WHOLE).await.unwrap();
            assert!(answer(&mut stream).await.contains("200 OK"));
            held.push(stream);
        }
        let mut more = TcpStream::connect(address).await.unwrap();
        more.write_all(WHOLE).await.ok();
        assert_eq!(answer(&mut more).await, "");
        held.pop();
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let mut next = TcpStream::connect(address).await.unwrap();
            next.write_all(WHOLE).await.ok();
            if answer(&mut next).await.contains("200 OK") {
                break;
            }
            assert!(tokio::time::Instant::now() < end, "the place is not given back");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_life_and_all_of_them_with_the_stop() {
        let life = Duration::from_millis(100);
        let (address, stop) = start(Limits { life, ..Limits::default() }).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(answer(&mut stream).await, "");
        stop.cancel();
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).await.is_ok() {
            assert!(tokio::time::Instant::now() < end, "it listens after the stop");
            tokio::task::yield_now().await;
        }
    }
}
