//! A tunnel: bytes in both directions, with back-pressure, until a side closes or it is ended.
//!
//! A tunnel at rest holds no buffer. When its lease is ended it finishes the frame that is under
//! way, sends close 1001 both ways, and gives the client a moment to answer. Invariant: no byte is
//! put into the middle of a frame.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::frames::{CLOSE_TO_CLIENT, CLOSE_TO_UPSTREAM, COME_BACK, Frames};
use crate::worker::inbound::Inbound;
use crate::worker::watch::{Stage, Watch};

/// Read at once.
const SCRATCH: usize = 64 * 1024;
/// How long an ended tunnel waits for the rest of a frame and for the client's close.
const GOODBYE: Duration = Duration::from_secs(1);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// The two sockets of a tunnel.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) client: Side,
    pub(super) upstream: Side,
}

/// One socket, and what is on its way to it.
#[derive(Debug)]
pub(super) struct Side {
    stream: TcpStream,
    /// Read from the other side and not yet written to this one.
    waiting: Bytes,
    /// Frames on their way to this side.
    frames: Frames,
    /// Nothing more will be read for this side.
    last: bool,
    /// Our own close frame is in `waiting`.
    farewell: bool,
    shut: bool,
}

impl Side {
    /// `waiting` has been read from the other side already.
    pub(super) fn new(stream: TcpStream, waiting: Bytes) -> Self {
        let mut frames = Frames::default();
        frames.pass(&waiting);
        Self { stream, waiting, frames, last: false, farewell: false, shut: false }
    }

    /// Writes what waits; ready when nothing does.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes bytes that go to this side: writes what fits at once, keeps the rest.
    fn take(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                self.waiting = Bytes::copy_from_slice(bytes.get(written?..).unwrap_or_default());
            }
            Poll::Pending => self.waiting = Bytes::copy_from_slice(bytes),
        }
        Ok(())
    }

    fn say_farewell(&mut self, close: &'static [u8]) {
        self.farewell = true;
        self.last = true;
        self.waiting = Bytes::from_static(close);
    }
}

/// Carries bytes until the tunnel ends.
pub(super) async fn run(inbound: &Inbound, mut ends: Ends) {
    let watch = &*inbound.watch;
    let timeouts = &inbound.worker.settings().timeouts;
    watch.arm(Stage::Progress, timeouts.tunnel_idle);
    let mut ending = false;
    let ended = std::future::poll_fn(|cx| {
        watch.register(cx.waker());
        if watch.is_ended() && !ending {
            ending = true;
            watch.arm(Stage::Progress, GOODBYE);
        }
        if watch.has_fired(Stage::Progress) || watch.has_fired(Stage::Write) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let mut moved = false;
        let close = if watch.shall_come_back() { COME_BACK } else { CLOSE_TO_CLIENT };
        let down =
            carry(cx, &mut ends.upstream, &mut ends.client, ending.then_some(close), &mut moved)?;
        let up = carry(
            cx,
            &mut ends.client,
            &mut ends.upstream,
            ending.then_some(CLOSE_TO_UPSTREAM),
            &mut moved,
        )?;
        keep_deadlines(watch, timeouts, &ends, moved && !ending);
        if down.is_ready() && up.is_ready() {
            return if ending { discard(cx, &mut ends.client) } else { Poll::Ready(Ok(())) };
        }
        Poll::Pending
    })
    .await;
    watch.disarm(Stage::Progress);
    watch.disarm(Stage::Write);
    if let Err(error) = ended {
        tracing::trace!(peer = %inbound.peer, %error, "a tunnel ended");
    }
}

fn keep_deadlines(watch: &Watch, timeouts: &crate::Timeouts, ends: &Ends, moved: bool) {
    if moved {
        watch.arm(Stage::Progress, timeouts.tunnel_idle);
    }
    if ends.client.waiting.is_empty() && ends.upstream.waiting.is_empty() {
        watch.disarm(Stage::Write);
    } else if moved {
        watch.arm(Stage::Write, timeouts.write);
    } else {
        watch.keep(Stage::Write, timeouts.write);
    }
}

/// Carries bytes one way; ready when that way is closed. With `close`, ends it after the frame that
/// is under way.
fn carry(
    cx: &mut Context<'_>,
    from: &mut Side,
    to: &mut Side,
    close: Option<&'static [u8]>,
    moved: &mut bool,
) -> io::Result<Poll<()>> {
    loop {
        let waited = !to.waiting.is_empty();
        if to.poll_write(cx)?.is_pending() {
            return Ok(Poll::Pending);
        }
        *moved |= waited;
        if to.last {
            return shut(cx, to);
        }
        if let Some(close) = close
            && to.frames.is_between()
        {
            to.say_farewell(close);
            continue;
        }
        match read(cx, from, to, close.is_some())? {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(0) => to.last = true,
            Poll::Ready(_) => *moved = true,
        }
    }
}

/// Reads once from one side and hands it to the other; with `cut`, only to the end of the frame.
fn read(
    cx: &mut Context<'_>,
    from: &mut Side,
    to: &mut Side,
    cut: bool,
) -> io::Result<Poll<usize>> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut read = ReadBuf::new(buffer);
        if Pin::new(&mut from.stream).poll_read(cx, &mut read)?.is_pending() {
            return Ok(Poll::Pending);
        }
        let mut bytes = read.filled();
        let count = bytes.len();
        if cut {
            let end = to.frames.until_boundary(bytes);
            bytes = bytes.get(..end).unwrap_or_default();
        } else {
            to.frames.pass(bytes);
        }
        if count > 0 {
            to.take(cx, bytes)?;
        }
        Ok(Poll::Ready(count))
    })
}

/// Closes the writing half, unless a close frame has just been sent: its answer comes first.
fn shut(cx: &mut Context<'_>, side: &mut Side) -> io::Result<Poll<()>> {
    if !side.shut && !side.farewell {
        if Pin::new(&mut side.stream).poll_shutdown(cx)?.is_pending() {
            return Ok(Poll::Pending);
        }
        side.shut = true;
    }
    Ok(Poll::Ready(()))
}

/// Waits for the client to answer the close frame: reads until it closes.
fn discard(cx: &mut Context<'_>, client: &mut Side) -> Poll<io::Result<()>> {
    BUFFER.with_borrow_mut(|buffer| {
        loop {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(&mut client.stream).poll_read(cx, &mut read))?;
            let filled = read.filled();
            // The client's own close frame, or the end.
            if filled.is_empty() || filled.first().is_some_and(|byte| byte & 0x0F == 0x08) {
                return Poll::Ready(Ok(()));
            }
        }
    })
}
