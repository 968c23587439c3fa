//! What can be done while no daemon runs: traffic to another release, and leaving.
//!
//! Reads the state folder, and writes to it only under its lock, so that a daemon that lives after
//! all is never overruled: the caller is refused and told who it is. Starting a daemon is in
//! `start`. Texts for the operator are the caller's.

pub mod start;
pub mod unit;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cutover_model::fact::{Ending, Fact, OperationKind};
use cutover_model::rollout::{AppState, evolve};
use cutover_model::{
    Actor, AppKind, AppName, Color, Happened, LastGood, MOVES_AHEAD, Millis, OperationId,
    ReleaseId, ReleaseState, Seq, Split, color_of,
};

use super::leave::{self, LeavePlan, Way};
use super::{AdoptError, Published, owner};
use crate::host::{Docker, StackSettings, stack};
use crate::journal::tables::{self, Loaded};
use crate::journal::weights::{Newer, WeightsFile};
use crate::journal::{JournalError, StateLock, Store, codec, lock, weights};

/// Why it cannot be done offline.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// A daemon has the state folder.
    #[error(
        "the daemon is there after all ({0}): it has the state folder. Nothing was changed. Use \
         the command without --offline; if it does not answer, stop it first"
    )]
    Running(lock::Holder),
    /// The state folder cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What stands in it is not understood.
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
    /// A fact does not follow on the state.
    #[error(transparent)]
    Illegal(#[from] cutover_model::rollout::Illegal),
    /// There is no such app, or more than one to choose from.
    #[error("{0}")]
    App(String),
    /// There is no release to go to.
    #[error("{0}. Nothing was changed")]
    Nowhere(String),
    /// The ports could not be given back.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// The daemon could not be started.
    #[error("the daemon does not start: {0}")]
    Start(String),
    /// The daemon could not be stopped.
    #[error("the daemon does not stop: {0}")]
    Stop(String),
}

/// An app as the state folder knows it, with the newest split.
#[derive(Debug, Clone)]
pub struct Asleep {
    /// The state folder.
    pub folder: PathBuf,
    /// The app.
    pub app: AppName,
    /// Its state; the split is the weights file's where that is newer.
    pub state: AppState,
    /// Why the journal is not trusted; the state is then the last good table's.
    pub untrusted: Option<String>,
    seq: Seq,
}

/// The part of the last good tables that is read here.
#[derive(Default, serde::Deserialize)]
struct Said {
    #[serde(default)]
    said: BTreeMap<AppName, LastGood>,
}

/// Where traffic goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The release that gets everything.
    pub to: ReleaseId,
    /// Its color.
    pub color: Color,
    /// The release that had the larger share.
    pub from: Option<ReleaseId>,
    /// What is left to do.
    pub need: Need,
}

/// Whether anything has to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It has everything already: only the daemon has to be started.
    Nothing,
    /// The split has to change.
    Move,
}

/// Reads what the state folder says of an app; `None`: the only one.
///
/// # Errors
/// [`OfflineError::Running`] when a daemon has the folder, and when the folder cannot be read.
pub fn look(folder: &Path, app: Option<&AppName>) -> Result<Asleep, OfflineError> {
    if let Some(holder) = lock::holder(folder)? {
        return Err(OfflineError::Running(holder));
    }
    let mut asleep = match by_journal(folder, app) {
        Ok(asleep) => asleep,
        Err(error @ (OfflineError::Journal(_) | OfflineError::Codec(_))) => {
            by_last_good(folder, app, error)?
        }
        Err(error) => return Err(error),
    };
    let entries = WeightsFile::read(folder)?.unwrap_or_default();
    if let Some(entry) = entries.get(&asleep.app)
        && entry.against(asleep.state.moves) == Newer::File
    {
        // Not a replay: only what the coming start will find there, too.
        asleep.state.split = entry.split;
        asleep.state.moves = entry.number;
        let newest = asleep.state.newest_operation;
        asleep.state.newest_operation = entry.operation.unwrap_or(newest).max(newest);
    }
    Ok(asleep)
}

