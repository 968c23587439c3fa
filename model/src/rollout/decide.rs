//! What follows from an input: pure, total, with time as an argument.
//!
//! A decision lists the facts that the journal gets and the effects that the controller has. It
//! never moves traffic to a release whose stack is not warm.

mod back;
mod effect;
mod remake;
mod restore;
mod upkeep;

pub use effect::Effect;
pub use remake::would_make;

use serde::{Deserialize, Serialize};

use super::{AppState, Manner, Open, Refusal, Way};
use crate::fact::{AppKind, Fact, OperationKind, RolloutEnding, Step};
use crate::parts::{Layers, Leg};
use crate::release::ReleaseState;
use crate::restore::RestorePlan;
use crate::upkeep::Upkeep;
use crate::{Color, OperationId, ReleaseId, Salt, Split, Weight};

/// What may be asked of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// Take over what runs, as a release.
    Adopt,
    /// Give the ports back to plain compose.
    Leave,
    /// Make a release in the idle color; traffic comes later.
    Deploy,
    /// A deploy's release passed its probes.
    Ready {
        /// The deploy, which started already.
        deploy: OperationId,
        /// The release.
        release: ReleaseId,
        /// How its traffic begins.
        settle: Settle,
        /// The recipe.
        steps: Vec<Step>,
        /// The salt, drawn by the caller.
        salt: Salt,
    },
    /// Move the canary's weight; 100 % promotes.
    Shift {
        /// The weight asked for.
        weight: Weight,
        /// The salt, if this begins a rollout.
        salt: Salt,
        /// The recipe, if this begins a rollout.
        steps: Vec<Step>,
    },
    /// Go to the next step of the recipe; after the last one, promote.
    Next,
    /// Give the canary everything.
    Promote,
    /// Take the canary's traffic away and end the rollout.
    Abort,
    /// Traffic back to a former release, or the one named.
    Rollback {
        /// The release, when named.
        to: Option<ReleaseId>,
        /// What was asked for beyond the usual.
        #[serde(default)]
        manner: Manner,
    },
    /// A new release of parts of a former one and of what serves.
    Compose {
        /// The former release, when named.
        to: Option<ReleaseId>,
        /// Which parts are the former release's.
        legs: Vec<Leg>,
        /// Whether its images are built anew, and how.
        rebuild: Option<Layers>,
        /// What was asked for beyond the usual.
        manner: Manner,
    },
    /// What a rollback had to make is ready.
    Returned {
        /// The rollback, which started already.
        operation: OperationId,
        /// The release.
        release: ReleaseId,
        /// How the rollback goes on.
        manner: Manner,
    },
    /// Reverse an operation that moved traffic.
    Undo {
        /// It.
        operation: OperationId,
    },
    /// Put the database back, as agreed on.
    Restore {
        /// What was agreed on.
        plan: Box<RestorePlan>,
    },
    /// Take a release's migrations back by its down scripts.
    MigrateDown {
        /// The release.
        release: ReleaseId,
    },
    /// A restore that waits goes on.
    Continue {
        /// The restore.
        operation: OperationId,
        /// The most rows that may be lost, when it is accepted anew.
        max_loss: Option<u64>,
    },
    /// Work on backups, or on databases beside the live one.
    Upkeep {
        /// What.
        upkeep: Upkeep,
    },
}

impl Input {
    /// Whether it takes the path of the cut-back: memory first, everything else after.
    #[must_use]
    pub fn is_cut_back(&self) -> bool {
        matches!(self, Self::Rollback { .. } | Self::Abort)
    }
}

/// How the traffic of a fresh release begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settle {
    /// At the first step's weight.
    FirstStep,
    /// Everything at once.
    AtOnce,
    /// None yet; a person shifts.
    NoTraffic,
}

/// An input with the number that its operation gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What is asked.
    pub input: Input,
    /// The operation's number, drawn by the caller, above every number before; for
    /// [`Input::Ready`] the deploy's own.
    pub operation: OperationId,
    /// The number that the next move of the split gets, drawn likewise.
    pub move_number: u64,
    /// The caller's id of the request.
    pub request: Option<String>,
}

