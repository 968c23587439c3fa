//! What a restore would do: the ways back with their losses, and the plan that a person accepts.
//!
//! Read-only. What was shown is kept for ten minutes under a token, so that what is accepted is
//! what was read.

use std::sync::Arc;
use std::time::Duration;

use cutover_model::restore::{ACCEPTED_FOR_MS, Loss};
use cutover_model::upkeep::Tried;
use cutover_model::{
    Actor, AppState, Fact, Input, LineLevel, Millis, OperationId, Point, ReleaseId, RestorePlan,
    Source,
};

use super::super::{Answer, App, Failure, now};
use super::Stop;
pub use crate::reconciler::database::Kept;

use crate::reconciler::database::Database;
use crate::text;

/// Plans that are kept for an acceptance: one person looks at few at a time.
const SHOWN: usize = 8;

/// Restore points that are kept: those of the newest deploys with a migration.
const POINTS_KEPT: usize = 3;

/// How often a plan is offered under another number before it is given up.
const TAKES: usize = 5;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRequest {
    /// The release that shall serve; `None`: as a rollback would choose.
    pub to: Option<ReleaseId>,
    /// The release whose data is wanted; `None`: that of the one that shall serve.
    pub as_of: Option<ReleaseId>,
    /// Which data.
    pub data: Data,
}

/// Which data is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// The cheapest that is sufficient.
    Cheapest,
    /// A backup, by its id.
    Backup(String),
    /// The newest backup.
    NewestBackup,
    /// The restore point before this release.
    Point(ReleaseId),
    /// What this restore put aside.
    Aside(OperationId),
}

/// A way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayBack {
    /// What it is.
    pub what: String,
    /// What it loses; an error says why it cannot be taken.
    pub loss: Result<Option<Loss>, String>,
    /// How long it takes, by what was measured before.
    pub takes: Option<Duration>,
}

/// A plan, as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The plan; nobody has accepted it yet.
    pub plan: RestorePlan,
    /// The live database's size in bytes.
    pub bytes: Option<u64>,
    /// The release that has all traffic now.
    pub serves: Option<ReleaseId>,
    /// The ways, cheapest first.
    pub ways: Vec<WayBack>,
    /// Which one is taken.
    pub chosen: usize,
    /// What is lost by it; `None`: it is not known before the exchange counts it.
    pub loss: Option<Loss>,
    /// By how many rows a minute that grows.
    pub growing: Option<f64>,
    /// Names it when it is accepted.
    pub token: String,
}

/// A plan that somebody looked at.
#[derive(Debug)]
pub(super) struct Shown {
    token: String,
    at: Millis,
    /// Rows; 0 where they are not known.
    loss: u64,
    pub(super) plan: RestorePlan,
}

impl Shown {
    /// Whether it may still be accepted.
    pub(super) fn is_open(&self) -> bool {
        now().0 - self.at.0 <= ACCEPTED_FOR_MS
    }
}

impl App {
    /// What a restore would do; nothing happens.
    ///
    /// # Errors
    /// Why it cannot be done, with what to do.
    pub async fn plan_restore(&self, request: RestoreRequest) -> Result<Planned, Failure> {
        let settings = self.settings();
        if settings.stack.is_none() && settings.database.is_some() {
            let why = "what runs on fixed endpoints cannot be stopped from here, and could write \
                       into the restored data; beside the live database a backup can be restored: \
                       cutover backup restore ID --aside";
            return Err(Failure::Impossible(why.to_owned()));
        }
        let planned = Box::pin(self.plan_inner(request)).await.map_err(failure)?;
        let shown = Shown {
            token: planned.token.clone(),
            at: now(),
            loss: planned.loss.as_ref().map_or(0, Loss::rows),
            plan: planned.plan.clone(),
        };
        let mut restoring = self.restoring();
        if restoring.shown.len() >= SHOWN {
            restoring.shown.remove(0);
        }
        restoring.shown.push(shown);
        Ok(planned)
    }

