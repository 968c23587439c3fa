//! The daemon: `cutover serve`. Owns all state, starts the parts in their order, stops them in the
//! reverse one.
//!
//! The order is the guarantee: state folder, last good table and proxy first, so that traffic flows
//! before Docker or anything else is looked at; then the apps, then the admin socket. No failure
//! after the proxy runs ends it.

pub mod access_log;
pub mod inherit;
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
use std::time::Duration;

use anyhow::Context as _;
use cutover_config::Config;
use cutover_model::{AppKind, AppName, ByColor, Color};
use cutover_proxy::Proxy;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::analysis::{self, Figures};
use crate::api::{self, Desk};
use crate::controller::{App, AppSettings, Controller, Prepared, Remembered, Shared, now};

pub use crate::controller::Resume;
use crate::journal::weights::{Weights, WeightsFile};
use crate::journal::{Journal, Options, disk, reserve};
use crate::reconciler::Reconciler;

use reload::Reload;
use signals::Signals;

/// How long a call waits for the disk.
const DISK: Duration = Duration::from_secs(5);

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
    /// Starts everything; when it returns, traffic flows and the admin socket answers.
    ///
    /// # Errors
    /// What keeps it from starting: the state folder is another daemon's, a port is taken, …
    pub async fn start(config: Config, options: ServeOptions) -> anyhow::Result<Self> {
        let state = config.state.path.clone();
        disk::make_folder(&state)?;
        reserve::release_to_start(&state);
        let node = node_name();
        let journal = Journal::open(Options { limit: DISK, ..Options::new(&state, node, now()) })
            .await
            .context("the state folder cannot be used")?;
        let file = WeightsFile::open(&state)?;
        let entries = file.entries().clone();
        let weights = Weights::start(file, DISK)?;
        let remembered = tables::load(&state);
        let cookie_key = tables::cookie_key(&state)?;
        let mut proxy_settings = settings::proxy(&config, cookie_key);
        proxy_settings.first_generation = remembered.next_generation();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let log = access_log::start(config.proxy.access_log.clone(), &tasks, &stop)?;
        proxy_settings.access_log = log;
        proxy_settings.pages = pages::or_ours(&config);

        let folder = folder_of(&options.file);
        let journal = Arc::new(journal);
        let known = |app: &AppName| Remembered {
            weight: entries.get(app).cloned(),
            endpoints: remembered.endpoints(app),
            start_on: options.start_on,
        };
        let mut prepared = Vec::new();
        for app in settings::apps(&config, &folder) {
            let known = known(&app.app);
            prepared.push(Prepared::read(app, &journal, known).await);
        }
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
            key: cookie_key,
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
        };
        open_admin(&config, desk, &tasks, &stop).await?;
        let reload = Arc::new(Reload::new(&config, &options.file, Arc::clone(&proxy)));
        let socket = config.admin.socket;
        Ok(Self { controller, proxy, addresses, socket, stop, tasks, reload })
    }

    /// A token that is cancelled when the daemon stops.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// The tasks that the daemon waits for at its end.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Tells the service manager that it is ready and waits for TERM or INT, then ends in order; a
    /// second one ends at once. HUP reads the file again; USR1 and USR2 do nothing.
    pub async fn run_until_signal(self, signals: Signals) {
        let Signals { mut end, others } = signals;
        self.tasks.spawn(others.follow(
            Arc::clone(&self.reload),
            self.controller.clone(),
            self.stop.clone(),
        ));
        self.tasks.spawn(watchdog(self.controller.clone(), self.stop.clone()));
        told(inherit::ready(&self.status()));
        end.recv().await;
        told(inherit::stopping(self.reload.drain() + GOODBYE));
        tokio::select! {
            () = self.shut_down() => {}
            () = end.recv() => {}
        }
    }

    /// One line for `systemctl status`.
    fn status(&self) -> String {
        let listen: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        format!("serves {} apps on {}", self.controller.apps().count(), listen.join(", "))
    }

    /// Stops accepting, lets open requests end, writes what waits.
    pub async fn shut_down(self) {
        let drained = self.proxy.shutdown(self.reload.drain()).await;
        tracing::info!(?drained, "the proxy has ended");
        self.stop.cancel();
        drop(std::fs::remove_file(&self.socket));
        self.tasks.close();
        if tokio::time::timeout(GOODBYE, self.tasks.wait()).await.is_err() {
            tracing::warn!("some tasks did not end in {GOODBYE:?}");
        }
    }
}

/// Alive is who can read the state of each app: a lock that is never let go ends it.
async fn watchdog(controller: Controller, stop: CancellationToken) {
    let alive = move || {
        controller.apps().for_each(|app| drop(app.state()));
        true
    };
    inherit::watchdog(stop, alive).await;
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

/// Opens the admin socket and, where one is wanted, the metrics listener.
async fn open_admin(
    config: &Config,
    desk: Desk,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let admin = socket::open(&config.admin.socket)?;
    let serve = api::serve(admin, desk.clone(), stop.clone());
    tasks.spawn(async move { ended("the admin socket", serve.await) });
    if let Some(address) = config.admin.metrics {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .with_context(|| format!("[admin] metrics: {address} cannot be listened on"))?;
        let serve = api::serve_metrics(listener, desk, stop.clone());
        tasks.spawn(async move { ended("the metrics listener", serve.await) });
    }
    Ok(())
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

fn ended(what: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "{what} has ended");
    }
}

fn node_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().take(60).collect()
}
