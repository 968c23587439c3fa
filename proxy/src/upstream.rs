//! Upstreams: the endpoints of one service in one color, their load, their idle connections.
//!
//! It chooses an endpoint and lends connections; it does not retry (`forward` does). Each worker
//! has cells and idle lists of its own. Invariant: an endpoint that cannot be reached is left alone
//! for a while, but never the last one.

mod connect;
mod endpoint;
mod idle;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

pub(crate) use connect::{Connection, FirstByte, UpstreamIo, connect};
pub(crate) use endpoint::{Endpoint, Load};
pub(crate) use idle::IdleRoom;

/// A retry costs this much of the budget; a first attempt adds one: 20 % retries in the long run.
const RETRY_COST: i64 = 5;
/// What the budget holds at most and at first: ten retries in a row.
const BUDGET: i64 = 10 * RETRY_COST;

/// The endpoints of one service in one color.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) endpoints: Box<[Arc<Endpoint>]>,
    budgets: Box<[Budget]>,
}

#[derive(Debug)]
#[repr(align(64))]
struct Budget(AtomicI64);

impl Upstream {
    pub(crate) fn new(endpoints: Box<[Arc<Endpoint>]>, workers: usize) -> Self {
        let budgets = (0..workers).map(|_| Budget(AtomicI64::new(BUDGET))).collect();
        Self { endpoints, budgets }
    }

    /// Power of two choices over what this worker has in flight, among endpoints that are neither
    /// tried already nor left alone. When all are left alone, one of them is asked all the same.
    pub(crate) fn pick(&self, worker: usize, now_ms: u64, tried: &Tried) -> Option<&Arc<Endpoint>> {
        match &*self.endpoints {
            [] => None,
            [only] => (!tried.has(0)).then_some(only),
            all => {
                let ready = |at: &usize| {
                    !tried.has(*at) && all.get(*at).is_some_and(|e| e.is_ready(worker, now_ms))
                };
                let untried = |at: &usize| !tried.has(*at);
                let at = two(all, worker, ready).or_else(|| two(all, worker, untried))?;
                all.get(at)
            }
        }
    }

    /// Notes a first attempt.
    pub(crate) fn earn(&self, worker: usize) {
        if let Some(Budget(left)) = self.budgets.get(worker)
            && left.load(Ordering::Relaxed) < BUDGET
        {
            left.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a retry from the budget, if it has one left.
    pub(crate) fn spend(&self, worker: usize) -> bool {
        self.budgets.get(worker).is_some_and(|Budget(left)| {
            let enough = left.load(Ordering::Relaxed) >= RETRY_COST;
            if enough {
                left.fetch_sub(RETRY_COST, Ordering::Relaxed);
            }
            enough
        })
    }
}

/// The less loaded of two endpoints drawn from those that fit.
fn two(all: &[Arc<Endpoint>], worker: usize, fits: impl Fn(&usize) -> bool) -> Option<usize> {
    let count = (0..all.len()).filter(&fits).count();
    if count == 0 {
        return None;
    }
    let draw = |from: usize| rand::random_range(0..from);
    let nth = |n: usize| (0..all.len()).filter(&fits).nth(n);
    let first = draw(count);
    // The second one is another one, if there is another.
    let second = if count == 1 { first } else { (first + 1 + draw(count - 1)) % count };
    let load = |n: usize| nth(n).and_then(|at| all.get(at)).map(|e| e.load(worker));
    nth(if load(second) < load(first) { second } else { first })
}

/// The endpoints that one request has asked already, by their place; beyond 64 places they may be
/// asked twice.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tried(u64);

impl Tried {
    fn has(self, at: usize) -> bool {
        at < 64 && self.0 & (1 << at) != 0
    }

    pub(crate) fn add(&mut self, upstream: &Upstream, endpoint: &Arc<Endpoint>) {
        let at = upstream.endpoints.iter().position(|other| Arc::ptr_eq(other, endpoint));
        if let Some(at) = at.filter(|at| *at < 64) {
            self.0 |= 1 << at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(count: u16) -> Upstream {
        let endpoint = |port| {
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
            Arc::new(Endpoint::new(port.to_string(), address, 1))
        };
        Upstream::new((1..=count).map(endpoint).collect(), 1)
    }

    #[test]
    fn load_is_spread_and_the_idle_one_is_preferred() {
        let upstream = upstream(3);
        let mut seen = [0; 3];
        let mut loads = Vec::new();
        for _ in 0..300 {
            let endpoint = upstream.pick(0, 0, &Tried::default()).unwrap().clone();
            seen[usize::from(endpoint.address.port()) - 1] += 1;
            loads.push(Load::new(endpoint, 0));
        }
        assert!(seen.iter().all(|count| (70..=130).contains(count)), "{seen:?}");
    }

    #[test]
    fn an_endpoint_that_fails_is_left_alone_but_never_the_last() {
        let upstream = upstream(2);
        upstream.endpoints[0].failed(0, 1_000);
        for _ in 0..50 {
            let picked = upstream.pick(0, 1_000, &Tried::default()).unwrap();
            assert_eq!(picked.address.port(), 2);
        }
        upstream.endpoints[1].failed(0, 1_000);
        assert!(upstream.pick(0, 1_000, &Tried::default()).is_some());
        let later = (0..100).filter_map(|_| upstream.pick(0, 60_000, &Tried::default()));
        let ports: std::collections::HashSet<_> = later.map(|e| e.address.port()).collect();
        assert_eq!(ports.len(), 2);
    }

    #[test]
    fn a_request_asks_each_endpoint_once() {
        let upstream = upstream(3);
        let mut tried = Tried::default();
        for _ in 0..3 {
            let endpoint = upstream.pick(0, 0, &tried).unwrap().clone();
            tried.add(&upstream, &endpoint);
        }
        assert!(upstream.pick(0, 0, &tried).is_none());
    }

    #[test]
    fn retries_are_a_fifth_of_the_requests_in_the_long_run() {
        let upstream = upstream(1);
        let mut retried = 0;
        for _ in 0..10_000 {
            upstream.earn(0);
            retried += u32::from(upstream.spend(0));
        }
        assert!((2_000..=2_020).contains(&retried), "{retried}");
    }
}
