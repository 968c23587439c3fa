//! Data plane of Cutover: listeners, the routing table and its switch, the request path, pools.
//!
//! It has never heard of Docker, PostgreSQL or git; the control plane drives it by the serialisable
//! messages of [`message`]. A request is read, routed by one immutable table, asked of one color
//! and answered in `forward`; everything else serves that. Invariant: no failure of the control
//! plane stops it, since nothing here waits for the control plane.

mod client;
mod error;
mod forward;
mod gate;
pub mod message;
mod settings;
mod signals;
mod switch;
mod table;
mod upstream;
mod worker;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use cutover_model::{AppName, Color};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub use client::{PREVIEW_PARAMETER, preview_token};
pub use error::StartError;
pub use settings::{Cidr, CidrError, Connections, Limits, ProxySettings, SigningKey, Timeouts};
pub use signals::{AccessRecord, Counts, Cursor};
pub use switch::{InFlight, Switch};

use client::Keys;
use error::pages::Pages;
use message::{
    AppDrained, Drain, DrainApp, Drained, Gate, GateChange, Gated, Outcomes, OwnPages, PortSpec,
    Streams,
};
use switch::Board;
use worker::port::To;
use worker::{Held, Order, Serves, Shared, Worker, listener};

/// Orders that one worker has not yet looked at; there is one for each color address of each app.
const ORDERS: usize = 256;

/// The running data plane. Dropping it stops everything at once; [`Proxy::shutdown`] is polite.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    workers: Vec<Arc<Worker>>,
    orders: Vec<mpsc::Sender<Order>>,
    threads: Vec<JoinHandle<()>>,
    /// `[worker][address]`: duplicates, to be handed to a successor. Empty once it stops.
    listeners: Mutex<Vec<Vec<TcpListener>>>,
}

impl Proxy {
    /// Binds every address, starts the workers, and serves.
    ///
    /// `inherited` are listening sockets from a predecessor; each is used for the address that it
    /// is bound to, in their order by worker index. Addresses without one are bound anew.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then. A taken port is named with its owner where possible.
    pub fn start(mut settings: ProxySettings, inherited: Vec<OwnedFd>) -> Result<Self, StartError> {
        let allowed = worker::descriptors::cap(settings.limits.connections);
        settings.limits.connections = Connections::UpTo(allowed.connections);
        settings.limits.idle = settings.limits.idle.min(allowed.idle);
        let count = settings.workers.get();
        let board = Arc::new(Board::new(count, settings.first_generation, &settings.tables)?);
        for gate in &settings.gates {
            board.registry.gates.change(gate)?;
        }
        let sets = listener::listen(&settings.listen, inherited, count)?;
        let mut listeners = Vec::new();
        for set in &sets {
            let copies: Result<Vec<_>, _> = set.iter().map(TcpListener::try_clone).collect();
            listeners.push(copies.map_err(StartError::Runtime)?);
        }
        let shared = Arc::new(Shared {
            keys: Keys::new(settings.cookie_key.expose(), settings.via.as_deref()),
            pages: ArcSwap::from_pointee(Pages::from(&settings.pages)),
            settings,
            board,
            connections: AtomicUsize::new(0),
            accepting: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            access_lost: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            farewells: Arc::new(Semaphore::new(worker::FAREWELLS)),
            stop: CancellationToken::new(),
            end: CancellationToken::new(),
        });
        let mut proxy = Self {
            workers: (0..count).map(|i| Arc::new(Worker::new(i, shared.clone()))).collect(),
            shared,
            orders: Vec::new(),
            threads: Vec::new(),
            listeners: Mutex::new(listeners),
        };
        for (worker, set) in proxy.workers.clone().into_iter().zip(sets) {
            let (sender, receiver) = mpsc::channel(ORDERS);
            let thread = std::thread::Builder::new()
                .name(format!("cutover-w{}", worker.index))
                .spawn(move || worker::run(&worker, set, receiver))
                .map_err(StartError::Runtime)?;
            proxy.orders.push(sender);
            proxy.threads.push(thread);
        }
        Ok(proxy)
    }

