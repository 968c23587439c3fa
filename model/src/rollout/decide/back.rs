//! The ways back: a rollback to a release that proved itself, and the undoing of a move.
//!
//! Neither leads to a release whose stack is not warm, but for a color that has traffic anyhow.

use super::{Asked, Decision, Effect, remake};
use crate::fact::{Fact, OperationKind, RolloutEnding};
use crate::migration::Works;
use crate::release::ReleaseState;
use crate::rollout::{AppState, Manner, Open, Proof, Refusal, Way};
use crate::{Color, OperationId, ReleaseId, Split, Weight};

pub(super) fn rollback(
    state: &AppState,
    asked: &Asked,
    to: Option<ReleaseId>,
    manner: Manner,
) -> Result<Decision, Refusal> {
    let target = target(state, to, manner)?;
    let color = Color::BOTH.into_iter().find(|color| *state.colors.get(*color) == Some(target));
    // A release that has traffic runs on it already.
    let has_traffic = color.is_some_and(|color| state.split.share(color) > Weight::ZERO);
    if manner.proof == Proof::Wanted
        && !has_traffic
        && let Some(why) = state.cannot_run(target)
    {
        return Err(schema(state, target, to, why));
    }
    let Some(color) = color else {
        return remake::again(state, asked, target, manner);
    };
    if state.split == Split::all(color) {
        return already(state, asked, (color, target), manner);
    }
    // The color that has traffic now may not have been proved: that is what a rollout is for.
    let is_named_unproven = to.is_some() && !is_proven(state, target);
    if is_named_unproven && manner.proof == Proof::Wanted && state.split.stable != color {
        return Err(unproven(state, target));
    }
    let from = match state.split.stable == color {
        true => state.rollout.as_ref().map(|r| r.release).or(state.standby()),
        false => state.stable(),
    };
    let mut decision = Decision::of(asked, OperationKind::Rollback { to: target, from, manner });
    match state.release_state(target) {
        ReleaseState::Warm => {}
        ReleaseState::Stopped => {
            decision.effects.push(Effect::Wake { release: target, color, manner });
            return Ok(decision);
        }
        // The color that has traffic now can always have all of it.
        _ if state.split.share(color) > Weight::ZERO => {}
        _ => return remake::again(state, asked, target, manner),
    }
    let mut decision = back(decision, state, asked, (color, target, from));
    for effect in &mut decision.effects {
        if let Effect::Drain { open, .. } = effect {
            *open = manner.open;
        }
    }
    Ok(decision)
}

pub(super) fn back(
    decision: Decision,
    state: &AppState,
    asked: &Asked,
    (color, target, from): (Color, ReleaseId, Option<ReleaseId>),
) -> Decision {
    let operation = asked.operation;
    let mut decision = decision.go_to(state, asked, Split::all(color), state.salt);
    if state.rollout.is_some() {
        let ending = RolloutEnding::RolledBack;
        decision = decision.and(Fact::RolloutEnded { ending });
    }
    if let Some(release) = from.filter(|from| *from != target) {
        decision = decision.and(Fact::ReleaseRejected { release, operation });
    }
    if state.standing(target).is_some_and(|s| s.rejected_by.is_some()) {
        decision = decision.and(Fact::ReleaseCleared { release: target });
    }
    decision
}

/// A release that today's database is too new for.
pub(super) fn schema(
    state: &AppState,
    target: ReleaseId,
    to: Option<ReleaseId>,
    why: String,
) -> Refusal {
    let named = to.map_or_else(String::new, |to| format!(" --to {to}"));
    let code = state.code_of(target);
    let mut ways = Vec::new();
    if let Ok(Some(_)) = state.point_for(target) {
        let what = format!("{target} with the data from before: shows what is lost, then asks");
        ways.push(Way::new(format!("cutover rollback --database{named}"), what));
    }
    ways.push(Way::new("cutover maintenance on", "no user sees errors while you think"));
    let newest = state.migrated.values().rev().find(|m| m.breaks(code).is_some());
    let tried = newest.and_then(|migrated| migrated.former.as_ref());
    let as_it_is = match tried {
        Some((former, Works::No { why })) => format!("; {former} with this schema: {why}"),
        Some((former, Works::Yes { what })) => {
            format!("; {former} passed {what} with this schema when it was tried")
        }
        _ => String::new(),
    };
    let what = format!("{target} as it is{as_it_is}");
    ways.push(Way::new(format!("cutover rollback{named} --force"), what));
    Refusal::Schema { why, ways }
}

/// Where a rollback leads.
pub(super) fn target(
    state: &AppState,
    to: Option<ReleaseId>,
    manner: Manner,
) -> Result<ReleaseId, Refusal> {
    let is_repeat = to.is_none() && state.split.weight == Weight::ZERO && state.has_moved_back();
    match to {
        Some(release) if state.standing(release).is_none() => {
            Err(Refusal::Unknown { what: format!("release {release}") })
        }
        Some(release) => Ok(release),
        None if is_repeat => state.stable().ok_or_else(|| nowhere(state)),
        None => match (state.rollback_target(), manner.proof) {
            (Some(target), _) => Ok(target),
            (None, Proof::Waived) => unproven_standby(state).ok_or_else(|| nowhere(state)),
            (None, Proof::Wanted) => Err(nowhere(state)),
        },
    }
}

/// The target has all traffic: nothing to do, but for requests that shall be cut.
fn already(
    state: &AppState,
    asked: &Asked,
    (color, target): (Color, ReleaseId),
    manner: Manner,
) -> Result<Decision, Refusal> {
    let other = color.other();
    if manner.open == Open::Finish || state.colors.get(other).is_none() {
        let since = state.last_move.map(|m| (m.at, m.operation));
        return Err(Refusal::AlreadyThere { release: target, since });
    }
    let from = *state.colors.get(other);
    let mut decision = Decision::of(asked, OperationKind::Rollback { to: target, from, manner });
    decision.effects.push(Effect::Drain { color: other, open: Open::Cut });
    Ok(decision)
}

