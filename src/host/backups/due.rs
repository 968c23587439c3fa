//! When a backup is due: a schedule as cron has it, in the time zone of this machine.
//!
//! Pure but for the time zone. Runs that were missed, however many, are one run. The only home of
//! croner, with the moments that it speaks of.

use std::str::FromStr as _;

use chrono::{DateTime, Local, TimeZone};
use croner::Cron;
use cutover_model::Millis;

/// After a failed run it is tried again so soon, in milliseconds.
const AGAIN_MS: i64 = 10 * 60 * 1_000;
/// How often a run that fails is tried again before the next regular one.
const AGAIN: u32 = 3;

/// More minutes than a clock ever goes through twice.
const REPEATED_MINUTES: u32 = 3 * 60;

/// The first moment of a schedule after this one; `None`: it means none.
#[must_use]
pub fn next(cron: &str, after: Millis) -> Option<Millis> {
    next_in(&Local, cron, after)
}

fn next_in<Z: TimeZone>(zone: &Z, cron: &str, after: Millis) -> Option<Millis> {
    let cron = Cron::from_str(cron).ok()?;
    let after: DateTime<Z> = zone.timestamp_millis_opt(after.0).single()?;
    let mut from = after.clone();
    // In the second pass of an hour that a clock goes through twice, the first one is answered.
    for _ in 0..REPEATED_MINUTES {
        let next = cron.find_next_occurrence(&from, false).ok()?;
        // What is asked in the middle of a second is answered in the middle of one.
        if next > after {
            return Some(Millis(next.timestamp() * 1_000));
        }
        from += chrono::TimeDelta::minutes(1);
    }
    None
}

/// When the next run is due. `last`: when the newest one began, or since when the schedule is
/// known; `failures`: how many have failed since one succeeded. A clock that went back does not
/// keep a run from its time.
#[must_use]
pub fn due(cron: &str, last: Millis, failures: u32, now: Millis) -> Option<Millis> {
    let last = last.min(now);
    let regular = next(cron, last)?;
    match failures {
        1..=AGAIN => Some(regular.min(Millis(last.0 + AGAIN_MS))),
        _ => Some(regular),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, Utc};

    use super::*;

    /// Sunday, 22 November 2026, 00:00 UTC.
    const SUNDAY: i64 = 1_795_305_600_000;
    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_schedule_means_the_clock_of_its_zone() {
        let next_at =
            |cron, after| next_in(&Utc, cron, Millis(SUNDAY + after)).map(|at| at.0 - SUNDAY);
        assert_eq!(next_at("0 3 * * *", 0), Some(3 * HOUR));
        assert_eq!(next_at("0 3 * * *", 3 * HOUR), Some(27 * HOUR), "not the same moment again");
        assert_eq!(next_at("*/15 * * * *", HOUR), Some(HOUR + HOUR / 4));
        assert_eq!(next_at("0 3 * * 1", 0), Some(27 * HOUR), "Monday");
        assert_eq!(next_at("nonsense", 0), None);
        let east = FixedOffset::east_opt(8 * 3_600).unwrap();
        let there = next_in(&east, "0 3 * * *", Millis(SUNDAY)).unwrap();
        assert_eq!(there.0 - SUNDAY, 19 * HOUR, "03:00 in +08:00");
    }

    #[test]
    fn missed_runs_are_one_and_a_failed_one_is_tried_again() {
        let hourly = "0 * * * *";
        let now = Millis(SUNDAY + 100 * HOUR + 1);
        let at = |last, failures| due(hourly, Millis(SUNDAY + last), failures, now).unwrap();
        assert!(at(0, 0) <= now, "a run was missed");
        assert_eq!(at(100 * HOUR, 0).0, SUNDAY + 101 * HOUR, "after one run none is missed");
        assert_eq!(at(100 * HOUR, 1).0, SUNDAY + 100 * HOUR + AGAIN_MS);
        assert_eq!(at(100 * HOUR, 4).0, SUNDAY + 101 * HOUR, "not for ever");
        assert_eq!(at(500 * HOUR, 0).0, SUNDAY + 101 * HOUR, "the clock went back");
    }
}
