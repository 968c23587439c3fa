//! May work on backups begin: one operation on a database at a time.

use super::{Asked, Decision, Effect};
use crate::fact::OperationKind;
use crate::rollout::{AppState, Refusal, Way};
use crate::upkeep::Upkeep;

pub(super) fn upkeep(
    state: &AppState,
    asked: &Asked,
    upkeep: &Upkeep,
) -> Result<Decision, Refusal> {
    if let Some((operation, running)) = state.running() {
        return Err(Refusal::Busy { operation, what: running.what.as_str().into() });
    }
    match upkeep {
        Upkeep::Verify { ids } | Upkeep::Prune { ids } if ids.is_empty() => {
            let way = Way::new("cutover backup list", "lists what is kept");
            return Err(Refusal::cannot("no backup is named", vec![way]));
        }
        Upkeep::Retire { of, was: Some(_), .. } if !state.asides.contains_key(of) => {
            let why = format!("{of} put no database aside that is still there");
            return Err(Refusal::cannot(why, vec![Way::new("cutover db list", "lists what is")]));
        }
        _ => {}
    }
    let mut decision = Decision::of(asked, OperationKind::Upkeep { upkeep: upkeep.clone() });
    decision.effects.push(Effect::Upkeep { operation: asked.operation });
    Ok(decision)
}
