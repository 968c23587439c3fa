//! `[apps.NAME.rollout]`: the steps of a deploy.

use std::time::Duration;

use cutover_model::Weight;

use super::no_effect;
use crate::checked::{Rollout, RolloutStep};
use crate::problem::Sink;
use crate::raw::{RawRollout, RawStep};
use crate::read::At;

/// Checks the section, or makes the default steps: 1 %, 5 %, 25 %, 50 %.
pub(super) fn check(raw: Option<&RawRollout>, sink: &mut Sink) -> Rollout {
    let default = || {
        let plan = [(100, 1), (500, 5), (2_500, 10), (5_000, 5)];
        plan.into_iter().filter_map(|(points, minutes)| step(points, minutes)).collect()
    };
    let max = raw.and_then(|raw| raw.max_error_rate.as_ref());
    let steps = raw.and_then(|raw| raw.steps.as_ref());
    Rollout {
        steps: steps.map_or_else(default, |list| steps_of(list, sink)),
        max_error_rate: max
            .map(|at| at.value.0)
            .or_else(|| Weight::from_basis_points(200).ok())
            .unwrap_or(Weight::FULL),
    }
}

fn step(points: u16, minutes: u64) -> Option<RolloutStep> {
    let weight = Weight::from_basis_points(points).ok()?;
    Some(RolloutStep { weight, soak: Duration::from_secs(minutes * 60) })
}

fn steps_of(list: &At<Vec<At<RawStep>>>, sink: &mut Sink) -> Vec<RolloutStep> {
    if list.value.is_empty() && !sink.touched(&list.place.key) {
        sink.wrong(&list.place, "the list of steps is empty")
            .hint("leave it out for 1 %, 5 %, 25 %, 50 %; `deploy --at-once` skips the steps");
    }
    let soak = list.value.iter().find_map(|step| step.value.soak.as_ref());
    if let Some(soak) = soak {
        no_effect(soak, "a step lasts until you type `cutover next`", sink);
    }
    let mut steps: Vec<RolloutStep> = Vec::new();
    let mut last: Option<&At<crate::scalar::Share>> = None;
    for raw in &list.value {
        let Some(at) = &raw.value.weight else {
            let hint = "add `weight`, as weight = \"5%\"";
            sink.missing(&raw.place, "weight", "the step has no weight", hint);
            continue;
        };
        let weight = at.value.0;
        if weight == Weight::ZERO || weight == Weight::FULL {
            sink.wrong(&at.place, format!("a step lies between 0 and 100 %, not at {weight}"))
                .hint("leave it out: a deploy begins at 0 % and ends at 100 % by itself");
        }
        if let Some(before) = last.filter(|before| before.value.0 >= weight) {
            let what = format!("the weights have to rise: {weight} comes after {}", before.value.0);
            sink.wrong(&at.place, what)
                .also(&before.place, "the step before")
                .hint("put the steps in order, each larger than the one before");
        }
        last = Some(at);
        let soak = raw.value.soak.as_ref();
        steps.push(RolloutStep { weight, soak: super::duration(soak, Duration::from_secs(60)) });
    }
    steps
}
