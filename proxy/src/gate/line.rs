//! The line of those that wait: who may join, who is let go and when. Time is an argument.
//!
//! Invariant: it is bounded in count and bytes; whoever came first goes first, also over a second
//! hold that began before it had gone; a hold whose lease has run out lets everybody go.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::message::{Hold, HoldEnd, HoldId, HoldTally};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Line {
    state: State,
    /// Raised by each hold that begins.
    epoch: u64,
    waiting: BTreeMap<u64, Waiter>,
    bytes: u64,
    next: u64,
    tally: Option<HoldTally>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    Holding {
        hold: Hold,
        until: Instant,
    },
    /// The hold has ended; those that wait go at its rate, and who comes now waits behind them.
    LettingGo {
        hold: Hold,
        since: Instant,
        gone: u64,
    },
}

#[derive(Debug)]
struct Waiter {
    turn: oneshot::Sender<Turn>,
    since: Instant,
    bytes: u64,
}

/// The right to pass, given by one hold; keeps its place in case that another hold begins first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    epoch: u64,
    number: u64,
    since: Instant,
}

/// A place in the line.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) turn: oneshot::Receiver<Turn>,
    pub(super) until: Instant,
}

impl Line {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    pub(super) fn is_letting_go(&self) -> bool {
        matches!(self.state, State::LettingGo { .. })
    }

    /// The hold that lasts.
    pub(super) fn holding(&self) -> Option<HoldId> {
        match &self.state {
            State::Holding { hold, .. } => Some(hold.id),
            State::Open | State::LettingGo { .. } => None,
        }
    }

    pub(super) fn tally(&self) -> Option<HoldTally> {
        self.tally.map(|tally| HoldTally { waiting: self.waiting.len() as u64, ..tally })
    }

    /// Begins a hold, or replaces the limits of the one that lasts; refused by the name of another
    /// one that lasts.
    pub(super) fn hold(&mut self, hold: &Hold, now: Instant) -> Result<(), Option<HoldId>> {
        let until = now + hold.lease;
        match &mut self.state {
            State::Holding { hold: other, .. } if other.id != hold.id => {
                return Err(Some(other.id));
            }
            State::Holding { .. } => {}
            State::Open | State::LettingGo { .. } => {
                self.epoch += 1;
                self.tally = Some(HoldTally {
                    hold: hold.id,
                    waiting: 0,
                    waited: 0,
                    longest: Duration::ZERO,
                    refused: 0,
                    left: 0,
                    ended: None,
                });
            }
        }
        self.state = State::Holding { hold: hold.clone(), until };
        Ok(())
    }

    /// Gives the hold that lasts a new lease.
    pub(super) fn renew(
        &mut self,
        id: HoldId,
        lease: Duration,
        now: Instant,
    ) -> Result<(), Option<HoldId>> {
        match &mut self.state {
            State::Holding { hold, until } if hold.id == id => {
                *until = now + lease;
                Ok(())
            }
            _ => Err(self.holding()),
        }
    }

    /// Ends the hold that lasts.
    pub(super) fn open(&mut self, id: HoldId, now: Instant) -> Result<(), Option<HoldId>> {
        if self.holding() != Some(id) {
            return Err(self.holding());
        }
        self.end(HoldEnd::Opened, now);
        self.advance(now);
        Ok(())
    }

    fn end(&mut self, ended: HoldEnd, now: Instant) {
        if let State::Holding { hold, .. } = &self.state {
            self.state = State::LettingGo { hold: hold.clone(), since: now, gone: 0 };
        }
        if let Some(tally) = &mut self.tally {
            tally.ended = Some(ended);
        }
    }

    /// Ends a lease that has run out, and lets go whose turn it is.
    pub(super) fn advance(&mut self, now: Instant) {
        if let State::Holding { until, .. } = &self.state
            && *until <= now
        {
            self.end(HoldEnd::Lapsed, now);
        }
        let State::LettingGo { hold, since, gone } = &mut self.state else { return };
        let most = allowance(hold.rate, now.saturating_duration_since(*since));
        while *gone < most
            && let Some((number, waiter)) = self.waiting.pop_first()
        {
            self.bytes = self.bytes.saturating_sub(waiter.bytes);
            let waited = now.saturating_duration_since(waiter.since);
            let turn = Turn { epoch: self.epoch, number, since: waiter.since };
            if waiter.turn.send(turn).is_ok() {
                *gone += 1;
                if let Some(tally) = &mut self.tally {
                    tally.waited += 1;
                    tally.longest = tally.longest.max(waited);
                }
            }
        }
        if self.waiting.is_empty() {
            self.state = State::Open;
        }
    }

