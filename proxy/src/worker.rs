//! A worker: one thread, one current-thread runtime, its own listeners, pools and counters.
//!
//! Workers share nothing on the request path but one atomic load of the table. A connection lives
//! and dies on the worker that accepted it. A worker that panics loses its connections, keeps its
//! sockets and begins again. Invariant: a worker ends only by `Shared::stop`, and not before its
//! connections have ended or were ended.

pub(crate) mod descriptors;
pub(crate) mod framing;
pub(crate) mod inbound;
pub(crate) mod lease;
pub(crate) mod listener;
pub(crate) mod port;
pub(crate) mod watch;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use cutover_model::{AppName, Color};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::client::Keys;
use crate::error::pages::Pages;
use crate::message::Outcome;
use crate::settings::ProxySettings;
use crate::signals::{AccessRecord, Ring};
use crate::switch::Board;
use crate::table::Table;
use crate::upstream::IdleRoom;
use lease::Spot;
use watch::{TICK, Watches};

/// Ticks between two sweeps of idle upstream connections.
const POOL_TICKS: u32 = 10;
/// Between two looks at gates that let requests go.
const PACE: Duration = Duration::from_millis(5);
/// The worker that looks after the gates: ends leases, lets requests go.
const KEEPER: usize = 0;
/// How long accepting rests when the process is out of file descriptors.
const BREATH: Duration = Duration::from_millis(50);
/// How long a refused client may take to read why.
const FAREWELL: Duration = Duration::from_millis(500);
/// Refused clients that are waited for at one time; more are cut off at once.
pub(crate) const FAREWELLS: usize = 128;
/// What a client over the limit is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\n\
    connection: close\r\n\r\n";

/// What all workers see; counters here are touched once for each connection, not for each request.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: ProxySettings,
    pub(crate) keys: Keys,
    /// The operator's pages; looked at only when the proxy answers itself.
    pub(crate) pages: ArcSwap<Pages>,
    pub(crate) board: Arc<Board>,
    pub(crate) connections: AtomicUsize,
    /// Tasks that may still accept a connection: what one of them has taken from its socket is
    /// counted before it ends.
    pub(crate) accepting: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) access_lost: AtomicU64,
    /// Workers that fell and began again.
    pub(crate) restarts: AtomicU64,
    /// Refused clients that are being told why.
    pub(crate) farewells: Arc<Semaphore>,
    /// Listeners close and connections end after what they do.
    pub(crate) stop: CancellationToken,
    /// Runtimes end now.
    pub(crate) end: CancellationToken,
}

/// One worker, as its connections see it.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) watches: Watches,
    pub(crate) ring: Ring,
    pub(crate) unrouted: AtomicU64,
    /// This worker's share of the idle connections that there may be.
    pub(crate) idle: Arc<IdleRoom>,
    started: Instant,
    /// The table as this worker holds it: requests count references to the worker's own copy of the
    /// handle, so that no reference count is shared between workers.
    local: Mutex<Arc<Local>>,
}

/// One worker's handle of a table.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) table: Arc<Table>,
}

/// A socket of one worker. It is kept beside the task that accepts on it, so that connections wait
/// in it while a worker that fell begins again.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) listener: StdListener,
    pub(crate) serves: Serves,
    pub(crate) stop: CancellationToken,
}

/// What a socket is for.
#[derive(Debug, Clone)]
pub(crate) enum Serves {
    /// Requests, routed by the table.
    Routes,
    /// Requests that all go to one color of one app.
    Color(Arc<(AppName, Color)>),
    /// Connections that are carried to a service.
    Port(Arc<port::To>),
}

