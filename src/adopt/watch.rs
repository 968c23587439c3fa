//! The comparison after the ports were taken, and its way back.
//!
//! For a minute every new error undoes the adoption: requests that reach no container, answers that
//! fail more often than the operator's file allows, connections that the firewall swallows, and
//! connections that the proxy never takes up. The judgement is pure; [`over`] feeds it and removes
//! the rule at once when it says so.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cutover_model::{Redirect, Weight};

use super::AdoptError;
use crate::host::redirect::count::{self, Arrivals};
use crate::host::redirect::outside::Answer;
use crate::host::redirect::{self, Reach, left};

/// What the proxy counted since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests of the app.
    pub requests: u64,
    /// Of those, how many reached no container, broke, or came too late (502, 504).
    pub unreached: u64,
    /// Of those, how many the app answered with 5xx by itself.
    pub server_errors: u64,
    /// Requests that matched no route at all.
    pub unrouted: u64,
    /// Connections that the proxy accepted on the landing; `None`: not counted.
    pub accepted: Option<u64>,
    /// Requests whose time in the proxy was measured, and the sum of those times in nanoseconds.
    pub added: (u64, u64),
}

/// What is judged, and how strictly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long is compared.
    pub length: Duration,
    /// The share of requests that may fail by the app's own doing, as it may have done before.
    pub max_error_rate: Weight,
    /// Whether clients reached the ports by IPv4 before: only then silence is a loss.
    pub judge_v4: Family,
    /// The same for IPv6.
    pub judge_v6: Family,
}

/// Whether silence in one family means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// It was reached before: it must be reached now.
    Judged,
    /// It was not, or nobody could tell.
    Ignored,
}

impl Limits {
    /// The limits that follow from the check from outside.
    #[must_use]
    pub fn from_reach(length: Duration, max_error_rate: Weight, reach: &[Reach]) -> Self {
        let family = |v6: bool| {
            let was_reached = |r: &&Reach| r.before == Answer::Yes;
            match reach.iter().filter(|r| r.lead.address.is_ipv6() == v6).find(was_reached) {
                Some(_) => Family::Judged,
                None => Family::Ignored,
            }
        };
        Self { length, max_error_rate, judge_v4: family(false), judge_v6: family(true) }
    }
}

/// The end of a comparison that found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// How long it took.
    pub length: Duration,
    /// Requests through Cutover.
    pub requests: u64,
    /// Of those, how many failed by the app's own doing.
    pub server_errors: u64,
    /// Requests that matched no route.
    pub unrouted: u64,
    /// Connections that are still open on the old owner.
    pub left: usize,
    /// What the proxy itself added to a request, on average; `None`: nothing was measured.
    pub added: Option<Duration>,
}

impl std::fmt::Display for Summary {
    /// `60 s: 2,462 requests, 0 failed, 0.2 ms added.`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.length.as_secs();
        let (requests, failed) = (grouped(self.requests), grouped(self.server_errors));
        write!(f, "{seconds} s: {requests} requests, {failed} failed")?;
        if let Some(added) = self.added {
            write!(f, ", {} added", short(added))?;
        }
        write!(f, ".")?;
        if self.unrouted > 0 {
            write!(f, " {} asked for a host or path that no route names.", grouped(self.unrouted))?;
        }
        if self.requests == 0 {
            write!(f, " Nobody asked for anything.")?;
        }
        if self.left > 0 {
            write!(f, " {} older connections end where they began.", grouped(self.left as u64))?;
        }
        Ok(())
    }
}

/// `0.2 ms`; below a tenth with two digits, since it is never nothing.
fn short(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1_000.0;
    match ms {
        ..0.095 => format!("{:.2} ms", ms.max(0.01)),
        _ => format!("{ms:.1} ms"),
    }
}

/// `2462` as `2,462`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One look at all counters.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    at: Duration,
    traffic: Traffic,
    arrivals: Arrivals,
}

/// Silence counts after this long: a client's first two retransmissions are in it.
const SILENCE: Duration = Duration::from_secs(4);
/// How many beginnings of connections must have gone unanswered.
const UNANSWERED: u64 = 3;
/// So many failures are needed before a share of them means anything.
const FEW: u64 = 5;
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Feeds on samples and says what is wrong, if something is.
#[derive(Debug)]
struct Judge {
    limits: Limits,
    first: Sample,
    // Bounded by SILENCE / LOOK_EVERY.
    recent: VecDeque<Sample>,
}

