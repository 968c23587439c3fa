//! A client's connection: its socket with deadlines and framing checks, and hyper on top of it.
//!
//! It does not look at requests (`forward` does). Invariant: bytes that break the rules of framing
//! are noticed before hyper acts on them, and a connection that waits for its client waits under a
//! deadline.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cutover_model::{AppName, Color, Generation};
use http::HeaderValue;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::framing::Scanner;
use super::lease::Spot;
use super::watch::{Stage, Watch};
use super::{Place, Worker};
use crate::forward::forward;

/// Read at once; more comes with the next read.
const SCRATCH: usize = 64 * 1024;
/// How long a connection on which nothing was said yet keeps a shutdown waiting.
const FIRST_WORD: Duration = Duration::from_secs(1);
/// What a client that is too slow with a head is told.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

thread_local! {
    /// Bytes pass through here on their way to hyper, so that they can be looked at.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// What a request's path needs to know of its connection.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) worker: Arc<Worker>,
    pub(crate) peer: SocketAddr,
    /// The peer's address as a header value, made once.
    pub(crate) peer_text: HeaderValue,
    /// The key of the peer's address, made once.
    peer_key: OnceLock<u64>,
    /// What the client connected to.
    pub(crate) local: SocketAddr,
    /// Every request of this connection goes to this color of this app.
    pub(crate) forced: Option<Arc<(AppName, Color)>>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) notes: Arc<Notes>,
    /// Held as long as the connection or its tunnel lives.
    _place: Place,
}

impl Inbound {
    /// The key that a client at this address is known by.
    pub(crate) fn address_key(&self, ip: IpAddr) -> u64 {
        let make = || self.worker.shared.keys.address(ip);
        if ip == self.peer.ip() { *self.peer_key.get_or_init(make) } else { make() }
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.worker.watches.remove(&self.watch);
    }
}

/// What the socket's side noticed, for the request's side.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Requests that were handed to `forward`.
    served: AtomicU64,
    /// The number of the first head that must not be served; 0: none.
    bad: AtomicU64,
    why: OnceLock<&'static str>,
    /// Whether anything ever came.
    begun: AtomicBool,
    /// When the last read ended, by the worker's clock; 0: nothing came since a request was done.
    read: AtomicU64,
    /// The stay of the request whose answer is about to be written; `answered` 0: none.
    before: AtomicU64,
    answered: AtomicU64,
    /// Whose it is: a [`Spot`] in pieces, since the lease is gone by then.
    generation: AtomicU64,
    place: AtomicUsize,
    is_green: AtomicBool,
}

/// How long a request was with us, as far as it is known before its answer is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stay {
    /// From the end of its head to its first byte on the upstream's socket, nanoseconds.
    pub(crate) before: u64,
    /// When the head of its answer was read, by the worker's clock.
    pub(crate) answered: u64,
}

