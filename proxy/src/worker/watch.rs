//! Deadlines: one watch for each connection, one sweep for all of a worker's watches.
//!
//! Arming and disarming is one store, so that deadlines cost next to nothing on the request path; a
//! sweep every [`TICK`] fires what has passed and wakes the connection's task, which finds out by
//! asking. Invariant: a deadline fires between its time and two ticks later, never before; a fired
//! slot stays fired until it is armed or disarmed again.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use futures_util::task::AtomicWaker;

/// Between two sweeps.
pub(crate) const TICK: Duration = Duration::from_millis(50);
/// Watches that one sweep looks at, so that many idle connections cannot hold up a worker.
const SWEEP: usize = 8_192;

/// What is being waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The client's next head: first byte, rest, or the idle time between two requests.
    Head,
    /// The next piece of the request body.
    Body,
    /// The client takes what is written to it.
    Write,
    /// The head of the upstream's answer.
    Answer,
    /// The next piece of the upstream's body, or any piece in a tunnel.
    Progress,
    /// While a request waits at the gate: the next look whether its client is still there.
    Gate,
    /// A client that has closed its side takes some of its answer.
    Half,
}

const STAGES: usize = 7;

const WAITS: u8 = 1;
const LEFT: u8 = 2;

/// What holds the lease of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A request; it is left to end by itself when streams are asked to come back.
    Request = 0,
    /// A tunnel, or an answer that has no end of its own.
    Stream = 1,
}

/// What a connection's lease is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// 1001: its color is going away.
    GoingAway = 1,
    /// 1012: come back, to wait or to be told why.
    ComeBack = 2,
}

/// The remote control of one connection.
#[derive(Debug)]
pub(crate) struct Watch {
    /// For each stage the worker millisecond at which it has passed; 0: not waited for.
    slots: [AtomicU64; STAGES],
    fired: AtomicU8,
    /// The lease that the connection's request or tunnel holds; 0: none.
    lease: AtomicU64,
    holder: AtomicU8,
    /// Its lease is to end now, and why, as a [`Farewell`]; 0: no.
    ended: AtomicU8,
    /// Its request waits at a gate (1), and its client has left meanwhile (2).
    waiting: AtomicU8,
    /// A request is being answered.
    serving: AtomicBool,
    /// The connection is to end after what it does now.
    stopping: AtomicBool,
    /// Its client is asked, with the next answer, to come back on a new connection.
    parting: AtomicBool,
    /// The local port that its client connected to.
    port: AtomicU16,
    waker: AtomicWaker,
    place: AtomicUsize,
    clock: Arc<Clock>,
}

