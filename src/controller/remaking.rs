//! A rollback that has to make a stack: of a release whose containers are gone, or a new release of
//! former parts. It goes to the idle color, and what serves is not touched before it is ready.
//!
//! What is missing is looked for before anything begins, so that a refusal changes nothing. What
//! fails is put back: the color is cleared, the record of a former release stays as it was.

mod scheduled;

use std::collections::BTreeMap;
use std::sync::Arc;

use cutover_model::{
    Action, Actor, Color, Ending, Fact, Goal, Input, LineLevel, Manner, OperationId, OperationKind,
    Parts, Proof, Refusal, Release, ReleaseId, ReleaseState, Way, color_of, plan, would_make,
};

use super::make::Made;
use super::{Answer, App, Failure};
use crate::host::StackSettings;
use crate::reconciler::{Compared, Missing, Reconciler, Work};

/// What a rollback would do, without doing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The release that would get the traffic.
    pub release: ReleaseId,
    /// What it would be made of; `None`: its stack is there, only traffic moves.
    pub parts: Option<Parts>,
    /// The actions, in order.
    pub actions: Vec<Action>,
}

impl App {
    /// Carries out a rollback. What needs a stack to be made is refused before anything begins
    /// when a part of it is missing.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn roll_back(
        self: &Arc<Self>,
        input: Input,
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        if let Some((_, parts)) = self.would_make(&input)? {
            self.refuse_missing(&parts).await?;
            self.make_way("a rollback").await;
        }
        self.ask(input, actor, request).await
    }

    /// The plan of a rollback, by the same decision and the same planner as the rollback itself.
    ///
    /// # Errors
    /// What would refuse it.
    pub async fn preview_rollback(self: &Arc<Self>, input: Input) -> Result<Preview, Failure> {
        let Some((release, parts)) = self.would_make(&input)? else {
            let state = self.state();
            let release = match &input {
                Input::Rollback { to: Some(to), .. } => Some(*to),
                _ if self.untrusted().is_some() => {
                    color_of(&state, None).ok().and_then(|color| *state.colors.get(color))
                }
                _ => state.rollback_target(),
            };
            let release = release.ok_or(Failure::Unknown("there is no release".to_owned()))?;
            return Ok(Preview { release, parts: None, actions: Vec::new() });
        };
        self.refuse_missing(&parts).await?;
        let color = self.state().split.canary();
        let (reconciler, stack) = self.hands().map_err(Failure::Unknown)?;
        let actions = self.actions(reconciler, &stack, (release, color), parts).await;
        let actions = actions.map_err(Failure::Unknown)?;
        Ok(Preview { release, parts: Some(parts), actions })
    }

    /// What differs between two releases.
    pub async fn compare(&self, before: &Release, after: &Release) -> Compared {
        let Ok((reconciler, stack)) = self.hands() else { return Compared::default() };
        let state = self.state();
        let at = |release: &Release| {
            let is_there = *state.colors.get(release.color) == Some(release.id);
            is_there.then_some(release.color)
        };
        reconciler.compare(&stack, (before, after), at).await
    }

    /// What an input would make; the refusal that it would get. Work on backups is no reason for
    /// one: it makes way.
    fn would_make(&self, input: &Input) -> Result<Option<(ReleaseId, Parts)>, Refusal> {
        let live = self.live();
        if live.untrusted.is_some() {
            // Nothing is made without a journal; what is possible is decided where it is done.
            return Ok(None);
        }
        let asked = live.number(input.clone(), None);
        let is_upkeep = live.state.running().is_some_and(|(_, o)| o.upkeep().is_some());
        if !is_upkeep {
            return would_make(&live.state, &asked);
        }
        let mut without = live.state.clone();
        without.operations.retain(|_, o| o.ended.is_some() || o.upkeep().is_none());
        would_make(&without, &asked)
    }

    /// Why a rollback to this release could not be begun now, where it needs Docker.
    async fn engine_is_away(&self, release: ReleaseId) -> Option<String> {
        if self.state().release_state(release) == ReleaseState::Warm {
            return None;
        }
        let (reconciler, stack) = self.hands().ok()?;
        reconciler.is_answered(&stack).await.err()
    }

    async fn refuse_missing(&self, parts: &Parts) -> Result<(), Failure> {
        let Ok((reconciler, stack)) = self.hands() else { return Ok(()) };
        let Err(missing) = reconciler.check_parts(&stack, parts, &self.known(parts)).await else {
            return Ok(());
        };
        let way = |command: String, what: &str| Way { command, what: what.to_owned() };
        let mut ways = Vec::new();
        if let Missing::Images { release, commit: Some(_), .. } = &missing {
            let command = format!("cutover rollback --to {release} --rebuild");
            ways.push(way(command, "builds them anew from its commit, as a new release"));
        }
        ways.push(way("cutover releases".to_owned(), "lists what is on record"));
        if let Missing::Unknown(_) = missing {
            return Err(Failure::Away(missing.to_string()));
        }
        Err(Failure::Refused(Refusal::Cannot { why: missing.to_string(), ways }))
    }

    /// The records that parts are taken from, and that of the release that serves.
    fn known(&self, parts: &Parts) -> BTreeMap<ReleaseId, Release> {
        let state = self.state();
        let wanted = parts.sources().into_iter().chain(parts.today);
        wanted
            .filter_map(|id| state.standing(id).map(|standing| (id, standing.release.clone())))
            .collect()
    }

    fn hands(&self) -> Result<(&Reconciler, StackSettings), String> {
        match (&self.shared.reconciler, self.stack()) {
            (Some(reconciler), Some(stack)) => Ok((reconciler, stack)),
            _ => Err("this app has no compose file".to_owned()),
        }
    }

    async fn actions(
        &self,
        reconciler: &Reconciler,
        stack: &StackSettings,
        (release, color): (ReleaseId, Color),
        parts: Parts,
    ) -> Result<Vec<Action>, String> {
        let seen = self.observe_color(reconciler, stack, color).await;
        plan(&Goal::Remade { release, color, parts }, &seen).map_err(|error| error.to_string())
    }

    /// Makes the stack, then gives it everything. What fails is put back.
    pub(super) async fn remake(
        self: &Arc<Self>,
        operation: OperationId,
        (release, color): (ReleaseId, Color),
        parts: Parts,
        manner: Manner,
    ) -> Result<(), String> {
        let state = self.state();
        let serving = state.serving().map_or("nothing".to_owned(), |r| r.to_string());
        let begun = match parts.whole() == Some(release) {
            true => format!("{release} has no containers any more: they are made again in {color}"),
            false => format!("{release} is made in {color}: {}", parts.told()),
        };
        let text = format!("{begun}. {serving} serves until it is ready.");
        self.say(Some(operation), LineLevel::Step, "", text);
        if let Some(standby) = *state.colors.get(color) {
            let text = format!("{standby} makes room: its containers go, its record stays");
            self.say(Some(operation), LineLevel::Note, "note", text);
        }
        let mut made = Made::Nothing;
        let target = (release, color);
        match self.remake_inner(operation, target, parts, manner, &mut made).await {
            Ok(()) => Ok(()),
            Err(why) => {
                self.put_back_remade(operation, target, &parts, made).await;
                Err(format!("{why}; {}", self.serves_as_before()))
            }
        }
    }

    async fn remake_inner(
        self: &Arc<Self>,
        operation: OperationId,
        (release, color): (ReleaseId, Color),
        parts: Parts,
        manner: Manner,
        made: &mut Made,
    ) -> Result<(), String> {
        let (reconciler, stack) = self.hands()?;
        let mut work = Work::new(self.name.clone());
        work.projects = self.projects();
        work.releases = self.state().colors;
        work.release = Some((release, color));
        work.known = self.known(&parts);
        let mut actions = self.actions(reconciler, &stack, (release, color), parts).await?;
        if manner.proof == Proof::Waived {
            actions.retain(|action| !matches!(action, Action::Probe { .. }));
            let text = format!("{release} gets the traffic without a probe, as asked (--force)");
            self.say(Some(operation), LineLevel::Note, "", text);
        }
        let is_before = |action: &Action| matches!(action, Action::Assemble { .. });
        let (before, after): (Vec<_>, Vec<_>) = actions.into_iter().partition(is_before);
        let drive = self.drive(operation, reconciler, &stack, &before, &mut work);
        *made = Made::Images;
        drive.await.map_err(|stopped| stopped.to_string())?;
        let fact = match work.record() {
            Some(record) => Fact::ReleaseMade { release: Box::new(record) },
            None => Fact::ReleaseRemade { release, color, project: stack.project(color) },
        };
        self.claim(color, fact).await?;
        *made = Made::Stack;
        work.probe = self.probe_target(color).await?;
        let drive = self.drive(operation, reconciler, &stack, &after, &mut work);
        drive.await.map_err(|stopped| stopped.to_string())?;
        let warm = Fact::ReleaseIs { release, state: ReleaseState::Warm };
        self.record(Actor::daemon(), vec![warm]).await.map_err(|f| f.to_string())?;
        let ready = Input::Returned { operation, release, manner };
        let answer = self.ask(ready, Actor::daemon(), None).await.map_err(|f| f.to_string())?;
        // Traffic is there: what fails from here on takes nothing back.
        *made = Made::Nothing;
        let check = async {
            self.keep_harm(operation).await;
            self.check_rollback(operation).await;
        };
        let (ending, ()) =
            tokio::join!(Box::pin(self.settle_now(operation, answer.effects)), check);
        match ending {
            Ending::Failed(why) => Err(why),
            _ => Ok(()),
        }
    }

    async fn put_back_remade(
        self: &Arc<Self>,
        operation: OperationId,
        (release, color): (ReleaseId, Color),
        parts: &Parts,
        made: Made,
    ) {
        if made == Made::Nothing {
            return;
        }
        if parts.whole() != Some(release) {
            return self.put_back_made(operation, release, color, made).await;
        }
        if made != Made::Stack {
            return;
        }
        let Ok((reconciler, stack)) = self.hands() else { return };
        let mut work = Work::new(self.name.clone());
        work.projects = self.projects();
        work.releases = self.state().colors;
        let clear = [Action::Clear { color, release: Some(release) }];
        match self.drive(operation, reconciler, &stack, &clear, &mut work).await {
            Ok(_) => {
                let gone = Fact::ReleaseIs { release, state: ReleaseState::Gone };
                self.note(&Actor::daemon(), vec![gone]);
            }
            Err(stopped) => {
                let text = format!("{color} could not be cleared: {stopped}");
                self.say(Some(operation), LineLevel::Error, "clear", text);
            }
        }
    }

    /// Takes back what the daemon's end, or a panic, cut off.
    pub(super) async fn put_back_interrupted(
        self: &Arc<Self>,
        operation: OperationId,
        (release, parts): (ReleaseId, Parts),
        ending: Ending,
    ) {
        let state = self.state();
        let is_new = parts.whole() != Some(release);
        let (color, made) = match state.standing(release) {
            Some(s) if s.state == ReleaseState::Starting => (s.release.color, Made::Stack),
            None if is_new => (state.split.canary(), Made::Images),
            // Its containers were not begun with, or run and passed their probe.
            _ => (state.split.canary(), Made::Nothing),
        };
        self.put_back_remade(operation, (release, color), &parts, made).await;
        self.note(&Actor::daemon(), vec![Fact::OperationEnded { operation, ending }]);
    }

    /// Before code is rolled back: what ran is tagged in the operator's repository, whose checkout
    /// is not touched; where both stand is told.
    pub(super) async fn keep_code(&self, operation: OperationId, from: Option<ReleaseId>) {
        let Ok((reconciler, stack)) = self.hands() else { return };
        let state = self.state();
        let commit = |release: ReleaseId| state.standing(release)?.release.commit.clone();
        let short = |commit: &str| commit.chars().take(7).collect::<String>();
        let mut told = Vec::new();
        if let Some(from) = from
            && let Some(left) = commit(from)
        {
            match reconciler.tag_before(&stack, operation, &left).await {
                Ok(tag) => {
                    told.push(format!("git tag {tag} holds {} ({from})", short(&left)));
                }
                Err(why) => {
                    let text = format!("{from}'s commit could not be tagged: {why}");
                    self.say(Some(operation), LineLevel::Error, "git", text);
                }
            }
        }
        if let Some(head) = reconciler.checkout(&stack).await {
            let mut releases = state.releases.values().rev();
            let at = releases.find(|s| s.release.commit.as_deref() == Some(head.as_str()));
            let named = at.map_or_else(String::new, |s| format!(" ({})", s.release.id));
            told.push(format!("Your checkout is still at {}{named}", short(&head)));
        }
        if !told.is_empty() {
            self.say(Some(operation), LineLevel::Note, "", format!("{}.", told.join(". ")));
        }
    }
}

/// The parts of an operation that makes a stack for a rollback.
pub(super) fn parts_of(what: &OperationKind) -> Option<(ReleaseId, Parts)> {
    match what {
        OperationKind::Remake { release, parts, .. } => Some((*release, *parts)),
        _ => None,
    }
}
