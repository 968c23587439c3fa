//! One connection to an endpoint: made, driven by a task of its own, used by one request at a time.
//!
//! Invariant: the task ends when the connection does or when its last handle is dropped, so a
//! connection that is on no list and in no request is closed.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http1;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::forward::Upload;

/// A connection with nothing or one request on it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: http1::SendRequest<Upload>,
    reads: Arc<AtomicU32>,
    /// Whether a request was answered on it before.
    pub(crate) used: bool,
}

impl Connection {
    pub(crate) fn is_ready(&self) -> bool {
        self.sender.is_ready() && !self.sender.is_closed()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Begins to watch for the first byte of an answer.
    pub(crate) fn begin(&self) -> FirstByte {
        self.reads.store(0, Ordering::Relaxed);
        FirstByte(self.reads.clone())
    }
}

/// Tells whether a connection that broke had begun to answer.
#[derive(Debug)]
pub(crate) struct FirstByte(Arc<AtomicU32>);

impl FirstByte {
    /// One read ended at most: that was the end or the error, so no byte came.
    pub(crate) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

/// Connects within the deadline.
///
/// # Errors
/// What the kernel says, or `TimedOut`.
pub(crate) async fn connect(
    address: SocketAddr,
    deadline: Duration,
    header_bytes: usize,
) -> io::Result<Connection> {
    let stream = tokio::time::timeout(deadline, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    let reads = Arc::new(AtomicU32::new(0));
    let io = UpstreamIo { inner: TokioIo::new(stream), reads: reads.clone() };
    let (sender, connection) = http1::Builder::new()
        .max_header_size(header_bytes)
        .max_buf_size(header_bytes.max(8_192) + 8_192)
        .handshake(io)
        .await
        .map_err(io::Error::other)?;
    // The task belongs to `sender`: hyper ends it when the handle is gone and nothing is in flight.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::trace!(%address, %error, "upstream connection ended");
        }
    });
    Ok(Connection { sender, reads, used: false })
}

/// The socket, with a count of reads that ended.
#[derive(Debug)]
pub(crate) struct UpstreamIo {
    pub(crate) inner: TokioIo<TcpStream>,
    reads: Arc<AtomicU32>,
}

impl Read for UpstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if polled.is_ready() {
            self.reads.fetch_add(1, Ordering::Relaxed);
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
        Pin::new(&mut self.inner).poll_write(cx, buf)
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
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
}
