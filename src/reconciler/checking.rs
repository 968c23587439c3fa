//! What proves that an app works: smoke probes of a color, integrity queries of its database.
//!
//! Each is run once, in the order of the operator's file, within its own time limit. Nothing is
//! changed and nothing is decided: what a failure means is the caller's. A query that could not be
//! asked is no pass.

use std::net::SocketAddr;
use std::time::Duration;

use cutover_model::{Color, LineLevel};
use tokio::sync::mpsc;

use super::database::Database;
use super::perform::{probe_spec, say};
use super::{Report, Work};
use crate::host::postgres::verify::Answered;
use crate::host::probe;
use crate::host::probe::smoke::{self, Asked, Smoke};

/// Where a readiness probe goes.
#[derive(Debug, Clone)]
pub struct ProbeTarget {
    /// The color's own address at the proxy.
    pub address: SocketAddr,
    /// The host to ask for.
    pub host: Option<String>,
    /// The path.
    pub path: String,
    /// The statuses that pass.
    pub expect: Vec<std::ops::RangeInclusive<u16>>,
    /// How many failures are put up with.
    pub attempts: u32,
    /// How many passes in a row are wanted.
    pub passes: u32,
    /// Between two tries.
    pub interval: Duration,
    /// How long one try may take.
    pub timeout: Duration,
}

/// How much of a failure's reason is shown.
const SHOWN: usize = 300;

/// One check that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The check's name.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// Not so, in a few words.
    Fail(String),
    /// It could not be made, for this reason.
    Unclear(String),
}

impl Checked {
    pub(super) fn answered(name: String, answered: Answered) -> Self {
        let outcome = match answered {
            Answered::Pass => Outcome::Pass,
            Answered::Fail(why) => Outcome::Fail(why),
            Answered::Misfit(why) | Answered::Unclear(why) => Outcome::Unclear(why),
        };
        Self { name, outcome }
    }

    /// What is wrong, in a sentence; `None`: nothing.
    #[must_use]
    pub fn wrong(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Pass => None,
            Outcome::Fail(why) => Some(format!("{} fails: {why}", self.name)),
            Outcome::Unclear(why) => Some(format!("{} could not be asked: {why}", self.name)),
        }
    }
}

/// Everything that was checked at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proved {
    /// The smoke probes, in the order of the file.
    pub smoke: Vec<Checked>,
    /// The integrity queries, in the order of the file.
    pub integrity: Vec<Checked>,
}

impl Proved {
    /// `smoke 6 of 6, integrity 2 of 3`; empty where there is nothing to check.
    #[must_use]
    pub fn summary(&self) -> String {
        let parts = [("smoke", &self.smoke), ("integrity", &self.integrity)];
        let parts = parts.into_iter().filter(|(_, checks)| !checks.is_empty());
        let parts = parts.map(|(what, checks)| {
            let passed = checks.iter().filter(|check| check.outcome == Outcome::Pass).count();
            format!("{what} {passed} of {}", checks.len())
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// What is wrong, one line for each check that did not pass.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        let smoke =
            self.smoke.iter().filter_map(|check| Some(format!("smoke: {}", check.wrong()?)));
        let data = self.integrity.iter().filter_map(|c| Some(format!("DATA: {}", c.wrong()?)));
        smoke.chain(data).collect()
    }
}

/// Asks a color once, on the path that traffic takes; how long the answer took.
///
/// # Errors
/// What it answered instead.
pub async fn ask_once(target: &ProbeTarget) -> Result<Duration, String> {
    let passed = probe::probe_once(&probe_spec(target)).await;
    passed.map(|passed| passed.latency).map_err(|error| error.to_string())
}

/// Runs smoke probes on a color, one after the other.
pub async fn smoke(probes: &[Smoke], target: &ProbeTarget) -> Vec<Checked> {
    let asked = Asked { address: target.address, host: target.host.clone() };
    let mut checked = Vec::new();
    for probe in probes {
        let outcome = match smoke::run(probe, &asked).await {
            Ok(()) => Outcome::Pass,
            Err(why) => Outcome::Fail(why.chars().take(SHOWN).collect()),
        };
        checked.push(Checked { name: probe.name.clone(), outcome });
    }
    checked
}

/// The integrity queries that do not pass now. Where the database cannot be asked there is nothing
/// to hold against what comes: that is said when it is asked again.
pub(super) async fn wrong(database: Option<&Database>) -> Vec<String> {
    let Some(database) = database else { return Vec::new() };
    match database.integrity(None).await {
        Ok(checked) => {
            let wrong = checked.into_iter().filter(|check| check.outcome != Outcome::Pass);
            wrong.map(|check| check.name).collect()
        }
        Err(trouble) => {
            tracing::warn!(%trouble, "the integrity queries were not asked before a deploy");
            Vec::new()
        }
    }
}

/// A deploy's color before its first user: what passed, as the end of a sentence.
///
/// # Errors
/// Each smoke probe that failed, and each integrity query that passed before and does not now.
pub(super) async fn ready(
    color: Color,
    work: &Work,
    target: &ProbeTarget,
    reports: &mpsc::Sender<Report>,
) -> Result<String, String> {
    let mut proved = Proved { smoke: smoke(&work.smoke, target).await, integrity: Vec::new() };
    if let Some(database) = &work.database {
        match database.integrity(None).await {
            Ok(checked) => proved.integrity = checked,
            Err(trouble) => {
                let text = format!("the integrity queries could not be asked: {trouble}");
                say(reports, LineLevel::Note, "DATA", text).await;
            }
        }
    }
    let was_so = |check: &&Checked| work.wrong_before.contains(&check.name);
    for check in proved.integrity.iter().filter(was_so) {
        if let Some(wrong) = check.wrong() {
            let text = format!("{wrong}, as before this deploy");
            say(reports, LineLevel::Note, "DATA", text).await;
        }
    }
    let mut fresh = proved.clone();
    fresh.integrity.retain(|check| !was_so(&check));
    match fresh.wrong().as_slice() {
        [] if proved == Proved::default() => Ok(String::new()),
        [] => Ok(format!("; {}", proved.summary())),
        wrong => Err(format!(
            "{color} answers its probe, and not all that has to work does ({})\n{}",
            proved.summary(),
            wrong.join("\n")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, outcome: Outcome) -> Checked {
        Checked { name: name.to_owned(), outcome }
    }

    #[test]
    fn what_fails_and_what_could_not_be_asked_never_count_as_passed() {
        let proved = Proved {
            smoke: vec![check("buy", Outcome::Pass), check("pay", Outcome::Fail("exit 1".into()))],
            integrity: vec![check("totals", Outcome::Unclear("no such table".into()))],
        };
        assert_eq!(proved.summary(), "smoke 1 of 2, integrity 0 of 1");
        let wrong = ["smoke: pay fails: exit 1", "DATA: totals could not be asked: no such table"];
        assert_eq!(proved.wrong(), wrong);
        assert_eq!(Proved::default().summary(), "");
    }
}
