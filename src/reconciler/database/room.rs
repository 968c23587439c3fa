//! What stands in the way of a restore, above all the room for what it makes. Read-only.
//!
//! A copy that fills the disk stops the server for good, so room is a hard refusal, and it is
//! looked for again right before anything large is made.

use std::path::Path;

use cutover_model::{RestorePlan, Source};

use super::{Database, Trouble, named};
use crate::host::backups::{self, Backup, age};
use crate::host::postgres::preflight::{self, Need, Refusal};
use crate::host::postgres::{Contents, Session, claims, facts};
use crate::text;

/// What a preflight has to leave room for besides the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Today's data is dumped.
    Dumps,
    /// It was dumped already, or need not be.
    HasDumped,
}

impl Database {
    /// Refuses what would fill the server's disk: it would not start again.
    pub(super) async fn has_room(&self, session: &Session, size: u64) -> Result<(), Trouble> {
        let server = facts::server(session).await?;
        let space = preflight::space::of(&self.server, &server).await?;
        let unknown = self.settings.unknown_space;
        match preflight::no_room(size, server.max_wal, space, unknown) {
            None => Ok(()),
            Some(refusal) => Err(Trouble::Refused(format!("{}: {}", refusal.what, refusal.remedy))),
        }
    }

    /// Looks for everything that stands in the way; nothing is changed. `then`: whether today's
    /// data is still to be dumped.
    ///
    /// # Errors
    /// [`Trouble::Refused`] with each reason and what to do.
    pub async fn preflight(&self, plan: &RestorePlan, then: Then) -> Result<(), Trouble> {
        let session = self.session().await?;
        claims::ensure_ledger(&session).await?;
        let live = self.live(&session).await?;
        let mut need = Need::like(&live, self.settings.unknown_space);
        need.max_hold = Some(self.settings.max_hold);
        let mut is_encrypted = false;
        match &plan.source {
            Source::Aside { .. } => need.size = 0,
            Source::Point { release } => {
                let from = facts::database(&session, &live.name.point(*release)).await?;
                need.size = from.and_then(|from| from.size).unwrap_or(need.size);
            }
            Source::Backup { id } => {
                let backup = self.backup(id).await?;
                backups::check(&backup).await.map_err(unusable)?;
                // Read in a while, after today's data is dumped: the key is looked for now.
                is_encrypted = self.archive_of(&backup)?.key.is_some();
                backup_needs(&mut need, &backup);
            }
        }
        // A candidate that is there already is used, or dropped before the next one is made.
        if let Some(there) = facts::database(&session, &named(&plan.candidate)?).await? {
            need.size = need.size.saturating_sub(there.size.unwrap_or(0));
        }
        let (server, operation) = (&self.server, self.operation);
        let seen = preflight::look(server, &session, operation, &live.name).await?;
        let mut lacking = None;
        if then == Then::Dumps {
            let dump = self.dump_size(live.size.unwrap_or(0)).await?;
            let disk = disk_of(&self.settings.backups);
            if disk.zip(seen.space).is_some_and(|(disk, space)| space.is_on(disk)) {
                need.size = need.size.saturating_add(dump);
            } else {
                lacking = lacks(dump, &self.settings.backups);
            }
        }
        let mut refusals = preflight::refusals(&need, &seen);
        refusals.extend(lacking);
        is_encrypted |= then == Then::Dumps && self.encrypts();
        refusals.extend(lacks_age(is_encrypted).await);
        if !facts::counts_writes(&session, live.oid).await? {
            refusals.push(uncounted());
        }
        refused(&refusals)
    }

    /// Looks for everything that keeps a backup from being restored beside the live database.
    ///
    /// # Errors
    /// [`Trouble::Refused`] with each reason and what to do.
    pub(super) async fn preflight_beside(&self, need: impl Fn(&mut Need)) -> Result<(), Trouble> {
        let session = self.session().await?;
        claims::ensure_ledger(&session).await?;
        let live = self.live(&session).await?;
        let mut wanted = Need::like(&live, self.settings.unknown_space);
        need(&mut wanted);
        let (server, operation) = (&self.server, self.operation);
        let mut seen = preflight::look(server, &session, operation, &live.name).await?;
        // The live database is not renamed, so nothing of it is in the way.
        if let Some(live) = &mut seen.live {
            live.prepared.clear();
            live.slots.clear();
            live.sessions.clear();
            (live.allows, live.subscriptions) = (true, 0);
        }
        refused(&preflight::refusals(&wanted, &seen))
    }