/// The time of one worker in milliseconds since its start, kept by its sweep.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    pub(crate) fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, since_start: Duration) {
        self.0.store(millis(since_start), Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Watch {
    fn new(clock: Arc<Clock>) -> Self {
        Self {
            slots: Default::default(),
            fired: AtomicU8::new(0),
            lease: AtomicU64::new(0),
            holder: AtomicU8::new(0),
            ended: AtomicU8::new(0),
            waiting: AtomicU8::new(0),
            serving: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            parting: AtomicBool::new(false),
            port: AtomicU16::new(0),
            waker: AtomicWaker::new(),
            place: AtomicUsize::new(0),
            clock,
        }
    }

    /// Starts or restarts a deadline.
    pub(crate) fn arm(&self, stage: Stage, limit: Duration) {
        // The clock may be a tick behind: add one, so that nothing fires early.
        let at = self.clock.now_ms().saturating_add(millis(limit)).saturating_add(millis(TICK));
        self.slots[stage as usize].store(at, Ordering::Relaxed);
        self.unfire(stage);
    }

    /// Starts a deadline unless it runs already.
    pub(crate) fn keep(&self, stage: Stage, limit: Duration) {
        if self.slots[stage as usize].load(Ordering::Relaxed) == 0 {
            self.arm(stage, limit);
        }
    }

    pub(crate) fn disarm(&self, stage: Stage) {
        self.slots[stage as usize].store(0, Ordering::Relaxed);
        self.unfire(stage);
    }

    /// Whether something is being waited for, however long it has been.
    pub(crate) fn is_armed(&self, stage: Stage) -> bool {
        self.slots[stage as usize].load(Ordering::Relaxed) != 0
    }

    fn unfire(&self, stage: Stage) {
        if self.fired.load(Ordering::Relaxed) != 0 {
            self.fired.fetch_and(!(1 << stage as u8), Ordering::Relaxed);
        }
    }

    pub(crate) fn has_fired(&self, stage: Stage) -> bool {
        self.fired.load(Ordering::Relaxed) & (1 << stage as u8) != 0
    }

    /// The task to wake when something fires.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub(crate) fn hold(&self, lease: u64) {
        self.lease.store(lease, Ordering::Relaxed);
        self.holder.store(Holder::Request as u8, Ordering::Relaxed);
        self.ended.store(0, Ordering::Relaxed);
    }

    /// The holder of the lease lasts until somebody ends it.
    pub(crate) fn become_stream(&self) {
        self.holder.store(Holder::Stream as u8, Ordering::Relaxed);
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.holder.load(Ordering::Relaxed) == Holder::Stream as u8
    }

    /// What was to end has ended; the connection goes on.
    pub(crate) fn forgive(&self) {
        self.ended.store(0, Ordering::Relaxed);
    }

    fn end(&self, farewell: Farewell) {
        self.ended.store(farewell as u8, Ordering::Relaxed);
        self.wake();
    }

    pub(crate) fn begin_serving(&self) {
        self.serving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn end_serving(&self) {
        self.serving.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed)
    }

    /// Begins to wait at a gate.
    pub(crate) fn begin_waiting(&self) {
        self.waiting.store(WAITS, Ordering::Relaxed);
    }

    pub(crate) fn end_waiting(&self) {
        self.waiting.store(0, Ordering::Relaxed);
        self.disarm(Stage::Gate);
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == WAITS
    }

    /// Notes that the client of a request that waits has closed its side.
    pub(crate) fn note_left(&self) {
        self.waiting.store(LEFT, Ordering::Relaxed);
    }

    pub(crate) fn has_left(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == LEFT
    }

    pub(crate) fn release(&self) {
        self.lease.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed) != 0
    }

    /// Whether the client is asked to come back rather than told that its color goes away.
    pub(crate) fn shall_come_back(&self) -> bool {
        self.ended.load(Ordering::Relaxed) == Farewell::ComeBack as u8
    }

    pub(crate) fn came_by(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }

    pub(crate) fn is_parting(&self) -> bool {
        self.parting.load(Ordering::Relaxed)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Fires what has passed; says whether anything has.
    fn sweep(&self, now_ms: u64) -> bool {
        let mut any = false;
        for (stage, slot) in self.slots.iter().enumerate() {
            let at = slot.load(Ordering::Relaxed);
            if at != 0 && at <= now_ms {
                let bit = 1 << stage;
                any |= self.fired.fetch_or(bit, Ordering::Relaxed) & bit == 0;
            }
        }
        any
    }

    fn wake(&self) {
        self.waker.wake();
    }
}

/// The watches of one worker.
#[derive(Debug)]
pub(crate) struct Watches {
    pub(crate) clock: Arc<Clock>,
    list: Mutex<Vec<Arc<Watch>>>,
    next: AtomicUsize,
}

impl Watches {
    pub(crate) fn new() -> Self {
        Self { clock: Arc::default(), list: Mutex::default(), next: AtomicUsize::new(0) }
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Watch>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self) -> Arc<Watch> {
        let watch = Arc::new(Watch::new(self.clock.clone()));
        let mut list = self.list();
        watch.place.store(list.len(), Ordering::Relaxed);
        list.push(watch.clone());
        watch
    }

    pub(crate) fn remove(&self, watch: &Arc<Watch>) {
        let mut list = self.list();
        let place = watch.place.load(Ordering::Relaxed);
        if list.get(place).is_some_and(|found| Arc::ptr_eq(found, watch)) {
            list.swap_remove(place);
            if let Some(moved) = list.get(place) {
                moved.place.store(place, Ordering::Relaxed);
            }
        }
    }

