//! Databases beside the live one that never take its place: for a drill, or to look into; and the
//! end of one that was put aside.
//!
//! The live database is only read. What is made is claimed before it is there, and what a killed
//! process left of it is removed before anything is done again.

use std::time::Instant;

use cutover_model::{Millis, OperationId, ReleaseId};

use super::asking::Said;
use super::backing_up::Of;
use super::building::LONG;
use super::room::backup_needs;
use super::{Database, Trouble, named};
use crate::host::backups::{self, Backup, Reason};
use crate::host::postgres::archive::{self, restricted};
use crate::host::postgres::contents::Contents;
use crate::host::postgres::{Kind, Made, Whose, build, claims, facts, recover};
use crate::{crash, text};

impl Database {
    /// Ends what a killed process of this operation left running, and removes what was left half
    /// made: databases, folders of backups. To be called only while no other operation runs.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn clear(&self) -> Result<(), Trouble> {
        self.sweep().await?;
        let session = self.session().await?;
        claims::ensure_ledger(&session).await?;
        let (who, live) = (&self.server.installation, &self.settings.name);
        let scope = recover::Scope::Operation(self.operation);
        let ended = recover::end_sessions(&session, who, scope).await?;
        if ended > 0 {
            tracing::warn!(ended, "sessions that a killed process had left were ended");
        }
        for (name, _, kind) in claims::claimed(&session, who).await? {
            if kind != Kind::Scratch {
                continue;
            }
            let is_half = match claims::whose(&session, who, &name).await? {
                Whose::Ours { marker, .. } => marker.made == Made::Building,
                Whose::Nobody => true,
                Whose::Foreign(_) => false,
            };
            if is_half {
                claims::drop_ours(&session, who, &name, live).await?;
                tracing::warn!(%name, "what was left half made is removed");
            }
        }
        Ok(restricted::forget(&session, &self.server).await?)
    }

    /// The same of files alone, which needs no server.
    ///
    /// # Errors
    /// [`Trouble::Failed`].
    pub async fn sweep(&self) -> Result<(), Trouble> {
        let swept = backups::sweep(&self.settings.backups).await;
        let swept = swept.map_err(|error| Trouble::Failed(error.to_string()))?;
        if swept > 0 {
            tracing::warn!(
                swept,
                "folders of backups that were half made or half gone are removed"
            );
        }
        Ok(())
    }

    /// The name of this operation's own scratch database.
    #[must_use]
    pub fn scratch(&self) -> String {
        self.scratch_name().into()
    }

    /// Restores a backup into a database beside the live one and holds it against its manifest.
    ///
    /// # Errors
    /// [`Trouble`]; what was made is removed by [`Database::clear`].
    pub async fn restore_beside(&self, backup: &Backup, name: &str) -> Result<String, Trouble> {
        let started = Instant::now();
        let name = named(name)?;
        let kept = self.archive_of(backup)?;
        self.preflight_beside(|need| backup_needs(need, backup)).await?;
        let session = self.session().await?;
        let live = self.live(&session).await?;
        if name == live.name {
            return Err(Trouble::Refused(format!("\"{name}\" is the live database")));
        }
        archive::check_kept(&self.server, self.operation, &kept, LONG).await?;
        let building = self.marker(Kind::Scratch, Made::Building);
        if facts::database(&session, &name).await?.is_some() {
            let whose = claims::whose(&session, &self.server.installation, &name).await?;
            let is_this = matches!(&whose, Whose::Ours { marker, .. }
                if marker.kind == Kind::Scratch && marker.made == Made::Building);
            if !is_this {
                let why = format!("there is a database \"{name}\" already: give another name");
                return Err(Trouble::Refused(why));
            }
        }
        build::empty(&session, &live, &name, &building).await?;
        crash::point("beside.empty");
        let owners = self.owners(&session, &live).await?;
        let into = (&name, &owners);
        archive::restore_kept(&self.server, self.operation, &kept, into, LONG).await?;
        crash::point("beside.restored");
        let contents = serde_json::from_value::<Contents>(backup.manifest.contents.clone());
        let mut tables = 0;
        if let Ok(wanted) = contents {
            self.prove(&name, &wanted).await?;
            tables = wanted.rows.len();
        }
        let built = facts::database(&session, &name).await?;
        let size = built.and_then(|built| built.size).unwrap_or(0);
        Ok(format!(
            "{name}, {}, {} with every row, {}",
            text::size(size),
            text::number_of(tables, "table"),
            text::duration(started.elapsed())
        ))
    }

    /// Leaves a database that was restored beside the live one where it is.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn leave_beside(&self, name: &str) -> Result<(), Trouble> {
        let session = self.session().await?;
        let marker = self.marker(Kind::Scratch, Made::Verified);
        claims::mark(&session, &named(name)?, &marker).await?;
        Ok(())
    }

    /// Asks the integrity queries of a database beside the live one.
    ///
    /// # Errors
    /// [`Trouble::Refused`] with what speaks against it, today's data being no better, too: nobody
    /// waits for it as in a restore.
    pub async fn ask_beside(&self, name: &str) -> Result<Said, Trouble> {
        let said = self.ask_integrity(&named(name)?).await?;
        match said.as_today.as_slice() {
            [] => Ok(said),
            wrong => Err(Trouble::Refused(wrong.join("\n"))),
        }
    }

    /// Drops a database of ours beside the live one; gone already is success.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn drop_beside(&self, name: &str) -> Result<(), Trouble> {
        let session = self.session().await?;
        let (who, live) = (&self.server.installation, &self.settings.name);
        Ok(claims::drop_ours(&session, who, &named(name)?, live).await?)
    }

    /// Whether there is a database of this name that can be used; one whose drop was cut off can
    /// only be dropped.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn is_there(&self, name: &str) -> Result<bool, Trouble> {
        let session = self.session().await?;
        let found = facts::database(&session, &named(name)?).await?;
        Ok(found.is_some_and(|found| !found.is_half_dropped()))
    }

    /// Lets a backup go; its size, `None`: it is gone already.
    ///
    /// # Errors
    /// [`Trouble::Failed`].
    pub async fn let_go(&self, id: &str) -> Result<Option<u64>, Trouble> {
        let failed = |error: crate::host::files::FilesError| Trouble::Failed(error.to_string());
        let listed = backups::list(&self.settings.backups).await.map_err(failed)?;
        let Some(backup) = listed.backups.into_iter().find(|backup| backup.id() == id) else {
            return Ok(None);
        };
        backups::remove(&backup.folder, renamed).await.map_err(failed)?;
        Ok(Some(backup.manifest.bytes))
    }

    /// Removes the backup that this operation has made, which was given up.
    ///
    /// # Errors
    /// [`Trouble::Failed`].
    pub async fn forget_made(&self, began: Millis) -> Result<(), Trouble> {
        if let Some(backup) = self.made_before(began).await? {
            let removed = backups::remove(&backup.folder, renamed).await;
            removed.map_err(|error| Trouble::Failed(error.to_string()))?;
        }
        Ok(())
    }

    /// The database beside the live one that an operation left there as a copy of a backup.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn copy_of(&self, operation: OperationId) -> Result<Option<String>, Trouble> {
        let session = self.session().await?;
        let ours = |database: &facts::DatabaseFacts| {
            database.marker().is_some_and(|marker| {
                marker.installation == self.server.installation
                    && marker.operation == operation
                    && marker.kind == Kind::Scratch
            })
        };
        Ok(facts::marked(&session).await?.into_iter().find(ours).map(|found| found.name.into()))
    }

    /// Dumps a database that a restore had put aside, and proves the dump.
    ///
    /// # Errors
    /// [`Trouble`]; nothing of the dump is left then.
    pub async fn dump_aside(
        &self,
        (name, of): (&str, OperationId),
        (since, served): (Millis, Option<ReleaseId>),
    ) -> Result<(Backup, String), Trouble> {
        let from = named(name)?;
        let reason = Reason::Retired(of);
        self.back_up_of(Of { from: &from, reason, release: served, at: Some(since) }).await
    }
}

/// CRASH: it is no backup any more, and its folder is still there under another name.
fn renamed() {
    crash::point("prune.renamed");
}
