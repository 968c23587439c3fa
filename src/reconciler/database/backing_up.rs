//! Backups of an app's database: made, read back, encrypted, copied elsewhere.
//!
//! A backup is there whole or not at all. It is read back completely before it counts, and once
//! more through `age` where the private key is at hand. A copy that fails leaves the backup as good
//! as it is, and is told.

use std::time::{Duration, Instant};

use cutover_model::{Millis, ReleaseId};

use super::building::{COUNT, LONG, millis, now};
use super::room::unusable;
use super::{Database, Trouble};
use crate::host::backups::{self, Backup, Draft, Form, Manifest, Reason, age};
use crate::host::files::FilesError;
use crate::host::postgres::archive::kept::{Kept, Key};
use crate::host::postgres::archive::{self, Sealed};
use crate::host::postgres::contents::{Contents, Snapshot};
use crate::host::postgres::{DbError, DbName, facts, loss};
use crate::host::process::{self, Priority, Spec};
use crate::{crash, text};

/// What a backup is made of.
pub(super) struct Of<'a> {
    /// The database that is dumped.
    pub(super) from: &'a DbName,
    /// Why.
    pub(super) reason: Reason,
    /// The release that served on that data.
    pub(super) release: Option<ReleaseId>,
    /// The moment whose data it has; `None`: now.
    pub(super) at: Option<Millis>,
}

/// What came of reading a backup back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// Every block of it.
    Whole(Duration),
    /// It is damaged, for this reason.
    Damaged(String),
    /// It cannot be read here, for this reason; nothing is known against it.
    Unreadable(String),
}

fn failed(error: impl std::fmt::Display) -> Trouble {
    Trouble::Failed(error.to_string())
}

impl Database {
    /// Makes a backup of the live database, reads it back completely, and gives it with a sentence.
    ///
    /// # Errors
    /// [`Trouble`]; nothing of it is left then.
    pub async fn back_up(
        &self,
        reason: Reason,
        release: Option<ReleaseId>,
    ) -> Result<(Backup, String), Trouble> {
        let from = self.settings.name.clone();
        self.back_up_of(Of { from: &from, reason, release, at: None }).await
    }

    pub(super) async fn back_up_of(&self, of: Of<'_>) -> Result<(Backup, String), Trouble> {
        let started = Instant::now();
        let session = self.session().await?;
        let size = facts::database(&session, of.from).await?.and_then(|from| from.size);
        self.has_room_for_a_dump(size).await?;
        let draft = backups::begin(&self.settings.backups).map_err(failed)?;
        let begun = now();
        let server = facts::server(&session).await?;
        let is_live = *of.from == self.settings.name;
        let activity = match is_live {
            true => {
                let inside = self.server.connect(of.from, self.operation).await?;
                serde_json::to_value(loss::activity(&inside).await?).unwrap_or_default()
            }
            // Its counters say nothing of what was written to the live one since.
            false => serde_json::Value::Null,
        };
        let snapshot = self.snapshot(of.from).await?;
        let dumped = self.dump_snapshot(&draft, of.from, &snapshot).await;
        snapshot.close().await;
        let (plain, contents) = dumped?;
        crash::point("backup.dumped");
        let path = draft.archive();
        archive::check(&self.server, self.operation, &path, &plain, LONG).await?;
        crash::point("backup.checked");
        let (sealed, form) = self.encrypt(&draft, &plain).await?;
        let manifest = Manifest {
            version: 1,
            id: draft.id.clone(),
            // What it was called while it was live: that is what it can be restored as.
            database: self.settings.name.as_str().to_owned(),
            at: of.at.unwrap_or(begun),
            reason: of.reason,
            server: server.version,
            system: server.system_identifier,
            bytes: sealed.bytes,
            sha256: sealed.sha256,
            plain_sha256: matches!(form, Form::Age { .. }).then_some(plain.sha256),
            form,
            contents: serde_json::to_value(&contents).unwrap_or_default(),
            activity,
            took_ms: millis(started.elapsed()),
            verified_at: Some(now()),
            copied: None,
            not_copied: None,
            damaged: None,
            operation: Some(self.operation),
            installation: self.server.installation.as_str().to_owned(),
            made_at: now(),
            release: of.release,
        };
        let backup = draft.finish(manifest).await.map_err(failed)?;
        crash::point("backup.kept");
        Ok((backup.clone(), made_text(&backup, started.elapsed())))
    }

