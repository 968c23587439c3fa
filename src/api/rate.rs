//! How often one user may ask: a bucket of tokens for each.
//!
//! Guards the daemon from a script that runs wild, not from an attacker: who comes this far was let
//! in by the socket. A cut-back is never refused for it; that is the caller's part.
//! Invariant: at most `USERS` buckets are kept; users beyond share one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Requests a second that go on for ever.
const PER_SECOND: f64 = 200.0;

/// Requests at once.
const BURST: f64 = 400.0;

/// Users with a bucket of their own.
const USERS: usize = 64;

/// The bucket of the users beyond.
const OTHERS: u32 = u32::MAX;

/// All buckets.
#[derive(Debug, Default)]
pub struct Rate {
    buckets: Mutex<HashMap<u32, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Whether a request may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// It may.
    Go,
    /// It comes too soon.
    TooSoon,
}

impl Rate {
    /// Takes a token of a user's bucket.
    pub fn take(&self, user: u32, now: Instant) -> Pass {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !buckets.contains_key(&user);
        let user = if is_new && buckets.len() >= USERS { OTHERS } else { user };
        let bucket = buckets.entry(user).or_insert(Bucket { tokens: BURST, at: now });
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + since * PER_SECOND).min(BURST);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Pass::TooSoon;
        }
        bucket.tokens -= 1.0;
        Pass::Go
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn passed(rate: &Rate, user: u32, now: Instant) -> usize {
        (0..1_000).filter(|_| rate.take(user, now) == Pass::Go).count()
    }

    #[test]
    fn a_flood_of_one_user_ends_and_another_is_not_held_back() {
        let (rate, now) = (Rate::default(), Instant::now());
        assert_eq!(passed(&rate, 0, now), 400);
        assert_eq!(passed(&rate, 0, now), 0);
        assert_eq!(passed(&rate, 1000, now), 400);
        assert_eq!(passed(&rate, 0, now + Duration::from_millis(500)), 100);
        assert_eq!(passed(&rate, 0, now + Duration::from_secs(3_600)), 400);
    }

    #[test]
    fn buckets_are_bounded() {
        let (rate, now) = (Rate::default(), Instant::now());
        for user in 0..10_000 {
            rate.take(user, now);
        }
        assert!(rate.buckets.lock().unwrap().len() <= USERS + 1);
    }
}
