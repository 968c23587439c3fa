//! The usual figures of each color: requests a second, failures, latency over the last minute.
//!
//! Samples the data plane's counters once a second and keeps a minute of them. It judges nothing
//! (that is the verdict's business) and never looks at single requests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cutover_model::{AppName, Color, ReleaseId};
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

/// A minute of samples, and what was usual in the minutes before.
#[derive(Debug, Default)]
pub struct Figures {
    samples: Mutex<VecDeque<(Instant, Sample)>>,
    usual: Mutex<Usual>,
}

/// Minutes that make the usual: an hour.
const MINUTES: usize = 60;
/// Requests that a minute needs to say anything of its latency.
const ENOUGH: u64 = 30;

/// The latency of whole minutes, by release: a color's next release has a usual of its own.
#[derive(Debug, Default)]
struct Usual {
    begun: Option<Instant>,
    before: BTreeMap<(AppName, ReleaseId), Vec<u64>>,
    minutes: BTreeMap<(AppName, ReleaseId), VecDeque<u64>>,
}

impl Usual {
    fn sample(&mut self, now: Instant, counts: &[Count]) {
        let begun = *self.begun.get_or_insert(now);
        let is_first = begun == now;
        if !is_first && now.duration_since(begun) < WINDOW {
            return;
        }
        self.begun = Some(now);
        let mut sums = BTreeMap::<(AppName, ReleaseId), Vec<u64>>::new();
        for count in counts {
            let Some(release) = count.release else { continue };
            if !matches!(count.class, cutover_proxy::message::Class::ClientFault) {
                let sum = sums.entry((count.app.clone(), release)).or_default();
                add(sum, &count.latency);
            }
        }
        self.minutes.retain(|key, _| sums.contains_key(key));
        for (key, sum) in &sums {
            let nothing = Vec::new();
            let minute = less(sum, self.before.get(key).unwrap_or(&nothing));
            let Some(p99) = p99(&minute).filter(|_| minute.last() >= Some(&ENOUGH)) else {
                continue;
            };
            if is_first {
                continue;
            }
            let minutes = self.minutes.entry(key.clone()).or_default();
            minutes.push_back(p99);
            if minutes.len() > MINUTES {
                minutes.pop_front();
            }
        }
        self.before = sums;
    }
}

fn add(sum: &mut Vec<u64>, more: &[u64]) {
    sum.resize(sum.len().max(more.len()), 0);
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

fn less(now: &[u64], before: &[u64]) -> Vec<u64> {
    let of = |(at, sum): (usize, &u64)| sum.saturating_sub(before.get(at).copied().unwrap_or(0));
    now.iter().enumerate().map(of).collect()
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
            add(&mut totals.latency, &count.latency);
        }
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back((now, sample));
        while samples.front().is_some_and(|(then, _)| now.duration_since(*then) > WINDOW) {
            samples.pop_front();
        }
        drop(samples);
        self.usual.lock().unwrap_or_else(PoisonError::into_inner).sample(now, counts);
    }

    /// The usual 99th percentile of a release, in microseconds: the middle one of the minutes of
    /// its last hour. `None`: there was no minute with enough requests.
    #[must_use]
    pub fn usual_p99_us(&self, app: &AppName, release: ReleaseId) -> Option<u64> {
        let usual = self.usual.lock().unwrap_or_else(PoisonError::into_inner);
        let minutes = usual.minutes.get(&(app.clone(), release))?;
        let mut sorted: Vec<u64> = minutes.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
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
        let latency = less(&last.latency, &first.latency);
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
    fn the_usual_is_the_middle_of_the_minutes_of_a_release() {
        let (figures, start) = (Figures::default(), Instant::now());
        let (app, release): (AppName, _) = ("shop".parse().unwrap(), ReleaseId(3));
        let one = |requests, fast| {
            vec![Count { release: Some(release), ..count(Class::Ok, requests, fast) }]
        };
        let minute = |minute: u32| start + WINDOW * minute;
        figures.sample(start, &one(500, 0));
        assert_eq!(figures.usual_p99_us(&app, release), None, "what was before is no minute");
        figures.sample(minute(1), &one(600, 100));
        figures.sample(minute(2), &one(610, 110));
        assert_eq!(figures.usual_p99_us(&app, release), Some(2_500), "ten requests say nothing");
        figures.sample(minute(3), &one(710, 110));
        figures.sample(minute(4), &one(810, 110));
        assert_eq!(figures.usual_p99_us(&app, release), Some(LATENCY_BOUNDS_US[13]));
        figures.sample(minute(5), &[]);
        assert_eq!(figures.usual_p99_us(&app, release), None, "it is gone with its release");
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