impl Judge {
    fn new(limits: Limits, first: Sample) -> Self {
        Self { limits, first, recent: VecDeque::from([first]) }
    }

    fn look(&mut self, now: Sample) -> Result<(), String> {
        let since = |now: u64, then: u64| now.saturating_sub(then);
        let all = |pick: fn(&Traffic) -> u64| since(pick(&now.traffic), pick(&self.first.traffic));
        let unreached = all(|t| t.unreached);
        if unreached > 0 {
            return Err(format!("{unreached} requests got no answer from the containers"));
        }
        let (requests, failed) = (all(|t| t.requests), all(|t| t.server_errors));
        self.share(failed, requests, "answers were errors of the app")?;
        let unrouted = all(|t| t.unrouted);
        self.share(unrouted, requests + unrouted, "requests matched no route in cutover.toml")?;
        let result = self.silence(now);
        self.recent.push_back(now);
        while self.recent.get(1).is_some_and(|next| now.at.saturating_sub(next.at) >= SILENCE) {
            self.recent.pop_front();
        }
        result
    }

    fn share(&self, bad: u64, of: u64, what: &str) -> Result<(), String> {
        let limit = u64::from(self.limits.max_error_rate.basis_points());
        if bad < FEW || bad * 10_000 <= of * limit {
            return Ok(());
        }
        Err(format!("{} of {} {what}", grouped(bad), grouped(of)))
    }

    /// Traffic that dries up: it arrives at this host, and nobody takes it up.
    fn silence(&self, now: Sample) -> Result<(), String> {
        let Some(then) = self.recent.front() else { return Ok(()) };
        if now.at.saturating_sub(then.at) < SILENCE {
            return Ok(());
        }
        let mut passed = 0;
        for (family, judged, now, then) in [
            ("IPv4", self.limits.judge_v4, now.arrivals.v4, then.arrivals.v4),
            ("IPv6", self.limits.judge_v6, now.arrivals.v6, then.arrivals.v6),
        ] {
            let in_time = now.passed.saturating_sub(then.passed);
            let arrived = now.arrived.saturating_sub(then.arrived);
            passed += in_time;
            if judged == Family::Judged && in_time == 0 && arrived >= UNANSWERED {
                return Err(format!(
                    "this host's firewall drops new {family} connections: {arrived} arrived within \
                     {} s, none came through",
                    SILENCE.as_secs()
                ));
            }
        }
        if let (Some(now), Some(then)) = (now.traffic.accepted, then.traffic.accepted)
            && now == then
            && passed >= UNANSWERED
        {
            return Err(format!("{passed} connections came, the proxy took up none of them"));
        }
        Ok(())
    }
}

/// Watches until the time is over; removes the rule at the first new error.
///
/// # Errors
/// [`AdoptError::Undone`] when the rule was removed, [`AdoptError::Redirect`] when the host's tools
/// fail; then the rule is removed as well, as far as they let us.
pub async fn over(
    rule: &Redirect,
    limits: Limits,
    inside: &[left::Inside],
    traffic: impl Fn() -> Traffic,
) -> Result<Summary, AdoptError> {
    let counting = match count::start(&rule.table, &rule.leads).await {
        Ok(counting) => counting,
        Err(error) => {
            redirect::remove(rule).await?;
            return Err(error.into());
        }
    };
    let result = until_the_end(limits, &counting, &traffic).await;
    let stopped = counting.stop().await;
    match result {
        Ok((first, last)) => {
            stopped?;
            let since = |pick: fn(&Traffic) -> u64| {
                pick(&last.traffic).saturating_sub(pick(&first.traffic))
            };
            Ok(Summary {
                length: last.at,
                requests: since(|t| t.requests),
                server_errors: since(|t| t.server_errors),
                unrouted: since(|t| t.unrouted),
                left: left::count(&rule.ports(), inside)?,
                added: since(|t| t.added.1)
                    .checked_div(since(|t| t.added.0))
                    .map(Duration::from_nanos),
            })
        }
        Err(why) => {
            redirect::remove(rule).await?;
            Err(why)
        }
    }
}

