//! How a fact about the database changes the state.

use super::{Illegal, migration};
use crate::fact::{Fact, Happened, OperationKind};
use crate::restore::Restore;
use crate::rollout::AppState;
use crate::{OperationId, ReleaseId};

/// Releases whose point was let go and that are remembered: many more than can be gone back to.
const POINTS_REMEMBERED: usize = 256;

pub(super) fn evolve(state: &mut AppState, happened: &Happened) -> Result<(), Illegal> {
    let kind = happened.fact.kind();
    match &happened.fact {
        Fact::RestorePlanned { operation, plan } => {
            if !state.operations.contains_key(operation) {
                return Err(Illegal::UnknownOperation { kind, operation: *operation });
            }
            let planned = Restore::new((**plan).clone());
            state.restores.insert(*operation, planned);
        }
        Fact::RestoreReached { operation, stage } => {
            let restore = restore(state, kind, *operation)?;
            restore.stage = Some(*stage);
            restore.halted = None;
        }
        Fact::RestoreStacks { operation, started, stopped } => {
            let restore = restore(state, kind, *operation)?;
            restore.started = started.or(restore.started);
            restore.stopped = stopped.or(restore.stopped);
        }
        Fact::RestoreHalted { operation, halt } => {
            restore(state, kind, *operation)?.halted = Some(halt.clone());
        }
        Fact::RestoreResumed { operation, max_loss } => {
            let restore = restore(state, kind, *operation)?;
            restore.halted = None;
            if let Some(max_loss) = max_loss {
                restore.plan.max_loss = *max_loss;
                restore.plan.accepted_at = happened.at;
            }
        }
        Fact::AsideKept { operation, aside } => {
            migration::exchanged(state, *operation);
            state.asides.insert(*operation, (**aside).clone());
        }
        Fact::AsideGone { operation } => {
            // By its own operation: the names went back. By another one: what it had is live now.
            if state.restores.contains_key(operation) {
                migration::exchanged_back(state, *operation);
            }
            state.asides.remove(operation);
        }
        Fact::RestoreWatched { operation, watched } => {
            // What was put aside may be gone by then: nobody asks any more.
            if let Some(aside) = state.asides.get_mut(operation) {
                aside.watched = Some((**watched).clone());
            }
        }
        Fact::PointMade { point } => {
            state.points_let_go.remove(&point.release);
            if let Some(served) = state.serving() {
                state.served_at_point.insert(point.release, served);
            }
            state.points.insert(point.release, (**point).clone());
        }
        Fact::PointGone { release } => {
            let_point_go(state, *release);
        }
        _ => {}
    }
    Ok(())
}

/// A later point has what this release's migration did. While its own deploy runs its point goes
/// only because that migration was never begun: then there is nothing to remember.
fn let_point_go(state: &mut AppState, release: ReleaseId) {
    let running = state.running().map(|(_, operation)| &operation.what);
    let is_unused =
        matches!(running, Some(OperationKind::Deploy { release: of }) if *of == release);
    if is_unused {
        state.served_at_point.remove(&release);
    }
    if state.points.remove(&release).is_some() && !is_unused {
        state.points_let_go.insert(release);
    }
    if state.points_let_go.len() > POINTS_REMEMBERED {
        state.points_let_go.pop_first();
    }
    if state.served_at_point.len() > POINTS_REMEMBERED {
        state.served_at_point.pop_first();
    }
}

fn restore<'s>(
    state: &'s mut AppState,
    kind: &'static str,
    operation: OperationId,
) -> Result<&'s mut Restore, Illegal> {
    state.restores.get_mut(&operation).ok_or(Illegal::UnknownOperation { kind, operation })
}
