//! What a deploy made is put back: after it failed, or after a kill in the middle of it.

use std::sync::Arc;

use cutover_model::{
    Action, Actor, Color, Ending, Fact, LineLevel, OperationId, OperationKind, ReleaseId,
    ReleaseState,
};

use super::{App, Made};
use crate::reconciler::Work;

impl App {
    /// What a deploy that failed had made so far is removed.
    pub(in crate::controller) async fn put_back_made(
        self: &Arc<Self>,
        operation: OperationId,
        release: ReleaseId,
        color: Color,
        made: Made,
    ) {
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return;
        };
        if made == Made::Nothing {
            return;
        }
        self.end_rehearsal(operation, release, color).await;
        let mut work = Work::new(self.name.clone());
        work.projects = self.projects();
        work.releases = self.state().colors;
        work.release = Some((release, color));
        // Networks may have been made for a rehearsal where nothing was before.
        if made == Made::Images && work.releases.get(color).is_none() {
            let clear = [Action::Clear { color, release: None }];
            if let Err(stopped) = self.drive(operation, reconciler, &stack, &clear, &mut work).await
            {
                tracing::warn!(%stopped, "networks of a color that nothing runs in are left over");
            }
        }
        if made == Made::Stack {
            let failed = Fact::ReleaseIs { release, state: ReleaseState::Failed };
            self.note(&Actor::daemon(), vec![failed]);
            let clear = [Action::Clear { color, release: Some(release) }];
            match self.drive(operation, reconciler, &stack, &clear, &mut work).await {
                Ok(_) => {
                    let gone = Fact::ReleaseIs { release, state: ReleaseState::Gone };
                    self.note(&Actor::daemon(), vec![gone]);
                }
                Err(stopped) => {
                    let text = format!("{color} could not be cleared: {stopped}");
                    self.say(Some(operation), LineLevel::Error, "clear", text);
                }
            }
        }
        reconciler.forget(&stack, release).await;
        let serves = self.serves_as_before();
        let text = format!("{serves}; what {release} had started is removed");
        self.say(Some(operation), LineLevel::Note, "", text);
    }

    /// Removes the files of a release that was only looked at.
    pub(super) async fn forget(&self, release: ReleaseId) {
        if let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) {
            reconciler.forget(&stack, release).await;
        }
    }

    /// Removes what a deploy left that the daemon's end, or a panic, cut off. `cut_off`: how it
    /// ends then, unless all of it was done.
    pub(in crate::controller) async fn put_back(
        self: &Arc<Self>,
        operation: OperationId,
        what: &OperationKind,
        cut_off: Ending,
    ) {
        let OperationKind::Deploy { release } = *what else { return };
        let state = self.state();
        let (ending, made) = match state.standing(release) {
            Some(s) if s.state == ReleaseState::Warm => match cut_off {
                Ending::Failed(_) => (cut_off, Made::Nothing),
                _ => (Ending::Done, Made::Nothing),
            },
            Some(_) => (cut_off, Made::Stack),
            None => (cut_off, Made::Images),
        };
        let color = state.standing(release).map_or(state.split.canary(), |s| s.release.color);
        self.put_back_made(operation, release, color, made).await;
        self.note(&Actor::daemon(), vec![Fact::OperationEnded { operation, ending }]);
    }
}