impl Notes {
    /// Begins the next request; says what is wrong with its framing, if anything.
    pub(crate) fn next(&self) -> Option<&'static str> {
        let number = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        let bad = self.bad.load(Ordering::Relaxed);
        (bad != 0 && number >= bad).then(|| self.why.get().copied().unwrap_or("bad framing"))
    }

    /// Whether the client has said anything on this connection.
    fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether a head was scanned that was not handed to `forward` yet.
    fn is_before(&self, heads: u64) -> bool {
        self.served.load(Ordering::Relaxed) < heads
    }

    /// When the read ended that brought the head which is served now; asked once for each head.
    pub(crate) fn head_was_read(&self) -> u64 {
        self.read.swap(0, Ordering::Relaxed)
    }

    /// An answer leaves: its first write ends the stay.
    pub(crate) fn leave(&self, stay: Stay, spot: Spot) {
        self.before.store(stay.before, Ordering::Relaxed);
        self.generation.store(spot.generation.0, Ordering::Relaxed);
        self.place.store(spot.place, Ordering::Relaxed);
        self.is_green.store(spot.color == Color::Green, Ordering::Relaxed);
        self.answered.store(stay.answered, Ordering::Relaxed);
    }

    /// The stay that the write which has just been tried ends.
    fn left(&self) -> Option<(Stay, Spot)> {
        let answered = self.answered.load(Ordering::Relaxed);
        if answered == 0 {
            return None;
        }
        self.answered.store(0, Ordering::Relaxed);
        let color = if self.is_green.load(Ordering::Relaxed) { Color::Green } else { Color::Blue };
        let stay = Stay { before: self.before.load(Ordering::Relaxed), answered };
        let generation = Generation(self.generation.load(Ordering::Relaxed));
        let place = self.place.load(Ordering::Relaxed);
        Some((stay, Spot { generation, place, color }))
    }

    fn refuse(&self, number: u64, why: &'static str) {
        if self.why.set(why).is_ok() {
            self.bad.store(number, Ordering::Relaxed);
        }
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    forced: Option<Arc<(AppName, Color)>>,
    place: Place,
) {
    let watch = worker.watches.add();
    watch.came_by(local.port());
    watch.arm(Stage::Head, worker.settings().timeouts.first_byte);
    let text = peer.ip().to_canonical().to_string();
    let inbound = Arc::new(Inbound {
        worker: worker.clone(),
        peer,
        peer_text: HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("unknown")),
        peer_key: OnceLock::new(),
        local,
        forced,
        watch: watch.clone(),
        notes: Arc::default(),
        _place: place,
    });
    let notes = inbound.notes.clone();
    let io = ClientIo::new(stream, inbound.clone());
    let limits = &worker.settings().limits;
    let service = service_fn(|request| forward(inbound.clone(), request));
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(8_192) + 8_192)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let (mut asked_to_stop, mut hurried) = (false, false);
    let ended = std::future::poll_fn(|cx| {
        watch.register(cx.waker());
        loop {
            let stops = watch.is_stopping() && !asked_to_stop;
            if stops && notes.is_begun() {
                asked_to_stop = true;
                connection.as_mut().graceful_shutdown();
            } else if stops && !hurried {
                // Its first request may be on its way: hyper would close the connection under it.
                hurried = true;
                watch.arm(Stage::Head, FIRST_WORD.min(worker.settings().timeouts.first_byte));
            }
            let polled = connection.as_mut().poll(cx);
            if polled.is_ready() || asked_to_stop || !(watch.is_stopping() && notes.is_begun()) {
                return polled;
            }
        }
    })
    .await;
    if let Err(error) = ended {
        tracing::trace!(%peer, %error, "client connection ended");
    }
}

/// A client's socket as hyper sees it.
#[derive(Debug)]
pub(crate) struct ClientIo {
    pub(crate) stream: TcpStream,
    inbound: Arc<Inbound>,
    scanner: Scanner,
    lingered: u64,
    closing: bool,
    /// The client has closed its side.
    ended: bool,
}

impl ClientIo {
    fn new(stream: TcpStream, inbound: Arc<Inbound>) -> Self {
        let scanner = Scanner::default();
        Self { stream, inbound, scanner, lingered: 0, closing: false, ended: false }
    }

    fn too_slow(&self) -> io::Error {
        // What is still being written belongs to the answer before.
        if self.scanner.is_mid_head()
            && !self.inbound.watch.is_armed(Stage::Write)
            && let Err(error) = self.stream.try_write(TOO_SLOW)
        {
            tracing::trace!(%error, "a slow client was not told why");
        }
        io::Error::from(io::ErrorKind::TimedOut)
    }

    /// Looks at what came and keeps the deadline of the head.
    fn look(&mut self, bytes: &[u8]) {
        let watch = &self.inbound.watch;
        let heads = self.scanner.heads();
        if let Err(why) = self.scanner.scan(bytes) {
            // Whatever it was lost in may never end: its deadline goes on.
            self.inbound.notes.refuse(self.scanner.heads().max(1), why);
        }
        if self.scanner.is_mid_head() && self.scanner.is_fresh_head() {
            watch.arm(Stage::Head, self.inbound.worker.settings().timeouts.header);
        } else if self.scanner.heads() != heads {
            watch.disarm(Stage::Head);
        }
    }

