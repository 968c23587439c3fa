//! How one fact changes the state: one total match, the same live and in a replay.

mod migration;
mod restore;

use super::{AppState, Move, Moved, OPERATIONS_KEPT, Operation, RELEASES_KEPT, Rollout};
use crate::fact::{Ending, Fact, Happened, OperationKind};
use crate::release::{ReleaseState, Standing};
use crate::upkeep::{Occasion, Tried, Upkeep};
use crate::{Closure, Maintenance, OperationId, ReleaseId, Split};

/// A fact that cannot have happened in this state: the journal is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// It speaks of a release that was never made.
    #[error("{kind} speaks of {release}, which is not on record")]
    UnknownRelease {
        /// The fact's kind.
        kind: &'static str,
        /// The release.
        release: ReleaseId,
    },
    /// It speaks of an operation that never started.
    #[error("{kind} speaks of {operation}, which never started")]
    UnknownOperation {
        /// The fact's kind.
        kind: &'static str,
        /// The operation.
        operation: OperationId,
    },
    /// A move's number is not above the one before.
    #[error("move {number} comes after move {newest}")]
    MoveOutOfOrder {
        /// The fact's number.
        number: u64,
        /// The newest one in the state.
        newest: u64,
    },
    /// A release is made twice, or an operation starts twice.
    #[error("{what} stands twice in the journal")]
    Twice {
        /// The release or operation.
        what: String,
    },
}

/// Applies one fact.
///
/// # Errors
/// [`Illegal`] when the fact cannot follow on this state; the state is then unchanged.
pub fn evolve(state: &mut AppState, happened: &Happened) -> Result<(), Illegal> {
    let kind = happened.fact.kind();
    match &happened.fact {
        Fact::AppDefined { kind, stable } => {
            state.kind = *kind;
            state.split = Split::all(*stable);
        }
        Fact::OperationStarted { operation, what, request } => {
            start(state, happened, *operation, what, request)?;
        }
        Fact::OperationEnded { operation, ending } => {
            state.restores.remove(operation);
            if let Some(operation) = operation_mut(state, kind, *operation)? {
                operation.ended = Some((happened.at, ending.clone()));
            }
            remember(state, happened, *operation, ending);
        }
        Fact::Noted { operation, text } => {
            if let Some(operation) = operation_mut(state, kind, *operation)? {
                operation.notes.push(text.clone());
            }
        }
        Fact::ReleaseMade { .. }
        | Fact::ReleaseRemade { .. }
        | Fact::ReleaseIs { .. }
        | Fact::ReleaseProven { .. }
        | Fact::ReleaseRejected { .. }
        | Fact::ReleaseCleared { .. } => evolve_release(state, happened)?,
        Fact::RolloutStarted { release, salt, steps } => {
            standing(state, kind, *release)?;
            state.salt = *salt;
            let (release, salt, steps, at) = (*release, *salt, steps.clone(), happened.at);
            let rollout = Rollout { release, steps, salt, started_at: at, weight_since: at };
            state.rollout = Some(rollout);
        }
        Fact::RolloutEnded { .. } => state.rollout = None,
        Fact::SplitChanged { number, before, after, operation } => {
            evolve_split(state, happened, *number, (*before, *after), *operation)?;
        }
        Fact::PortsTaken { rule } => state.redirect = Some((**rule).clone()),
        Fact::PortsGiven => state.redirect = None,
        Fact::GateClosed { maintenance } => {
            let how = Maintenance::clone(maintenance);
            state.maintenance = Some(Closure::begun(state.maintenance.take(), happened, how));
        }
        Fact::GateOpened => state.maintenance = None,
        Fact::RestorePlanned { .. }
        | Fact::RestoreReached { .. }
        | Fact::RestoreStacks { .. }
        | Fact::RestoreHalted { .. }
        | Fact::RestoreResumed { .. }
        | Fact::AsideKept { .. }
        | Fact::AsideGone { .. }
        | Fact::RestoreWatched { .. }
        | Fact::PointMade { .. }
        | Fact::PointGone { .. } => restore::evolve(state, happened)?,
        Fact::RollbackSet { scheduled } => state.scheduled = Some((**scheduled).clone()),
        Fact::RollbackUnset { .. } => state.scheduled = None,
        Fact::MigrationTried { .. }
        | Fact::MigrationBegun { .. }
        | Fact::MigrationDone { .. }
        | Fact::MigrationUndone { .. } => migration::evolve(state, happened),
        Fact::ActionIntended { .. }
        | Fact::ActionDone { .. }
        | Fact::ActionFailed { .. }
        | Fact::Line { .. } => {}
    }
    Ok(())
}

