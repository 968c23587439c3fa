//! Bodies on their way: streamed with back-pressure, watched by deadlines, never held whole.
//!
//! Invariant: a connection goes back to its pool only when the request's body was sent whole and
//! the answer's read whole; a fault of the client in its own body is remembered as the client's.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::attempt::Answered;
use super::exchange::Exchange;
use super::headers;
use crate::error::Fault;
use crate::message::Class;
use crate::upstream::{Connection, Load};
use crate::worker::inbound::Inbound;
use crate::worker::watch::{Stage, Watch};

/// The type of server-sent events.
const EVENTS: &[u8] = b"text/event-stream";

/// How far a request body has come.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicU8);

/// Beside these: 0, under way.
const WHOLE: u8 = 1;
const FAULTY: u8 = 2;
const OWED: u8 = 3;

/// Who keeps an answer that has begun from going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    Upstream,
    Client,
    /// The client, but it still has time.
    ClientSoon,
}

impl Progress {
    /// Who is to blame when the answer does not go on, or breaks off.
    fn blame(&self, watch: &Watch) -> Blame {
        match self.0.load(Ordering::Relaxed) {
            FAULTY => Blame::Client,
            OWED if watch.has_fired(Stage::Body) => Blame::Client,
            OWED => Blame::ClientSoon,
            _ => Blame::Upstream,
        }
    }

    fn set(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }

    /// Sent to its last byte.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.load(Ordering::Relaxed) == WHOLE
    }

    /// The client cut it or framed it badly.
    pub(crate) fn is_faulty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == FAULTY
    }
}

/// A request body on its way to the upstream.
#[derive(Debug)]
pub(crate) enum Upload {
    Empty {
        /// The client said `Content-Length: 0`.
        stated: bool,
    },
    Stream(Box<Stream>),
}

/// A request body that has bytes.
#[derive(Debug)]
pub(crate) struct Stream {
    incoming: Incoming,
    progress: Arc<Progress>,
    watch: Arc<Watch>,
    body: Duration,
    answer: Duration,
}

impl Upload {
    pub(crate) fn new(incoming: Incoming, parts: &Parts, inbound: &Inbound) -> Result<Self, Fault> {
        if incoming.is_end_stream() {
            return Ok(Self::Empty { stated: parts.headers.contains_key(CONTENT_LENGTH) });
        }
        Ok(Self::Stream(Box::new(Stream {
            incoming,
            progress: Arc::default(),
            watch: inbound.watch.clone(),
            body: inbound.worker.settings().timeouts.body,
            answer: Duration::from_secs(60),
        })))
    }

