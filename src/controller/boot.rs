//! How an app comes up: journal, weights file, last good table, and only then Docker.
//!
//! The table serves before anything is asked of Docker: the split is the newer one of journal and
//! weights file, the endpoints are those of the last good table that `/proc` proves. A journal that
//! cannot be trusted stops every change but the cut-back; it stops no traffic: what the journal
//! would have said of it comes from the last good table, and nothing is ever written on top of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use cutover_model::{
    Actor, AppKind, AppName, AppState, ByColor, Color, Fact, Input, LastGood, MOVES_AHEAD, Manner,
    OperationKind, Redirect, Release, ReleaseId, ReleaseState, Seq, Split,
};
use cutover_proxy::message::{AppSpec, Gate};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::endpoints::{Endpoints, specs};
use super::gate::first_gate;
use super::live::Live;
use super::mailbox::recorder::Recorder;
use super::restoring;
use super::{App, AppSettings, Shared, mailbox, now};
use crate::host::{Proof, prove};
use crate::journal::weights::{Entry, Newer};
use crate::journal::{Journal, codec};

/// What is known of an app before its task runs.
#[derive(Debug, Default)]
pub struct Remembered {
    /// The newest record of the weights file.
    pub weight: Option<Entry>,
    /// The endpoints of the last good table.
    pub endpoints: ByColor<Endpoints>,
    /// What else that table said; `None`: it was saved by an older Cutover, or there is none.
    pub said: Option<LastGood>,
    /// The color that shall have everything: `rollback --offline`.
    pub start_on: Option<Color>,
}

/// An app whose state is known and whose table can be served; nothing runs yet.
#[derive(Debug)]
pub struct Prepared {
    settings: AppSettings,
    recorder: Recorder,
    live: Live,
    endpoints: ByColor<Endpoints>,
    /// What the weights file has to be told, where no journal can be.
    turned: Option<Entry>,
}

impl Prepared {
    /// Reads what is known of an app. A journal that cannot be trusted is no error: the app serves
    /// and says so.
    pub async fn read(settings: AppSettings, journal: &Arc<Journal>, known: Remembered) -> Self {
        let app = settings.app.clone();
        let (recorder, state, untrusted) = match replay(&settings, journal).await {
            Ok((seq, state)) => {
                (Recorder::new(app, Arc::clone(journal), seq, state.clone()), state, None)
            }
            Err(why) => {
                let why = untrusted(&app, &why);
                tracing::error!("{why}");
                let said = known.said.clone().unwrap_or(LastGood::of(&AppState::default()));
                let state = said.state(settings.kind);
                (Recorder::closed(app, Arc::clone(journal), why.clone()), state, Some(why))
            }
        };
        let endpoints =
            ByColor { blue: alive(known.endpoints.blue), green: alive(known.endpoints.green) };
        let live = Live::new(state);
        let mut prepared = Self { settings, recorder, live, endpoints, turned: None };
        prepared.live.untrusted = untrusted;
        if prepared.live.untrusted.is_none() {
            prepared.introduce();
        }
        let newest = newest(known.weight, known.said.as_ref());
        match &prepared.live.untrusted {
            None => prepared.prefer_newer_weight(newest),
            Some(_) => prepared.take_newer_weight(newest),
        }
        if let Some(color) = known.start_on {
            prepared.start_on(color);
        }
        prepared
    }

    /// The table that serves before anything else is looked at.
    #[must_use]
    pub fn first_spec(&self) -> AppSpec {
        let state = &self.live.state;
        let mut spec = self.settings.spec.clone();
        spec.split = state.split;
        spec.salt = state.salt;
        for color in Color::BOTH {
            let part = spec.colors.get_mut(color);
            part.release = *state.colors.get(color);
            if self.settings.kind == AppKind::Compose {
                part.upstreams = self
                    .endpoints
                    .get(color)
                    .iter()
                    .map(|(service, endpoints)| (service.clone(), specs(endpoints)))
                    .collect();
            }
        }
        spec
    }

    /// The gate, when it is not open by the journal: in force before a connection is accepted.
    #[must_use]
    pub fn first_gate(&self, folder: &Path) -> Option<Gate> {
        let closure = self.live.state.maintenance.as_ref()?;
        Some(first_gate(&self.settings.app, closure, folder))
    }

    /// The hold of an exchange of databases that a daemon was killed in: which data is behind the
    /// live name has to be seen before a request meets it.
    #[must_use]
    pub fn first_hold(&self) -> Option<Gate> {
        restoring::first_hold(&self.settings.app, &self.live.state)
    }