    async fn dump_snapshot(
        &self,
        draft: &Draft,
        database: &DbName,
        snapshot: &Snapshot,
    ) -> Result<(Sealed, Contents), Trouble> {
        let contents = snapshot.contents(COUNT).await?;
        let path = draft.archive();
        let of = (database, snapshot);
        let sealed = archive::dump(&self.server, self.operation, of, &path, LONG).await?;
        Ok((sealed, contents))
    }

    /// Encrypts an archive that was read back, where the operator wants it so, and reads it back
    /// once more where the private key is at hand.
    async fn encrypt(&self, draft: &Draft, plain: &Sealed) -> Result<(Sealed, Form), Trouble> {
        let schedule = self.settings.schedule.as_ref();
        let Some(recipient) = schedule.and_then(|schedule| schedule.encrypt.clone()) else {
            return Ok((plain.clone(), Form::Custom));
        };
        let path = draft.archive();
        age::encrypt(&path, &recipient, LONG).await.map_err(Trouble::Refused)?;
        let sealed = archive::seal(&path).await?;
        if let Some(identity) = schedule.and_then(|schedule| schedule.identity.clone()) {
            let key = Key { identity, plain_sha256: Some(plain.sha256.clone()) };
            let kept = Kept { path, sealed: sealed.clone(), key: Some(key) };
            archive::check_kept(&self.server, self.operation, &kept, LONG).await?;
        }
        Ok((sealed, Form::Age { recipient }))
    }

    /// The archive of a backup, and how it is read.
    ///
    /// # Errors
    /// [`Trouble::Refused`] where it is encrypted and the key is not on this host.
    pub(super) fn archive_of(&self, backup: &Backup) -> Result<Kept, Trouble> {
        let Manifest { bytes, sha256, plain_sha256, form, .. } = backup.manifest.clone();
        let sealed = Sealed { bytes, sha256 };
        let identity = self.settings.schedule.as_ref().and_then(|s| s.identity.clone());
        match (form, identity) {
            (Form::Custom, _) => Ok(Kept::plain(&backup.archive(), &sealed)),
            (Form::Age { .. }, Some(identity)) => {
                let key = Some(Key { identity, plain_sha256 });
                Ok(Kept { path: backup.archive(), sealed, key })
            }
            (Form::Age { .. }, None) => Err(Trouble::Refused(format!(
                "{} is encrypted, and its private key is not on this host: set \
                 backup.identity_file to it, or decrypt {} elsewhere and take the archive back in \
                 with cutover backup import",
                backup.id(),
                backup.archive().display()
            ))),
        }
    }

    /// The backup of this id, of this database.
    ///
    /// # Errors
    /// [`Trouble::Refused`] when there is none, or it is not whole.
    pub async fn backup(&self, id: &str) -> Result<Backup, Trouble> {
        backups::find(&self.settings.backups, id).await.map_err(unusable)
    }

    /// The backup that this operation, which began at this moment, has made already, before it was
    /// killed. Numbers of operations begin anew with a state folder, and come again in one that was
    /// put back: a backup of another one is never taken for it.
    ///
    /// # Errors
    /// [`Trouble`] when the folder cannot be read.
    pub async fn made_before(&self, began: Millis) -> Result<Option<Backup>, Trouble> {
        let listed = backups::list(&self.settings.backups).await.map_err(failed)?;
        let ours = |backup: &Backup| {
            let manifest = &backup.manifest;
            manifest.operation == Some(self.operation)
                && manifest.installation == self.server.installation.as_str()
                && manifest.made_at >= began
                // One whose archive is gone by now is made once more.
                && manifest.damaged.is_none()
        };
        Ok(listed.backups.into_iter().find(ours))
    }