/// What follows from an input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// For the journal, in order.
    pub facts: Vec<Fact>,
    /// For the controller, in order.
    pub effects: Vec<Effect>,
}

/// Decides.
///
/// # Errors
/// [`Refusal`] when nothing changes, with the reason and the ways on.
pub fn decide(state: &AppState, asked: &Asked) -> Result<Decision, Refusal> {
    if let Some(request) = &asked.request
        && let Some((operation, known)) =
            state.operations.iter().find(|(_, o)| o.request.as_ref() == Some(request))
    {
        return Err(Refusal::Busy { operation: *operation, what: known.what.as_str().into() });
    }
    match &asked.input {
        Input::Adopt => adopt(state, asked),
        Input::Leave => leave(state, asked),
        Input::Deploy => deploy(state, asked),
        Input::Ready { release, settle, steps, salt, .. } => {
            ready(state, asked, *release, *settle, (steps, *salt))
        }
        Input::Shift { weight, salt, steps } => shift(state, asked, *weight, (*salt, steps)),
        Input::Next => next(state, asked),
        Input::Promote => promote(state, asked),
        Input::Abort => abort(state, asked),
        Input::Rollback { to, manner } => back::rollback(state, asked, *to, *manner),
        Input::Compose { to, legs, rebuild, manner } => {
            remake::composed(state, asked, *to, (legs, *rebuild), *manner)
        }
        Input::Returned { release, manner, .. } => {
            remake::returned(state, asked, *release, *manner)
        }
        Input::Undo { operation } => back::undo(state, asked, *operation),
        Input::Restore { plan } => restore::restore(state, asked, plan),
        Input::MigrateDown { release } => restore::migrate_down(state, asked, *release),
        Input::Continue { operation, max_loss } => restore::go_on(state, *operation, *max_loss),
        Input::Upkeep { upkeep } => upkeep::upkeep(state, asked, upkeep),
    }
}

impl Decision {
    fn of(asked: &Asked, what: OperationKind) -> Self {
        let request = asked.request.clone();
        let started = Fact::OperationStarted { operation: asked.operation, what, request };
        Self { facts: vec![started], effects: Vec::new() }
    }

    /// The split goes to `after`: fact, publish, and what a change of the stable color brings.
    fn go_to(mut self, state: &AppState, asked: &Asked, after: Split, salt: Salt) -> Self {
        let before = state.split;
        let operation = Some(asked.operation);
        let number = asked.move_number;
        self.facts.push(Fact::SplitChanged { number, before, after, operation });
        self.effects.push(Effect::Publish { split: after, salt });
        for color in Color::BOTH {
            if before.share(color) > Weight::ZERO && after.share(color) == Weight::ZERO {
                self.effects.push(Effect::Drain { color, open: Open::Finish });
            }
        }
        if before.stable != after.stable && state.kind == AppKind::Compose {
            let (from, to) = (before.stable, after.stable);
            self.effects.push(Effect::MoveSingletons { from, to });
        }
        self
    }

    fn and(mut self, fact: Fact) -> Self {
        self.facts.push(fact);
        self
    }
}

fn adopt(state: &AppState, asked: &Asked) -> Result<Decision, Refusal> {
    if state.kind == AppKind::Static {
        let why = "this app has fixed endpoints: there are no containers to take over";
        return Err(Refusal::cannot(why, vec![Way::new("cutover status", "shows what serves")]));
    }
    if let Some((operation, running)) = state.running() {
        return Err(Refusal::Busy { operation, what: running.what.as_str().into() });
    }
    if let Some(release) = state.stable().or(state.standby()) {
        let why = format!("{release} is here already: an app is adopted before its first release");
        return Err(Refusal::cannot(why, vec![deploy_way()]));
    }
    let (release, color) = (state.newest_release.next(), state.split.stable);
    let mut decision = Decision::of(asked, OperationKind::Adopt);
    decision.effects.push(Effect::Adopt { release, color });
    Ok(decision)
}

