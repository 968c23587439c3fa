//! What an app's last good table said beside its endpoints, kept for a start whose journal cannot
//! be trusted, and where a person may still turn then.
//!
//! Holds just what serving needs. It stands in for no journal: nothing that was made, proven or
//! asked for can be told from it.

use serde::{Deserialize, Serialize};

use crate::fact::{AppKind, Fact, OperationKind};
use crate::rollout::{AppState, Asked, Decision, Effect, Input, Manner, Open, Proof, Refusal, Way};
use crate::{ByColor, Closure, Color, Redirect, ReleaseId, Salt, Split, Weight};

/// How far the number of a move without the journal jumps: it has to be above every number that the
/// journal may hold.
pub const MOVES_AHEAD: u64 = 1_000_000;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGood {
    /// The split in force.
    pub split: Split,
    /// The salt of the newest rollout.
    pub salt: Salt,
    /// How often the split had changed.
    pub moves: u64,
    /// The release in each color.
    pub colors: ByColor<Option<ReleaseId>>,
    /// The rule that leads public ports to the proxy.
    pub redirect: Option<Redirect>,
    /// The maintenance that lasts.
    pub maintenance: Option<Closure>,
}

impl LastGood {
    /// What is kept of a state.
    #[must_use]
    pub fn of(state: &AppState) -> Self {
        Self {
            split: state.split,
            salt: state.salt,
            moves: state.moves,
            colors: state.colors,
            redirect: state.redirect.clone(),
            maintenance: state.maintenance.clone(),
        }
    }

    /// The state that serves without a journal: no releases, no operations.
    #[must_use]
    pub fn state(self, kind: AppKind) -> AppState {
        let Self { split, salt, moves, colors, redirect, maintenance } = self;
        AppState { kind, split, salt, moves, colors, redirect, maintenance, ..AppState::default() }
    }
}

/// Decides a cut-back by color, for a state that no journal stands behind: traffic only, nothing is
/// started, stopped or judged. `runs` are the colors that have a running container.
///
/// # Errors
/// [`Refusal`]; nothing changes then.
pub fn cut_back_by_color(
    state: &AppState,
    asked: &Asked,
    runs: ByColor<bool>,
) -> Result<Decision, Refusal> {
    let (to, manner) = match &asked.input {
        Input::Abort if state.split.weight == Weight::ZERO => {
            return Err(Refusal::Cannot { why: "no rollout goes on".into(), ways: Vec::new() });
        }
        Input::Abort => (None, Manner::default()),
        Input::Rollback { to, manner } => (*to, *manner),
        _ => {
            let why = "only a rollback is possible while the journal cannot be trusted";
            return Err(Refusal::Cannot { why: why.into(), ways: vec![back(state)] });
        }
    };
    let color = color_of(state, to)?;
    let (before, after) = (state.split, Split::all(color));
    if before == after {
        return Err(match *state.colors.get(color) {
            Some(release) => Refusal::AlreadyThere { release, since: None },
            None => Refusal::Cannot {
                why: format!("{color} has had all traffic already"),
                ways: Vec::new(),
            },
        });
    }
    if !*runs.get(color) && manner.proof != Proof::Waived {
        let ways = vec![Way {
            command: "cutover rollback --force".into(),
            what: "moves all traffic there all the same".into(),
        }];
        let why = format!(
            "no running container of {color} is known, and without its journal Cutover starts none"
        );
        return Err(Refusal::Cannot { why, ways });
    }
    let operation = asked.operation;
    let mut facts = Vec::new();
    if let Some(to) = *state.colors.get(color) {
        let from = state.serving().filter(|from| *from != to);
        let what = OperationKind::Rollback { to, from, manner };
        let request = asked.request.clone();
        facts.push(Fact::OperationStarted { operation, what, request });
    }
    let number = asked.move_number;
    facts.push(Fact::SplitChanged { number, before, after, operation: Some(operation) });
    let effects = vec![
        Effect::Publish { split: after, salt: state.salt },
        Effect::Drain { color: color.other(), open: Open::Finish },
    ];
    Ok(Decision { facts, effects })
}

