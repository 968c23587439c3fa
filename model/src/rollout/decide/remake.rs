//! A rollback that has to make a stack: of a release whose containers are gone, or a new release of
//! former parts. It goes to the idle color, so nothing that serves is touched before it is ready.

use super::{Asked, Decision, Effect, back};
use crate::fact::{AppKind, Fact, OperationKind, RolloutEnding};
use crate::parts::{Layers, Leg, Parts};
use crate::release::ReleaseState;
use crate::rollout::{AppState, Manner, Proof, Refusal, Way};
use crate::{ReleaseId, Weight};

/// A release comes back that has no containers any more.
pub(super) fn again(
    state: &AppState,
    asked: &Asked,
    target: ReleaseId,
    manner: Manner,
) -> Result<Decision, Refusal> {
    let standing = state.standing(target);
    if state.kind == AppKind::Static || standing.is_none_or(|s| s.release.folder.is_empty()) {
        return Err(back::gone(state, target));
    }
    if manner.proof == Proof::Wanted && !back::is_proven(state, target) {
        return Err(back::unproven(state, target));
    }
    begin(state, asked, target, Parts::of(target, state.stable()), manner)
}

/// A new release, of parts of the target and of what serves.
pub(super) fn composed(
    state: &AppState,
    asked: &Asked,
    to: Option<ReleaseId>,
    (legs, rebuild): (&[Leg], Option<Layers>),
    manner: Manner,
) -> Result<Decision, Refusal> {
    let target = back::target(state, to, manner)?;
    if state.kind == AppKind::Static {
        let why = "this app has fixed endpoints: there is nothing to compose";
        return Err(Refusal::cannot(why, Vec::new()));
    }
    if state.standing(target).is_none() {
        return Err(Refusal::Unknown { what: format!("release {target}") });
    }
    let Some(today) = state.stable() else {
        return Err(back::nowhere(state));
    };
    if manner.proof == Proof::Wanted && !back::is_proven(state, target) {
        return Err(back::unproven(state, target));
    }
    let parts = Parts::chosen(target, today, legs, rebuild);
    if target == today && rebuild.is_none() {
        let since = state.last_move.map(|m| (m.at, m.operation));
        return Err(Refusal::AlreadyThere { release: target, since });
    }
    for source in [parts.code, parts.config] {
        if state.standing(source).is_none_or(|s| s.release.folder.is_empty()) {
            let why = format!(
                "{source} was taken over from plain compose: its compose file and env files were \
                 not kept, so nothing can be composed of them"
            );
            return Err(Refusal::cannot(why, vec![super::deploy_way()]));
        }
    }
    if manner.proof == Proof::Wanted
        && target != today
        && let Some(why) = state.cannot_run(parts.code)
    {
        return Err(back::schema(state, target, to, why));
    }
    begin(state, asked, state.newest_release.next(), parts, manner)
}

fn begin(
    state: &AppState,
    asked: &Asked,
    release: ReleaseId,
    parts: Parts,
    manner: Manner,
) -> Result<Decision, Refusal> {
    if let Some((operation, running)) = state.running() {
        return Err(Refusal::Busy { operation, what: running.what.as_str().into() });
    }
    if state.split.weight > Weight::ZERO {
        let why = format!(
            "{} of the clients are in a rollout, so no color is free to make {release} in",
            state.split.weight
        );
        let way = Way::new("cutover rollback", "ends the rollout, all traffic to stable");
        return Err(Refusal::cannot(why, vec![way]));
    }
    let (from, color) = (state.stable(), state.split.canary());
    let what = OperationKind::Remake { release, from, parts, manner };
    let mut decision = Decision::of(asked, what);
    if state.rollout.is_some() {
        decision = decision.and(Fact::RolloutEnded { ending: RolloutEnding::Aborted });
    }
    decision.effects.push(Effect::Remake { release, color, parts, manner });
    Ok(decision)
}

/// It is ready: it gets everything, by the operation that asked for it.
pub(super) fn returned(
    state: &AppState,
    asked: &Asked,
    release: ReleaseId,
    manner: Manner,
) -> Result<Decision, Refusal> {
    if state.standby() != Some(release) || state.release_state(release) != ReleaseState::Warm {
        return Err(Refusal::cannot(format!("{release} is not ready"), Vec::new()));
    }
    let (color, from) = (state.split.canary(), state.stable());
    let mut decision = back::back(Decision::default(), state, asked, (color, release, from));
    let is_new = state.standing(release).is_some_and(|s| s.release.parts.is_some());
    if is_new && !back::is_proven(state, release) {
        decision = decision.and(Fact::ReleaseProven { release });
    }
    for effect in &mut decision.effects {
        if let Effect::Drain { open, .. } = effect {
            *open = manner.open;
        }
    }
    Ok(decision)
}

/// Whether an input needs what a look at the host alone can tell, before it is asked: the release
/// and the parts that it would be made of.
///
/// # Errors
/// The [`Refusal`] that the input would get.
pub fn would_make(state: &AppState, asked: &Asked) -> Result<Option<(ReleaseId, Parts)>, Refusal> {
    let decision = super::decide(state, asked)?;
    Ok(decision.effects.into_iter().find_map(|effect| match effect {
        Effect::Remake { release, parts, .. } => Some((release, parts)),
        _ => None,
    }))
}