    /// Fires what has passed. Called by the worker every [`TICK`].
    pub(crate) fn sweep(&self, since_start: Duration) {
        self.clock.set(since_start);
        let now_ms = self.clock.now_ms();
        let list = self.list();
        let from = self.next.load(Ordering::Relaxed);
        let from = if from < list.len() { from } else { 0 };
        let until = (from + SWEEP).min(list.len());
        self.next.store(until, Ordering::Relaxed);
        for watch in list.get(from..until).unwrap_or_default() {
            if watch.sweep(now_ms) {
                watch.wake();
            }
        }
    }

    /// Ends the requests and tunnels that hold one of these leases.
    pub(crate) fn end(&self, leases: &[u64]) {
        self.each(|watch| {
            if leases.contains(&watch.lease.load(Ordering::Relaxed)) {
                watch.end(Farewell::GoingAway);
            }
        });
    }

    /// Asks the streams that hold one of these leases to come back; requests go on.
    pub(crate) fn reconnect(&self, leases: &[u64]) {
        self.each(|watch| {
            if watch.is_stream()
                && !watch.is_ended()
                && leases.contains(&watch.lease.load(Ordering::Relaxed))
            {
                watch.end(Farewell::ComeBack);
            }
        });
    }

    /// Ends every request and tunnel.
    pub(crate) fn end_all(&self) {
        self.each(|watch| watch.end(Farewell::GoingAway));
    }

    /// Lets every connection end after what it does now.
    pub(crate) fn stop(&self) {
        self.each(|watch| {
            watch.stopping.store(true, Ordering::Relaxed);
            watch.wake();
        });
    }

    /// Asks the clients of these ports to come back on a new connection; how many there are.
    pub(crate) fn part_with(&self, ports: &[u16]) -> usize {
        let mut count = 0;
        self.each(|watch| {
            if ports.contains(&watch.port.load(Ordering::Relaxed)) {
                watch.parting.store(true, Ordering::Relaxed);
                count += 1;
            }
        });
        count
    }

    /// Lets the connections of these ports end after what they do now.
    pub(crate) fn stop_on(&self, ports: &[u16]) {
        self.each(|watch| {
            if ports.contains(&watch.port.load(Ordering::Relaxed)) {
                watch.stopping.store(true, Ordering::Relaxed);
                watch.wake();
            }
        });
    }

    fn each(&self, look: impl FnMut(&Arc<Watch>)) {
        self.list().iter().for_each(look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_fires_after_its_time_and_only_once() {
        let watches = Watches::new();
        let watch = watches.add();
        watch.arm(Stage::Answer, Duration::from_millis(100));
        watches.sweep(Duration::from_millis(100));
        assert!(!watch.has_fired(Stage::Answer));
        watches.sweep(Duration::from_millis(160));
        assert!(watch.has_fired(Stage::Answer));
        assert!(!watch.has_fired(Stage::Write));
        watch.arm(Stage::Answer, Duration::from_millis(100));
        assert!(!watch.has_fired(Stage::Answer));
        watch.disarm(Stage::Answer);
        watches.sweep(Duration::from_secs(100));
        assert!(!watch.has_fired(Stage::Answer));
    }

    #[test]
    fn removing_one_watch_keeps_the_others() {
        let watches = Watches::new();
        let all: Vec<_> = (0..4).map(|_| watches.add()).collect();
        watches.remove(&all[1]);
        watches.remove(&all[3]);
        all[0].arm(Stage::Head, Duration::ZERO);
        all[2].arm(Stage::Head, Duration::ZERO);
        watches.sweep(Duration::from_secs(1));
        assert!(all[0].has_fired(Stage::Head) && all[2].has_fired(Stage::Head));
        assert_eq!(watches.list().len(), 2);
    }

    #[test]
    fn only_the_holders_of_a_lease_are_ended() {
        let watches = Watches::new();
        let (one, two) = (watches.add(), watches.add());
        one.hold(7);
        two.hold(8);
        watches.end(&[7]);
        assert!(one.is_ended() && !two.is_ended());
    }
}
