//! What an incident report asks of an app: what users met before traffic went back, and whether it
//! is well now.
//!
//! The data plane keeps records of failures in memory only, so they are summed up and kept beside
//! the journal when an operation has moved traffic. Checks are made when they are asked for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use cutover_model::{Color, OperationId, OperationKind, ReleaseId, Weight};
use cutover_proxy::Cursor;
use cutover_proxy::message::{Outcome, Routed};

use super::App;
use crate::journal::{Evidence, JournalError};
use crate::reconciler::ask_once;

/// A pause after which failures are another story.
const PAUSE_MS: i64 = 10 * 60 * 1_000;

/// Failures of one release that clients met by themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Harm {
    /// When the first one ended.
    pub first_ms: Option<i64>,
    /// When the last one did.
    pub last_ms: Option<i64>,
    /// How many.
    pub failed: u64,
    /// How many clients met one.
    pub clients: u64,
    /// Whether older records were overwritten before anybody looked.
    pub lost: bool,
}

impl App {
    /// What users met from a release before it lost the traffic, as far as records reach: the last
    /// failures without a pause of ten minutes.
    #[must_use]
    pub fn harm(&self, release: ReleaseId) -> Harm {
        let color = self.state().standing(release).map(|standing| standing.release.color);
        // A cursor of our own reads everything that is still kept, and takes it from nobody.
        let seen = self.shared.proxy.outcomes(&mut Cursor::default());
        let is_its = |failure: &&Outcome| {
            let by_color = failure.release.is_none() && Some(failure.color) == color;
            failure.app == self.name
                && failure.routed == Routed::Slot
                && (failure.release == Some(release) || by_color)
        };
        sum(seen.failures.iter().filter(is_its), seen.lost > 0)
    }

    /// Keeps what users met with an operation that took the traffic from a release.
    pub(super) async fn keep_harm(&self, operation: OperationId) {
        let state = self.state();
        let Some(asked) = state.operations.get(&operation) else { return };
        let from = match &asked.what {
            OperationKind::Rollback { from: Some(from), .. }
            | OperationKind::Remake { from: Some(from), .. } => *from,
            OperationKind::Abort => {
                let moved = asked.moved.as_ref();
                match moved.and_then(|m| *m.colors.get(m.before.canary())) {
                    Some(canary) => canary,
                    None => return,
                }
            }
            _ => return,
        };
        let color = state.standing(from).map_or(Color::Blue, |s| s.release.color);
        let counts = counted(&self.harm(from), color);
        let journal = &self.shared.journal;
        let epoch = journal.epoch();
        if let Err(error) = journal.put_evidence(&self.name, epoch, operation, counts).await {
            tracing::warn!(%operation, %error, "what users met is not kept for the report");
        }
    }

    /// What was kept with an operation; `None`: nothing was.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn kept_harm(&self, operation: OperationId) -> Result<Option<Harm>, JournalError> {
        Ok(read(&self.shared.journal.evidence(&self.name, operation).await?))
    }

    /// Asks what serves whether it is ready, as a deploy would: once, on the color's own address.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn check_health(&self) -> Result<(String, Duration), String> {
        let target = self.probe_target(self.state().split.leading()).await?;
        let target = target.ok_or("no probe is configured")?;
        let took = ask_once(&target).await?;
        Ok((target.path, took))
    }

    /// Asks the same on a public listener: the way that users take.
    ///
    /// # Errors
    /// Why there is no good answer.
    pub async fn check_access(&self, listen: SocketAddr) -> Result<(SocketAddr, Duration), String> {
        let target = self.probe_target(self.state().split.leading()).await?;
        let mut target = target.ok_or("no probe is configured")?;
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        target.address = SocketAddr::new(ip, listen.port());
        let took = ask_once(&target).await?;
        Ok((target.address, took))
    }
}

/// The last failures without a long pause.
fn sum<'o>(failures: impl DoubleEndedIterator<Item = &'o Outcome>, lost: bool) -> Harm {
    let (mut harm, mut clients) = (Harm { lost, ..Harm::default() }, BTreeSet::new());
    for failure in failures.rev() {
        if harm.first_ms.is_some_and(|later| later - failure.at_ms > PAUSE_MS) {
            // What is older is another story, so nothing of this one was lost.
            harm.lost = false;
            break;
        }
        harm.last_ms.get_or_insert(failure.at_ms);
        harm.first_ms = Some(failure.at_ms);
        harm.failed += 1;
        clients.insert(failure.client);
    }
    harm.clients = clients.len() as u64;
    harm
}

fn counted(harm: &Harm, color: Color) -> Vec<Evidence> {
    let time = |at: Option<i64>| at.and_then(|at| u64::try_from(at).ok()).unwrap_or(0);
    let counts = [
        ("users.failed", harm.failed),
        ("users.clients", harm.clients),
        ("users.first_ms", time(harm.first_ms)),
        ("users.last_ms", time(harm.last_ms)),
        ("users.lost", u64::from(harm.lost)),
    ];
    let one = |(kind, count): (&str, u64)| Evidence {
        weight: Weight::ZERO,
        color,
        kind: kind.to_owned(),
        count,
    };
    counts.map(one).to_vec()
}

fn read(counts: &[Evidence]) -> Option<Harm> {
    let of = |kind: &str| counts.iter().find(|c| c.kind == kind).map(|c| c.count);
    let time = |kind| of(kind).filter(|at| *at > 0).and_then(|at| i64::try_from(at).ok());
    Some(Harm {
        failed: of("users.failed")?,
        clients: of("users.clients")?,
        first_ms: time("users.first_ms"),
        last_ms: time("users.last_ms"),
        lost: of("users.lost").is_some_and(|lost| lost > 0),
    })
}

#[cfg(test)]
mod tests {
    use cutover_model::{Generation, Role};
    use cutover_proxy::message::Class;

    use super::*;

    fn failure(at_ms: i64, client: u64) -> Outcome {
        Outcome {
            at_ms,
            app: "shop".parse().unwrap(),
            release: Some(ReleaseId(7)),
            color: Color::Green,
            role: Role::Stable,
            generation: Generation(1),
            route: 0,
            class: Class::ServerError,
            status: Some(500),
            method: "GET".into(),
            path: "/".into(),
            client,
            latency_us: 1,
            attempt: 1,
            routed: Routed::Slot,
        }
    }

    #[test]
    fn failures_before_a_long_pause_are_another_story() {
        let failures = [failure(1, 1), failure(PAUSE_MS + 10, 2), failure(PAUSE_MS + 20, 2)];
        let harm = sum(failures.iter(), true);
        let times = (harm.first_ms, harm.last_ms);
        assert_eq!(times, (Some(PAUSE_MS + 10), Some(PAUSE_MS + 20)));
        assert_eq!((harm.failed, harm.clients, harm.lost), (2, 1, false));
        assert_eq!(sum([].iter(), true), Harm { lost: true, ..Harm::default() });
    }

    #[test]
    fn what_is_kept_is_read_again() {
        for harm in [Harm::default(), sum([failure(5, 1), failure(9, 2)].iter(), true)] {
            assert_eq!(read(&counted(&harm, Color::Blue)), Some(harm));
        }
        assert_eq!(read(&[]), None);
    }
}