/// The color that a rollback leads to: the one of the release that was named; in a rollout the
/// stable one; else the other one.
///
/// # Errors
/// [`Refusal::Cannot`] when the release is in no color.
pub fn color_of(state: &AppState, to: Option<ReleaseId>) -> Result<Color, Refusal> {
    match to {
        None if state.split.weight > Weight::ZERO => Ok(state.split.stable),
        None => Ok(state.split.canary()),
        Some(to) => Color::BOTH
            .into_iter()
            .find(|color| *state.colors.get(*color) == Some(to))
            .ok_or_else(|| Refusal::Cannot {
                why: format!("{to} is in no color by the last good table"),
                ways: vec![back(state)],
            }),
    }
}

fn back(state: &AppState) -> Way {
    let color =
        if state.split.weight > Weight::ZERO { state.split.stable } else { state.split.canary() };
    let release = state.colors.get(color).map_or(String::new(), |release| format!(" ({release})"));
    Way { command: "cutover rollback".into(), what: format!("all traffic to {color}{release}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::evolve;
    use crate::{Actor, Happened, Millis, OperationId};

    fn known() -> AppState {
        let colors = ByColor { blue: Some(ReleaseId(6)), green: Some(ReleaseId(7)) };
        let split = Split { stable: Color::Blue, weight: Weight::ZERO };
        let moves = 12;
        let state = AppState { colors, split, moves, salt: Salt(9), ..AppState::default() };
        LastGood::of(&state).state(AppKind::Compose)
    }

    fn asked(input: Input) -> Asked {
        Asked { input, operation: OperationId(1), move_number: 13 + MOVES_AHEAD, request: None }
    }

    fn rollback(to: Option<u64>) -> Asked {
        let manner = Manner::default();
        asked(Input::Rollback { to: to.map(ReleaseId), manner })
    }

    const BOTH: ByColor<bool> = ByColor { blue: true, green: true };

    #[test]
    fn a_rollback_goes_to_the_other_color_and_fits_the_state() {
        let mut state = known();
        let decision = cut_back_by_color(&state, &rollback(None), BOTH).expect("possible");
        let split = Split::all(Color::Green);
        assert_eq!(decision.effects[0], Effect::Publish { split, salt: Salt(9) });
        for fact in decision.facts {
            let operation = fact.operation();
            let happened = Happened { at: Millis(1), actor: Actor::daemon(), operation, fact };
            evolve(&mut state, &happened).expect("legal");
        }
        assert_eq!((state.split, state.serving()), (split, Some(ReleaseId(7))));
        let again = cut_back_by_color(&state, &rollback(Some(7)), BOTH);
        assert!(matches!(again, Err(Refusal::AlreadyThere { .. })), "{again:?}");
    }

    #[test]
    fn in_a_rollout_a_rollback_and_an_abort_lead_to_stable() {
        let mut state = known();
        state.split.weight = Weight::from_basis_points(1_000).expect("a weight");
        for asked in [rollback(None), rollback(Some(6)), asked(Input::Abort)] {
            let decision = cut_back_by_color(&state, &asked, BOTH).expect("possible");
            let split = Split::all(Color::Blue);
            assert_eq!(decision.effects[0], Effect::Publish { split, salt: Salt(9) });
        }
    }

    #[test]
    fn nowhere_to_go_is_refused_and_says_what_is_possible() {
        let state = known();
        let gone = cut_back_by_color(&state, &rollback(Some(3)), BOTH).expect_err("refused");
        assert!(
            matches!(&gone, Refusal::Cannot { ways, .. } if ways[0].what.contains("green (r7)"))
        );
        assert!(cut_back_by_color(&state, &asked(Input::Abort), BOTH).is_err());
        assert!(cut_back_by_color(&state, &asked(Input::Promote), BOTH).is_err());
        let runs = ByColor { blue: true, green: false };
        assert!(cut_back_by_color(&state, &rollback(None), runs).is_err());
        let manner = Manner { proof: Proof::Waived, ..Manner::default() };
        let forced = asked(Input::Rollback { to: None, manner });
        assert!(cut_back_by_color(&state, &forced, runs).is_ok());
    }
}
