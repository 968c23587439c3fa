//! The small HTTP/1.1 server under the backend and the frontend: listener, one task for each
//! connection, faults, the `X-Release` header, and an orderly end.
//!
//! On a stop it closes the listener at once, finishes what is open and gives up at `SHOP_DRAIN_MS`.

use std::convert::Infallible;
use std::future::Future;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Failure;
use crate::faults::{Fault, Faults};
use crate::settings::Settings;
use crate::stop::{self, Stop};

pub(crate) type Body = BoxBody<Bytes, Failure>;
pub(crate) type Answer = Response<Body>;

/// What answers a request. Implemented by the backend and the frontend.
pub(crate) trait Pages: Send + Sync + 'static {
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send;
}

/// Serves until the stop, then drains.
pub(crate) async fn serve<P: Pages>(
    settings: &Settings,
    default_port: u16,
    faults: Arc<Faults>,
    pages: Arc<P>,
    stop: Stop,
) -> Result<(), Failure> {
    let port = settings.port(default_port);
    let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await?,
    };
    println!("shop: {} {} listens on {port}", settings.role, settings.release);
    let desk = Arc::new(Desk {
        role: settings.role.clone(),
        release: HeaderValue::from_str(&settings.release)?,
        faults,
        pages,
    });
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    open.spawn(connection(desk.clone(), stream, stop.clone()));
                }
                Err(error) => {
                    eprintln!("shop: accept: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = open.join_next(), if !open.is_empty() => {}
            () = stop::asked(stop.clone()) => break,
        }
    }
    drop(listener);
    let limit = settings.millis("SHOP_DRAIN_MS").unwrap_or(Duration::from_secs(8));
    println!("shop: {} finishes {} connections", settings.role, open.len());
    let drained = tokio::time::timeout(limit, async { while open.join_next().await.is_some() {} });
    if drained.await.is_err() {
        eprintln!("shop: {} connections did not finish in time", open.len());
    }
    Ok(())
}

struct Desk<P> {
    role: String,
    release: HeaderValue,
    faults: Arc<Faults>,
    pages: Arc<P>,
}

async fn connection<P: Pages>(desk: Arc<Desk<P>>, stream: TcpStream, stop: Stop) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let serve = service_fn(|request| exchange(desk.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), serve)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // A connection that ends badly is the client's affair, or a fault made on purpose.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop::asked(stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    drop(ended);
}

async fn exchange<P: Pages>(
    desk: Arc<Desk<P>>,
    request: Request<Incoming>,
) -> Result<Answer, Failure> {
    let line = format!("{} {}", request.method(), request.uri().path());
    let mut answer = match desk.faults.strike(request.uri().path()).await {
        Some(Fault::Reset) => {
            eprintln!("shop: {} {line}: connection dropped, as told", desk.role);
            return Err("dropped on purpose".into());
        }
        Some(Fault::Status(status)) => {
            eprintln!("shop: {} {line}: {status}, as told", desk.role);
            text(StatusCode::from_u16(status)?, "this release fails on purpose\n")
        }
        None => match desk.pages.clone().answer(request).await {
            Ok(answer) => answer,
            Err(error) => {
                eprintln!("shop: {} {line}: {error}", desk.role);
                text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n"))
            }
        },
    };
    answer.headers_mut().insert("x-release", desk.release.clone());
    Ok(answer)
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

pub(crate) fn text(status: StatusCode, text: &str) -> Answer {
    typed(status, "text/plain; charset=utf-8", text.to_owned())
}

pub(crate) fn json(value: &serde_json::Value) -> Answer {
    typed(StatusCode::OK, "application/json", value.to_string())
}

pub(crate) fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(full(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// The value of `name` in the query of a URI, as a number.
pub(crate) fn query_number(uri: &hyper::Uri, name: &str) -> Option<u64> {
    uri.query()?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
}
