//! The daemon: `cutover serve`. Owns all state, starts the parts in their order, stops them in the
//! reverse one.
//!
//! The order is the guarantee: state folder, last good table and proxy first, so that traffic flows
//! before Docker or anything else is looked at; then the apps, then the admin socket. No failure
//! after the proxy runs ends it.

pub mod access_log;
mod doors;
pub mod inherit;
pub mod log;
pub mod opening;
pub mod pages;
pub mod ports;
pub mod reload;
pub mod settings;
pub mod signals;
pub mod socket;
pub mod tables;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use cutover_config::Config;
use cutover_model::{AppKind, AppName, ByColor, Color};
use cutover_proxy::{Proxy, SigningKey};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Desk;
use crate::api::analysis::{self, Figures};
use crate::api::peer::Users;
use crate::api::status::Troubles;
use crate::controller::{App, AppSettings, Controller, Prepared, Remembered, Shared, now};

pub use crate::controller::Resume;
use crate::journal::weights::{Entries, Weights, WeightsFile};
use crate::journal::{Journal, Options, disk, reserve};
use crate::reconciler::Reconciler;

use doors::Doors;
use reload::Reload;
use signals::Signals;

/// How long a call waits for the disk.
const DISK: Duration = Duration::from_secs(5);

/// How often the control plane shows that it runs.
const PULSE: Duration = Duration::from_secs(1);

/// How long the parts that are not traffic may take to end.
const GOODBYE: Duration = Duration::from_secs(5);

/// What `serve` is told beside the configuration.
#[derive(Debug, Default)]
pub struct ServeOptions {
    /// The configuration file, for messages.
    pub file: PathBuf,
    /// Give this color everything at the start: `rollback --offline`.
    pub start_on: Option<Color>,
    /// What becomes of operations that were cut off.
    pub resume: Resume,
    /// Listening sockets that were handed to this process; see [`inherit::take`].
    pub inherited: Vec<inherit::Inherited>,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    /// All apps.
    pub controller: Controller,
    /// The data plane.
    pub proxy: Arc<Proxy>,
    /// The addresses that it listens on.
    pub addresses: Vec<SocketAddr>,
    /// The admin socket.
    pub socket: PathBuf,
    own: Own,
}

/// What only the daemon itself uses.
#[derive(Debug)]
struct Own {
    /// Whether the socket is there by us.
    has_socket: Arc<AtomicBool>,
    troubles: Arc<Troubles>,
    stop: CancellationToken,
    tasks: TaskTracker,
    reload: Arc<Reload>,
}

/// None where no app is made from a compose file.
fn reconciler_for(prepared: &[Prepared]) -> Option<Reconciler> {
    let is_compose = prepared.iter().any(|app| app.settings().kind == AppKind::Compose);
    is_compose.then(Reconciler::default)
}