fn leave(state: &AppState, asked: &Asked) -> Result<Decision, Refusal> {
    if let Some((operation, running)) = state.running() {
        return Err(Refusal::Busy { operation, what: running.what.as_str().into() });
    }
    if state.kind == AppKind::Static {
        let why = "this app has fixed endpoints: Cutover never took anything over";
        return Err(Refusal::cannot(why, Vec::new()));
    }
    let Some(release) = state.stable() else {
        return Err(Refusal::cannot(
            "no release serves: there is nothing to give back",
            Vec::new(),
        ));
    };
    if state.split.weight > Weight::ZERO {
        let why = format!("{} of the clients are in a rollout", state.split.weight);
        return Err(Refusal::cannot(why, rollout_ways()));
    }
    let mut decision = Decision::of(asked, OperationKind::Leave);
    decision.effects.push(Effect::Leave { release, color: state.split.stable });
    Ok(decision)
}

fn deploy(state: &AppState, asked: &Asked) -> Result<Decision, Refusal> {
    if state.kind == AppKind::Static {
        return Err(Refusal::cannot(
            "this app has fixed endpoints: there is nothing to deploy",
            vec![Way::new("cutover shift 10%", "moves a tenth of the clients to the other color")],
        ));
    }
    if let Some((operation, running)) = state.running() {
        return Err(Refusal::Busy { operation, what: running.what.as_str().into() });
    }
    if let Some(rollout) = &state.rollout
        && state.split.weight > Weight::ZERO
    {
        let why = format!(
            "{} has {} of the clients: its rollout has to end first",
            rollout.release, state.split.weight
        );
        return Err(Refusal::cannot(why, rollout_ways()));
    }
    let release = state.newest_release.next();
    let color = state.split.canary();
    let mut decision = Decision::of(asked, OperationKind::Deploy { release });
    if state.rollout.is_some() {
        let ending = RolloutEnding::Aborted;
        decision = decision.and(Fact::RolloutEnded { ending });
    }
    decision.effects.push(Effect::Make { release, color });
    Ok(decision)
}

fn ready(
    state: &AppState,
    asked: &Asked,
    release: ReleaseId,
    settle: Settle,
    (steps, salt): (&[Step], Salt),
) -> Result<Decision, Refusal> {
    if state.standby() != Some(release) || state.release_state(release) != ReleaseState::Warm {
        return Err(Refusal::cannot(format!("{release} is not ready"), Vec::new()));
    }
    // The operation is the deploy's own, so no start is written again.
    let decision = Decision::default();
    let started = Fact::RolloutStarted { release, salt, steps: steps.to_vec() };
    let first = steps.first().map_or(Weight::FULL, |step| step.weight);
    let all = Split::all(state.split.canary());
    // Nobody serves yet: the first deploy of an app that was never adopted takes everything.
    let is_first = state.stable().is_none();
    match settle {
        Settle::NoTraffic if !is_first => Ok(decision.and(started)),
        Settle::FirstStep if first < Weight::FULL && !is_first => {
            let after = Split { stable: state.split.stable, weight: first };
            Ok(decision.and(started).go_to(state, asked, after, salt))
        }
        _ => Ok(promoted(decision.and(started).go_to(state, asked, all, salt), state, release)),
    }
}

fn promoted(decision: Decision, state: &AppState, release: ReleaseId) -> Decision {
    let mut decision = decision
        .and(Fact::RolloutEnded { ending: RolloutEnding::Promoted })
        .and(Fact::ReleaseProven { release });
    if state.standing(release).is_some_and(|s| s.rejected_by.is_some()) {
        decision = decision.and(Fact::ReleaseCleared { release });
    }
    decision
}

