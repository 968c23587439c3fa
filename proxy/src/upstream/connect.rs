//! One connection to an endpoint: made, driven by a task of its own, used by one request at a time.
//!
//! Invariant: the task ends when the connection does or when the handle is dropped, so a connection
//! that is on no list and in no request is closed, whatever its upload was waiting for.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::client::conn::http1;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::forward::Upload;
use crate::worker::since;

/// A connection with nothing or one request on it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: http1::SendRequest<Upload>,
    state: Arc<State>,
    task: AbortHandle,
    /// Whether a request was answered on it before.
    pub(crate) used: bool,
}

/// What the socket's side tells the request's side. Times are those of `worker::since(began)`.
#[derive(Debug)]
struct State {
    /// Reads that ended since the request was handed over.
    reads: AtomicU32,
    /// A write failed: nothing that was "written" since has arrived.
    broken: AtomicBool,
    /// From when times count.
    began: Instant,
    /// When the first bytes of the request were written; 0: not yet.
    sent: AtomicU64,
    /// When the last read ended; stands still once the head of the answer is there.
    read: AtomicU64,
    /// The head of the answer is still awaited.
    awaits: AtomicBool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    pub(crate) fn is_ready(&self) -> bool {
        self.sender.is_ready() && !self.is_closed()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.state.broken.load(Ordering::Relaxed)
    }

    /// Begins to watch for the first byte of an answer.
    pub(crate) fn begin(&self) -> FirstByte {
        self.state.reads.store(0, Ordering::Relaxed);
        self.state.sent.store(0, Ordering::Relaxed);
        self.state.read.store(0, Ordering::Relaxed);
        self.state.awaits.store(true, Ordering::Relaxed);
        FirstByte(self.state.clone())
    }
}

/// Tells whether a connection that broke had begun to answer, and when one that did not was asked
/// and answered.
#[derive(Debug)]
pub(crate) struct FirstByte(Arc<State>);

impl FirstByte {
    /// The head of the answer is there: when the request was written, and when the read ended that
    /// brought the end of the head; 0 where it was not seen.
    pub(crate) fn answered(&self) -> (u64, u64) {
        self.0.awaits.store(false, Ordering::Relaxed);
        (self.0.sent.load(Ordering::Relaxed), self.0.read.load(Ordering::Relaxed))
    }

    /// One read ended at most: that was the end or the error, so no byte came.
    pub(crate) fn came(&self) -> bool {
        self.0.reads.load(Ordering::Relaxed) > 1
    }
}

/// Connects within the deadline; `began` is the worker's beginning, by which times are noted.
///
/// # Errors
/// What the kernel says, or `TimedOut`.
pub(crate) async fn connect(
    address: SocketAddr,
    deadline: Duration,
    header_bytes: usize,
    began: Instant,
) -> io::Result<Connection> {
    let stream = tokio::time::timeout(deadline, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    let state = Arc::new(State {
        reads: AtomicU32::new(0),
        broken: AtomicBool::new(false),
        began,
        sent: AtomicU64::new(0),
        read: AtomicU64::new(0),
        awaits: AtomicBool::new(false),
    });
    let io = UpstreamIo { inner: TokioIo::new(stream), state: state.clone() };
    let (sender, connection) = http1::Builder::new()
        .max_header_size(header_bytes)
        .max_buf_size(header_bytes.max(8_192) + 8_192)
        .handshake(io)
        .await
        .map_err(io::Error::other)?;
    // The task ends with the handle.
    let task = tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::trace!(%address, %error, "upstream connection ended");
        }
    });
    Ok(Connection { sender, state, task: task.abort_handle(), used: false })
}

/// The socket, with notes for the request's side.
///
/// A server that answers early and closes makes our writes fail while its answer waits to be read;
/// hyper would give up on the first failed write. So a failed write is swallowed: the read that
/// follows finds the answer, or the error.
#[derive(Debug)]
pub(crate) struct UpstreamIo {
    pub(crate) inner: TokioIo<TcpStream>,
    state: Arc<State>,
}

impl UpstreamIo {
    fn swallow(&self, polled: Poll<io::Result<usize>>, offered: usize) -> Poll<io::Result<usize>> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        match polled {
            Poll::Ready(Err(error)) if matches!(error.kind(), BrokenPipe | ConnectionReset) => {
                self.state.broken.store(true, Ordering::Relaxed);
                Poll::Ready(Ok(offered))
            }
            polled => {
                if polled.is_ready() && self.state.sent.load(Ordering::Relaxed) == 0 {
                    self.state.sent.store(since(self.state.began), Ordering::Relaxed);
                }
                polled
            }
        }
    }
}

impl Read for UpstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if polled.is_ready() {
            self.state.reads.fetch_add(1, Ordering::Relaxed);
            if self.state.awaits.load(Ordering::Relaxed) {
                self.state.read.store(since(self.state.began), Ordering::Relaxed);
            }
        }
        polled
    }
}

impl Write for UpstreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.swallow(polled, buf.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.swallow(polled, bufs.iter().map(|buf| buf.len()).sum())
    }
}
