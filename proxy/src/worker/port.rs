//! A public port that is carried by connection: bytes both ways to the stable color, no HTTP.
//!
//! A connection takes the stable color of the table that is there when it begins, waits at the gate
//! like a request, and holds a tunnel's lease until both sides are closed, so a drain knows it.
//! Invariant: it is one of the connections that the limit allows, and it never outlives its lease's
//! end, its idle time or the proxy.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use cutover_model::AppName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::lease::Lease;
use super::watch::{Stage, Watch};
use super::{BREATH, Place, Worker, transient};
use crate::forward::wait;
use crate::gate::Entry;
use crate::message::PortSpec;
use crate::upstream::{Load, Tried, Upstream};

/// Where the connections of a port go.
#[derive(Debug)]
pub(crate) struct To {
    pub(crate) app: AppName,
    pub(crate) port: PortSpec,
}

/// Accepts for as long as it is polled.
pub(super) async fn accept(worker: &Arc<Worker>, listener: &TcpListener, to: &Arc<To>) {
    let shared = &worker.shared;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                match Place::take(shared) {
                    Some(place) => {
                        // The task ends with its connection, or when its watch ends it.
                        tokio::spawn(serve(worker.clone(), stream, peer, to.clone(), place));
                    }
                    None => drop(shared.refused.fetch_add(1, Ordering::Relaxed)),
                }
            }
            Err(error) if transient(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// A connection's part of what is bounded; given back when it ends, whichever way.
struct Seat {
    worker: Arc<Worker>,
    watch: Arc<Watch>,
    _place: Place,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker.watches.remove(&self.watch);
    }
}

async fn serve(
    worker: Arc<Worker>,
    client: TcpStream,
    peer: SocketAddr,
    to: Arc<To>,
    place: Place,
) {
    let watch = worker.watches.add();
    let seat = Seat { worker: worker.clone(), watch: watch.clone(), _place: place };
    watch.become_stream();
    if let Some((lease, upstream)) = enter(&worker, &watch, peer, &to).await {
        watch.hold(lease.id());
        watch.become_stream();
        if let Some((load, server)) = connect(&worker, &lease, &upstream).await {
            carry(&worker, &watch, client, server).await;
            drop(load);
        }
    }
    drop(seat);
}

/// The lease of a new connection, after its wait at the gate; `None`: it is not let in.
async fn enter(
    worker: &Arc<Worker>,
    watch: &Watch,
    peer: SocketAddr,
    to: &To,
) -> Option<(Lease, Arc<Upstream>)> {
    let mut turn = None;
    loop {
        let (mut lease, upstream) = take(worker, to)?;
        let gate = Arc::clone(&lease.app().gate);
        let entry = match gate.is_open() {
            true => Entry::Pass,
            false => gate.enter(peer.ip().to_canonical(), 0, turn, Instant::now()),
        };
        match entry {
            Entry::Pass => {
                lease.become_tunnel();
                return Some((lease, upstream));
            }
            Entry::Shut(_) | Entry::Full(_) => return None,
            Entry::Wait(waiting) => {
                drop(lease);
                turn = Some(wait(watch, waiting).await.ok()?);
            }
        }
    }
}

/// A lease of the stable color, by one table.
fn take(worker: &Arc<Worker>, to: &To) -> Option<(Lease, Arc<Upstream>)> {
    loop {
        let local = worker.current();
        let at = local.table.apps.iter().position(|app| app.spec.app == to.app)?;
        let app = local.table.apps.get(at)?;
        let port = app.spec.ports.iter().position(|port| *port == to.port)?;
        let color = app.spec.split.stable;
        let upstream = app.ports.get(port)?.get(color).clone();
        // The table may have been replaced since: then everything is looked at anew.
        if let Some(lease) = Lease::take(worker, &local, (at, 0), color) {
            return Some((lease, upstream));
        }
    }
}

/// A connection to one of the color's endpoints.
async fn connect(worker: &Worker, lease: &Lease, upstream: &Upstream) -> Option<(Load, TcpStream)> {
    let deadline = lease.app().spec.deadlines.connect;
    let mut tried = Tried::default();
    while let Some(endpoint) = upstream.pick(worker.index, worker.now_ms(), &tried) {
        let load = Load::new(endpoint.clone(), worker.index);
        let made = tokio::time::timeout(deadline, TcpStream::connect(endpoint.address)).await;
        match made.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                endpoint.reached(worker.index);
                return Some((load, stream));
            }
            Err(error) => {
                tracing::debug!(address = %endpoint.address, %error, "a port leads nowhere");
                endpoint.failed(worker.index, worker.now_ms());
                tried.add(upstream, endpoint);
            }
        }
    }
    None
}

/// Carries bytes until both sides have closed, or the connection is ended.
async fn carry(worker: &Worker, watch: &Arc<Watch>, client: TcpStream, server: TcpStream) {
    for stream in [&client, &server] {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::trace!(%error, "no TCP_NODELAY");
        }
    }
    let limit = worker.settings().timeouts.tunnel_idle;
    let side = |stream| Side { stream, watch: watch.clone(), limit };
    let (mut client, mut server) = (side(client), side(server));
    watch.arm(Stage::Progress, limit);
    let ended = {
        let mut copy = pin!(tokio::io::copy_bidirectional(&mut client, &mut server));
        std::future::poll_fn(|cx| {
            watch.register(cx.waker());
            if watch.is_ended() || watch.has_fired(Stage::Progress) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            copy.as_mut().poll(cx).map_ok(|_| ())
        })
        .await
    };
    watch.disarm(Stage::Progress);
    if let Err(error) = ended {
        tracing::trace!(%error, "a carried connection ended");
    }
}

/// One side of a carried connection; every byte that comes from it puts the idle deadline off.
struct Side {
    stream: TcpStream,
    watch: Arc<Watch>,
    limit: std::time::Duration,
}

impl AsyncRead for Side {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.watch.arm(Stage::Progress, self.limit);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Side {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