    /// The rule that leads public ports here, by the journal.
    #[must_use]
    pub fn redirect(&self) -> Option<&Redirect> {
        self.live.state.redirect.as_ref()
    }

    /// Whether the app may still be adopted: no release of it is on record.
    #[must_use]
    pub fn is_adoptable(&self) -> bool {
        let state = &self.live.state;
        self.live.untrusted.is_none()
            && state.kind == AppKind::Compose
            && state.stable().is_none()
            && state.standby().is_none()
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &AppSettings {
        &self.settings
    }

    /// The first facts of an app that the journal does not know yet.
    fn introduce(&mut self) {
        let kind = self.settings.kind;
        let live = &mut self.live;
        if live.state.newest_release > ReleaseId(0) || live.state.newest_operation.0 > 0 {
            return;
        }
        let mut facts = vec![Fact::AppDefined { kind, stable: Color::Blue }];
        if kind == AppKind::Static {
            for (id, color) in [(1, Color::Blue), (2, Color::Green)] {
                let release = ReleaseId(id);
                facts.push(Fact::ReleaseMade { release: Box::new(fixed(release, color)) });
                facts.push(Fact::ReleaseIs { release, state: ReleaseState::Warm });
            }
            facts.push(Fact::ReleaseProven { release: ReleaseId(1) });
        }
        live.push(&Actor::daemon(), facts, None);
    }

    /// A cut-back that the weights file has and the journal not: it counts.
    fn prefer_newer_weight(&mut self, weight: Option<Entry>) {
        let live = &mut self.live;
        let Some(weight) = weight.filter(|w| w.against(live.state.moves) == Newer::File) else {
            return;
        };
        let (before, after) = (live.state.split, weight.split);
        let mut facts = Vec::new();
        let operation = weight.operation.or_else(|| {
            // It was made without a journal, which could not give it a number.
            (before != after).then(|| live.state.newest_operation.next())
        });
        if let Some(operation) = operation
            && operation > live.state.newest_operation
            && let Some(to) = *live.state.colors.get(after.stable)
        {
            let from = live.state.serving();
            let what = OperationKind::Rollback { to, from, manner: Manner::default() };
            facts.push(Fact::OperationStarted { operation, what, request: None });
        }
        let number = weight.number;
        facts.push(Fact::SplitChanged { number, before, after, operation });
        if live.state.rollout.is_some() && after.sole().is_some() {
            let ending = cutover_model::RolloutEnding::RolledBack;
            facts.push(Fact::RolloutEnded { ending });
        }
        let app = &self.settings.app;
        tracing::warn!(%app, ?after, "the weights file is newer than the journal");
        live.push(&Actor::daemon(), facts, None);
    }

    /// The same for a state that no journal stands behind: it is so, and nothing is recorded.
    fn take_newer_weight(&mut self, weight: Option<Entry>) {
        let state = &mut self.live.state;
        if let Some(weight) = weight.filter(|w| w.against(state.moves) == Newer::File) {
            (state.split, state.salt, state.moves) = (weight.split, weight.salt, weight.number);
        }
    }

    /// Everything to one color, as somebody asked for while no daemon ran.
    fn start_on(&mut self, color: Color) {
        let live = &mut self.live;
        if live.untrusted.is_some() {
            let state = &mut live.state;
            if state.split != Split::all(color) {
                (state.split, state.moves) = (Split::all(color), state.moves + MOVES_AHEAD);
                let entry = Entry {
                    split: state.split,
                    salt: state.salt,
                    number: state.moves,
                    at: now(),
                    operation: None,
                    reason: "started on this color".to_owned(),
                };
                self.turned = Some(entry);
            }
            return;
        }
        let Some(to) = *live.state.colors.get(color) else { return };
        let after = Split::all(color);
        if live.state.split == after {
            return;
        }
        let asked = live.number(Input::Rollback { to: Some(to), manner: Manner::default() }, None);
        let (before, operation) = (live.state.split, asked.operation);
        let from = live.state.serving().filter(|from| *from != to);
        let what = OperationKind::Rollback { to, from, manner: Manner::default() };
        let mut facts = vec![
            Fact::OperationStarted { operation, what, request: None },
            Fact::SplitChanged {
                number: asked.move_number,
                before,
                after,
                operation: Some(operation),
            },
        ];
        if live.state.rollout.is_some() {
            let ending = cutover_model::RolloutEnding::RolledBack;
            facts.push(Fact::RolloutEnded { ending });
        }
        if let Some(release) = from {
            facts.push(Fact::ReleaseRejected { release, operation });
        }
        live.accept(&asked);
        live.push(&Actor("offline".to_owned()), facts, None);
    }
}

impl App {
    /// Opens the mailbox of an app whose table serves already, and looks at Docker.
    #[must_use]
    pub fn start(
        prepared: Prepared,
        shared: Arc<Shared>,
        color_addresses: ByColor<Option<std::net::SocketAddr>>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        let Prepared { settings, recorder, mut live, endpoints, turned } = prepared;
        live.split_generation = shared.proxy.switch().split(&settings.app).map(|split| split.0);
        let is_trusted = live.untrusted.is_none();
        let (mailbox, messages) = mpsc::channel(mailbox::MAILBOX);
        let app = Arc::new(Self {
            name: settings.app.clone(),
            settings: ArcSwap::from_pointee(settings),
            shared,
            live: Mutex::new(live),
            mailbox,
            endpoints: Mutex::new(endpoints),
            singletons: tokio::sync::Mutex::new(()),
            restoring: Mutex::default(),
            schedule_turn: tokio::sync::Mutex::default(),
            color_addresses,
            operators_project: OnceLock::new(),
            drift: Mutex::default(),
            ended: Mutex::default(),
            looks: super::endpoints::Looks::default(),
            habits: Notify::new(),
            kept_rule: Mutex::new(None),
            stop: stop.clone(),
            tasks: tasks.clone(),
        });
        tasks.spawn(mailbox::run(Arc::clone(&app), recorder, messages, stop.clone()));
        if is_trusted {
            app.wake();
            app.take_first_hold();
            app.end_interrupted();
            app.resume_upkeep(app.shared.resume);
            app.resume_restores(app.shared.resume);
            app.keep_rule();
        }
        if let Some(entry) = turned {
            let app = Arc::clone(&app);
            tasks.spawn(async move {
                if let Err(error) = app.shared.weights.set(&app.name, entry).await {
                    tracing::error!(app = %app.name, %error, "the weights file was not written");
                }
            });
        }
        app.open_ports();
        tasks.spawn(Arc::clone(&app).follow_endpoints(stop.clone()));
        if is_trusted {
            tasks.spawn(Arc::clone(&app).tend_habits(stop.clone()));
            let each = || stop.clone();
            let (backups, schedule, watches) = (each(), each(), each());
            app.keep_doing("the care for backups", move |app| app.tend_backups(backups.clone()));
            app.keep_doing("rollbacks set for later", move |app| {
                app.tend_schedule(schedule.clone())
            });
            app.keep_doing("the watch of restored data", move |app| {
                app.tend_watches(watches.clone())
            });
        }
        app
    }
}

/// Only what `/proc` proves; the rest waits for Docker.
fn alive(endpoints: Endpoints) -> Endpoints {
    let keep = |(service, mut found): (_, Vec<crate::host::Endpoint>)| {
        found.retain(|endpoint| prove(endpoint) == Proof::Alive);
        (service, found)
    };
    endpoints.into_iter().map(keep).filter(|(_, found)| !found.is_empty()).collect()
}

/// The newer one of the weights file and the last good table, which has a move that was made while
/// the weights file could not be written.
fn newest(weight: Option<Entry>, said: Option<&LastGood>) -> Option<Entry> {
    let said = said.map(|said| Entry {
        split: said.split,
        salt: said.salt,
        number: said.moves,
        at: now(),
        operation: None,
        reason: String::new(),
    });
    match (weight, said) {
        (Some(weight), Some(said)) if said.number > weight.number => Some(said),
        (None, said) => said,
        (weight, _) => weight,
    }
}

/// What is said of an app whose journal cannot be trusted.
pub(super) fn untrusted(app: &AppName, why: &str) -> String {
    format!(
        "the journal of {app} cannot be trusted: {why}. The last good table serves; only a \
         rollback is possible until it is repaired and the daemon restarted"
    )
}

/// The places of the last fact and of the newest snapshot, and the state by the journal.
async fn replay(
    settings: &AppSettings,
    journal: &Journal,
) -> Result<((Seq, Seq), AppState), String> {
    let replay = journal
        .replay(&settings.app, codec::STATE_VERSION)
        .await
        .map_err(|error| error.to_string())?;
    let (state, seq) = codec::replayed(&replay).map_err(|error| error.to_string())?;
    let snapshot_at = replay.snapshot.map_or(Seq(0), |snapshot| snapshot.seq);
    Ok(((seq, snapshot_at), state))
}

fn fixed(id: ReleaseId, color: Color) -> Release {
    Release {
        id,
        color,
        project: String::new(),
        commit: None,
        title: format!("fixed endpoints, {color}"),
        images: BTreeMap::new(),
        env_files: BTreeMap::new(),
        migrations: None,
        folder: String::new(),
        made_at: now(),
        parts: None,
    }
}
