//! The gate of an app: requests flow, wait, or get the maintenance page.
//!
//! A gate outlives tables: they share it. Open it costs a request one load; only who finds it not
//! open takes its lock. It does not know tables or leases: who passes takes its table afterwards.
//! Invariant: the state is stored before the change is acknowledged, and a request looks at it
//! after it has raised its lease, so a drain that follows a hold misses nobody.

mod line;

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cutover_model::AppName;
use tokio::sync::{Notify, oneshot};

use crate::message::{self, Cidr, Closed, GateChange, Gated, Refused};
use line::Line;
pub(crate) use line::Turn;

const OPEN: u8 = 0;
const HELD: u8 = 1;
const CLOSED: u8 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: AtomicU8,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    line: Line,
    shut: Option<Arc<Shut>>,
}

/// A closed gate, ready to answer.
#[derive(Debug)]
pub(crate) struct Shut {
    pub(crate) page: Option<Bytes>,
    pub(crate) retry_after_s: u32,
    allow: Vec<Cidr>,
}

impl From<&Closed> for Shut {
    fn from(closed: &Closed) -> Self {
        Self {
            page: closed.page.clone().map(Bytes::from),
            retry_after_s: closed.retry_after_s.max(1),
            allow: closed.allow.clone(),
        }
    }
}

/// What a request finds at a gate that is not open.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It goes on.
    Pass,
    /// It gets the maintenance page.
    Shut(Arc<Shut>),
    /// It waits. Its lease must be given back first.
    Wait(Waiting),
    /// Too many wait; how many seconds the hold may last.
    Full(u32),
}

impl Gate {
    /// Whether nothing stands in a request's way.
    pub(crate) fn is_open(&self) -> bool {
        self.state.load(Ordering::Relaxed) == OPEN
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores what requests look at first. Called with the lock held.
    fn show(&self, inner: &Inner) {
        let held = if inner.line.is_open() { OPEN } else { HELD };
        let closed = if inner.shut.is_some() { CLOSED } else { OPEN };
        self.state.store(held | closed, Ordering::SeqCst);
        // INVARIANT: pairs with the fence after a lease was raised: either the request sees this
        // state, or whoever drains from now on sees its lease.
        fence(Ordering::SeqCst);
    }

    /// Changes the gate; in force when this returns.
    pub(crate) fn change(
        &self,
        app: &AppName,
        change: &GateChange,
        now: Instant,
    ) -> Result<Gated, Refused> {
        let mut inner = self.inner();
        inner.line.advance(now);
        let done = match change {
            GateChange::Hold(hold) => inner.line.hold(hold, now),
            GateChange::Renew { hold, lease } => inner.line.renew(*hold, *lease, now),
            GateChange::Open { hold } => inner.line.open(*hold, now),
            GateChange::Close(closed) => {
                inner.shut = Some(Arc::new(Shut::from(closed)));
                Ok(())
            }
            GateChange::Reopen => {
                inner.shut = None;
                Ok(())
            }
        };
        self.show(&inner);
        let gated = Self::gated_now(&inner);
        done.map(|()| gated).map_err(|other| match other {
            Some(hold) => Refused::Held { app: app.clone(), hold },
            None => Refused::NoHold(app.clone()),
        })
    }

    fn gated_now(inner: &Inner) -> Gated {
        let (hold, tally) = (inner.line.holding(), inner.line.tally());
        Gated { hold, is_closed: inner.shut.is_some(), tally }
    }

    /// How it stands.
    pub(crate) fn gated(&self, now: Instant) -> Gated {
        let mut inner = self.inner();
        inner.line.advance(now);
        self.show(&inner);
        Self::gated_now(&inner)
    }

    /// A request is here, with its lease raised. `turn` is what it got when it was let go before.
    pub(crate) fn enter(
        self: &Arc<Self>,
        client: IpAddr,
        bytes: u64,
        turn: Option<Turn>,
        now: Instant,
    ) -> Entry {
        let mut inner = self.inner();
        // A lease that has run out is noticed by whoever comes first.
        inner.line.advance(now);
        self.show(&inner);
        if let Some(shut) = &inner.shut
            && !shut.allow.iter().any(|network| network.contains(client))
        {
            return Entry::Shut(Arc::clone(shut));
        }
        if inner.line.is_open() || turn.is_some_and(|turn| inner.line.has_let_go(turn)) {
            return Entry::Pass;
        }
        match inner.line.join(bytes, turn, now) {
            Ok(place) => Entry::Wait(Waiting {
                gate: Arc::clone(self),
                number: place.number,
                turn: place.turn,
                until: place.until,
                is_over: false,
            }),
            Err(left) => Entry::Full(seconds(left)),
        }
    }

    /// Lets go whose turn it is; says whether it has to be looked at again soon.
    fn advance(&self, now: Instant) -> bool {
        if self.state.load(Ordering::Relaxed) & HELD == 0 {
            return false;
        }
        let mut inner = self.inner();
        inner.line.advance(now);
        self.show(&inner);
        inner.line.is_letting_go()
    }
}

/// Whole seconds, at least one, for `Retry-After`.
pub(crate) fn seconds(left: Duration) -> u32 {
    u32::try_from(left.as_secs()).unwrap_or(u32::MAX).saturating_add(1)
}

/// A request's place in the line. Dropping it forgets the request: its client has left.
#[derive(Debug)]
pub(crate) struct Waiting {
    gate: Arc<Gate>,
    number: u64,
    turn: oneshot::Receiver<Turn>,
    /// It may wait until then.
    pub(crate) until: Instant,
    is_over: bool,
}

impl Waiting {
    /// Ready when it is let go.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<Turn>> {
        let polled = Pin::new(&mut self.turn).poll(cx);
        self.is_over |= polled.is_ready();
        polled.map(Result::ok)
    }

    /// It has waited for too long; the turn, if that came at the last moment, or the seconds until
    /// the client shall come back.
    pub(crate) fn give_up(mut self) -> Result<Turn, u32> {
        self.is_over = true;
        let left = self.gate.inner().line.give_up(self.number, Instant::now());
        self.turn.try_recv().map_err(|_| seconds(left))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.is_over {
            self.gate.inner().line.leave(self.number);
        }
    }
}

/// The gates of all apps.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    all: Mutex<HashMap<AppName, Arc<Gate>>>,
    /// Told when a gate was changed.
    pub(crate) changed: Notify,
}

impl Gates {
    /// The gate of an app; made open when it is asked for first.
    pub(crate) fn of(&self, app: &AppName) -> Arc<Gate> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(app.clone()).or_default())
    }

    /// Changes the gate of an app.
    pub(crate) fn change(&self, gate: &message::Gate) -> Result<Gated, Refused> {
        let done = self.of(&gate.app).change(&gate.app, &gate.change, Instant::now());
        self.changed.notify_one();
        done
    }

    /// Ends leases that have run out and lets go whose turn it is; says whether to come again soon.
    pub(crate) fn advance(&self) -> bool {
        let all: Vec<_> = {
            let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.values().filter(|gate| !gate.is_open()).cloned().collect()
        };
        let now = Instant::now();
        // All of them, whatever the first ones say.
        all.iter().filter(|gate| gate.advance(now)).count() > 0
    }
}
