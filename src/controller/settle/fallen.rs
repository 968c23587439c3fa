//! The task of an operation that panics: a defect of Cutover's own, which ends that operation and
//! nothing else.
//!
//! What the task held (locks, the hold of requests, sessions, children) goes with it. What it had
//! begun is put back as after an operation that failed, or one that a kill cut off.
//! INVARIANT: an operation whose task is gone has ended, or waits for a person.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use cutover_model::{Actor, Ending, Fact, LineLevel, OperationId, OperationKind};
use futures_util::FutureExt as _;

use super::super::App;
use super::super::remaking::parts_of;
use super::super::restoring::Stop;

impl App {
    /// Spawns the task that an operation is carried out by. Where it panics, the operation ends as
    /// failed.
    pub(in crate::controller) fn carry(
        self: &Arc<Self>,
        operation: OperationId,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let app = Arc::clone(self);
        self.tasks.spawn(async move {
            let Err(said) = caught(work).await else { return };
            tracing::error!(%operation, said, "the task of an operation panicked");
            let why = format!(
                "a defect in Cutover ended it ({said}); please report it with the lines of the \
                 daemon's log around this moment"
            );
            // What puts it back may meet the same defect.
            let put_back = Box::pin(app.pick_up(operation, why.clone()));
            if let Err(more) = caught(put_back).await {
                tracing::error!(%operation, said = more, "putting it back panicked, too");
                let why = format!("{why}; putting it back failed in the same way");
                app.leave_as_it_is(operation, why).await;
            }
        });
    }

    /// Does something for as long as the daemon runs; where it panics it is begun again.
    pub(in crate::controller) fn keep_doing<F>(
        self: &Arc<Self>,
        what: &'static str,
        work: impl Fn(Arc<Self>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let app = Arc::clone(self);
        self.tasks.spawn(async move {
            while let Err(said) = caught(work(Arc::clone(&app))).await {
                tracing::error!(what, said, "a standing task panicked");
                let text = format!(
                    "a defect in Cutover interrupted {what} ({said}); it begins again; please \
                     report it with the lines of the daemon's log around this moment"
                );
                app.say(None, LineLevel::Error, "failed", text);
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = app.stop.cancelled() => return,
                }
            }
        });
    }

    /// Neither it nor its way back can be carried out: a restore waits for a person, with the
    /// database open where that can be done; anything else ends.
    async fn leave_as_it_is(self: &Arc<Self>, operation: OperationId, why: String) {
        self.task_over(operation);
        let what = self.state().operations.get(&operation).map(|known| known.what.clone());
        let Some(OperationKind::Restore { .. }) = what else { return self.fail(operation, why) };
        let opened = caught(async {
            if let Err(stop) = self.open_again(operation).await {
                tracing::warn!(%operation, %stop, "the database may be closed");
            }
        });
        if let Err(said) = opened.await {
            tracing::error!(%operation, said, "opening the database panicked, too");
        }
        self.end_restore(operation, Stop::Stuck(why)).await;
    }

    /// Puts back what an operation had begun whose task fell, and ends it.
    async fn pick_up(self: &Arc<Self>, operation: OperationId, why: String) {
        self.let_go(operation).await;
        let known = self.state().operations.get(&operation).cloned();
        let Some(known) = known.filter(|known| known.ended.is_none()) else {
            // Only what follows its end was cut off: it is done by the next operation, or start.
            self.task_over(operation);
            return self.say(Some(operation), LineLevel::Error, "failed", why);
        };
        match &known.what {
            OperationKind::Restore { .. } => {
                // Behind the exchange the way is forward: users have written since.
                let stop = match self.state().asides.contains_key(&operation) {
                    true => Stop::Stuck(why),
                    false => Stop::Failed(why),
                };
                self.end_restore(operation, stop).await;
            }
            OperationKind::Upkeep { .. } => {
                self.end_upkeep(operation, Err(Stop::Failed(why))).await;
                self.task_over(operation);
            }
            OperationKind::Deploy { .. } => {
                self.say(Some(operation), LineLevel::Error, "failed", why.clone());
                self.tidy_database(operation).await;
                self.put_back(operation, &known.what, Ending::Failed(why)).await;
            }
            OperationKind::MigrateDown { .. } => {
                self.say(Some(operation), LineLevel::Error, "failed", why.clone());
                self.end_down(operation, &known.what, Ending::Failed(why)).await;
            }
            OperationKind::Adopt => self.end_fallen_adoption(operation, why).await,
            OperationKind::Leave => self.end_fallen_leave(operation, why),
            what => match (parts_of(what), &known.moved) {
                (Some(remade), None) => {
                    self.say(Some(operation), LineLevel::Error, "failed", why.clone());
                    self.put_back_interrupted(operation, remade, Ending::Failed(why)).await;
                }
                (_, Some(_)) => self.end_moved(operation, why).await,
                _ => self.fail(operation, why),
            },
        }
    }

    /// Traffic has moved as it was asked to; what follows that was cut off.
    async fn end_moved(self: &Arc<Self>, operation: OperationId, why: String) {
        let state = self.state();
        let to = state.split.stable;
        let singletons = caught(async {
            if let Err(why) = self.move_singletons(operation, to).await {
                self.say(Some(operation), LineLevel::Error, "singletons", why);
            }
        });
        if let Err(said) = singletons.await {
            let text = format!("services that run once may not have moved ({said})");
            self.say(Some(operation), LineLevel::Error, "singletons", text);
        }
        let serves = state.serving().map_or("nothing".to_owned(), |release| release.to_string());
        let text = format!("traffic had moved before and stays: {serves} serves; then {why}");
        self.fail(operation, text);
    }

    fn fail(&self, operation: OperationId, why: String) {
        self.say(Some(operation), LineLevel::Error, "failed", why.clone());
        let ended = Fact::OperationEnded { operation, ending: Ending::Failed(why) };
        self.note(&Actor::daemon(), vec![ended]);
    }
}

/// How long a standing task that panicked is left alone.
const AGAIN: Duration = Duration::from_secs(10);

/// Sees work to its end; what it said when it panicked.
async fn caught(work: impl Future<Output = ()>) -> Result<(), String> {
    let ended = AssertUnwindSafe(work).catch_unwind().await;
    ended.map_err(|said| {
        let text = said.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| said.downcast_ref::<&str>().copied());
        crate::host::process::escape(text.unwrap_or("it did not say why"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_in_its_own_words_and_drops_what_was_held() {
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        let theirs = Arc::clone(&lock);
        let said = caught(async move {
            let _held = theirs.lock().await;
            tokio::task::yield_now().await;
            panic!("of {} at\x1b once", 3);
        });
        let said = said.await.expect_err("it panics");
        assert!(said.starts_with("of 3 at") && !said.contains('\x1b'), "{said}");
        assert!(lock.try_lock().is_ok());
        assert_eq!(caught(async {}).await, Ok(()));
    }
}
