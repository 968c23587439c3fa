//! The ways in beside traffic: the admin socket and the metrics listener.
//!
//! Neither is worth a request: one that cannot be opened is said and tried again until it can.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cutover_config::Config;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::socket;
use crate::api::{self, Desk};

/// Between two tries.
const RETRY: Duration = Duration::from_secs(1);

const SOCKET: &str = "[admin] socket";
const METRICS: &str = "[admin] metrics";

/// What each of them needs.
#[derive(Debug, Clone)]
pub(super) struct Doors {
    pub(super) desk: Desk,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Doors {
    /// Opens them, or has a task try again; what it returns tells whether the socket is ours.
    pub(super) async fn open(self, config: &Config) -> Arc<AtomicBool> {
        let is_ours = Arc::new(AtomicBool::new(false));
        let path = config.admin.socket.clone();
        match self.opened(SOCKET, socket::open(&path)) {
            Some(listener) => self.serve(listener, &is_ours),
            None => drop(self.tasks.spawn(self.clone().try_socket(path, Arc::clone(&is_ours)))),
        }
        if let Some(address) = config.admin.metrics {
            match self.opened(METRICS, bind(address).await) {
                Some(listener) => self.serve_metrics(listener),
                None => drop(self.tasks.spawn(self.clone().try_metrics(address))),
            }
        }
        is_ours
    }

    fn serve(&self, listener: UnixListener, is_ours: &AtomicBool) {
        is_ours.store(true, Ordering::Relaxed);
        let serve = api::serve(listener, self.desk.clone(), self.stop.clone());
        self.tasks.spawn(async move { ended(SOCKET, serve.await) });
    }

    fn serve_metrics(&self, listener: TcpListener) {
        let serve = api::serve_metrics(listener, self.desk.clone(), self.stop.clone());
        self.tasks.spawn(async move { ended(METRICS, serve.await) });
    }

    async fn try_socket(self, path: PathBuf, is_ours: Arc<AtomicBool>) {
        while self.waited().await {
            if let Some(listener) = self.opened(SOCKET, socket::open(&path)) {
                return self.serve(listener, &is_ours);
            }
        }
    }

    async fn try_metrics(self, address: SocketAddr) {
        while self.waited().await {
            if let Some(listener) = self.opened(METRICS, bind(address).await) {
                return self.serve_metrics(listener);
            }
        }
    }

    /// Whether it is time for another try; not when the daemon stops.
    async fn waited(&self) -> bool {
        tokio::select! {
            () = tokio::time::sleep(RETRY) => true,
            () = self.stop.cancelled() => false,
        }
    }

    fn opened<T>(&self, what: &'static str, opened: anyhow::Result<T>) -> Option<T> {
        match opened {
            Ok(opened) => {
                self.desk.troubles.ended(what);
                Some(opened)
            }
            Err(error) => {
                let text = format!("{error:#}. Traffic flows; this is tried again");
                self.desk.troubles.note(what, text);
                None
            }
        }
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| anyhow::anyhow!("{address} cannot be listened on: {error}"))
}

fn ended(what: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "{what} has ended");
    }
}