    /// Whether backups are encrypted.
    fn encrypts(&self) -> bool {
        self.settings.schedule.as_ref().is_some_and(|schedule| schedule.encrypt.is_some())
    }

    /// Refuses a dump that its folder may have no room for, or that could not be encrypted.
    ///
    /// # Errors
    /// [`Trouble::Refused`] with what it may need and what there is.
    pub(super) async fn has_room_for_a_dump(&self, size: Option<u64>) -> Result<(), Trouble> {
        let dump = self.dump_size(size.unwrap_or(0)).await?;
        let lacking = lacks(dump, &self.settings.backups).into_iter();
        refused(&lacking.chain(lacks_age(self.encrypts()).await).collect::<Vec<_>>())
    }

    /// What the dump will take at most, by the newest one of this database; `age` writes a second
    /// one beside it.
    async fn dump_size(&self, live: u64) -> Result<u64, Trouble> {
        let newest = self.backups().await?.into_iter().next();
        let newest = newest.map(|newest| newest.manifest.bytes.saturating_mul(2).min(live));
        let copies = if self.encrypts() { 2 } else { 1 };
        Ok(newest.unwrap_or(live).saturating_mul(copies))
    }
}

/// A backup that nothing is restored from, and what to do.
pub(super) fn unusable(error: impl std::fmt::Display) -> Trouble {
    Trouble::Refused(format!(
        "{error}: take another backup (cutover backup list), or bring this one's files back from \
         a copy"
    ))
}

/// What a backup needs of the server that it is restored on.
pub(super) fn backup_needs(need: &mut Need, backup: &Backup) {
    need.made_by = Some(backup.manifest.server / 10_000);
    need.restores = true;
    if let Ok(held) = serde_json::from_value::<Contents>(backup.manifest.contents.clone()) {
        (need.size, need.roles) = (held.size, held.roles);
        need.extensions = held.extensions.into_keys().collect();
    }
}

fn refused(refusals: &[Refusal]) -> Result<(), Trouble> {
    if refusals.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> =
        refusals.iter().map(|refusal| format!("{}: {}", refusal.what, refusal.remedy)).collect();
    Err(Trouble::Refused(lines.join("\n")))
}

/// The size and the free space of the disk that a folder is, or will be, on, bytes.
fn disk_of(folder: &Path) -> Option<(u64, u64)> {
    let there = folder.ancestors().find(|folder| folder.is_dir())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    let of = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some((of(stat.f_blocks), of(stat.f_bavail)))
}

/// What is said where a dump may not fit into its folder.
fn lacks(dump: u64, folder: &Path) -> Option<Refusal> {
    let (_, free) = disk_of(folder).filter(|(_, free)| *free < dump)?;
    Some(Refusal {
        what: format!(
            "a dump of this data may need {}, and {} has {}",
            text::size(dump),
            folder.display(),
            text::size(free)
        ),
        remedy: "make room there, or set backup.path to another disk".to_owned(),
    })
}

/// What is said where `age` is needed and cannot be run: before anything is dumped for it.
async fn lacks_age(is_needed: bool) -> Option<Refusal> {
    if !is_needed {
        return None;
    }
    let what = age::missing().await?;
    let remedy = "install Debian's age, which backups are encrypted and decrypted with".to_owned();
    Some(Refusal { what, remedy })
}

fn uncounted() -> Refusal {
    let what = "track_counts is off: what is written while the copy is made is not counted";
    let remedy = "switch it on: ALTER SYSTEM SET track_counts = on, or where a role or the \
                  database has it off";
    Refusal { what: what.to_owned(), remedy: remedy.to_owned() }
}