fn by_journal(folder: &Path, app: Option<&AppName>) -> Result<Asleep, OfflineError> {
    let mut store = Store::open_reading(folder)?;
    let app = choose(&store.apps()?, app)?;
    let (state, seq) = codec::replayed(&store.replay(&app, codec::STATE_VERSION)?)?;
    Ok(Asleep { folder: folder.to_owned(), app, state, untrusted: None, seq })
}

/// What serves can be turned without the journal, too: colors are enough for it.
fn by_last_good(
    folder: &Path,
    app: Option<&AppName>,
    why: OfflineError,
) -> Result<Asleep, OfflineError> {
    let said = match tables::load::<Said>(folder) {
        Ok(Loaded::Newest(found) | Loaded::Before(found, _)) => found.said,
        Ok(Loaded::Nothing) | Err(_) => return Err(why),
    };
    let names: Vec<AppName> = said.keys().cloned().collect();
    if names.is_empty() {
        return Err(why);
    }
    let app = choose(&names, app)?;
    let Some(said) = said.get(&app).cloned() else { return Err(why) };
    let (folder, state) = (folder.to_owned(), said.state(AppKind::Compose));
    Ok(Asleep { folder, app, state, untrusted: Some(why.to_string()), seq: Seq(0) })
}

fn choose(apps: &[AppName], wanted: Option<&AppName>) -> Result<AppName, OfflineError> {
    let names: Vec<&str> = apps.iter().map(AppName::as_str).collect();
    match (wanted, apps) {
        (Some(wanted), _) if apps.contains(wanted) => Ok(wanted.clone()),
        (Some(wanted), _) => Err(OfflineError::App(format!(
            "the state folder knows no app \"{wanted}\", only: {}",
            names.join(", ")
        ))),
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(OfflineError::App("the state folder knows no app yet".into())),
        (None, _) => {
            Err(OfflineError::App(format!("which app? Add --app, one of: {}", names.join(", "))))
        }
    }
}

impl Asleep {
    /// Decides where a rollback goes.
    ///
    /// # Errors
    /// [`OfflineError::Nowhere`] when there is no such release, or its stack is not in a color.
    pub fn turn(&self, to: Option<ReleaseId>) -> Result<Turn, OfflineError> {
        let nowhere = |text: String| Err(OfflineError::Nowhere(text));
        if let Some(why) = &self.untrusted {
            let color = color_of(&self.state, to)
                .map_err(|refusal| OfflineError::Nowhere(refusal.to_string()))?;
            let Some(to) = *self.state.colors.get(color) else {
                return nowhere(format!("{why} By the last good table {color} is empty"));
            };
            let need =
                if self.state.split == Split::all(color) { Need::Nothing } else { Need::Move };
            return Ok(Turn { to, color, from: self.state.serving(), need });
        }
        let Some(to) = to.or_else(|| self.state.rollback_target()) else {
            return nowhere("there is no earlier release that proved itself".into());
        };
        let in_color = |color: &Color| *self.state.colors.get(*color) == Some(to);
        let Some(color) = Color::BOTH.into_iter().find(in_color) else {
            return nowhere(format!(
                "{to} is in no color any more; with a daemon: cutover rollback --to {to}"
            ));
        };
        let from = self.state.serving();
        let need = if self.state.split == Split::all(color) { Need::Nothing } else { Need::Move };
        Ok(Turn { to, color, from, need })
    }

    /// Writes the split for the next start, in the weights file, which works on a full disk, too.
    /// Gives the operation's number; without a journal it gets one when there is one again.
    ///
    /// # Errors
    /// [`OfflineError::Running`] when a daemon has come meanwhile; otherwise those of the disk.
    pub fn set_traffic(
        &self,
        turn: &Turn,
        now: Millis,
    ) -> Result<Option<OperationId>, OfflineError> {
        let _lock = self.lock(now)?;
        let has_journal = self.untrusted.is_none();
        let operation = has_journal.then(|| self.state.newest_operation.next());
        let ahead = if has_journal { 1 } else { MOVES_AHEAD };
        let entry = weights::Entry {
            split: Split::all(turn.color),
            salt: self.state.salt,
            number: self.state.moves + ahead,
            at: now,
            operation,
            reason: "rollback --offline".into(),
        };
        WeightsFile::open(&self.folder)?.set(&self.app, entry)?;
        Ok(operation)
    }

