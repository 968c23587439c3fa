//! What follows a move of traffic: drains, singletons, the color that has to be woken first.
//!
//! Traffic has moved already (or stays where it is until a woken color is ready), so nothing here
//! is urgent and everything here may wait: for Docker, for the disk, for open requests.
//! INVARIANT: singletons are led by the state at the moment of acting, not by the operation that
//! asked: of two quick moves the later one wins.

mod checking;
mod fallen;
mod left;
mod undoing;

use std::sync::Arc;
use std::time::Duration;

use cutover_model::{
    Action, Actor, AppKind, Color, Effect, Ending, Fact, Goal, Input, LineLevel, Manner, NoPlan,
    Open, OperationId, OperationKind, Parts, Proof, ReleaseId, ReleaseState, plan,
};
use cutover_proxy::message::{Drain, Rest};

pub use undoing::{DownWay, MigrationSeen};

use super::App;
use super::remaking::parts_of;
use crate::reconciler::{Stopped, Work};

/// How long a disk that takes nothing is left alone before the singletons are tried again.
const AGAIN: Duration = Duration::from_secs(1);

impl App {
    /// Sees the effects of a move to their end, on a task of its own, then ends the operation.
    pub(super) fn settle(self: &Arc<Self>, operation: OperationId, effects: Vec<Effect>) {
        let app = Arc::clone(self);
        self.carry(operation, async move {
            let has_moved = effects.iter().any(|effect| matches!(effect, Effect::Publish { .. }));
            // What is not understood is not added to, and nothing is known of what it went to.
            let has_moved = has_moved && app.untrusted().is_none();
            let check = async {
                if has_moved {
                    app.keep_harm(operation).await;
                    app.check_rollback(operation).await;
                }
            };
            let (ending, ()) = tokio::join!(app.settle_now(operation, effects), check);
            let ended = Fact::OperationEnded { operation, ending };
            app.note(&Actor::daemon(), vec![ended]);
        });
    }

