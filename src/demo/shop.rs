//! The built-in web shop: a page that names the release which made it, and a switch to break it.
//!
//! Stands in for somebody's application. Knows nothing of Cutover.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use cutover_model::Color;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The header by which the demo's clients know which copy answered.
pub const COLOR: &str = "x-shop-color";

/// Of the answers of a broken shop one in so many fails.
const FAILS: u64 = 3;

/// One running copy.
#[derive(Debug)]
pub struct Shop {
    inside: Arc<Inside>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Inside {
    color: Color,
    release: &'static str,
    is_failing: AtomicBool,
    asked: AtomicU64,
}

impl Shop {
    /// Opens a shop on a free port of loopback.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn open(color: Color) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let release = match color {
            Color::Blue => "r1",
            Color::Green => "r2",
        };
        let inside = Arc::new(Inside {
            color,
            release,
            is_failing: AtomicBool::new(false),
            asked: AtomicU64::new(0),
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(serve(listener, Arc::clone(&inside), tasks.clone(), stop.clone()));
        Ok(Self { inside, address, stop, tasks })
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on one answer in three is an error.
    pub fn start_failing(&self) {
        self.inside.is_failing.store(true, Ordering::Relaxed);
    }

    /// Closes it; open connections are cut.
    pub async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn serve(
    listener: TcpListener,
    inside: Arc<Inside>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors: the next one may work.
                Err(_) => continue,
            },
        };
        let (inside, stop) = (Arc::clone(&inside), stop.clone());
        tasks.spawn(async move {
            let answer = service_fn(|request| {
                let inside = Arc::clone(&inside);
                async move { Ok::<_, Infallible>(inside.answer(&request)) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            let serving = http.serve_connection(TokioIo::new(stream), answer);
            tokio::select! {
                () = stop.cancelled() => {}
                // A client that goes away is its own business.
                _ = serving => {}
            }
        });
    }
}

impl Inside {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/break") => self.set_failing(true),
            (&Method::POST, "/heal") => self.set_failing(false),
            // Its own health check does not notice: that is why one looks at the answers.
            (_, "/health") => self.page(StatusCode::OK, "ok"),
            _ => self.shop_page(),
        }
    }

    fn set_failing(&self, failing: bool) -> Response<Full<Bytes>> {
        self.is_failing.store(failing, Ordering::Relaxed);
        self.page(StatusCode::OK, if failing { "broken" } else { "works again" })
    }

    fn shop_page(&self) -> Response<Full<Bytes>> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        if self.is_failing.load(Ordering::Relaxed) && number.is_multiple_of(FAILS) {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return self.page(status, "cannot read properties of undefined");
        }
        self.page(StatusCode::OK, "cups and plates")
    }

    fn page(&self, status: StatusCode, text: &str) -> Response<Full<Bytes>> {
        let body = format!("{} ({}): {text}\n", self.release, self.color);
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert("content-type", http::HeaderValue::from_static("text/plain"));
        headers.insert("cache-control", http::HeaderValue::from_static("no-store"));
        headers.insert(COLOR, http::HeaderValue::from_static(self.color.as_str()));
        answer
    }
}