    /// Plans to give the ports back without a daemon.
    ///
    /// # Errors
    /// [`OfflineError::Nowhere`] when no release serves.
    pub fn leave_plan(
        &self,
        mut putting: leave::Putting,
        ports: Vec<u16>,
        published: &[Published],
        runs: impl Fn(&str) -> leave::Runs,
    ) -> Result<LeavePlan, OfflineError> {
        let nowhere = |text: &str| OfflineError::Nowhere(text.into());
        if let Some(why) = &self.untrusted {
            return Err(OfflineError::Nowhere(why.clone()));
        }
        let release = self.state.serving().ok_or_else(|| nowhere("no release serves"))?;
        let standing =
            self.state.standing(release).ok_or_else(|| nowhere("the release is not on record"))?;
        putting.fill(&standing.release.images, runs);
        let held = owner::find(&ports, published).map_err(AdoptError::Look)?;
        let runs_in = standing.release.project.clone();
        Ok(leave::plan(leave::Situation { release, runs_in, ports, held, putting }))
    }

    /// Gives the ports back: compose first where needed, then the rule goes, then it is recorded,
    /// then our own stacks go, and what their releases had beside them.
    ///
    /// # Errors
    /// When compose, the rule, the record or Docker fail; the rule stands until compose has
    /// succeeded.
    pub async fn leave(
        &self,
        plan: &LeavePlan,
        (docker, settings): (&Docker, &StackSettings),
        actor: &Actor,
        now: Millis,
    ) -> Result<(), OfflineError> {
        let lock = self.lock(now)?;
        if let Way::Put(putting) = &plan.way {
            putting.put().await?;
        }
        leave::give_back(self.state.redirect.as_ref()).await?;
        // CRASH: the rule is gone and the journal says it stands: the next start sets it again, and
        // leaving once more is the same as now.
        self.record_leave(lock, actor, now)?;
        leave::remove_stacks(docker, settings).await?;
        if let Way::Put(putting) = &plan.way {
            putting.put_singletons().await?;
        }
        let colors = Color::BOTH.map(|color| *self.state.colors.get(color));
        for release in colors.into_iter().flatten() {
            stack::forget(settings, release).await;
        }
        Ok(())
    }

    fn record_leave(
        &self,
        lock: StateLock,
        actor: &Actor,
        now: Millis,
    ) -> Result<(), OfflineError> {
        let operation = self.state.newest_operation.next();
        let what = OperationKind::Leave;
        let mut facts =
            vec![Fact::OperationStarted { operation, what, request: None }, Fact::PortsGiven];
        let colors = Color::BOTH.map(|color| *self.state.colors.get(color));
        for release in colors.into_iter().flatten() {
            facts.push(Fact::ReleaseIs { release, state: ReleaseState::Gone });
        }
        facts.push(Fact::OperationEnded { operation, ending: Ending::Done });
        let (mut state, mut encoded) = (self.state.clone(), Vec::new());
        for fact in facts {
            let happened =
                Happened { at: now, actor: actor.clone(), operation: Some(operation), fact };
            evolve(&mut state, &happened)?;
            encoded.push(codec::encode(&happened)?);
        }
        let mut store = Store::open(&self.folder, Arc::new(lock), "offline", now)?;
        let epoch = store.epoch();
        store.append(&self.app, self.seq, epoch, &encoded)?;
        Ok(())
    }

    fn lock(&self, now: Millis) -> Result<StateLock, OfflineError> {
        match StateLock::take(&self.folder, now) {
            Err(JournalError::Locked { holder, .. }) => Err(OfflineError::Running(holder)),
            other => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests;