    /// Whether a client that has closed its side may wait for an answer all the same: it has sent a
    /// whole request, which is being answered. Who waits at a gate is taken to have left.
    fn is_owed_an_answer(&self) -> bool {
        let watch = &self.inbound.watch;
        let answering = watch.is_serving() || watch.is_armed(Stage::Write);
        let answering = answering || self.inbound.notes.is_before(self.scanner.heads());
        answering && self.scanner.is_between() && !watch.is_waiting()
    }

    /// hyper is told that the client has closed its side only when nothing is owed to it, or when
    /// nothing could be written for a while: it may have left.
    fn poll_end(&mut self) -> Poll<io::Result<()>> {
        let watch = &self.inbound.watch;
        if !self.is_owed_an_answer() || watch.has_fired(Stage::Half) {
            return Poll::Ready(Ok(()));
        }
        if !self.ended {
            self.ended = true;
            watch.arm(Stage::Half, self.inbound.worker.settings().timeouts.linger);
        }
        // The sweep, the answer or its writing wakes the task.
        Poll::Pending
    }

    /// After our side is closed: read what the client still sends, so that it can read the answer
    /// before the kernel resets the connection. Capped in bytes and time.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let settings = self.inbound.worker.settings();
        let (limit, most) = (settings.timeouts.linger, settings.limits.linger_bytes);
        let watch = self.inbound.watch.clone();
        if !self.closing {
            self.closing = true;
            watch.arm(Stage::Head, limit);
        }
        BUFFER.with_borrow_mut(|buffer| {
            loop {
                if watch.has_fired(Stage::Head) || self.lingered > most {
                    return Poll::Ready(Ok(()));
                }
                let mut read = ReadBuf::new(buffer);
                ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
                if read.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
                self.lingered += read.filled().len() as u64;
            }
        })
    }

    /// While a request waits its body is not read, so nobody would see that the client has left.
    fn look_for_the_end(&self, cx: &mut Context<'_>) {
        let ready = pin!(self.stream.ready(Interest::READABLE));
        if let Poll::Ready(Ok(ready)) = ready.poll(cx)
            && ready.is_read_closed()
        {
            self.inbound.watch.note_left();
            cx.waker().wake_by_ref();
        }
    }

    fn noted<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let watch = &self.inbound.watch;
        // A client that takes nothing now makes the rest of the stay its own.
        if let Some((stay, spot)) = self.inbound.notes.left()
            && polled.is_ready()
        {
            let worker = &self.inbound.worker;
            let after = worker.now_ns().saturating_sub(stay.answered);
            worker.stayed(spot, stay.before + after);
        }
        if polled.is_pending() {
            if watch.has_fired(Stage::Write) {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
            }
            watch.keep(Stage::Write, self.inbound.worker.settings().timeouts.write);
        } else {
            watch.disarm(Stage::Write);
            if self.ended {
                watch.arm(Stage::Half, self.inbound.worker.settings().timeouts.linger);
            }
        }
        polled
    }
}

impl Read for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ended {
            return this.poll_end();
        }
        let watch = &this.inbound.watch;
        if watch.has_fired(Stage::Head) {
            if !(this.scanner.is_between() && watch.is_armed(Stage::Write)) {
                return Poll::Ready(Err(this.too_slow()));
            }
            // The client is not idle: it still takes its answer.
            watch.arm(Stage::Head, this.inbound.worker.settings().timeouts.idle);
        }
        BUFFER.with_borrow_mut(|buffer| {
            let most = buf.remaining().min(buffer.len());
            let mut read = ReadBuf::new(&mut buffer[..most]);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return this.poll_end();
            }
            let notes = &this.inbound.notes;
            notes.begun.store(true, Ordering::Relaxed);
            notes.read.store(this.inbound.worker.now_ns(), Ordering::Relaxed);
            this.look(read.filled());
            buf.put_slice(read.filled());
            Poll::Ready(Ok(()))
        })
    }
}

impl Write for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noted(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.inbound.watch.is_waiting() {
            self.look_for_the_end(cx);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        if self.scanner.is_between() {
            return Poll::Ready(Ok(()));
        }
        self.poll_linger(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.noted(polled)
    }
}
