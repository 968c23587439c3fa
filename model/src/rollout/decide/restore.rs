//! May the database be put back, and may a restore that waits go on.

use super::{Asked, Decision, Effect};
use crate::fact::{AppKind, Fact, OperationKind};
use crate::restore::{Halt, RestorePlan, Source, enough};
use crate::rollout::{AppState, Refusal, Way};
use crate::{OperationId, ReleaseId, Weight};

pub(super) fn restore(
    state: &AppState,
    asked: &Asked,
    plan: &RestorePlan,
) -> Result<Decision, Refusal> {
    if let Some((operation, running)) = state.running() {
        return Err(Refusal::Busy { operation, what: running.what.as_str().into() });
    }
    // INVARIANT: what is put aside carries the number of the operation that does it: by that name
    // every later start tells on which side of the exchange the world is.
    let operation = asked.operation;
    if !plan.aside.ends_with(&format!("_{operation}")) {
        let why = format!(
            "this was planned under another number, and is {operation} by now: look at it again"
        );
        return Err(Refusal::cannot(why, Vec::new()));
    }
    if state.kind == AppKind::Static {
        let why = "this app has fixed endpoints: nothing here could stop it from writing into \
                   restored data";
        return Err(Refusal::cannot(why, Vec::new()));
    }
    let Some(standing) = state.standing(plan.to) else {
        return Err(Refusal::Unknown { what: format!("release {}", plan.to) });
    };
    let color = standing.release.color;
    if *state.colors.get(color) != Some(plan.to) {
        let why = format!("{} has no stack any more: it cannot serve on the data", plan.to);
        let way = Way::new("cutover releases", "lists what is on record");
        return Err(Refusal::cannot(why, vec![way]));
    }
    if state.split.weight > Weight::ZERO {
        let why = "a rollout gives two releases traffic: on restored data only one may serve";
        let way = Way::new("cutover rollback", "ends the rollout, all traffic to stable");
        return Err(Refusal::cannot(why, vec![way]));
    }
    if let Source::Aside { operation } = &plan.source
        && !state.asides.contains_key(operation)
    {
        let why = format!("what {operation} had put aside is not there any more");
        return Err(Refusal::cannot(why, vec![Way::new("cutover db list", "lists what is")]));
    }
    let what = OperationKind::Restore { source: plan.source.clone(), to: plan.to };
    let planned = Fact::RestorePlanned { operation, plan: Box::new(plan.clone()) };
    let mut decision = Decision::of(asked, what).and(planned);
    decision.effects.push(Effect::Restore { operation });
    Ok(decision)
}

/// Migrations go back in the order in which they came, and only while one release has all traffic.
pub(super) fn migrate_down(
    state: &AppState,
    asked: &Asked,
    release: ReleaseId,
) -> Result<Decision, Refusal> {
    if let Some((operation, running)) = state.running() {
        return Err(Refusal::Busy { operation, what: running.what.as_str().into() });
    }
    let newest = state.newest_migrated().map(|migrated| migrated.release);
    match newest {
        Some(newest) if newest == release => {}
        Some(newest) => {
            let why = format!("the newest migrations are those of {newest}: they go back first");
            return Err(Refusal::cannot(
                why,
                vec![Way::new("cutover migrate status", "lists all")],
            ));
        }
        None => {
            let why = "no release has brought a migration that the database still has";
            return Err(Refusal::cannot(
                why,
                vec![Way::new("cutover migrate status", "lists all")],
            ));
        }
    }
    if state.split.weight > Weight::ZERO {
        let why = "a rollout gives two releases traffic: the schema is that of the newer one";
        let way = Way::new("cutover rollback", "ends the rollout, all traffic to stable");
        return Err(Refusal::cannot(why, vec![way]));
    }
    Ok(Decision::of(asked, OperationKind::MigrateDown { release }))
}

/// The operation is the restore's own, so no start is written.
pub(super) fn go_on(
    state: &AppState,
    operation: OperationId,
    max_loss: Option<u64>,
) -> Result<Decision, Refusal> {
    let Some(restore) = state.restores.get(&operation) else {
        if !state.operations.contains_key(&operation) {
            return Err(Refusal::Unknown { what: format!("operation {operation}") });
        }
        let why = format!("{operation} does not wait for anything: it has ended");
        return Err(Refusal::cannot(why, vec![Way::new("cutover status", "shows what is")]));
    };
    let Some(halt) = &restore.halted else {
        let what = "restore".to_owned();
        return Err(Refusal::Busy { operation, what });
    };
    if let Halt::Asks { rows, a_minute, .. } = halt
        && max_loss.is_none_or(|most| most < *rows)
    {
        let growing = match a_minute {
            0 => String::new(),
            rows => format!(", growing by about {rows} a minute"),
        };
        let why = format!(
            "{operation} would lose {rows} rows as it was counted last{growing}: accept that \
             many, or more"
        );
        let most = enough(*rows, *a_minute);
        let command = format!("cutover continue {operation} --max-loss {most}");
        return Err(Refusal::cannot(why, vec![Way::new(command, "goes on with that loss")]));
    }
    Ok(Decision {
        facts: vec![Fact::RestoreResumed { operation, max_loss }],
        effects: vec![Effect::Restore { operation }],
    })
}