fn start(
    state: &mut AppState,
    happened: &Happened,
    operation: OperationId,
    what: &OperationKind,
    request: &Option<String>,
) -> Result<(), Illegal> {
    if state.operations.contains_key(&operation) {
        return Err(Illegal::Twice { what: operation.to_string() });
    }
    let started = Operation {
        what: what.clone(),
        actor: happened.actor.clone(),
        started_at: happened.at,
        ended: None,
        request: request.clone(),
        moved: None,
        notes: Vec::new(),
    };
    state.operations.insert(operation, started);
    state.newest_operation = state.newest_operation.max(operation);
    let scheduled = Upkeep::BackUp { occasion: Occasion::Scheduled };
    if matches!(what, OperationKind::Upkeep { upkeep } if *upkeep == scheduled) {
        state.kept.scheduled = Some(happened.at);
    }
    if let OperationKind::Deploy { release } | OperationKind::Remake { release, .. } = what {
        state.newest_release = state.newest_release.max(*release);
    }
    forget_old_operations(state);
    Ok(())
}

/// What the schedule and `status` want to know of work on backups.
fn remember(state: &mut AppState, happened: &Happened, operation: OperationId, ending: &Ending) {
    let Some(ended) = state.operations.get(&operation) else { return };
    let Some(work) = ended.upkeep().cloned() else { return };
    let backup = match &work {
        Upkeep::Drill { backup } => Some(backup.clone()),
        _ => None,
    };
    let (began, ended, ending) = (ended.started_at, happened.at, ending.clone());
    state.kept.ended(&work, Tried { operation, backup, began, ended, ending });
}

fn evolve_split(
    state: &mut AppState,
    happened: &Happened,
    number: u64,
    (before, after): (Split, Split),
    operation: Option<OperationId>,
) -> Result<(), Illegal> {
    if number <= state.moves {
        return Err(Illegal::MoveOutOfOrder { number, newest: state.moves });
    }
    let moved = Moved { before, colors: state.colors, rollout: state.rollout.clone() };
    if let Some(operation) = operation.and_then(|id| state.operations.get_mut(&id)) {
        operation.moved.get_or_insert(moved);
    }
    if let Some(rollout) = &mut state.rollout {
        rollout.weight_since = happened.at;
    }
    state.split = after;
    state.moves = number;
    state.last_move = Some(Move { number, at: happened.at, operation, before, after });
    Ok(())
}

