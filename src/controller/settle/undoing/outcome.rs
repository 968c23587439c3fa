//! How a `migrate down` came out, and how long that is asked for.
//!
//! A transaction whose connection broke may have ended either way, or may not have ended yet: its
//! sessions are ended first, then the rows tell. A server that is away is asked again; one that
//! stays away, or a refusal that stays, ends it, since everything else waits for the operation.
//! INVARIANT: that the database is as it was is said only where it was seen.

use std::sync::Arc;
use std::time::Duration;

use cutover_model::{Ending, LineLevel, OperationId, ReleaseId};
use tokio::time::Instant;

use super::super::super::App;
use super::super::super::restoring::Stop;
use crate::reconciler::database::Trouble;

/// Between the first two tries; twice as long after each.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause between two tries.
const LONGEST: Duration = Duration::from_secs(5);
/// How long a server may be away.
const AWAY: Duration = Duration::from_secs(60);
/// How long a refusal has to stay: at the start of a host one may be of short duration.
const REFUSED: Duration = Duration::from_secs(10);

/// What became of the live database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The migrations are gone.
    Gone,
    /// They are all there: the database is as it was.
    Stays,
    /// It could not be found out, for this reason.
    Unknown(String),
}

/// What comes after a try that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// Another one, after this pause.
    Again(Duration),
    /// None: it would come out the same, or has been tried for long enough.
    Enough,
}

/// How long something is tried.
#[derive(Debug)]
struct Patience {
    began: Instant,
    refused_since: Option<Instant>,
    pause: Duration,
}

impl Patience {
    fn new(now: Instant) -> Self {
        Self { began: now, refused_since: None, pause: FIRST }
    }

    fn after(&mut self, stop: &Stop, now: Instant) -> Next {
        let is_refused = matches!(stop, Stop::Refused(_) | Stop::Failed(_));
        self.refused_since = is_refused.then(|| self.refused_since.unwrap_or(now));
        let refused = self.refused_since.map_or(Duration::ZERO, |since| now - since);
        if now - self.began >= AWAY || refused >= REFUSED {
            return Next::Enough;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        Next::Again(pause)
    }
}

impl App {
    /// What became of the live database; `None`: the daemon stops, and the next start finds out.
    pub(super) async fn outcome(
        self: &Arc<Self>,
        operation: OperationId,
        release: ReleaseId,
    ) -> Option<Outcome> {
        let (mut patience, mut is_said) = (Patience::new(Instant::now()), false);
        loop {
            let asked = self.ask_outcome(operation, release).await;
            let stop = match asked {
                Ok(true) => return Some(Outcome::Gone),
                Ok(false) => return Some(Outcome::Stays),
                Err(stop) => stop,
            };
            let Next::Again(pause) = patience.after(&stop, Instant::now()) else {
                return Some(Outcome::Unknown(stop.to_string()));
            };
            if !is_said {
                let text = format!("{}: {stop}. It is asked again", not_known(release));
                self.say(Some(operation), LineLevel::Error, "waits", text);
            }
            is_said = true;
            self.rest(pause).await?;
        }
    }

    async fn ask_outcome(&self, operation: OperationId, release: ReleaseId) -> Result<bool, Stop> {
        let state = self.state();
        let Some(migrated) = state.migrated.get(&release) else {
            return Err(Stop::Refused(format!("the migrations of {release} are not on record")));
        };
        let _turn = self.database_turn().await;
        let database = self.database(operation).await?;
        Ok(database.has_gone_down(release, &migrated.names).await?)
    }

    /// Waits; `None`: the daemon stops.
    async fn rest(&self, pause: Duration) -> Option<()> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Some(()),
            () = self.stop.cancelled() => None,
        }
    }

    /// How an operation ends whose outcome stays unknown.
    pub(super) fn in_doubt(&self, operation: OperationId, of: ReleaseId, why: &str) -> Ending {
        let text = format!(
            "{}: {why}\nOnce the database answers: cutover migrate down (it looks first, and \
             takes back only what is still there)",
            not_known(of)
        );
        self.say(Some(operation), LineLevel::Error, "failed", text.clone());
        Ending::Failed(text)
    }

    /// Removes containers and copy that a killed daemon left; what does not go is told, and the
    /// next work on the databases removes the copy. Where the outcome was not to be had, one try is
    /// all. `None`: the daemon stops.
    pub(super) async fn clean_down(
        self: &Arc<Self>,
        operation: OperationId,
        release: ReleaseId,
        outcome: &Outcome,
    ) -> Option<()> {
        let mut patience = Patience::new(Instant::now());
        loop {
            let Err(stop) = self.clean_down_once(operation, release).await else {
                return Some(());
            };
            tracing::warn!(%operation, %stop, "a copy of a killed migrate down is still there");
            match (patience.after(&stop, Instant::now()), outcome) {
                (Next::Again(pause), Outcome::Gone | Outcome::Stays) => self.rest(pause).await?,
                _ => {
                    let text = format!(
                        "the copy of the database that {operation} tried the scripts on may still \
                         be there: {stop}. The next backup removes it: cutover backup"
                    );
                    self.say(Some(operation), LineLevel::Error, "copy", text);
                    return Some(());
                }
            }
        }
    }

    pub(super) async fn clean_down_once(
        &self,
        operation: OperationId,
        of: ReleaseId,
    ) -> Result<(), Stop> {
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return Ok(());
        };
        let _turn = self.database_turn().await;
        let work = self.work_down(operation, of).await?;
        let Err(why) = reconciler.end_rehearsal(&stack, &work).await else { return Ok(()) };
        // The copy alone says whether another try can help.
        match work.database {
            Some(database) => match database.drop_scratch().await {
                Err(Trouble::Refused(why)) => Err(Stop::Refused(why)),
                Ok(()) | Err(_) => Err(Stop::Stuck(why)),
            },
            None => Err(Stop::Stuck(why)),
        }
    }
}

fn not_known(release: ReleaseId) -> String {
    format!("whether the migrations of {release} were taken back is not known")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(mut stop: impl FnMut(Duration) -> Stop) -> (usize, Duration) {
        let began = Instant::now();
        let (mut patience, mut now) = (Patience::new(began), began);
        for tries in 1.. {
            match patience.after(&stop(now - began), now) {
                Next::Again(pause) => now += pause,
                Next::Enough => return (tries, now - began),
            }
        }
        unreachable!("it ends")
    }

    #[test]
    fn a_server_that_stays_away_is_asked_for_a_minute_with_longer_and_longer_pauses() {
        let (tries, took) = tries(|_| Stop::Stuck("away".to_owned()));
        assert!(took >= AWAY && took < AWAY + LONGEST, "{took:?}");
        assert!(tries < 20, "{tries}");
    }

    #[test]
    fn a_refusal_that_stays_ends_it_sooner() {
        let (_, took) = tries(|_| Stop::Refused("the key is lost".to_owned()));
        assert!(took >= REFUSED && took < REFUSED + LONGEST, "{took:?}");
    }

    #[test]
    fn a_refusal_that_passes_does_not_end_it() {
        let passing = |after: Duration| match after < Duration::from_secs(5) {
            true => Stop::Refused("no project yet".to_owned()),
            false => Stop::Stuck("starting up".to_owned()),
        };
        let (_, took) = tries(passing);
        assert!(took >= AWAY, "{took:?}");
    }
}