/// Sent to a running worker.
#[derive(Debug)]
pub(crate) enum Order {
    /// Accept on one more listener.
    Listen(Held),
    /// Panic, as a mistake in the worker's own loop would.
    #[cfg(test)]
    Fall,
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>) -> Self {
        let table = shared.board.table.load_full();
        let idle = shared.settings.limits.idle / shared.settings.workers;
        Self {
            index,
            idle: Arc::new(IdleRoom::new(idle.max(1))),
            shared,
            watches: Watches::new(),
            ring: Ring::default(),
            unrouted: AtomicU64::new(0),
            started: Instant::now(),
            local: Mutex::new(Arc::new(Local { table })),
        }
    }

    pub(crate) fn settings(&self) -> &ProxySettings {
        &self.shared.settings
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.watches.clock.now_ms()
    }

    /// Nanoseconds since this worker began, never 0: what a request's own time is measured by.
    pub(crate) fn now_ns(&self) -> u64 {
        since(self.started)
    }

    /// The moment from which [`Self::now_ns`] counts.
    pub(crate) fn began(&self) -> Instant {
        self.started
    }

    /// The table that serves now.
    pub(crate) fn current(&self) -> Arc<Local> {
        let now = self.shared.board.table.load();
        let mut mine = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&mine.table, &now) {
            *mine = Arc::new(Local { table: Arc::clone(&now) });
        }
        mine.clone()
    }

    /// Counts how long a request was with us. A table that was replaced since is looked for no
    /// further: the sample is lost.
    pub(crate) fn stayed(&self, spot: Spot, ns: u64) {
        let table = self.shared.board.table.load();
        if table.generation == spot.generation
            && let Some(app) = table.apps.get(spot.place)
        {
            app.color(spot.color).series.stayed(self.index, ns);
        }
    }

    pub(crate) fn record(&self, outcome: Outcome) {
        self.ring.push(outcome);
    }

    /// Hands a record to the access log, or counts that it was lost.
    pub(crate) fn log(&self, record: impl FnOnce() -> AccessRecord) {
        if let Some(log) = &self.shared.settings.access_log
            && log.try_send(record()).is_err()
        {
            self.shared.access_lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Nanoseconds since a moment, never 0.
pub(crate) fn since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// Runs a worker until it is told to end.
pub(crate) fn run(
    worker: &Arc<Worker>,
    listeners: Vec<StdListener>,
    mut orders: mpsc::Receiver<Order>,
) {
    let shared = &worker.shared;
    let hold = |listener| Held { listener, serves: Serves::Routes, stop: shared.stop.clone() };
    let mut held: Vec<Held> = listeners.into_iter().map(hold).collect();
    loop {
        // The worker's state is made for it: its locks are taken over poisoned, its counts go up
        // and down with what is dropped, and everything else is made anew.
        let once = AssertUnwindSafe(|| run_once(worker, &mut held, &mut orders));
        match std::panic::catch_unwind(once) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::error!(%error, worker = worker.index, "a worker has no runtime");
            }
            Err(_) => tracing::error!(worker = worker.index, "a worker panicked"),
        }
        if shared.end.is_cancelled() {
            return;
        }
        shared.restarts.fetch_add(1, Ordering::Relaxed);
        // One that falls again at once must not take the core of the others.
        std::thread::sleep(BREATH);
    }
}

fn run_once(
    worker: &Arc<Worker>,
    held: &mut Vec<Held>,
    orders: &mut mpsc::Receiver<Order>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(worker, held, orders));
    // Tasks that are left were ended by `serve`; dropping the runtime drops them.
    Ok(())
}

async fn serve(worker: &Arc<Worker>, held: &mut Vec<Held>, orders: &mut mpsc::Receiver<Order>) {
    let shared = worker.shared.clone();
    held.iter().for_each(|held| listen(worker, held));
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0u32;
    let mut stopping = false;
    let (gates, is_keeper) = (&shared.board.registry.gates, worker.index == KEEPER);
    let mut is_letting_go = false;
    loop {
        tokio::select! {
            biased;
            () = shared.end.cancelled() => return,
            () = shared.stop.cancelled(), if !stopping => {
                stopping = true;
                held.clear();
                worker.watches.stop();
            }
            Some(order) = orders.recv() => match order {
                Order::Listen(more) => {
                    listen(worker, &more);
                    held.push(more);
                }
                #[cfg(test)]
                Order::Fall => panic!("the worker falls, as a test wants it"),
            },
            () = gates.changed.notified(), if is_keeper => is_letting_go = gates.advance(),
            () = tokio::time::sleep(PACE), if is_letting_go => is_letting_go = gates.advance(),
            _ = ticks.tick() => {
                is_letting_go = is_keeper && gates.advance();
                worker.watches.sweep(worker.started.elapsed());
                held.retain(|held| !held.stop.is_cancelled());
                count = count.wrapping_add(1);
                if count.is_multiple_of(POOL_TICKS) {
                    sweep_pools(worker);
                }
                if stopping {
                    // A connection that was being accepted when the stop came.
                    worker.watches.stop();
                }
            }
        }
    }
}