async fn until_the_end(
    limits: Limits,
    counting: &count::Counting,
    traffic: &impl Fn() -> Traffic,
) -> Result<(Sample, Sample), AdoptError> {
    let start = Instant::now();
    let length = limits.length;
    let sample = async || -> Result<Sample, AdoptError> {
        let arrivals = counting.read().await?;
        Ok(Sample { at: start.elapsed(), traffic: traffic(), arrivals })
    };
    let first = sample().await?;
    let mut judge = Judge::new(limits, first);
    let mut beat = tokio::time::interval(LOOK_EVERY);
    loop {
        beat.tick().await;
        let now = sample().await?;
        judge.look(now).map_err(AdoptError::Undone)?;
        if now.at >= length {
            return Ok((first, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::redirect::count::Passage;

    fn limits() -> Limits {
        Limits {
            length: Duration::from_secs(60),
            max_error_rate: Weight::from_basis_points(200).unwrap(),
            judge_v4: Family::Judged,
            judge_v6: Family::Ignored,
        }
    }

    fn sample(at: u64, traffic: Traffic, arrived: u64, passed: u64) -> Sample {
        let arrivals = Arrivals { v4: Passage { arrived, passed }, v6: Passage::default() };
        Sample { at: Duration::from_secs(at), traffic, arrivals }
    }

    /// Looks once a second at what `counters` gives; the first complaint with its second.
    fn check(counters: impl Fn(u64) -> (Traffic, u64, u64)) -> Option<(u64, String)> {
        let make = |at| {
            let (traffic, arrived, passed) = counters(at);
            sample(at, traffic, arrived, passed)
        };
        let mut judge = Judge::new(limits(), make(0));
        (1..=60).find_map(|at| judge.look(make(at)).err().map(|why| (at, why)))
    }

    fn calm(at: u64) -> Traffic {
        Traffic { requests: 40 * at, accepted: Some(10 * at), ..Traffic::default() }
    }

    #[test]
    fn a_calm_minute_passes_and_so_does_a_quiet_one() {
        assert_eq!(check(|at| (calm(at), 10 * at, 10 * at)), None);
        assert_eq!(check(|_| (Traffic::default(), 0, 0)), None);
    }

    #[test]
    fn one_request_that_reaches_no_container_undoes_it_at_once() {
        let found = check(|at| (Traffic { unreached: u64::from(at >= 7), ..calm(at) }, 0, 0));
        assert_eq!(found.unwrap().0, 7);
    }

    #[test]
    fn errors_that_the_app_always_made_do_not_undo_it() {
        let rare = |at: u64| Traffic { server_errors: at / 10, ..calm(at) };
        assert_eq!(check(|at| (rare(at), 0, 0)), None);
        let many = |at: u64| Traffic { server_errors: 4 * at, ..calm(at) };
        let (at, why) = check(|at| (many(at), 0, 0)).unwrap();
        assert!(at <= 2 && why.contains("errors of the app"), "{at} {why}");
    }

    #[test]
    fn traffic_that_the_firewall_swallows_undoes_it() {
        let (at, why) = check(|at| (calm(at), 5 * at, at.min(20) * 5)).unwrap();
        assert!((21..=26).contains(&at) && why.contains("firewall"), "{at} {why}");
    }

    #[test]
    fn traffic_that_the_proxy_does_not_take_up_undoes_it() {
        let deaf = |at: u64| Traffic { accepted: Some(at.min(10)), ..calm(at) };
        let (at, why) = check(|at| (deaf(at), 5 * at, 5 * at)).unwrap();
        assert!((11..=16).contains(&at) && why.contains("proxy"), "{at} {why}");
    }

    #[test]
    fn requests_without_a_route_undo_it_when_they_are_many() {
        let lost = |at: u64| Traffic { unrouted: 20 * at, ..calm(at) };
        assert!(check(|at| (lost(at), 0, 0)).unwrap().1.contains("no route"));
    }

    #[test]
    fn the_summary_reads_like_a_sentence() {
        let mut summary = Summary {
            length: Duration::from_secs(60),
            requests: 2462,
            server_errors: 0,
            unrouted: 0,
            left: 0,
            added: None,
        };
        assert_eq!(summary.to_string(), "60 s: 2,462 requests, 0 failed.");
        summary.left = 3;
        assert!(summary.to_string().ends_with("3 older connections end where they began."));
        summary.left = 0;
        for (micros, said) in [(214, "0.2 ms"), (96, "0.1 ms"), (58, "0.06 ms"), (2_040, "2.0 ms")]
        {
            summary.added = Some(Duration::from_micros(micros));
            let expected = format!("60 s: 2,462 requests, 0 failed, {said} added.");
            assert_eq!(summary.to_string(), expected);
        }
        assert_eq!(grouped(1_000_000), "1,000,000");
    }
}