/// Compose runs in the file's folder: a relative path would be read from there once more.
fn folder_of(file: &Path) -> PathBuf {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    file.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

impl Daemon {
    /// Starts everything; when it returns, traffic flows, and the admin socket answers unless it
    /// cannot be made: that is tried again. State that is damaged, missing or newer keeps nothing
    /// from starting; see `docs/state.md`.
    ///
    /// # Errors
    /// What keeps it from starting: the state folder is another daemon's or not safe, a port is
    /// taken, …
    pub async fn start(config: Config, options: ServeOptions) -> anyhow::Result<Self> {
        let state = config.state.path.clone();
        disk::make_folder(&state)?;
        reserve::release_to_start(&state);
        let troubles = Arc::new(Troubles::default());
        let journal = journal(&state).await?;
        let (weights, entries) = weights(&state, &troubles);
        let remembered = tables::load(&state);
        let (cookie_key, key_lost) = cookie_key(&state, &troubles);
        let mut proxy_settings = settings::proxy(&config, cookie_key.clone());
        proxy_settings.first_generation = remembered.next_generation();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let log = config.proxy.access_log.clone();
        proxy_settings.access_log = access_log::start(log, &troubles, &tasks, &stop);
        proxy_settings.pages = pages::or_ours(&config);

        let known = |app: &AppName| Remembered {
            weight: entries.get(app).cloned(),
            endpoints: remembered.endpoints(app),
            said: remembered.said(app),
            start_on: options.start_on,
        };
        let prepared = prepare(&config, &options.file, &journal, known).await;
        let opening = opening::open(&prepared, &proxy_settings, options.inherited)?;
        proxy_settings.listen = opening.ports.listen;
        settings::first_tables(&mut proxy_settings, &prepared, &state);
        let proxy = Arc::new(Proxy::start(proxy_settings, opening.ports.sockets)?);
        opening::keep(&proxy, &opening.ports.surplus);
        let addresses = proxy.addresses();
        let shared = Arc::new(Shared {
            proxy: Arc::clone(&proxy),
            journal,
            weights,
            landing: opening.landing,
            tables_changed: tokio::sync::Notify::new(),
            state: state.clone(),
            resume: options.resume,
            key: cookie_key.clone(),
            key_lost,
            reconciler: reconciler_for(&prepared),
        });
        let start = |prepared: Prepared| {
            let addresses = color_addresses(&proxy, prepared.settings(), &stop);
            App::start(prepared, Arc::clone(&shared), addresses, &tasks, &stop)
        };
        let controller = Controller::new(prepared.into_iter().map(start));
        tasks.spawn(reserve::keep(state.clone(), stop.clone()));
        tasks.spawn(tables::keep(state, controller.clone(), Arc::clone(&shared), stop.clone()));
        let figures = Arc::new(Figures::default());
        tasks.spawn(sample(Arc::clone(&proxy), Arc::clone(&figures), stop.clone()));
        let desk = Desk {
            controller: controller.clone(),
            figures,
            started_at: now(),
            listen: addresses.clone(),
            cookie_key,
            door: socket::door(&config.admin.socket),
            troubles: Arc::clone(&troubles),
            users: Arc::new(Users::read("/etc/passwd")),
        };
        if controller.apps().all(|app| app.untrusted().is_none()) {
            // What an older Cutover saved is completed.
            shared.tables_changed.notify_one();
        }
        let doors = Doors { desk, tasks: tasks.clone(), stop: stop.clone() };
        let has_socket = doors.open(&config).await;
        let reload = Arc::new(Reload::new(&config, &options.file, Arc::clone(&proxy)));
        let socket = config.admin.socket;
        let own = Own { has_socket, troubles, stop, tasks, reload };
        Ok(Self { controller, proxy, addresses, socket, own })
    }

    /// A token that is cancelled when the daemon stops.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.own.stop.clone()
    }

    /// The tasks that the daemon waits for at its end.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.own.tasks
    }

    /// Tells the service manager that it is ready and waits for TERM or INT, then ends in order; a
    /// second one ends at once. HUP reads the file again; USR1 and USR2 do nothing.
    pub async fn run_until_signal(self, signals: Signals) {
        let Signals { mut end, others } = signals;
        self.own.tasks.spawn(others.follow(
            Arc::clone(&self.own.reload),
            self.controller.clone(),
            self.own.stop.clone(),
        ));
        self.watch();
        told(inherit::ready(&self.status()));
        end.recv().await;
        told(inherit::stopping(self.own.reload.drain() + GOODBYE));
        tokio::select! {
            () = self.shut_down() => {}
            () = end.recv() => {}
        }
    }

    /// One line for `systemctl status`.
    fn status(&self) -> String {
        let listen: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let serves =
            format!("serves {} apps on {}", self.controller.apps().count(), listen.join(", "));
        let untrusted = self.controller.apps().find_map(|app| app.untrusted());
        match untrusted.or_else(|| self.own.troubles.loud()) {
            Some(trouble) => format!("TROUBLE: {trouble}. It {serves}"),
            None => serves,
        }
    }

    /// The data plane is watched from outside, and the control plane counts up as long as it runs
    /// and can read the state of each app: a lock that is never let go stops it.
    fn watch(&self) {
        let control = Arc::new(AtomicU64::new(0));
        let proxy = Arc::clone(&self.proxy);
        let started =
            inherit::watchdog(self.own.stop.clone(), move || proxy.pulse(), Arc::clone(&control));
        told(started);
        let (controller, stop) = (self.controller.clone(), self.own.stop.clone());
        self.own.tasks.spawn(async move {
            let mut every = tokio::time::interval(PULSE);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = every.tick() => {}
                }
                controller.apps().for_each(|app| drop(app.state()));
                control.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// Stops accepting, lets open requests end, writes what waits.
    pub async fn shut_down(self) {
        let drained = self.proxy.shutdown(self.own.reload.drain()).await;
        tracing::info!(?drained, "the proxy has ended");
        self.own.stop.cancel();
        if self.own.has_socket.load(Ordering::Relaxed) {
            drop(std::fs::remove_file(&self.socket));
        }
        self.own.tasks.close();
        if tokio::time::timeout(GOODBYE, self.own.tasks.wait()).await.is_err() {
            tracing::warn!("some tasks did not end in {GOODBYE:?}");
        }
    }
}

/// The journal, closed where it cannot be used.
async fn journal(state: &Path) -> anyhow::Result<Arc<Journal>> {
    let options = Options { limit: DISK, ..Options::new(state, node_name(), now()) };
    let journal = Journal::open_or_closed(options).await;
    Ok(Arc::new(journal.context("the state folder cannot be used")?))
}

/// The weights file, or a closed one where it cannot be used: traffic does not wait for it.
fn weights(state: &Path, troubles: &Troubles) -> (Weights, Entries) {
    let opened = WeightsFile::open(state).and_then(|file| {
        let entries = file.entries().clone();
        Ok((Weights::start(file, DISK)?, entries))
    });
    opened.unwrap_or_else(|error| {
        let text = format!(
            "{error}. It is left as it is, and not written: the split is the journal's and the \
             last good table's, and a rollback on a full disk does not survive a restart"
        );
        troubles.alarm("the weights file", text);
        (Weights::closed(error), Entries::new())
    })
}

/// The key of client ids, or one for this run only where it is lost, and why.
fn cookie_key(state: &Path, troubles: &Troubles) -> (SigningKey, Option<String>) {
    match tables::cookie_key(state) {
        Ok(key) => (key, None),
        Err(error) => {
            let why = format!("{error:#}");
            let text = format!(
                "{why}. A key for this run only is used: clients of a rollout get new places, and \
                 the database is not restored"
            );
            troubles.alarm("the cookie key", text);
            (SigningKey::from(rand::random::<[u8; 32]>()), Some(why))
        }
    }
}

/// What each app of the file serves with, as its journal says or what else is remembered of it.
async fn prepare(
    config: &Config,
    file: &Path,
    journal: &Arc<Journal>,
    known: impl Fn(&AppName) -> Remembered,
) -> Vec<Prepared> {
    let mut prepared = Vec::new();
    for app in settings::apps(config, &folder_of(file)) {
        let known = known(&app.app);
        prepared.push(Prepared::read(app, journal, known).await);
    }
    prepared
}

/// The service manager's messages are a courtesy: traffic does not wait for them.
fn told(sent: std::io::Result<()>) {
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager was not told");
    }
}

fn color_addresses(
    proxy: &Proxy,
    settings: &AppSettings,
    stop: &CancellationToken,
) -> ByColor<Option<SocketAddr>> {
    let open = |color: Color| {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let opened = proxy.add_color_listener(settings.app.clone(), color, any, stop.clone());
        opened
            .inspect_err(|error| {
                tracing::error!(app = %settings.app, %color, %error, "no address for this color");
            })
            .ok()
    };
    ByColor { blue: open(Color::Blue), green: open(Color::Green) }
}

/// Reads the data plane's counters once a second.
async fn sample(proxy: Arc<Proxy>, figures: Arc<Figures>, stop: CancellationToken) {
    let mut every = tokio::time::interval(analysis::EVERY);
    loop {
        tokio::select! {
            tick = every.tick() => figures.sample(tick.into_std(), &proxy.counts().outcomes),
            () = stop.cancelled() => return,
        }
    }
}

fn node_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().take(60).collect()
}