    /// Restore points beyond the newest ones are dropped: each is a copy of the whole database.
    pub(in crate::controller) async fn let_old_points_go(&self, operation: OperationId) {
        for release in self.state().old_points(POINTS_KEPT) {
            let gone = match self.database(operation).await {
                Ok(database) => database.drop_point(release).await.map_err(Stop::from),
                Err(stop) => Err(stop),
            };
            match gone {
                Ok(()) => self.note(&Actor::daemon(), vec![Fact::PointGone { release }]),
                Err(stop) => {
                    let text = format!("the restore point before {release} is still there: {stop}");
                    return self.say(Some(operation), LineLevel::Note, "restore point", text);
                }
            }
        }
    }

    /// The live database and what is kept beside it.
    ///
    /// # Errors
    /// Why the server cannot be asked.
    pub async fn databases(&self) -> Result<Vec<Kept>, Failure> {
        let operation = self.state().newest_operation;
        let database = self.database(operation).await.map_err(failure)?;
        database.kept().await.map_err(|trouble| failure(trouble.into()))
    }

    /// Carries out a plan that was shown; returns as soon as it is recorded.
    ///
    /// # Errors
    /// [`Failure`]: the plan is unknown or old, the loss is larger than allowed, another operation
    /// runs.
    pub async fn restore(
        self: &Arc<Self>,
        token: &str,
        max_loss: u64,
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        let found = {
            let restoring = self.restoring();
            let shown = restoring.shown.iter().find(|shown| shown.token == token);
            shown.map(|shown| (shown.at, shown.loss, shown.plan.clone()))
        };
        let old = "that plan is older than ten minutes: look at it again";
        let Some((at, loss, mut plan)) = found else {
            return Err(Failure::Impossible(old.to_owned()));
        };
        if now().0 - at.0 > ACCEPTED_FOR_MS {
            return Err(Failure::Impossible(old.to_owned()));
        }
        if max_loss < loss {
            let (loss, most) = (text::count(loss), text::count(max_loss));
            return Err(Failure::Impossible(format!(
                "{loss} rows would be lost, {most} are allowed"
            )));
        }
        (plan.max_loss, plan.accepted_at) = (max_loss, now());
        self.make_way("a restore").await;
        let answer = self.take(plan, actor, request).await?;
        // Every other one was made for the data that is going now.
        self.restoring().shown.clear();
        Ok(answer)
    }

    /// Has a plan accepted under the number that its names are made of: another operation may have
    /// taken the one that it was shown with.
    async fn take(
        self: &Arc<Self>,
        mut plan: RestorePlan,
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        let settings = self.settings();
        let database = settings.database.as_ref().ok_or_else(no_database)?;
        for _ in 0..TAKES {
            let operation = self.live().next_operation();
            let names = database.names(&plan.source, operation);
            (plan.candidate, plan.aside) = (names.candidate, names.aside);
            let input = Input::Restore { plan: Box::new(plan.clone()) };
            match self.see_begun(input, actor.clone(), request.clone()).await {
                Err(Failure::Refused(_)) if self.live().next_operation() != operation => {}
                answer => return answer,
            }
        }
        Err(Failure::Impossible("other operations come one after the other: again".to_owned()))
    }

    async fn plan_inner(&self, request: RestoreRequest) -> Result<Planned, Stop> {
        let state = self.state();
        let operation = self.live().next_operation();
        let database = self.database(operation).await?;
        let now_there = database.facts().await?;
        let (to, from, ways) = match &request.data {
            Data::Aside(of) => {
                let aside = state.asides.get(of).ok_or_else(|| {
                    Stop::Refused(format!("{of} put no database aside that is still there"))
                })?;
                let to = request.to.or(aside.served).unwrap_or(aside.serves);
                let from = Some(aside.serves).filter(|from| *from != to);
                (to, from, vec![self.way_aside(*of, &database).await])
            }
            data => {
                let to = request.to.or_else(|| state.restore_target());
                let to = to.ok_or_else(|| {
                    let why = "no release has proved itself but the one that serves: name one \
                               with --to";
                    Stop::Refused(why.to_owned())
                })?;
                let from = other(&state, to);
                let as_of = request.as_of.unwrap_or(to);
                (to, from, self.ways(&state, (as_of, from), data, &database).await?)
            }
        };
        let chosen = ways.iter().position(|way| way.source.is_some() && way.loss.is_ok());
        let Some(chosen) = chosen else { return Err(no_way(&ways)) };
        let way = &ways[chosen];
        let (source, data_of) = way.source.clone().ok_or(Stop::Stopping)?;
        let loss = way.loss.clone().ok().flatten();
        let names = database.names(&source);
        let plan = RestorePlan {
            database: now_there.name,
            source,
            data_of,
            to,
            from,
            system: now_there.system,
            live: now_there.oid,
            candidate: names.candidate,
            aside: names.aside,
            max_loss: 0,
            max_hold_ms: database.max_hold_ms(),
            accepted_at: now(),
        };
        let growing = database.writes_a_minute().await.ok();
        Ok(Planned {
            plan,
            bytes: now_there.bytes,
            serves: state.serving(),
            chosen,
            loss,
            growing,
            token: uuid::Uuid::now_v7().to_string(),
            ways: ways.into_iter().map(Candidate::shown).collect(),
        })
    }