/// The release that a shift or promotion moves traffic to.
fn candidate(state: &AppState) -> Result<ReleaseId, Refusal> {
    let Some(release) = state.standby() else {
        let why = format!("{} is empty: there is no release to move to", state.split.canary());
        return Err(Refusal::cannot(why, vec![deploy_way()]));
    };
    match state.release_state(release) {
        ReleaseState::Warm => {}
        ReleaseState::Starting => {
            let why = format!("{release} is not ready yet");
            return Err(Refusal::cannot(why, vec![Way::new("cutover status", "shows its state")]));
        }
        _ => {
            let why = format!("{release} does not run");
            return Err(Refusal::cannot(why, vec![deploy_way()]));
        }
    }
    let is_former = state.kind == AppKind::Compose && state.rollout.is_none();
    if is_former && Some(release) < state.stable() {
        let why = format!("{release} is older than what serves: going back is a rollback");
        let way = Way::new(format!("cutover rollback --to {release}"), "moves all traffic there");
        return Err(Refusal::cannot(why, vec![way]));
    }
    if is_former && state.standing(release).is_some_and(|s| s.rejected_by.is_some()) {
        let why = format!("{release} was rolled back");
        let mut ways = vec![deploy_way()];
        if let Some(operation) = state.last_move.and_then(|m| m.operation) {
            ways.push(Way::new(format!("cutover undo {operation}"), format!("back to {release}")));
        }
        return Err(Refusal::cannot(why, ways));
    }
    // One that has traffic runs on it already.
    if state.split.weight == Weight::ZERO
        && let Some(why) = state.cannot_run(release)
    {
        return Err(Refusal::cannot(why, vec![deploy_way()]));
    }
    Ok(release)
}

fn shift(
    state: &AppState,
    asked: &Asked,
    weight: Weight,
    (salt, steps): (Salt, &[Step]),
) -> Result<Decision, Refusal> {
    let release = candidate(state)?;
    if weight == state.split.weight && (state.rollout.is_some() || weight == Weight::ZERO) {
        return Err(Refusal::SameWeight { split: state.split });
    }
    let mut decision = Decision::of(asked, OperationKind::Shift { weight });
    let salt = match &state.rollout {
        Some(rollout) => rollout.salt,
        None => {
            let steps = steps.to_vec();
            decision = decision.and(Fact::RolloutStarted { release, salt, steps });
            salt
        }
    };
    if weight == Weight::FULL {
        let all = Split::all(state.split.canary());
        return Ok(promoted(decision.go_to(state, asked, all, salt), state, release));
    }
    let after = Split { stable: state.split.stable, weight };
    Ok(decision.go_to(state, asked, after, salt))
}

fn next(state: &AppState, asked: &Asked) -> Result<Decision, Refusal> {
    let Some(rollout) = &state.rollout else {
        return Err(no_rollout(state));
    };
    let release = candidate(state)?;
    let decision = Decision::of(asked, OperationKind::Next);
    match rollout.step_above(state.split.weight) {
        Some(step) if step.weight < Weight::FULL => {
            let after = Split { stable: state.split.stable, weight: step.weight };
            Ok(decision.go_to(state, asked, after, rollout.salt))
        }
        _ => {
            let all = Split::all(state.split.canary());
            Ok(promoted(decision.go_to(state, asked, all, rollout.salt), state, release))
        }
    }
}

fn promote(state: &AppState, asked: &Asked) -> Result<Decision, Refusal> {
    let Some(rollout) = &state.rollout else {
        return Err(no_rollout(state));
    };
    let release = candidate(state)?;
    let all = Split::all(state.split.canary());
    let decision = Decision::of(asked, OperationKind::Promote);
    Ok(promoted(decision.go_to(state, asked, all, rollout.salt), state, release))
}

fn abort(state: &AppState, asked: &Asked) -> Result<Decision, Refusal> {
    let Some(rollout) = &state.rollout else {
        return Err(no_rollout(state));
    };
    let operation = asked.operation;
    let release = rollout.release;
    let mut decision = Decision::of(asked, OperationKind::Abort);
    if state.split.weight > Weight::ZERO {
        decision = decision.go_to(state, asked, Split::all(state.split.stable), rollout.salt);
    }
    Ok(decision
        .and(Fact::RolloutEnded { ending: RolloutEnding::Aborted })
        .and(Fact::ReleaseRejected { release, operation }))
}

fn no_rollout(state: &AppState) -> Refusal {
    let serving = state.serving().map_or("nothing".to_owned(), |r| r.to_string());
    let why = format!("no rollout is going on; {serving} has all traffic");
    Refusal::cannot(why, vec![deploy_way()])
}

fn deploy_way() -> Way {
    Way::new("cutover deploy", "makes a new release in the idle color")
}

fn rollout_ways() -> Vec<Way> {
    vec![
        Way::new("cutover promote", "gives it everything"),
        Way::new("cutover abort", "takes its traffic away"),
    ]
}
