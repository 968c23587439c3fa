//! What a person asks of backups, turned into work: names looked up, plans shown before they are
//! carried out.

use std::collections::BTreeSet;
use std::sync::Arc;

use cutover_model::{Actor, OperationId, Upkeep};

use super::super::restoring::Stop;
use super::super::{Answer, App, Failure};
use crate::host::backups::{Backup, Listed};
use crate::host::{backups, postgres::DbName};
use crate::reconciler::database::Export;

/// A backup that would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Going {
    /// It.
    pub backup: Backup,
}

/// What the rule lets go, and what it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prunable {
    /// Days, weeks and months that keep their newest one.
    pub keep: (u32, u32, u32),
    /// What would go, oldest first.
    pub going: Vec<Going>,
    /// How many stay.
    pub staying: usize,
}

/// A database beside the live one that an operation left there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// Its name.
    pub name: String,
    /// The live name that it had; `None`: it is a copy of a backup.
    pub was: Option<String>,
    /// Rows in it that the live one has not, as they were counted when it was put aside.
    pub rows: Option<u64>,
    /// Its size in bytes, when known.
    pub bytes: Option<u64>,
}

fn impossible(stop: Stop) -> Failure {
    match stop {
        Stop::GivenUp | Stop::Stopping => Failure::Stopping,
        other => Failure::Impossible(other.to_string()),
    }
}

impl App {
    /// What the folder of backups has.
    ///
    /// # Errors
    /// [`Failure::Impossible`] where there is no database, or the folder cannot be read.
    pub async fn listed_backups(&self) -> Result<Listed, Failure> {
        let Some(home) = self.settings().database.as_ref().map(|d| d.backups.clone()) else {
            let why = "no database is configured: [apps.NAME.database] in cutover.toml";
            return Err(Failure::Impossible(why.to_owned()));
        };
        backups::list(&home).await.map_err(|error| Failure::Impossible(error.to_string()))
    }

    /// The backup that is meant: by its id, or the newest of the live database's own.
    ///
    /// # Errors
    /// [`Failure::Unknown`] when there is none.
    pub async fn meant(&self, id: &str) -> Result<String, Failure> {
        let listed = self.listed_backups().await?;
        let mut newest_first = listed.backups.iter().rev();
        if let Some(broken) = listed.broken.iter().find(|broken| broken.id().as_deref() == Some(id))
        {
            return Err(Failure::Impossible(format!("{id} is no whole backup: {}", broken.why)));
        }
        let found = match id {
            "newest" => newest_first.find(|backup| backup.manifest.is_way_back()),
            id => newest_first.find(|backup| backup.id() == id),
        };
        let damaged = listed.backups.iter().rev().find_map(|backup| {
            let (_, why) = backup.manifest.damaged.as_ref()?;
            backup.manifest.reason.is_ordinary().then(|| (backup.id(), why))
        });
        found.map(|backup| backup.id().to_owned()).ok_or_else(|| {
            Failure::Unknown(match (id, damaged) {
                ("newest", Some((id, why))) => {
                    format!("there is no backup that can be read: of {id}, {why}")
                }
                ("newest", None) => "there is no backup yet: cutover backup create".to_owned(),
                (id, _) => format!("there is no backup {id}: cutover backup list"),
            })
        })
    }

    /// What the rule lets go now; nothing happens.
    ///
    /// # Errors
    /// [`Failure::Impossible`] where no rule is configured.
    pub async fn prunable(&self) -> Result<Prunable, Failure> {
        let Some(keep) = self.keep() else {
            let why = "nothing says how many backups are kept: add backup = { schedule = \"0 3 * \
                       * *\", keep = { daily = 7, weekly = 4 } } to [apps.NAME.database]";
            return Err(Failure::Impossible(why.to_owned()));
        };
        let all = self.listed_backups().await?.backups.len();
        let going: Vec<Going> =
            self.may_go(keep).await?.into_iter().map(|backup| Going { backup }).collect();
        let staying = all.saturating_sub(going.len());
        Ok(Prunable { keep: (keep.daily, keep.weekly, keep.monthly), going, staying })
    }

    /// Lets go what was shown; refused when the rule would not let all of it go any more.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn prune(
        self: &Arc<Self>,
        ids: Vec<String>,
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        let allowed = self.prunable().await?;
        let allowed: BTreeSet<&str> = allowed.going.iter().map(|g| g.backup.id()).collect();
        if let Some(id) = ids.iter().find(|id| !allowed.contains(id.as_str())) {
            let why = format!("{id} is not to go (any more): look again with --dry-run");
            return Err(Failure::Impossible(why));
        }
        self.begin_upkeep(Upkeep::Prune { ids }, actor, request).await
    }

    /// Restores a backup beside the live database, under this name or one of its own.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn restore_beside(
        self: &Arc<Self>,
        backup: &str,
        name: Option<String>,
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        let backup = self.meant(backup).await?;
        let database = match name {
            Some(name) => DbName::new(name)
                .map_err(|error| Failure::Impossible(error.to_string()))?
                .as_str()
                .to_owned(),
            None => {
                let settings = self.settings();
                let live = settings.database.as_ref().map(|d| d.name.clone());
                let next = self.live().next_operation();
                live.map_or_else(String::new, |live| live.scratch(next).into())
            }
        };
        self.begin_upkeep(Upkeep::Aside { backup, database }, actor, request).await
    }

    /// The database that an operation left beside the live one.
    ///
    /// # Errors
    /// [`Failure::Unknown`] when it left none that is still there.
    pub async fn beside(&self, operation: OperationId) -> Result<Beside, Failure> {
        let aside = self.state().asides.get(&operation).cloned();
        let database = self.database(operation).await.map_err(impossible)?;
        let kept = database.kept().await.map_err(|t| impossible(t.into()))?;
        let size = |name: &str| kept.iter().find(|k| k.name == name).and_then(|k| k.bytes);
        if let Some(aside) = aside {
            let (bytes, rows) = (size(&aside.name), Some(aside.rows));
            return Ok(Beside { name: aside.name, was: Some(aside.database), rows, bytes });
        }
        let copy = database.copy_of(operation).await.map_err(|t| impossible(t.into()))?;
        let name = copy.ok_or_else(|| {
            Failure::Unknown(format!(
                "{operation} left no database that is still there: cutover db list"
            ))
        })?;
        let bytes = size(&name);
        Ok(Beside { name, was: None, rows: None, bytes })
    }

    /// Dumps and drops the database that an operation left beside the live one.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn retire(
        self: &Arc<Self>,
        of: OperationId,
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        let Beside { name: database, was, .. } = self.beside(of).await?;
        self.begin_upkeep(Upkeep::Retire { of, database, was }, actor, request).await
    }

    /// Begins to send the rows that an operation put aside.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn export(&self, of: OperationId) -> Result<Export, Failure> {
        let beside = self.beside(of).await?;
        let database = self.database(of).await.map_err(impossible)?;
        database.export(&beside.name).await.map_err(|trouble| impossible(trouble.into()))
    }
}
