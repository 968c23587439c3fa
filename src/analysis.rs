//! The usual figures of each color: requests a second, failures, latency over the last minute.
//!
//! Samples the data plane's counters once a second and keeps a minute of them. It judges nothing
//! (that is the verdict's business) and never looks at single requests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cutover_model::{AppName, Color};
use cutover_proxy::message::{Count, LATENCY_BOUNDS_US};

/// How much of the past is kept.
const WINDOW: Duration = Duration::from_secs(60);

/// How often the counters are read.
pub const EVERY: Duration = Duration::from_secs(1);

/// The counters of one color at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Totals {
    requests: u64,
    failed: u64,
    latency: Vec<u64>,
}

/// What a color did within a time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// The time that was looked at.
    pub within: Duration,
    /// Requests that the color answered or failed.
    pub requests: u64,
    /// Failures of its own making.
    pub failed: u64,
    /// The bound of the bucket below which 99 % of the latencies lie, in microseconds.
    pub p99_us: Option<u64>,
}

impl Usage {
    /// Requests a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        match self.within.as_secs_f64() {
            0.0 => 0.0,
            #[expect(clippy::cast_precision_loss, reason = "a count of one minute's requests")]
            seconds => self.requests as f64 / seconds,
        }
    }

    /// The share of failures, 0 to 1.
    #[must_use]
    pub fn failure_share(&self) -> f64 {
        match self.requests {
            0 => 0.0,
            #[expect(clippy::cast_precision_loss, reason = "a count of one minute's requests")]
            requests => self.failed as f64 / requests as f64,
        }
    }
}

type Sample = BTreeMap<(AppName, Color), Totals>;

/// A minute of samples.
#[derive(Debug, Default)]
pub struct Figures {
    samples: Mutex<VecDeque<(Instant, Sample)>>,
}

impl Figures {
    /// Takes a sample.
    pub fn sample(&self, now: Instant, counts: &[Count]) {
        let mut sample = Sample::new();
        for count in counts {
            let totals = sample.entry((count.app.clone(), count.color)).or_default();
            if matches!(count.class, cutover_proxy::message::Class::ClientFault) {
                continue;
            }
            totals.requests += count.requests;
            if count.class.is_failure() {
                totals.failed += count.requests;
            }
            totals.latency.resize(totals.latency.len().max(count.latency.len()), 0);
            for (sum, more) in totals.latency.iter_mut().zip(&count.latency) {
                *sum += more;
            }
        }
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back((now, sample));
        while samples.front().is_some_and(|(then, _)| now.duration_since(*then) > WINDOW) {
            samples.pop_front();
        }
    }

    /// What a color did in the last minute, or since the daemon started.
    #[must_use]
    pub fn usage(&self, app: &AppName, color: Color) -> Usage {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some((then, first)), Some((now, last))) = (samples.front(), samples.back()) else {
            return Usage::default();
        };
        let key = (app.clone(), color);
        let nothing = Totals::default();
        let (first, last) =
            (first.get(&key).unwrap_or(&nothing), last.get(&key).unwrap_or(&nothing));
        let latency: Vec<u64> = last
            .latency
            .iter()
            .enumerate()
            .map(|(at, sum)| sum.saturating_sub(first.latency.get(at).copied().unwrap_or(0)))
            .collect();
        Usage {
            within: now.duration_since(*then),
            requests: last.requests.saturating_sub(first.requests),
            failed: last.failed.saturating_sub(first.failed),
            p99_us: p99(&latency),
        }
    }
}

/// `cumulative`: counts at or below each bound, then all.
fn p99(cumulative: &[u64]) -> Option<u64> {
    let all = *cumulative.last().filter(|all| **all > 0)?;
    let wanted = all - all / 100;
    let place = cumulative.iter().position(|count| *count >= wanted)?;
    Some(LATENCY_BOUNDS_US.get(place).copied().unwrap_or(LATENCY_BOUNDS_US[13]))
}

#[cfg(test)]
mod tests {
    use cutover_proxy::message::Class;

    use super::*;

    fn count(class: Class, requests: u64, fast: u64) -> Count {
        let mut latency = vec![fast; LATENCY_BOUNDS_US.len()];
        latency[0] = 0;
        latency.push(requests);
        Count {
            app: "shop".parse().unwrap(),
            color: Color::Green,
            release: None,
            class,
            routed: cutover_proxy::message::Routed::Slot,
            requests,
            latency,
            latency_sum_us: 0,
        }
    }

    #[test]
    fn the_last_minute_is_the_difference_of_two_samples() {
        let figures = Figures::default();
        let start = Instant::now();
        let app: AppName = "shop".parse().unwrap();
        figures.sample(start, &[count(Class::Ok, 100, 100)]);
        let later = start + Duration::from_secs(10);
        figures.sample(later, &[count(Class::Ok, 290, 290), count(Class::ServerError, 10, 10)]);
        let usage = figures.usage(&app, Color::Green);
        assert_eq!((usage.requests, usage.failed), (200, 10));
        assert!((usage.per_second() - 20.0).abs() < 0.001);
        assert!((usage.failure_share() - 0.05).abs() < 0.001);
        assert_eq!(usage.p99_us, Some(2_500));
        assert_eq!(
            figures.usage(&app, Color::Blue),
            Usage { within: usage.within, ..Usage::default() }
        );
    }

    #[test]
    fn client_faults_are_no_requests_of_the_color() {
        let figures = Figures::default();
        let start = Instant::now();
        figures.sample(start, &[]);
        figures.sample(start + EVERY, &[count(Class::ClientFault, 50, 50)]);
        assert_eq!(figures.usage(&"shop".parse().unwrap(), Color::Green).requests, 0);
    }

    #[test]
    fn samples_older_than_a_minute_go() {
        let figures = Figures::default();
        let start = Instant::now();
        for second in 0..300 {
            figures.sample(start + Duration::from_secs(second), &[]);
        }
        assert!(figures.samples.lock().unwrap().len() <= 62);
    }
}