pub(super) fn is_proven(state: &AppState, release: ReleaseId) -> bool {
    state.standing(release).is_some_and(|standing| standing.proven_at.is_some())
}

/// A release beside the one that serves, whose containers are there.
fn unproven_standby(state: &AppState) -> Option<ReleaseId> {
    let is_there = |release: &ReleaseId| {
        matches!(state.release_state(*release), ReleaseState::Warm | ReleaseState::Stopped)
    };
    state.standby().filter(is_there)
}

pub(super) fn undo(
    state: &AppState,
    asked: &Asked,
    operation: OperationId,
) -> Result<Decision, Refusal> {
    let unknown = || Refusal::Unknown { what: format!("operation {operation}") };
    let undone = state.operations.get(&operation).ok_or_else(unknown)?;
    if let OperationKind::Restore { .. } = undone.what {
        return Err(Refusal::LosesRows { operation });
    }
    let Some(moved) = &undone.moved else {
        let why = format!("{operation} ({}) moved no traffic", undone.what.as_str());
        return Err(Refusal::cannot(why, Vec::new()));
    };
    let newest = state.last_move.and_then(|m| m.operation);
    if newest != Some(operation) {
        if let Some(by) = state.last_move.and_then(|m| m.operation)
            && matches!(state.operations.get(&by).map(|o| &o.what),
                Some(OperationKind::Undo { operation: of }) if *of == operation)
            && let Some(release) = state.serving()
        {
            let since = state.last_move.map(|m| (m.at, m.operation));
            return Err(Refusal::AlreadyThere { release, since });
        }
        let by = newest.map_or_else(|| "the daemon".to_owned(), |id| id.to_string());
        let why = format!("{operation} is not the newest move of traffic: {by} came after it");
        return Err(Refusal::cannot(
            why,
            vec![Way::new("cutover events", "shows what came after")],
        ));
    }
    if moved.colors != state.colors {
        let why = format!("a color has another release than before {operation}");
        return Err(Refusal::cannot(why, vec![Way::new("cutover status", "shows what runs")]));
    }
    for color in Color::BOTH {
        let gains = moved.before.share(color) > state.split.share(color);
        if gains
            && let Some(release) = *state.colors.get(color)
            && state.release_state(release) != ReleaseState::Warm
        {
            let why = format!("{release} does not run any more");
            let way = Way::new(format!("cutover rollback --to {release}"), "starts it, then moves");
            return Err(Refusal::cannot(why, vec![way]));
        }
        if state.split.share(color) == Weight::ZERO
            && moved.before.share(color) > Weight::ZERO
            && let Some(release) = *state.colors.get(color)
            && let Some(why) = state.cannot_run(release)
        {
            return Err(schema(state, release, Some(release), why));
        }
    }
    let mut decision = Decision::of(asked, OperationKind::Undo { operation });
    let mut salt = state.salt;
    if let Some(rollout) = &moved.rollout {
        salt = rollout.salt;
        let (release, steps) = (rollout.release, rollout.steps.clone());
        decision = decision.and(Fact::RolloutStarted { release, salt, steps });
    } else if state.rollout.is_some() {
        decision = decision.and(Fact::RolloutEnded { ending: RolloutEnding::Aborted });
    }
    decision = decision.go_to(state, asked, moved.before, salt);
    for (release, standing) in &state.releases {
        if standing.rejected_by == Some(operation) {
            decision = decision.and(Fact::ReleaseCleared { release: *release });
        }
    }
    Ok(decision)
}

pub(super) fn nowhere(state: &AppState) -> Refusal {
    let why = match state.stable() {
        Some(serving) => format!(
            "{serving} serves, and no other release has proved itself: there is nowhere to go back"
        ),
        None => "no release serves yet".to_owned(),
    };
    let mut ways = vec![Way::new("cutover releases", "lists what is on record")];
    if let Some(release) = unproven_standby(state).filter(|_| state.stable().is_some()) {
        let what = format!("{release} as it is: it has never served everyone");
        ways.push(Way::new("cutover rollback --force", what));
    }
    Refusal::cannot(why, ways)
}

pub(super) fn unproven(state: &AppState, release: ReleaseId) -> Refusal {
    let why = format!("{release} never proved itself: it has never served everyone");
    let mut ways = Vec::new();
    if let Some(target) = state.rollback_target() {
        ways.push(Way::new("cutover rollback", format!("to {target}, which did")));
    }
    if state.rollout.as_ref().is_some_and(|rollout| rollout.release == release) {
        ways.push(Way::new("cutover promote", format!("{release} forward, by its rollout")));
    }
    let command = format!("cutover rollback --to {release} --force");
    ways.push(Way::new(command, format!("{release} as it is")));
    Refusal::cannot(why, ways)
}

pub(super) fn gone(state: &AppState, release: ReleaseId) -> Refusal {
    let serving = state.serving().map_or("nothing".to_owned(), |r| r.to_string());
    let why = format!("{release} has no stack any more; {serving} serves");
    let commit = state.standing(release).and_then(|s| s.release.commit.clone());
    let mut ways = Vec::new();
    if let Some(commit) = commit {
        let commit: String = commit.chars().take(12).collect();
        let command = format!("cutover deploy --ref {commit} --again --at-once");
        ways.push(Way::new(command, format!("makes {release}'s code a new release")));
    }
    ways.push(Way::new("cutover releases", "lists what is on record"));
    Refusal::cannot(why, ways)
}