fn evolve_release(state: &mut AppState, happened: &Happened) -> Result<(), Illegal> {
    let kind = happened.fact.kind();
    match &happened.fact {
        Fact::ReleaseMade { release } => {
            if state.releases.contains_key(&release.id) {
                return Err(Illegal::Twice { what: release.id.to_string() });
            }
            // The color was cleared for it: who was there has only its record left.
            if let Some(former) = state.colors.get(release.color).as_ref().copied()
                && let Some(former) = state.releases.get_mut(&former)
            {
                former.state = ReleaseState::Gone;
            }
            *state.colors.get_mut(release.color) = Some(release.id);
            state.newest_release = state.newest_release.max(release.id);
            let standing = Standing {
                release: (**release).clone(),
                state: ReleaseState::Starting,
                proven_at: None,
                rejected_by: None,
            };
            state.releases.insert(release.id, standing);
            forget_old_releases(state);
        }
        Fact::ReleaseRemade { release, color, project } => {
            standing(state, kind, *release)?;
            if let Some(former) = state.colors.get(*color).filter(|former| former != release)
                && let Some(former) = state.releases.get_mut(&former)
            {
                former.state = ReleaseState::Gone;
            }
            *state.colors.get_mut(*color) = Some(*release);
            if let Some(standing) = state.releases.get_mut(release) {
                standing.state = ReleaseState::Starting;
                standing.release.color = *color;
                standing.release.project.clone_from(project);
            }
        }
        Fact::ReleaseIs { release, state: now } => {
            let color = standing(state, kind, *release)?.release.color;
            measure(state, happened, *release, *now);
            if let Some(standing) = state.releases.get_mut(release) {
                standing.state = *now;
            }
            if *now == ReleaseState::Gone && *state.colors.get(color) == Some(*release) {
                *state.colors.get_mut(color) = None;
            }
        }
        Fact::ReleaseProven { release } => {
            let standing = standing(state, kind, *release)?;
            standing.proven_at.get_or_insert(happened.at);
        }
        Fact::ReleaseRejected { release, operation } => {
            standing(state, kind, *release)?.rejected_by = Some(*operation);
        }
        Fact::ReleaseCleared { release } => standing(state, kind, *release)?.rejected_by = None,
        _ => {}
    }
    Ok(())
}

/// How long it took until a release was ready, where an operation began it.
fn measure(state: &mut AppState, happened: &Happened, release: ReleaseId, now: ReleaseState) {
    let former = state.release_state(release);
    let began = state.operations.values().rev().find(|operation| {
        let is_its = match operation.what {
            OperationKind::Rollback { to, .. } => to == release,
            OperationKind::Remake { release: of, .. } | OperationKind::Deploy { release: of } => {
                of == release
            }
            _ => false,
        };
        operation.ended.is_none() && is_its
    });
    let (ReleaseState::Warm, Some(began)) = (now, began) else { return };
    let took = Some(happened.at.since(began.started_at));
    match (&began.what, former) {
        (OperationKind::Deploy { .. }, ReleaseState::Starting) => {
            let made_at = state.standing(release).map_or(happened.at, |s| s.release.made_at);
            state.measured.start_ms = Some(happened.at.since(made_at));
        }
        (OperationKind::Remake { .. }, _) | (_, ReleaseState::Starting) => {
            state.measured.remake_ms = took;
        }
        (OperationKind::Rollback { .. }, ReleaseState::Stopped) => state.measured.wake_ms = took,
        _ => {}
    }
}

fn standing<'s>(
    state: &'s mut AppState,
    kind: &'static str,
    release: ReleaseId,
) -> Result<&'s mut Standing, Illegal> {
    state.releases.get_mut(&release).ok_or(Illegal::UnknownRelease { kind, release })
}

/// The operation, or nothing when it is so old that only the journal knows it.
fn operation_mut<'s>(
    state: &'s mut AppState,
    kind: &'static str,
    operation: OperationId,
) -> Result<Option<&'s mut Operation>, Illegal> {
    if operation > state.newest_operation {
        return Err(Illegal::UnknownOperation { kind, operation });
    }
    Ok(state.operations.get_mut(&operation))
}

fn forget_old_releases(state: &mut AppState) {
    while state.releases.len() > RELEASES_KEPT {
        let is_gone = |s: &Standing| s.state == ReleaseState::Gone;
        let oldest = state.releases.values().find(|s| is_gone(s)).map(|s| s.release.id);
        match oldest {
            Some(id) => state.releases.remove(&id),
            None => break,
        };
    }
}

fn forget_old_operations(state: &mut AppState) {
    while state.operations.len() > OPERATIONS_KEPT {
        let oldest = state.operations.iter().find(|(_, o)| o.ended.is_some()).map(|(id, _)| *id);
        match oldest {
            Some(id) => state.operations.remove(&id),
            None => break,
        };
    }
}
