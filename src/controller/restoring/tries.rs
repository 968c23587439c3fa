//! How often something that is away is tried, and with which pauses: random ones, so that two that
//! met each other do not meet again.

use std::fmt;
use std::time::Duration;

/// Tries of one stage before a person is asked.
const TRIES: u32 = 3;
/// The mean of the first pause; three times as long after it.
const FIRST: Duration = Duration::from_secs(2);

/// The tries so far.
#[derive(Debug)]
pub(super) struct Tries {
    /// The number of the one that runs, or was the last.
    number: u32,
}

impl Tries {
    pub(super) fn new() -> Self {
        Self { number: 1 }
    }

    /// The pause before the next try, which is counted with it; `None`: there is none.
    pub(super) fn pause(&mut self) -> Option<Duration> {
        if self.number >= TRIES {
            return None;
        }
        let mean = FIRST * 3_u32.pow(self.number - 1);
        self.number += 1;
        Some(mean.mul_f64(rand::Rng::random_range(&mut rand::rng(), 0.5..1.5)))
    }

    /// Why it ends, with the tries where there was more than one.
    pub(super) fn told(&self, why: &str) -> String {
        match self.number {
            1 => why.to_owned(),
            tries => format!("{why} ({tries} tries)"),
        }
    }
}

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "try {} of {TRIES}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_three_tries_with_longer_pauses_that_are_never_the_same() {
        let pauses = || {
            let mut tries = Tries::new();
            let pauses: Vec<Duration> = std::iter::from_fn(|| tries.pause()).collect();
            assert_eq!(tries.told("away"), "away (3 tries)");
            pauses
        };
        let (one, other) = (pauses(), pauses());
        assert_eq!(one.len(), 2);
        assert!(one[0] >= FIRST / 2 && one[0] < FIRST * 2 && one[1] > one[0], "{one:?}");
        assert_ne!(one, other);
        assert_eq!(Tries::new().told("away"), "away");
    }
}
