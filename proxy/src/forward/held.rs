//! A request at a gate that is not open: it passes, waits for its turn, or is answered.
//!
//! While it waits it holds no lease and no table, its body is not read, and its connection is
//! looked at now and then, so that a client that leaves is forgotten. Invariant: a request that
//! waited is routed anew afterwards.

use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use hyper::body::{Body, Incoming};

use super::Served;
use super::body::Answer;
use crate::client::Visitor;
use crate::error::Fault;
use crate::gate::{Entry, Turn, Waiting};
use crate::worker::inbound::Inbound;
use crate::worker::lease::Lease;
use crate::worker::watch::{Stage, Watch};

/// Between two looks whether the client of a waiting request is still there.
const LOOK: Duration = Duration::from_millis(250);
/// What a header line needs beside name and value.
const LINE: usize = 4;

/// What became of a request at the gate.
pub(super) enum Passed {
    /// It goes on with its lease.
    On(Lease),
    /// It was let go: its way has to be found anew.
    Again(Turn),
    /// It has its answer.
    Barred(Served),
}

/// Asks at the gate, and waits if it has to.
pub(super) async fn pass(
    inbound: &Inbound,
    parts: &Parts,
    body: &Incoming,
    visitor: Visitor,
    lease: Lease,
    turn: Option<Turn>,
) -> Result<Passed, Fault> {
    if is_balancer(inbound, parts) {
        return Ok(Passed::Barred(Served::Own(here())));
    }
    let bytes = weight(inbound, parts, body);
    match lease.app().gate.enter(visitor.ip, bytes, turn, Instant::now()) {
        Entry::Pass => Ok(Passed::On(lease)),
        Entry::Shut(shut) => Ok(Passed::Barred(Served::Closed(shut))),
        Entry::Full(left) => Err(Fault::Held(left)),
        Entry::Wait(waiting) => {
            // Who drains is not kept waiting by it.
            drop(lease);
            wait(&inbound.watch, waiting).await.map(Passed::Again)
        }
    }
}

/// Waits for the turn; ends early with the connection, with the time, or with the client.
pub(crate) async fn wait(watch: &Watch, mut waiting: Waiting) -> Result<Turn, Fault> {
    let mut time_is_up = pin!(tokio::time::sleep_until(waiting.until.into()));
    watch.begin_waiting();
    watch.arm(Stage::Gate, LOOK);
    let ended = std::future::poll_fn(|cx| {
        watch.register(cx.waker());
        if let Poll::Ready(turn) = waiting.poll_turn(cx) {
            return Poll::Ready(turn.ok_or(Fault::Ended).map(Some));
        }
        if watch.has_left() {
            return Poll::Ready(Err(Fault::Left));
        }
        if watch.is_ended() {
            return Poll::Ready(Err(Fault::Ended));
        }
        if watch.has_fired(Stage::Gate) {
            watch.arm(Stage::Gate, LOOK);
        }
        time_is_up.as_mut().poll(cx).map(|()| Ok(None))
    })
    .await;
    watch.end_waiting();
    match ended? {
        Some(turn) => Ok(turn),
        None => waiting.give_up().map_err(Fault::Held),
    }
}

/// The bytes that a waiting request may keep in memory: its head, and what may have come behind it
/// before it was held, which is at most one read buffer.
fn weight(inbound: &Inbound, parts: &Parts, body: &Incoming) -> u64 {
    let lines = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE);
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let head = lines.sum::<usize>() + target;
    let most = inbound.worker.settings().limits.header_bytes;
    let behind = match body.size_hint().upper() {
        Some(upper) => usize::try_from(upper).unwrap_or(most).min(most),
        None => most,
    };
    (head + behind) as u64
}

/// Whether an outer balancer asks if this proxy is there.
fn is_balancer(inbound: &Inbound, parts: &Parts) -> bool {
    let path = inbound.worker.settings().balancer_path.as_deref();
    path == Some(parts.uri.path()) && matches!(parts.method, Method::GET | Method::HEAD)
}

fn here() -> Response<Answer> {
    let mut response = Response::new(Answer::full("here\n".into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