    /// Whether this turn was given by the newest hold.
    pub(super) fn has_let_go(&self, turn: Turn) -> bool {
        turn.epoch == self.epoch && !matches!(self.state, State::Holding { .. })
    }

    /// Takes a place; refused, with the time that the hold may still last, when there is none.
    pub(super) fn join(
        &mut self,
        bytes: u64,
        turn: Option<Turn>,
        now: Instant,
    ) -> Result<Place, Duration> {
        let (hold, left) = match &self.state {
            State::Open => return Err(Duration::ZERO),
            State::Holding { hold, until } => (hold, until.saturating_duration_since(now)),
            State::LettingGo { hold, .. } => (hold, Duration::ZERO),
        };
        let (most, most_bytes, wait) = (hold.most as usize, hold.most_bytes, hold.wait);
        let is_full = self.waiting.len() >= most || self.bytes + bytes > most_bytes;
        if is_full && turn.is_none() {
            if let Some(tally) = &mut self.tally {
                tally.refused += 1;
            }
            return Err(left);
        }
        // Whoever had its turn already goes back to the place that it had.
        let (number, since) = match turn {
            Some(turn) => (turn.number, turn.since),
            None => (self.next, now),
        };
        self.next = self.next.max(number + 1);
        self.bytes += bytes;
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(number, Waiter { turn: sender, since, bytes });
        Ok(Place { number, turn: receiver, until: since + wait })
    }

    /// A request has waited for too long; the time that the hold may still last.
    pub(super) fn give_up(&mut self, number: u64, now: Instant) -> Duration {
        if let Some(waiter) = self.take(number)
            && let Some(tally) = &mut self.tally
        {
            tally.refused += 1;
            tally.longest = tally.longest.max(now.saturating_duration_since(waiter.since));
        }
        match &self.state {
            State::Holding { until, .. } => until.saturating_duration_since(now),
            State::Open | State::LettingGo { .. } => Duration::ZERO,
        }
    }

    /// A request's client has left.
    pub(super) fn leave(&mut self, number: u64) {
        if self.take(number).is_some()
            && let Some(tally) = &mut self.tally
        {
            tally.left += 1;
        }
    }

    fn take(&mut self, number: u64) -> Option<Waiter> {
        let waiter = self.waiting.remove(&number)?;
        self.bytes = self.bytes.saturating_sub(waiter.bytes);
        Some(waiter)
    }
}