    /// The same, in the caller's time.
    pub(super) async fn settle_now(
        self: &Arc<Self>,
        operation: OperationId,
        effects: Vec<Effect>,
    ) -> Ending {
        let (mut drains, mut rest) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Drain { color, .. } if self.live().state.colors.get(color).is_none() => {}
                Effect::Drain { color, open } => drains.push(self.drain(operation, color, open)),
                other => rest.push(other),
            }
        }
        let drained = futures_util::future::join_all(drains);
        let others = async {
            let mut ending = Ending::Done;
            for effect in rest {
                if let Err(why) = self.follow_effect(operation, effect).await {
                    self.say(Some(operation), LineLevel::Error, "failed", why.clone());
                    ending = Ending::Failed(why);
                }
            }
            ending
        };
        tokio::join!(drained, others).1
    }

    async fn follow_effect(
        self: &Arc<Self>,
        operation: OperationId,
        effect: Effect,
    ) -> Result<(), String> {
        match effect {
            Effect::MoveSingletons { to, .. } => self.move_singletons(operation, to).await,
            Effect::Wake { release, color, manner } => {
                self.wake_color(operation, (release, color), manner).await
            }
            Effect::Remake { release, color, parts, manner } => {
                Box::pin(self.remake(operation, (release, color), parts, manner)).await
            }
            // Published before; a deploy and a restore have tasks of their own.
            Effect::Publish { .. }
            | Effect::Drain { .. }
            | Effect::Make { .. }
            | Effect::Adopt { .. }
            | Effect::Leave { .. }
            | Effect::Restore { .. }
            | Effect::Upkeep { .. } => Ok(()),
        }
    }

    async fn drain(&self, operation: OperationId, color: Color, open: Open) {
        if open == Open::Cut {
            return self.cut(operation, color).await;
        }
        let app = self.name.clone();
        let deadline = self.settings().drain;
        let name = self.name_of(color);
        let open = self.shared.proxy.switch().in_flight(&app, color);
        let (requests, tunnels) = (open.requests, open.tunnels);
        if requests + tunnels > 0 {
            let asked = match tunnels {
                0 => String::new(),
                some => format!("; {some} WebSockets may stay until then"),
            };
            let text = format!(
                "{name} finishes {requests} open requests ({} s at most){asked}",
                deadline.as_secs()
            );
            self.say(Some(operation), LineLevel::Step, "", text);
        }
        let drain = Drain { app, color, deadline, rest: Rest::End };
        let drained = self.shared.proxy.drain(drain).await;
        let text = match drained.left {
            0 => format!("{name} is idle. It stays up, without traffic."),
            left => format!(
                "{name}: {left} requests were still open after {} s and were ended. \
                It stays up, without traffic.",
                deadline.as_secs()
            ),
        };
        self.say(Some(operation), LineLevel::Step, "", text);
    }

    /// Ends what is open on a color now, without waiting for any of it.
    async fn cut(&self, operation: OperationId, color: Color) {
        let (app, name) = (self.name.clone(), self.name_of(color));
        let drain = Drain { app, color, deadline: Duration::ZERO, rest: Rest::End };
        let cut = self.shared.proxy.drain(drain).await;
        let requests = crate::text::number_of(usize_of(cut.requests), "open request");
        let tunnels = crate::text::number_of(usize_of(cut.tunnels), "WebSocket");
        let text = format!("{name}: {requests} and {tunnels} cut, as asked. It stays up, idle.");
        self.say(Some(operation), LineLevel::Step, "", text);
    }

    /// The release in a color, or the color's name.
    pub(super) fn name_of(&self, color: Color) -> String {
        self.live().state.colors.get(color).map_or(color.to_string(), |r| r.to_string())
    }

    /// Leads the singletons to a color. While the disk takes nothing the move waits, since nothing
    /// is begun that is not written down; it is said once what it waits for.
    pub(super) async fn move_singletons(
        self: &Arc<Self>,
        operation: OperationId,
        to: Color,
    ) -> Result<(), String> {
        let mut is_said = false;
        loop {
            let why = match self.move_singletons_once(operation, to).await {
                Err((names, Stopped::NotRecorded { why, .. })) => {
                    let (there, here) = (self.name_of(to.other()), self.name_of(to));
                    format!(
                        "{names} of {there} is left as it is, not moved to {here}: {why}. Make \
                         space there: it then moves by itself (cutover events shows it)"
                    )
                }
                Err((names, stopped)) => {
                    let here = self.name_of(to);
                    return Err(format!("{names} could not be moved to {here}: {stopped}"));
                }
                Ok(()) => return Ok(()),
            };
            if !is_said {
                self.say(Some(operation), LineLevel::Error, "waits", why);
            }
            is_said = true;
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = self.stop.cancelled() => return Err("the daemon is stopping".to_owned()),
            }
        }
    }

    /// One attempt; the names of the singletons where it fails.
    async fn move_singletons_once(
        self: &Arc<Self>,
        operation: OperationId,
        to: Color,
    ) -> Result<(), (String, Stopped)> {
        let Some(reconciler) = &self.shared.reconciler else { return Ok(()) };
        let Some(stack) = self.stack().filter(|s| !s.singletons.is_empty()) else {
            return Ok(());
        };
        // One at a time: two moves at once could leave both colors with one.
        let turn = self.singletons.lock().await;
        let state = self.state();
        if state.split.stable != to {
            drop(turn);
            return Ok(());
        }
        let action = Action::MoveSingletons { from: to.other(), to };
        let mut work = Work::new(self.name.clone());
        work.projects = self.projects();
        work.releases = self.state().colors;
        let done = self.drive(operation, reconciler, &stack, &[action], &mut work).await;
        drop(turn);
        let names: Vec<&str> = stack.singletons.iter().map(|s| s.as_str()).collect();
        let (names, release) = (names.join(", "), self.name_of(to));
        let took = done.map_err(|stopped| (names.clone(), stopped))?;
        if work.moved_singletons {
            let text = match *state.colors.get(to.other()) {
                Some(former) => format!(
                    "{names}: stopped in {former}, then started in {release}; {:.1} s without",
                    took.as_secs_f64()
                ),
                None => format!("{names}: started in {release}"),
            };
            self.say(Some(operation), LineLevel::Step, "", text);
        }
        Ok(())
    }

    /// Starts a stopped color, waits until it is ready, then carries out the rollback.
    async fn wake_color(
        self: &Arc<Self>,
        operation: OperationId,
        (release, color): (ReleaseId, Color),
        manner: Manner,
    ) -> Result<(), String> {
        let serving = self.state().serving().map_or("nothing".to_owned(), |r| r.to_string());
        let text =
            format!("{release} is stopped: starting it. {serving} serves until it is ready.");
        self.say(Some(operation), LineLevel::Step, "", text);
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return Err(format!("{release} is stopped, and this app has no stack to start"));
        };
        let mut work = Work::new(self.name.clone());
        work.projects = self.projects();
        work.releases = self.state().colors;
        work.probe = self.probe_target(color).await?;
        let project = work.projects.get(color).clone();
        let seen = reconciler.observe(&stack, project.as_deref()).await;
        let mut actions = match plan(&Goal::Again { release, color }, &seen) {
            Ok(actions) => actions,
            // Somebody removed its containers: its record is enough.
            Err(NoPlan::Gone { .. }) if self.state().running().is_none() => {
                let parts = Parts::of(release, self.state().serving());
                return self.remake(operation, (release, color), parts, manner).await;
            }
            Err(error) => return Err(error.to_string()),
        };
        if manner.proof == Proof::Waived {
            actions.retain(|action| !matches!(action, Action::Probe { .. }));
            let text = format!("{release} gets the traffic without a probe, as asked (--force)");
            self.say(Some(operation), LineLevel::Note, "", text);
        }
        self.drive(operation, reconciler, &stack, &actions, &mut work)
            .await
            .map_err(|stopped| format!("{stopped}; {}", self.serves_as_before()))?;
        let warm = Fact::ReleaseIs { release, state: ReleaseState::Warm };
        self.note(&Actor::daemon(), vec![warm]);
        let again = Input::Rollback { to: Some(release), manner };
        let moved = self.cut_back(again, Actor::daemon(), None).await;
        moved.map(|_| ()).map_err(|failure| failure.to_string())
    }

    /// After a start of the daemon: ends operations that were cut off, and leads singletons.
    pub(super) fn end_interrupted(self: &Arc<Self>) {
        let state = self.state();
        for (operation, interrupted) in &state.operations {
            let operation = *operation;
            let is_deploy = match interrupted.what {
                OperationKind::Deploy { .. } => true,
                // It goes on, or waits, by what is there.
                OperationKind::Restore { .. } | OperationKind::Upkeep { .. } => continue,
                OperationKind::MigrateDown { .. } if interrupted.ended.is_none() => {
                    let (app, what) = (Arc::clone(self), interrupted.what.clone());
                    self.carry(operation, async move {
                        app.end_down(operation, &what, Ending::Interrupted).await;
                    });
                    continue;
                }
                _ if interrupted.ended.is_some() => continue,
                _ => false,
            };
            if interrupted.ended.is_some() {
                continue;
            }
            if is_deploy {
                let (app, what) = (Arc::clone(self), interrupted.what.clone());
                self.carry(operation, async move {
                    app.put_back(operation, &what, Ending::Interrupted).await;
                });
                continue;
            }
            if let (Some(remade), None) = (parts_of(&interrupted.what), &interrupted.moved) {
                let app = Arc::clone(self);
                self.carry(operation, async move {
                    app.put_back_interrupted(operation, remade, Ending::Interrupted).await;
                });
                continue;
            }
            let ending = match interrupted.moved {
                Some(_) => Ending::Done,
                None => Ending::Interrupted,
            };
            self.note(&Actor::daemon(), vec![Fact::OperationEnded { operation, ending }]);
        }
        if state.kind == AppKind::Compose && state.stable().is_some() {
            let (app, to) = (Arc::clone(self), state.split.stable);
            self.tasks.spawn(async move {
                let operation = app.state().newest_operation;
                if let Err(why) = app.move_singletons(operation, to).await {
                    app.say(None, LineLevel::Error, "singletons", why);
                }
            });
        }
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