    /// The way back of a restore: the database that it put aside.
    async fn way_aside(&self, of: OperationId, database: &Database) -> Candidate {
        let source = Source::Aside { operation: of };
        let name = database.names(&source).candidate;
        let at = self.state().asides.get(&of).map_or(now(), |aside| aside.since);
        Candidate {
            what: format!("the database that {of} put aside"),
            loss: database.loss_against(&name).await.map(Some).map_err(|t| t.to_string()),
            takes: None,
            source: Some((source, at)),
        }
    }

    /// The down scripts of what is left, where they would be enough: a command of their own.
    async fn down_scripts(&self, state: &AppState, to: ReleaseId) -> Option<Candidate> {
        let way = self.down_way().await.filter(|way| way.release > state.code_of(to))?;
        let release = way.release;
        let (what, loss) = match way.impossible {
            Some(why) => (format!("down scripts of {release}"), Err(why)),
            // What they drop is gone; which rows that changes nobody has counted.
            None => (format!("down scripts of {release}: cutover migrate down"), Ok(None)),
        };
        Some(Candidate { what, loss, takes: None, source: None })
    }

    /// Down scripts and restore points.
    async fn without_backup(
        &self,
        state: &AppState,
        (to, from): (ReleaseId, Option<ReleaseId>),
        database: &Database,
    ) -> Vec<Candidate> {
        let (mut ways, code) = (Vec::new(), state.code_of(to));
        ways.extend(self.down_scripts(state, to).await);
        match (state.point_for(to), from) {
            (Ok(Some(point)), _) => {
                ways.push(way_point(point, database).await);
                // Each is another moment: the operator may know a reason for it.
                let others = state.points.values().rev();
                let others = others.filter(|p| p.release > code && p.release != point.release);
                ways.extend(others.map(|other| {
                    let named = format!("name it with --backup {}", other.release);
                    Candidate::not(told(other), &named)
                }));
            }
            // A later one has what that release's migration did.
            (Err(first), _) => ways.push(Candidate::not(
                format!("restore point before {first}"),
                "it was let go, or none was made",
            )),
            (Ok(None), Some(from)) => {
                ways.push(Candidate::not(format!("restore point before {from}"), "none was made"))
            }
            (Ok(None), None) => {}
        }
        ways
    }

