//! What the operator does with plain compose beside Cutover, seen at once and said.
//!
//! A task of its own, so that endpoints never wait for it: woken by Docker's events about the
//! operator's project, and now and then. What is looked at and mended is the reconciler's; here is
//! only what may be touched now, and what people are told.
//! INVARIANT: it never runs while singletons are moved, nor while an adoption or a leave does.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cutover_model::{
    AppState, Color, LineLevel, OperationKind, ReleaseId, ReleaseState, Standing, Weight,
};
use tokio_util::sync::CancellationToken;

use super::App;
use crate::reconciler::{Expected, Known, Leftovers, Tended, Unserved, View};

/// How often the operator's project is looked at although Docker told nothing.
const LOOK: Duration = Duration::from_secs(30);

/// How many of the newest releases' images are looked for: as many as are kept.
const KEPT: usize = 12;

impl App {
    /// What is left on the host of releases that are not on record, and what is dangerous there;
    /// `None`: the app has no compose file.
    pub async fn leftovers(&self) -> Option<Leftovers> {
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return None;
        };
        // By a journal that cannot be trusted everything would be left over.
        if self.untrusted().is_some() {
            return None;
        }
        let state = self.state();
        let known = Known { releases: state.releases.into_keys().collect(), colors: state.colors };
        Some(reconciler.leftovers(&stack, &known).await)
    }

    /// Removes what is left of a release, unless it is on record or somebody makes one now.
    pub async fn clean_leftovers(&self, release: ReleaseId) {
        let state = self.state();
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return;
        };
        let is_known = self.untrusted().is_none();
        if is_known && !state.releases.contains_key(&release) && state.running().is_none() {
            reconciler.clean(&stack, release).await;
        }
    }

    /// Tends the operator's project until the daemon stops.
    pub(super) async fn tend_habits(self: Arc<Self>, stop: CancellationToken) {
        if self.shared.reconciler.is_none() || self.stack().is_none() {
            return;
        }
        let mut look = tokio::time::interval(LOOK);
        let mut known: Option<BTreeSet<Unserved>> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => {}
                () = self.habits.notified() => {}
            }
            self.tend_once(&mut known).await;
            self.look_for_drift().await;
        }
    }

    async fn tend_once(&self, known: &mut Option<BTreeSet<Unserved>>) {
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return;
        };
        let state = self.state();
        if self.operators_project.get().is_none()
            && let Some(project) =
                reconciler.operators_project(&stack, state.colors, &self.projects()).await
            && self.operators_project.set(project).is_err()
        {
            tracing::debug!("the operator's project was found twice");
        }
        // Nobody moves singletons meanwhile, and the state is that of this moment.
        let turn = self.singletons.lock().await;
        let state = self.state();
        let Some(view) = self.view(&state) else { return };
        let tended = reconciler.tend(&stack, &view).await;
        drop(turn);
        match tended {
            Ok(tended) => self.tell(&state, &view.operator, tended, known),
            Err(why) => tracing::warn!(app = %self.name, %why, "the operator's project"),
        }
    }

    /// What differs from the records is told once, and once when it is gone; nothing is put right.
    async fn look_for_drift(&self) {
        let (Some(reconciler), Some(stack)) = (&self.shared.reconciler, self.stack()) else {
            return;
        };
        let state = self.state();
        // What an operation does at this moment is no drift.
        if state.changing().is_some() {
            return;
        }
        let expected = expected(&state);
        let found = match reconciler.drift(&stack, &expected).await {
            Ok(found) => found,
            Err(why) => return tracing::debug!(%why, "drift is not known"),
        };
        // It began meanwhile: what was seen may be its doing.
        if self.state().changing().is_some() || expected_ids(&self.state()) != expected_ids(&state)
        {
            return;
        }
        let former = {
            let mut kept = self.drift.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *kept, found.clone())
        };
        for line in found.running.difference(&former.running) {
            let text = format!("{line}. Left as it is: traffic goes to what answers");
            self.say(None, LineLevel::Error, "drift", text);
        }
        for line in former.running.difference(&found.running) {
            self.say(None, LineLevel::Note, "drift", format!("not so any more: {line}"));
        }
        for (release, services) in &found.lost {
            if former.lost.get(release) != Some(services) {
                let services = services.join(", ");
                let text = format!(
                    "images of {release} are not on this host any more: {services}. They can be \
                     built anew: cutover rollback --to {release} --rebuild"
                );
                self.say(None, LineLevel::Error, "drift", text);
            }
        }
    }

    /// What may be touched now; `None`: nothing.
    fn view(&self, state: &AppState) -> Option<View> {
        let operator = self.operators_project.get()?.clone();
        state.stable()?;
        let running = state.changing().map(|(_, operation)| &operation.what);
        if matches!(running, Some(OperationKind::Adopt | OperationKind::Leave)) {
            return None;
        }
        let linkable = linkable(state);
        let (stable, projects) = (state.split.stable, self.projects());
        Some(View { operator, stable, projects, linkable })
    }

    fn tell(
        &self,
        state: &AppState,
        operator: &str,
        tended: Tended,
        known: &mut Option<BTreeSet<Unserved>>,
    ) {
        let name =
            |release: Option<ReleaseId>| release.map_or("nothing".to_owned(), |r| r.to_string());
        for (service, color) in &tended.linked {
            let release = name(*state.colors.get(*color));
            let text = format!(
                "{service} was made anew in project \"{operator}\": it is linked to {release} again"
            );
            self.say(None, LineLevel::Note, "shared", text);
        }
        for (service, project) in &tended.stopped {
            let text = format!(
                "a second {service} was started in project \"{project}\" and is stopped: it runs \
                 once, in {}",
                name(state.stable())
            );
            self.say(None, LineLevel::Error, "alarm", text);
        }
        let now: BTreeSet<Unserved> = tended.unserved.into_iter().collect();
        // What a deploy or an adoption does at this moment is told when it has ended.
        if state.changing().is_some() {
            return;
        }
        let fresh = fresh(known.as_ref(), &now);
        *known = Some(now);
        if !fresh.is_empty() {
            let (services, serving) = (fresh.join(", "), name(state.serving()));
            let text = format!(
                "somebody started {services} in project \"{operator}\": it gets no traffic from \
                 Cutover; {serving} serves. To release what is in the folder: cutover deploy. To \
                 stop it: docker compose -p {operator} stop {}",
                fresh.join(" ")
            );
            self.say(None, LineLevel::Error, "alarm", text);
        }
    }
}