    /// The handle that publishes.
    #[must_use]
    pub fn switch(&self) -> Switch {
        Switch::new(self.shared.board.clone())
    }

    /// Replaces the operator's own pages: answers that begin from now on have these.
    pub fn set_pages(&self, pages: &OwnPages) {
        self.shared.pages.store(Arc::new(Pages::from(pages)));
    }

    /// The addresses that are listened on, in the order of the settings.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let first = listeners.first().map(Vec::as_slice).unwrap_or_default();
        first.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Duplicates of every listening socket with the index of its worker, to hand to a successor
    /// or to a store of file descriptors.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn listeners(&self) -> std::io::Result<Vec<(usize, OwnedFd)>> {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let sets = listeners.iter().enumerate();
        sets.flat_map(|(worker, set)| set.iter().map(move |listener| (worker, listener)))
            .map(|(worker, listener)| Ok((worker, listener.try_clone()?.into())))
            .collect()
    }

    /// Adds an address that leads to one color of one app, whatever the split says. Returns the
    /// address, whose port may have been chosen by the kernel. It ends with `stop` or with the
    /// proxy.
    ///
    /// # Errors
    /// [`StartError::Listen`] when the address is taken.
    pub fn add_color_listener(
        &self,
        app: AppName,
        color: Color,
        address: SocketAddr,
        stop: CancellationToken,
    ) -> Result<SocketAddr, StartError> {
        let listener = listener::exclusive(address)?;
        let bound = listener.local_addr().map_err(StartError::Runtime)?;
        let order =
            Order::Listen(Held { listener, serves: Serves::Color(Arc::new((app, color))), stop });
        let full = || std::io::Error::other("the worker does not take orders");
        let sender = self.orders.first().ok_or_else(full).map_err(StartError::Runtime)?;
        sender.try_send(order).map_err(|_| StartError::Runtime(full()))?;
        Ok(bound)
    }

    /// Adds a public port whose connections are carried to a service of the app's stable color; the
    /// app's table names the service in [`message::AppSpec::ports`]. Returns the address, whose
    /// port may have been chosen by the kernel. It ends with `stop` or when the proxy stops.
    ///
    /// # Errors
    /// [`StartError::Listen`] when the address is taken, with its owner where that can be known.
    pub fn add_port(
        &self,
        app: AppName,
        port: PortSpec,
        address: SocketAddr,
        stop: CancellationToken,
    ) -> Result<SocketAddr, StartError> {
        let listener = listener::exclusive(address)?;
        let bound = listener.local_addr().map_err(StartError::Runtime)?;
        let order = Order::Listen(Held {
            listener,
            serves: Serves::Port(Arc::new(To { app, port })),
            stop,
        });
        let full = || std::io::Error::other("the worker does not take orders");
        // One worker for each port: they are spread by their numbers.
        let at = usize::from(bound.port()) % self.orders.len().max(1);
        let sender = self.orders.get(at).ok_or_else(full).map_err(StartError::Runtime)?;
        sender.try_send(order).map_err(|_| StartError::Runtime(full()))?;
        Ok(bound)
    }

    /// Waits until a color has finished what it has now; see [`Drain`]. Must be awaited inside a
    /// tokio runtime; other work goes on meanwhile.
    pub async fn drain(&self, drain: Drain) -> Drained {
        let end = |leases: &[u64]| self.workers.iter().for_each(|w| w.watches.end(leases));
        switch::drain(&self.shared.board, drain, end).await
    }

    /// Changes the gate of an app; in force when this returns. A request that was let in before is
    /// found by [`Proxy::drain_app`].
    ///
    /// # Errors
    /// [`message::Refused`]: another hold lasts, or the hold has ended; nothing was changed.
    pub fn gate(&self, gate: &Gate) -> Result<Gated, message::Refused> {
        let board = &self.shared.board;
        let gated = board.registry.gates.change(gate)?;
        let streams = match &gate.change {
            GateChange::Hold(hold) => hold.streams,
            GateChange::Close(closed) => closed.streams,
            _ => Streams::Stay,
        };
        if streams == Streams::Reconnect {
            self.reconnect(&board.leases(&gate.app));
        }
        Ok(gated)
    }

    /// How the gate of an app stands.
    #[must_use]
    pub fn gated(&self, app: &AppName) -> Gated {
        self.shared.board.registry.gates.of(app).gated(std::time::Instant::now())
    }

    /// Waits until everything that an app has now is answered; see [`DrainApp`]. Must be awaited
    /// inside a tokio runtime.
    pub async fn drain_app(&self, drain: DrainApp) -> AppDrained {
        switch::drain_app(&self.shared.board, drain, |leases| self.reconnect(leases)).await
    }

    fn reconnect(&self, leases: &[u64]) {
        self.workers.iter().for_each(|worker| worker.watches.reconnect(leases));
    }

    /// What happened since the cursor was last here.
    #[must_use]
    pub fn outcomes(&self, cursor: &mut Cursor) -> Outcomes {
        let mut outcomes = Outcomes::default();
        cursor.next.resize(self.workers.len(), 0);
        for (worker, next) in self.workers.iter().zip(&mut cursor.next) {
            outcomes.lost += worker.ring.read(next, &mut outcomes.failures);
        }
        outcomes.failures.sort_by_key(|failure| failure.at_ms);
        self.shared.board.registry.each_series(|series| series.rows(&mut outcomes.counts));
        outcomes
    }

    /// The state of the data plane in numbers.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            connections: self.shared.connections.load(Ordering::Relaxed) as u64,
            accepted: self.shared.accepted.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
            unrouted: self.workers.iter().map(|w| w.unrouted.load(Ordering::Relaxed)).sum(),
            access_lost: self.shared.access_lost.load(Ordering::Relaxed),
            worker_restarts: self.shared.restarts.load(Ordering::Relaxed),
            outcomes: Vec::new(),
            added: Vec::new(),
        };
        self.shared.board.registry.each_series(|series| {
            series.rows(&mut counts.outcomes);
            counts.added.extend(series.added());
        });
        counts
    }

    /// How far each worker has come, in milliseconds since its start, kept by the worker itself
    /// several times a second: a number that stands still is a worker that hangs.
    #[must_use]
    pub fn pulse(&self) -> Vec<u64> {
        self.workers.iter().map(|worker| worker.now_ms()).collect()
    }

    /// Asks every client that came in by one of these ports to come back on a new connection: its
    /// next answer says `Connection: close`. How many such connections are open; asked again it
    /// says how many are left. Tunnels are counted and go on.
    pub fn part_with(&self, ports: &[u16]) -> usize {
        self.workers.iter().map(|worker| worker.watches.part_with(ports)).sum()
    }

    /// Ends the connections of these ports: idle ones at once, others after their answer.
    pub fn stop_on(&self, ports: &[u16]) {
        self.workers.iter().for_each(|worker| worker.watches.stop_on(ports));
    }

    /// Stops accepting, lets what runs finish until the deadline, ends the rest: tunnels by a close
    /// frame, requests by closing. Returns how many connections had to be ended.
    pub async fn shutdown(&self, deadline: Duration) -> u64 {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.shared.stop.cancel();
        let left = self.wait_for_connections(deadline).await;
        if left > 0 {
            self.workers.iter().for_each(|worker| worker.watches.end_all());
            self.wait_for_connections(Duration::from_secs(2)).await;
        }
        left
    }

    async fn wait_for_connections(&self, deadline: Duration) -> u64 {
        let until = tokio::time::Instant::now() + deadline;
        loop {
            // In this order: what was accepted last is a connection before its task has ended.
            let accepting = self.shared.accepting.load(Ordering::Acquire);
            let left = self.shared.connections.load(Ordering::Acquire);
            let now = tokio::time::Instant::now();
            if (accepting == 0 && left == 0) || now >= until {
                return left as u64;
            }
            tokio::time::sleep_until((now + Duration::from_millis(5)).min(until)).await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.end.cancel();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
    }
}
