//! The signals that `serve` understands. They are listened for before anything else begins: a HUP
//! that comes as soon as the admin socket answers must not end the process, as it does by default.
//!
//! TERM and INT end it, a second one at once, and one during the start ends the start; HUP reads
//! the file again; USR1 and USR2 do nothing. What a signal leads to is the daemon's.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::reload::Reload;
use super::{inherit, told};
use crate::controller::Controller;

/// All of them, listened for.
#[derive(Debug)]
pub struct Signals {
    pub(super) end: End,
    pub(super) others: Others,
}

impl Signals {
    /// From here on no signal of these does what it does by default.
    ///
    /// # Errors
    /// When the system gives no descriptor for it.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            end: End {
                term: signal(SignalKind::terminate())?,
                int: signal(SignalKind::interrupt())?,
            },
            others: Others {
                reload: signal(SignalKind::hangup())?,
                first: signal(SignalKind::user_defined1())?,
                second: signal(SignalKind::user_defined2())?,
            },
        })
    }

    /// Waits for `start`; `None`: TERM or INT came first. A HUP waits meanwhile.
    pub async fn unless_ended<T>(&mut self, start: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            started = start => Some(started),
            () = self.end.recv() => None,
        }
    }
}

/// The signals that end it.
#[derive(Debug)]
pub(super) struct End {
    term: Signal,
    int: Signal,
}

impl End {
    pub(super) async fn recv(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// The signals that end nothing.
#[derive(Debug)]
pub(super) struct Others {
    reload: Signal,
    first: Signal,
    second: Signal,
}

impl Others {
    pub(super) async fn follow(
        mut self,
        reload: Arc<Reload>,
        controller: Controller,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = self.reload.recv() => {
                    told(inherit::reloading());
                    let (reload, controller) = (Arc::clone(&reload), controller.clone());
                    let run = tokio::task::spawn_blocking(move || reload.run(&controller));
                    if let Err(error) = run.await {
                        tracing::error!(%error, "reading the file again panicked");
                    }
                    told(inherit::ready("serves; HUP was the last signal"));
                }
                _ = self.first.recv() => tracing::info!("USR1 has no meaning here"),
                _ = self.second.recv() => tracing::info!("USR2 has no meaning here"),
            }
        }
    }
}
