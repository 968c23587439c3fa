//! Maintenance: traffic first, the record after it, as with a cut-back.
//!
//! The gate is closed in memory before anything is written; the answer says how far the record has
//! come. The operator's page is kept in the state folder, so that a restart shows it again.
//! INVARIANT: no disk, mailbox or operation stands before clients are sent away or let in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_model::{
    Actor, AppName, Closure, Color, Fact, LineLevel, Maintenance, Millis, OperationId,
};
use cutover_proxy::message::{Cidr, Closed, DrainApp, Gate, GateChange, Streams};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::super::{App, Failure, Recorded, now};
use crate::journal::disk;

/// The longest page that is kept: that of `[proxy.error_pages]`.
const LONGEST_PAGE: u64 = 256 * 1024;
/// How long the answer waits for the disk; clients are sent away, or served, before.
const DISK: Duration = Duration::from_secs(2);

/// How clients shall be sent away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// When they shall come back, in seconds.
    pub retry_after_s: u32,
    /// Networks whose clients are served all the same.
    pub allow: Vec<Cidr>,
    /// The operator's page, HTML; `None`: ours.
    pub page: Option<String>,
}

/// A gate that was closed or opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turned {
    /// When.
    pub at: Millis,
    /// From the call to the moment from which every new request finds it so.
    pub took: Duration,
    /// Where the change stands.
    pub recorded: Recorded,
    /// The maintenance before.
    pub before: Option<Closure>,
    /// The maintenance now.
    pub closure: Option<Closure>,
    /// Requests that are open in both colors: they end as they would have.
    pub requests: u64,
    /// WebSockets that are open in both colors.
    pub tunnels: u64,
}

impl App {
    /// Sends clients away from now on, or changes how.
    ///
    /// # Errors
    /// [`Failure::Unknown`]: the page is too long, or the proxy refuses; nothing was changed.
    /// [`Failure::NotRecorded`]: too many changes wait for the disk already.
    pub async fn close(
        self: &Arc<Self>,
        closing: Closing,
        actor: Actor,
    ) -> Result<Turned, Failure> {
        let Closing { retry_after_s, allow, page } = closing;
        if page.as_ref().is_some_and(|page| page.len() as u64 > LONGEST_PAGE) {
            let text = format!("a page has at most {} KiB", LONGEST_PAGE / 1024);
            return Err(Failure::Unknown(text));
        }
        let maintenance = Box::new(Maintenance {
            retry_after_s,
            allow: allow.iter().map(ToString::to_string).collect(),
            page: page.as_ref().map(|page| hash(page.as_bytes())),
        });
        let streams = Streams::Reconnect;
        let closed = Closed { retry_after_s, page: page.clone(), allow, streams };
        let fact = Fact::GateClosed { maintenance };
        let turning = self.turn(GateChange::Close(closed), fact, &actor)?;
        if let Some(page) = page {
            self.keep_page(page).await;
        }
        let turned = self.turned(turning).await;
        let app = Arc::clone(self);
        self.tasks.spawn(async move { app.tell_when_idle().await });
        Ok(turned)
    }

    /// Serves clients again; `None`: nobody was sent away.
    ///
    /// # Errors
    /// [`Failure::Unknown`] when the proxy refuses.
    pub async fn reopen(self: &Arc<Self>, actor: Actor) -> Result<Option<Turned>, Failure> {
        if self.live().state.maintenance.is_none() && !self.shared.proxy.gated(&self.name).is_closed
        {
            return Ok(None);
        }
        let turning = self.turn(GateChange::Reopen, Fact::GateOpened, &actor)?;
        Ok(Some(self.turned(turning).await))
    }