/// How many may have gone after this time: one at once, `rate` in the first second, and twice as
/// many in each second that follows.
fn allowance(rate: u32, after: Duration) -> u64 {
    let rate = u64::from(rate.max(1));
    let whole = u32::try_from(after.as_secs()).unwrap_or(u32::MAX).min(30);
    let before = rate * ((1 << whole) - 1);
    let now = (rate << whole) * u64::from(after.subsec_millis()) / 1_000;
    1 + before + now
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Streams;

    fn hold(id: u64) -> Hold {
        Hold {
            id: HoldId(id),
            lease: Duration::from_secs(6),
            most: 3,
            most_bytes: 100,
            wait: Duration::from_secs(5),
            rate: 10,
            streams: Streams::Stay,
        }
    }

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    fn join(line: &mut Line, bytes: u64, now: Instant) -> Place {
        line.join(bytes, None, now).unwrap()
    }

    #[test]
    fn the_oldest_goes_first_and_no_faster_than_the_rate() {
        let (mut line, start) = (Line::default(), Instant::now());
        line.hold(&hold(1), start).unwrap();
        let mut places: Vec<_> = (0..3).map(|_| join(&mut line, 1, start)).collect();
        line.open(HoldId(1), at(start, 500)).unwrap();
        let gone = |places: &mut Vec<Place>| -> Vec<bool> {
            places.iter_mut().map(|place| place.turn.try_recv().is_ok()).collect()
        };
        assert_eq!(gone(&mut places), [true, false, false]);
        line.advance(at(start, 590));
        assert_eq!(gone(&mut places), [false, false, false]);
        line.advance(at(start, 600));
        assert_eq!(gone(&mut places), [false, true, false]);
        assert!(line.is_letting_go() && !line.is_open());
        line.advance(at(start, 700));
        assert_eq!(gone(&mut places), [false, false, true]);
        assert!(line.is_open());
        let tally = line.tally().unwrap();
        assert_eq!((tally.waited, tally.longest), (3, Duration::from_millis(700)));
        assert_eq!(tally.ended, Some(HoldEnd::Opened));
    }

    #[test]
    fn the_rate_doubles_each_second() {
        let after = |millis| allowance(10, Duration::from_millis(millis));
        assert_eq!([after(0), after(500), after(1_000), after(1_500)], [1, 6, 11, 21]);
        assert_eq!([after(2_000), after(3_000)], [31, 71]);
        assert!(allowance(u32::MAX, Duration::from_secs(1 << 40)) > 0);
    }

    #[test]
    fn count_and_bytes_are_bounded_and_given_back() {
        let (mut line, now) = (Line::default(), Instant::now());
        line.hold(&hold(1), now).unwrap();
        let first = join(&mut line, 60, now);
        assert_eq!(line.join(41, None, now).unwrap_err(), Duration::from_secs(6));
        join(&mut line, 20, now);
        join(&mut line, 20, now);
        assert!(line.join(0, None, now).is_err());
        line.leave(first.number);
        join(&mut line, 60, now);
        let tally = line.tally().unwrap();
        assert_eq!((tally.waiting, tally.refused, tally.left), (3, 2, 1));
        assert_eq!(line.bytes, 100);
    }

    #[test]
    fn a_lease_runs_out_unless_it_is_renewed() {
        let (mut line, start) = (Line::default(), Instant::now());
        line.hold(&hold(1), start).unwrap();
        line.advance(at(start, 5_999));
        line.renew(HoldId(1), Duration::from_secs(1), at(start, 5_999)).unwrap();
        line.advance(at(start, 6_998));
        assert_eq!(line.holding(), Some(HoldId(1)));
        line.advance(at(start, 6_999));
        assert!(line.is_open());
        assert_eq!(line.tally().unwrap().ended, Some(HoldEnd::Lapsed));
        assert_eq!(line.renew(HoldId(1), Duration::from_secs(1), at(start, 7_000)), Err(None));
        assert_eq!(line.open(HoldId(1), at(start, 7_000)), Err(None));
    }

    #[test]
    fn one_operation_holds_at_a_time() {
        let (mut line, now) = (Line::default(), Instant::now());
        line.hold(&hold(1), now).unwrap();
        assert_eq!(line.hold(&hold(2), now), Err(Some(HoldId(1))));
        assert_eq!(line.open(HoldId(2), now), Err(Some(HoldId(1))));
        line.hold(&Hold { most: 9, ..hold(1) }, now).unwrap();
        line.open(HoldId(1), now).unwrap();
        line.hold(&hold(2), now).unwrap();
    }

    #[test]
    fn who_was_let_go_and_meets_a_second_hold_keeps_its_place() {
        let (mut line, start) = (Line::default(), Instant::now());
        line.hold(&hold(1), start).unwrap();
        let mut first = join(&mut line, 1, start);
        let mut second = join(&mut line, 1, start);
        line.open(HoldId(1), start).unwrap();
        let turn = first.turn.try_recv().unwrap();
        assert!(line.has_let_go(turn));
        line.hold(&hold(2), start).unwrap();
        assert!(!line.has_let_go(turn));
        let mut again = line.join(1, Some(turn), at(start, 10)).unwrap();
        assert_eq!(again.number, first.number);
        line.open(HoldId(2), at(start, 10)).unwrap();
        assert!(again.turn.try_recv().is_ok(), "the older one goes first");
        assert!(second.turn.try_recv().is_err());
    }

    #[test]
    fn who_comes_while_others_go_waits_behind_them() {
        let (mut line, start) = (Line::default(), Instant::now());
        line.hold(&hold(1), start).unwrap();
        let mut first = join(&mut line, 1, start);
        let mut second = join(&mut line, 1, start);
        line.open(HoldId(1), start).unwrap();
        assert!(first.turn.try_recv().is_ok());
        let mut late = join(&mut line, 1, at(start, 50));
        line.advance(at(start, 100));
        assert!(second.turn.try_recv().is_ok() && late.turn.try_recv().is_err());
        line.advance(at(start, 200));
        assert!(late.turn.try_recv().is_ok() && line.is_open());
    }
}