/// What should be there by the records.
fn expected(state: &AppState) -> Expected {
    let in_color = |color: Color| state.standing((*state.colors.get(color))?);
    let running = Color::BOTH.into_iter().filter_map(in_color);
    let running = running
        .filter(|standing| standing.state == ReleaseState::Warm)
        .map(|standing| (standing.release.clone(), standing.release.project.clone()));
    let is_kept = |standing: &&Standing| {
        !standing.release.folder.is_empty() && standing.state != ReleaseState::Failed
    };
    let kept = state.releases.values().rev().filter(is_kept).take(KEPT);
    Expected {
        running: running.collect(),
        kept: kept.map(|standing| standing.release.clone()).collect(),
        serving: in_color(state.split.leading()).map(|standing| standing.release.clone()),
    }
}

fn expected_ids(state: &AppState) -> Vec<(ReleaseId, ReleaseState)> {
    state.releases.values().map(|standing| (standing.release.id, standing.state)).collect()
}

/// The releases whose links may be mended: all, or while a deploy works those with traffic.
fn linkable(state: &AppState) -> Vec<(Color, ReleaseId)> {
    let is_free = state.changing().is_none();
    let may = |color: &Color| is_free || state.split.share(*color) > Weight::ZERO;
    let with = |color: Color| Some((color, (*state.colors.get(color))?));
    Color::BOTH.into_iter().filter(may).filter_map(with).collect()
}

/// The services that were started since the look before; at the first look none were.
fn fresh(known: Option<&BTreeSet<Unserved>>, now: &BTreeSet<Unserved>) -> Vec<String> {
    let Some(known) = known else { return Vec::new() };
    let services: BTreeSet<String> =
        now.difference(known).map(|unserved| unserved.service.clone()).collect();
    services.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use cutover_model::{Actor, ByColor, Millis, Operation, OperationId, Split};

    use super::*;

    fn unserved(id: &str, started_at: &str) -> Unserved {
        Unserved { id: id.into(), started_at: started_at.into(), service: "backend".into() }
    }

    #[test]
    fn each_start_is_told_once_and_those_before_the_first_look_are_not() {
        let (first, again) = (unserved("a", "12:00"), unserved("a", "12:05"));
        let at_start = BTreeSet::from([first.clone()]);
        assert!(fresh(None, &at_start).is_empty());
        assert!(fresh(Some(&at_start), &at_start).is_empty());
        assert_eq!(fresh(Some(&at_start), &BTreeSet::from([again])), ["backend"]);
        assert_eq!(fresh(Some(&BTreeSet::new()), &BTreeSet::from([first])), ["backend"]);
    }

    #[test]
    fn while_a_deploy_works_only_a_color_with_traffic_is_touched() {
        let colors = ByColor { blue: Some(ReleaseId(1)), green: Some(ReleaseId(2)) };
        let split = Split::all(Color::Blue);
        let mut state = AppState { colors, split, ..AppState::default() };
        assert_eq!(linkable(&state).len(), 2);
        let deploy = Operation {
            what: OperationKind::Deploy { release: ReleaseId(2) },
            actor: Actor::daemon(),
            started_at: Millis(0),
            ended: None,
            request: None,
            moved: None,
            notes: Vec::new(),
        };
        state.operations.insert(OperationId(1), deploy);
        assert_eq!(linkable(&state), [(Color::Blue, ReleaseId(1))]);
    }
}