    /// The part that touches memory only.
    fn turn(&self, change: GateChange, fact: Fact, actor: &Actor) -> Result<Turning, Failure> {
        let started = Instant::now();
        let (durable, told) = oneshot::channel();
        let mut live = self.live();
        // To let clients in again is never refused: they are sent away at this moment.
        if !matches!(change, GateChange::Reopen) {
            live.room()?;
        }
        let before = live.state.maintenance.clone();
        let gate = Gate { app: self.name.clone(), change };
        self.shared.proxy.gate(&gate).map_err(|refused| Failure::Unknown(refused.to_string()))?;
        let took = started.elapsed();
        // CRASH: in force and nothing durable: the next start finds the gate as it was before.
        live.push(actor, vec![fact], Some(durable));
        let closure = live.state.maintenance.clone();
        self.shared.tables_changed.notify_one();
        Ok(Turning { at: now(), took, before, closure, told })
    }

    /// Waits for the record, within the time that there is.
    async fn turned(&self, turning: Turning) -> Turned {
        let Turning { at, took, before, closure, told } = turning;
        self.wake();
        let recorded = match tokio::time::timeout(DISK, told).await {
            Ok(Ok(Ok(()))) => Recorded::Journal,
            Ok(Ok(Err(why))) => Recorded::MemoryOnly(why),
            Ok(Err(_)) | Err(_) => Recorded::MemoryOnly("the disk has not answered yet".to_owned()),
        };
        let open = Color::BOTH.map(|color| self.shared.proxy.switch().in_flight(&self.name, color));
        let requests = open.iter().map(|open| open.requests).sum();
        let tunnels = open.iter().map(|open| open.tunnels).sum();
        Turned { at, took, recorded, before, closure, requests, tunnels }
    }

    /// Keeps the page for the next start; without it that start shows ours.
    async fn keep_page(&self, page: String) {
        let path = page_file(self.folder(), &self.name);
        let write = tokio::task::spawn_blocking(move || disk::replace_file(&path, page.as_bytes()));
        let why = match tokio::time::timeout(DISK, write).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the disk has not answered yet".to_owned(),
        };
        let text = format!("your page is shown, but a restart may not find it: {why}");
        self.say(None, LineLevel::Note, "maintenance", text);
    }

    /// Says when the last request that was let in is answered; streams are asked to come back.
    async fn tell_when_idle(&self) {
        let (app, deadline) = (self.name.clone(), self.settings().drain);
        let drain = DrainApp { app, deadline, streams: Streams::Reconnect };
        let drained = self.shared.proxy.drain_app(drain).await;
        let left = drained.requests_left + drained.tunnels_left;
        let text = match left {
            0 => "every request that was open is answered".to_owned(),
            left => format!("{left} requests are still open after {} s", deadline.as_secs()),
        };
        self.say(None::<OperationId>, LineLevel::Step, "maintenance", text);
    }
}

/// A change of the gate that is in force.
struct Turning {
    at: Millis,
    took: Duration,
    before: Option<Closure>,
    closure: Option<Closure>,
    told: oneshot::Receiver<Result<(), String>>,
}

/// The gate of an app that is under maintenance when the daemon starts.
pub(in crate::controller) fn first_gate(app: &AppName, closure: &Closure, state: &Path) -> Gate {
    let how = &closure.how;
    let closed = Closed {
        retry_after_s: how.retry_after_s,
        page: how.page.as_ref().and_then(|wanted| kept_page(&page_file(state, app), wanted)),
        allow: how.allow.iter().filter_map(|network| network.parse().ok()).collect(),
        streams: Streams::Stay,
    };
    Gate { app: app.clone(), change: GateChange::Close(closed) }
}

/// The page that was kept, if it is the one of the record.
fn kept_page(path: &Path, wanted: &str) -> Option<String> {
    let bytes = match disk::read_file(path, LONGEST_PAGE) {
        Ok(bytes) => bytes?,
        Err(error) => {
            tracing::warn!(%error, "the maintenance page cannot be read; ours is shown");
            return None;
        }
    };
    if hash(&bytes) != wanted {
        let path = path.display();
        tracing::warn!(%path, "the maintenance page is not the one of the record; ours is shown");
        return None;
    }
    String::from_utf8(bytes).ok()
}

fn page_file(state: &Path, app: &AppName) -> PathBuf {
    state.join(format!("maintenance-{app}.html"))
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
