//! What the tests stand on: stacks of containers that clean up after themselves, the real
//! `cutover` program, a load of many clients, and an eye on PostgreSQL.
//!
//! It decides nothing about what is right; the tests do. Nothing here waits blindly: every wait
//! is for a condition and has a deadline.

pub(crate) mod daemon;
pub(crate) mod engine;
pub(crate) mod fronted;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod observer;
pub(crate) mod own_engine;
pub(crate) mod ports;
pub(crate) mod postgres;
pub(crate) mod shop;
pub(crate) mod stack;
pub(crate) mod traces;
pub(crate) mod turn;
pub(crate) mod wire;
pub(crate) mod witness;

use std::time::{Duration, Instant};

/// Asks until the answer is there. Panics with `what` at the deadline.
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