    /// Reads a backup back, every block of it, and notes what came of it.
    ///
    /// # Errors
    /// [`Trouble`] when that cannot be found out now.
    pub async fn read_back(&self, id: &str) -> Result<Decoded, Trouble> {
        let started = Instant::now();
        let listed = backups::list(&self.settings.backups).await.map_err(failed)?;
        if let Some(broken) = listed.broken.iter().find(|it| it.id().as_deref() == Some(id)) {
            return Ok(Decoded::Damaged(broken.why.clone()));
        }
        let mut backup = self.backup(id).await?;
        let kept = match self.archive_of(&backup) {
            Ok(kept) => kept,
            Err(why) => {
                // Without its key only the hash can be held against it.
                return self.hold_against(backup, why.to_string()).await;
            }
        };
        match archive::check_kept(&self.server, self.operation, &kept, LONG).await {
            Ok(()) => {
                (backup.manifest.verified_at, backup.manifest.damaged) = (Some(now()), None);
                backups::amend(&backup).await.map_err(failed)?;
                Ok(Decoded::Whole(started.elapsed()))
            }
            Err(error @ (DbError::Archive { .. } | DbError::File { .. })) => {
                self.hold_against(backup, error.to_string()).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What a backup that was not read back is: damaged only where its file is not the one that was
    /// made and read back then. A wrong key, a tool, a full table of files are nothing against it.
    async fn hold_against(&self, mut backup: Backup, why: String) -> Result<Decoded, Trouble> {
        let is_gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        let reason = match backups::check(&backup).await {
            Err(FilesError::Refused { reason, .. }) => reason,
            Err(FilesError::Io { error, .. }) if is_gone(&error) => "archive missing".into(),
            Ok(()) | Err(_) => return Ok(Decoded::Unreadable(why)),
        };
        backup.manifest.damaged = Some((now(), reason.clone()));
        backups::amend(&backup).await.map_err(failed)?;
        Ok(Decoded::Damaged(reason))
    }

    /// Runs the operator's command that copies a backup elsewhere; what was done in words, `None`:
    /// none is configured.
    ///
    /// # Errors
    /// [`Trouble::Failed`]; the backup itself is good, and notes that it was not copied.
    pub async fn copy_elsewhere(&self, mut backup: Backup) -> Result<Option<String>, Trouble> {
        let Some(schedule) = &self.settings.schedule else { return Ok(None) };
        let Some((program, words)) = schedule.copy.split_first() else { return Ok(None) };
        if backup.manifest.copied.is_some() {
            return Ok(None);
        }
        let started = Instant::now();
        let archive = backup.archive();
        let spec = Spec::new(program, schedule.copy_timeout)
            .args(words)
            .arg(&archive)
            .env("CUTOVER_BACKUP", &archive)
            .env("CUTOVER_BACKUP_ID", backup.id())
            .env("CUTOVER_BACKUP_FOLDER", &backup.folder)
            .env("CUTOVER_BACKUP_SHA256", &backup.manifest.sha256)
            .env("CUTOVER_BACKUP_DATABASE", &backup.manifest.database)
            .priority(Priority::Low);
        let why = match process::run(spec).await {
            Ok(out) if out.status.success() => None,
            Ok(out) => {
                let said = process::tail(&out.stderr, 3);
                Some(format!("{program} ended with {}: {said}", out.status))
            }
            Err(error) => Some(error.to_string()),
        };
        match why {
            None => {
                backup.manifest.copied = Some((now(), program.clone()));
                backup.manifest.not_copied = None;
            }
            Some(ref why) => backup.manifest.not_copied = Some((now(), why.clone())),
        }
        backups::amend(&backup).await.map_err(failed)?;
        crash::point("backup.copied");
        match why {
            None => Ok(Some(format!("{program}, {}", text::duration(started.elapsed())))),
            Some(why) => Err(Trouble::Failed(why)),
        }
    }
}

/// `b-118, 14 MB, read back completely, 4.8 s`
pub(super) fn made_text(backup: &Backup, took: Duration) -> String {
    let (id, size) = (backup.id(), text::size(backup.manifest.bytes));
    let form = match backup.manifest.form {
        Form::Custom => "",
        Form::Age { .. } => "encrypted, ",
    };
    format!("{id}, {size}, {form}read back completely, {}", text::duration(took))
}