/// Closes upstream connections that were idle for too long.
fn sweep_pools(worker: &Worker) {
    let local = worker.current();
    let keep = worker.settings().timeouts.upstream_idle;
    for app in &local.table.apps {
        for endpoint in app.endpoints() {
            endpoint.sweep(worker.index, worker.now_ms(), keep);
        }
    }
}

fn listen(worker: &Arc<Worker>, held: &Held) {
    match held.listener.try_clone().and_then(TcpListener::from_std) {
        Ok(listener) => {
            let (worker, serves, stop) = (worker.clone(), held.serves.clone(), held.stop.clone());
            let accepts = Accepting::new(&worker.shared);
            // The task ends with `stop`, when the proxy stops, or with the worker's runtime.
            tokio::spawn(async move {
                let _accepts = accepts;
                let accepting = async {
                    match serves {
                        Serves::Routes => accept(&worker, &listener, None).await,
                        Serves::Color(color) => accept(&worker, &listener, Some(color)).await,
                        Serves::Port(to) => port::accept(&worker, &listener, &to).await,
                    }
                };
                tokio::select! {
                    () = accepting => {}
                    () = stop.cancelled() => {}
                    () = worker.shared.stop.cancelled() => {}
                }
            });
        }
        Err(error) => tracing::error!(%error, "a listener is not usable"),
    }
}

async fn accept(
    worker: &Arc<Worker>,
    listener: &TcpListener,
    forced: Option<Arc<(AppName, Color)>>,
) {
    let bound = listener.local_addr().unwrap_or_else(|_| ([0, 0, 0, 0], 0).into());
    let shared = &worker.shared;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                // A led connection arrives at another listener than the port it asked for.
                let local = stream.local_addr().unwrap_or(bound);
                match Place::take(shared) {
                    Some(place) => welcome(worker, stream, (peer, local), forced.clone(), place),
                    None => refuse(shared, stream),
                }
            }
            Err(error) if transient(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: rest, instead of spinning on the same error.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

fn transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Says no and closes. A client that has sent its request already would see a reset instead of the
/// answer if its bytes were not read: a few of them are, for a moment.
fn refuse(shared: &Arc<Shared>, stream: TcpStream) {
    shared.refused.fetch_add(1, Ordering::Relaxed);
    if let Err(error) = stream.try_write(FULL) {
        tracing::trace!(%error, "a refused client was not told why");
        return;
    }
    let farewells = shared.farewells.clone();
    if let Ok(permit) = farewells.try_acquire_owned() {
        // The task ends after a moment at the latest.
        tokio::spawn(async move {
            if let Ok(Err(error)) = tokio::time::timeout(FAREWELL, drain(stream)).await {
                tracing::trace!(%error, "a refused client left");
            }
            drop(permit);
        });
    }
}

/// Closes our half and reads until the other side closes its own.
async fn drain(mut stream: TcpStream) -> io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.shutdown().await?;
    let mut bytes = [0; 1_024];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

fn welcome(
    worker: &Arc<Worker>,
    stream: TcpStream,
    (peer, local): (SocketAddr, SocketAddr),
    forced: Option<Arc<(AppName, Color)>>,
    place: Place,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::trace!(%error, %peer, "no TCP_NODELAY");
    }
    // The task ends with its connection; at the end of the proxy its watch stops or ends it.
    tokio::spawn(inbound::serve(worker.clone(), stream, peer, local, forced, place));
}

/// One of the connections that the limit allows.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
}

impl Place {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        let before = shared.connections.fetch_add(1, Ordering::AcqRel);
        let place = Self { shared: shared.clone() };
        // Dropping the place gives it back.
        (before < shared.settings.limits.connections.most()).then_some(place)
    }
}

/// A task that accepts connections, as long as it lives.
#[derive(Debug)]
struct Accepting(Arc<Shared>);

impl Accepting {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.accepting.fetch_add(1, Ordering::AcqRel);
        Self(shared.clone())
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.accepting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
