//! What is checked after traffic or data moved: the probe, the smoke probes, the integrity queries.
//!
//! It only looks and says. A check that fails is the operator's to judge: nothing goes back by
//! itself.

use std::time::Duration;

use cutover_model::{Color, LEFT, LineLevel, OperationId, OperationKind, ReleaseId};

use super::super::App;
use crate::reconciler::{Checked, Proved, ask_once, smoke};

impl App {
    /// The smoke probes of a color, made now; empty where none is configured.
    ///
    /// # Errors
    /// Why the color has no address to ask.
    pub async fn smoke_now(&self, color: Color) -> Result<Vec<Checked>, String> {
        let probes = self.settings().smoke.clone();
        match self.probe_target(color).await? {
            Some(target) if !probes.is_empty() => Ok(smoke(&probes, &target).await),
            _ => Ok(Vec::new()),
        }
    }

    /// The integrity queries of the live database, asked now; empty where none is configured.
    ///
    /// # Errors
    /// Why the database cannot be asked.
    pub async fn integrity_now(&self) -> Result<Vec<Checked>, String> {
        let queries = self.settings().database.as_ref().map_or(0, |d| d.integrity.len());
        if queries == 0 {
            return Ok(Vec::new());
        }
        let operation = self.state().newest_operation;
        let database = self.database(operation).await.map_err(|stop| stop.to_string())?;
        database.integrity(None).await.map_err(|trouble| trouble.to_string())
    }

    /// Both, and what could not be asked at all.
    pub(in crate::controller) async fn prove(&self, color: Color) -> (Proved, Vec<String>) {
        let (smoke, integrity) = tokio::join!(self.smoke_now(color), self.integrity_now());
        let mut troubles = Vec::new();
        if let Err(why) = &smoke {
            troubles.push(format!("smoke: not known: {why}"));
        }
        if let Err(why) = &integrity {
            troubles.push(format!("DATA: not known: {why}"));
        }
        let proved =
            Proved { smoke: smoke.unwrap_or_default(), integrity: integrity.unwrap_or_default() };
        (proved, troubles)
    }

    /// Checks what serves, and says what came of it under a label.
    pub(in crate::controller) async fn say_check(
        &self,
        operation: OperationId,
        (release, color): (ReleaseId, Color),
        label: &str,
    ) {
        let health = match self.probe_target(color).await {
            Ok(Some(target)) => ask_once(&target).await.map(|took| (target.path, took)),
            Ok(None) => return,
            Err(why) => return tracing::warn!(%why, "what serves is not checked"),
        };
        let (proved, troubles) = Box::pin(self.prove(color)).await;
        let (level, text) = told(release, health, &proved, troubles);
        self.say(Some(operation), level, label, text);
    }

    /// After a rollback: whether the release that got the traffic works, and what did not move.
    pub(in crate::controller) async fn check_rollback(&self, operation: OperationId) {
        let state = self.state();
        let what = state.operations.get(&operation).map(|operation| &operation.what);
        let (to, from) = match what {
            Some(OperationKind::Rollback { to, from, .. }) => (to, from),
            Some(OperationKind::Remake { release, from, .. }) => (release, from),
            _ => return,
        };
        let color = state.standing(*to).map_or(state.split.leading(), |s| s.release.color);
        self.say_check(operation, (*to, color), "check").await;
        self.keep_code(operation, *from).await;
        let has_shared = self.stack().is_some_and(|stack| !stack.shared.is_empty());
        if let (true, Some(from)) = (has_shared, from) {
            let text = self.what_stays(*from).await;
            self.say(Some(operation), LineLevel::Note, LEFT, text);
        }
    }
}

fn told(
    release: ReleaseId,
    health: Result<(String, Duration), String>,
    proved: &Proved,
    troubles: Vec<String>,
) -> (LineLevel, String) {
    let is_healthy = health.is_ok();
    let mut text = match health {
        Ok((path, took)) => format!("{release}: {path} answers, {} ms", took.as_millis()),
        Err(why) => format!("{release} does not answer as it should: {why}"),
    };
    let summary = proved.summary();
    if !summary.is_empty() {
        text.push_str("; ");
        text.push_str(&summary);
    }
    let mut wrong = proved.wrong();
    wrong.extend(troubles);
    let level = match is_healthy && wrong.is_empty() {
        true => LineLevel::Step,
        false => LineLevel::Error,
    };
    for line in wrong {
        text.push('\n');
        text.push_str(&line);
    }
    (level, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconciler::Outcome;

    #[test]
    fn one_check_that_fails_makes_the_whole_line_an_error() {
        let health = || Ok(("/api/health".to_owned(), Duration::from_millis(3)));
        let query = |outcome| Checked { name: "totals".to_owned(), outcome };
        let proved = |outcome| Proved { smoke: Vec::new(), integrity: vec![query(outcome)] };
        let good = told(ReleaseId(5), health(), &proved(Outcome::Pass), Vec::new());
        let text = "r5: /api/health answers, 3 ms; integrity 1 of 1".to_owned();
        assert_eq!(good, (LineLevel::Step, text));
        let bad = proved(Outcome::Fail("37 rows".to_owned()));
        let (level, text) = told(ReleaseId(5), health(), &bad, Vec::new());
        assert_eq!(level, LineLevel::Error);
        assert!(text.ends_with("integrity 0 of 1\nDATA: totals fails: 37 rows"), "{text}");
        let (level, _) = told(ReleaseId(5), Err("500".into()), &Proved::default(), Vec::new());
        assert_eq!(level, LineLevel::Error);
    }
}