    /// The framing of the message that goes on, by what the body is.
    pub(crate) fn frame(&self, headers: &mut HeaderMap) {
        match self {
            Self::Empty { stated: false } => {}
            Self::Empty { stated: true } => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
            }
            Self::Stream(stream) => match stream.incoming.size_hint().exact() {
                Some(length) => {
                    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
                }
                None => {
                    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                }
            },
        }
    }

    /// How far it has come; `None` if there is nothing to send.
    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            Self::Empty { .. } => None,
            Self::Stream(stream) => Some(stream.progress.clone()),
        }
    }

    /// The deadline of the answer, which begins anew with each piece that is sent.
    pub(crate) fn answer_within(&mut self, limit: Duration) {
        if let Self::Stream(stream) = self {
            stream.answer = limit;
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self::Stream(stream) = &mut *self else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(&mut stream.incoming).poll_frame(cx) else {
            // It is the client's turn: the application's time stands still.
            stream.watch.disarm(Stage::Answer);
            stream.watch.keep(Stage::Body, stream.body);
            stream.progress.set(OWED);
            return Poll::Pending;
        };
        stream.watch.disarm(Stage::Body);
        stream.watch.arm(Stage::Answer, stream.answer);
        stream.progress.set(match &frame {
            Some(Err(_)) => FAULTY,
            Some(Ok(frame)) if frame.is_trailers() || stream.incoming.is_end_stream() => WHOLE,
            Some(Ok(_)) => 0,
            None => WHOLE,
        });
        Poll::Ready(frame.map(|frame| frame.map(headers::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty { .. } => true,
            Self::Stream(stream) => stream.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty { .. } => SizeHint::with_exact(0),
            Self::Stream(stream) => stream.incoming.size_hint(),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.progress.blame(&self.watch) == Blame::Client {
            // Its deadline is forgotten now, and the answer's side may ask later.
            self.progress.set(FAULTY);
        }
        self.watch.disarm(Stage::Body);
    }
}

/// An answer's body on its way to the client.
#[derive(Debug)]
pub(crate) enum Answer {
    Empty,
    Full(Option<Bytes>),
    Stream(Box<Download>),
}

/// The answer of an upstream.
#[derive(Debug)]
pub(crate) struct Download {
    incoming: Incoming,
    limit: Duration,
    /// Until the end: then it goes back to its pool.
    lent: Option<Lent>,
    exchange: Exchange,
}

/// A connection in use.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) connection: Connection,
    pub(crate) load: Load,
    pub(crate) upload: Option<Arc<Progress>>,
}

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(crate) struct BrokenOff;

impl Answer {
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self::Full(Some(bytes))
    }
}

/// Streams the upstream's answer.
pub(crate) fn stream(mut exchange: Exchange, answered: Answered) -> Response<Answer> {
    let Answered { response, lent, limit, .. } = answered;
    let (parts, incoming) = response.into_parts();
    if incoming.is_end_stream() {
        give_back(lent, &exchange);
        exchange.end(None);
        return Response::from_parts(parts, Answer::Empty);
    }
    if is_event_stream(&parts.headers) {
        exchange.inbound.watch.become_stream();
    }
    let download = Download { incoming, limit, lent: Some(lent), exchange };
    Response::from_parts(parts, Answer::Stream(Box::new(download)))
}

/// An answer that lasts as long as both sides want, and whose client comes back after its end.
fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.get(..EVENTS.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS))
}

/// The connection may be used again, if the request was sent whole too.
fn give_back(mut lent: Lent, exchange: &Exchange) {
    if lent.upload.is_none_or(|upload| upload.is_whole()) {
        let worker = &exchange.inbound.worker;
        let most = worker.settings().limits.idle_per_endpoint;
        lent.connection.used = true;
        let (now_ms, room) = (worker.now_ms(), &worker.idle);
        lent.load.endpoint.give(worker.index, lent.connection, now_ms, most, room);
    }
}

impl Download {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let watch = &self.exchange.inbound.watch;
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending() {
            if watch.is_ended() && watch.is_stream() {
                // A whole answer, so that the client comes back instead of seeing an error.
                self.lent = None;
                self.exchange.end(None);
                self.exchange.inbound.watch.forgive();
                return Poll::Ready(None);
            }
            if watch.is_ended() {
                self.exchange.end(None);
                return Poll::Ready(Some(Err(BrokenOff)));
            }
            if watch.has_fired(Stage::Progress) {
                match self.blame() {
                    // The application may wait for the rest of the request.
                    Blame::ClientSoon => watch.arm(Stage::Progress, self.limit),
                    blame => return self.break_off(blame),
                }
            }
            watch.keep(Stage::Progress, self.limit);
            return Poll::Pending;
        }
        watch.disarm(Stage::Progress);
        match ready!(polled) {
            Some(Ok(frame)) => {
                if frame.is_trailers() || self.incoming.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(headers::trailers(frame))))
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "an answer broke off");
                self.break_off(self.blame())
            }
            None => {
                self.complete();
                Poll::Ready(None)
            }
        }
    }

    fn blame(&self) -> Blame {
        let upload = self.lent.as_ref().and_then(|lent| lent.upload.as_deref());
        upload.map_or(Blame::Upstream, |upload| upload.blame(&self.exchange.inbound.watch))
    }

    fn break_off(&mut self, blame: Blame) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let client = blame == Blame::Client;
        self.exchange.end(Some(if client { Class::ClientFault } else { Class::Reset }));
        Poll::Ready(Some(Err(BrokenOff)))
    }

    fn complete(&mut self) {
        if let Some(lent) = self.lent.take() {
            give_back(lent, &self.exchange);
            self.exchange.end(None);
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.exchange.inbound.watch.disarm(Stage::Progress);
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(Frame::data).map(Ok)),
            Self::Stream(download) => download.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Stream(download) => download.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream(download) => download.incoming.size_hint(),
        }
    }
}