    /// Down scripts, restore point and backups, cheapest first.
    async fn ways(
        &self,
        state: &AppState,
        (to, from): (ReleaseId, Option<ReleaseId>),
        data: &Data,
        database: &Database,
    ) -> Result<Vec<Candidate>, Stop> {
        let mut ways = match data {
            Data::Cheapest => self.without_backup(state, (to, from), database).await,
            _ => Vec::new(),
        };
        if let Data::Point(release) = data {
            let Some(point) = state.points.get(release) else {
                let why = format!("there is no restore point before {release}");
                return Err(Stop::Refused(format!("{why}: cutover db list shows those that are")));
            };
            ways.push(way_point(point, database).await);
            return Ok(ways);
        }
        let (mut is_said, mut is_damage_said) = (false, false);
        for backup in database.backups().await? {
            let manifest = &backup.manifest;
            let is_named = matches!(data, Data::Backup(id) if *id == manifest.id);
            let is_choice = matches!(data, Data::Cheapest | Data::NewestBackup)
                && ways.iter().all(|way| !way.is_backup())
                // What was saved because it was about to be replaced is what was got rid of.
                && manifest.is_way_back();
            if let (Some((_, why)), false) = (&manifest.damaged, is_named) {
                // The newest is told: somebody may know where it is whole.
                let is_wanted = matches!(data, Data::Cheapest | Data::NewestBackup)
                    && ways.iter().all(|way| !way.is_backup());
                if is_wanted && manifest.reason.is_ordinary() && !is_damage_said {
                    let what = format!("backup {}, {}", manifest.id, text::day(manifest.at.0));
                    ways.push(Candidate::not(what, why));
                    is_damage_said = true;
                }
                continue;
            }
            if !is_named && !is_choice {
                continue;
            }
            if let (Some(release), false) = (state.spoilt_by(to, manifest.at), is_named) {
                if !is_said {
                    ways.push(Candidate::not(
                        format!("backup {}, {}", manifest.id, text::day(manifest.at.0)),
                        &format!("it has data of {release}; name it with --backup to take it"),
                    ));
                }
                is_said = true;
                continue;
            }
            let source = Source::Backup { id: manifest.id.clone() };
            let read = if manifest.verified_at.is_some() { ", read back" } else { "" };
            ways.push(Candidate {
                what: format!("backup {}, {}{read}", manifest.id, text::day(manifest.at.0)),
                loss: database.loss_since(&backup).await.map_err(|t| t.to_string()),
                takes: state.kept.drill.as_ref().and_then(Tried::took),
                source: Some((source, manifest.at)),
            });
        }
        if let (Data::Backup(id), true) = (data, ways.is_empty()) {
            let there = database.backup(id).await?;
            let of = &there.manifest.database;
            return Err(Stop::Refused(format!("backup {id} is one of the database \"{of}\"")));
        }
        Ok(ways)
    }
}

fn told(point: &Point) -> String {
    let source = Source::Point { release: point.release };
    format!("{source}, {}", text::day(point.at.0))
}

async fn way_point(point: &Point, database: &Database) -> Candidate {
    let loss = database.loss_against(&point.name).await;
    Candidate {
        what: told(point),
        loss: loss.map(Some).map_err(|trouble| trouble.to_string()),
        takes: Some(Duration::from_millis(point.took_ms)),
        source: Some((Source::Point { release: point.release }, point.at)),
    }
}

fn no_database() -> Failure {
    Failure::Impossible("no database is configured: [apps.NAME.database] in cutover.toml".into())
}

fn no_way(ways: &[Candidate]) -> Stop {
    let why = ways.iter().map(|way| match &way.loss {
        Err(why) => format!("{}: {why}", way.what),
        Ok(_) => way.what.clone(),
    });
    let why: Vec<String> = why.collect();
    let why = match why.is_empty() {
        true => "there is no restore point and no backup".to_owned(),
        false => why.join("; "),
    };
    Stop::Refused(format!("there is no way back for the data: {why}"))
}

/// A way back, and what it would be planned as.
struct Candidate {
    what: String,
    loss: Result<Option<Loss>, String>,
    takes: Option<Duration>,
    source: Option<(Source, Millis)>,
}

impl Candidate {
    fn not(what: String, why: &str) -> Self {
        Self { what, loss: Err(why.to_owned()), takes: None, source: None }
    }

    fn is_backup(&self) -> bool {
        matches!(self.source, Some((Source::Backup { .. }, _)))
    }

    fn shown(self) -> WayBack {
        WayBack { what: self.what, loss: self.loss, takes: self.takes }
    }
}

/// The release in the other color: it must not write into restored data.
fn other(state: &AppState, to: ReleaseId) -> Option<ReleaseId> {
    [state.stable(), state.standby()].into_iter().flatten().find(|release| *release != to)
}

pub(super) fn failure(stop: Stop) -> Failure {
    match stop {
        Stop::Refused(why) | Stop::Failed(why) | Stop::Stuck(why) => Failure::Impossible(why),
        Stop::Asks { why, .. } => Failure::Impossible(why),
        Stop::GivenUp | Stop::Stopping => Failure::Stopping,
    }
}
