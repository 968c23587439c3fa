//! What is made beside the live database: dumps, restore points, candidates; and their proof.
//!
//! The live database keeps serving; nothing of it is changed, and no session of anybody is touched
//! but by a restore point that is a clone.

use std::time::{Duration, Instant};

use cutover_model::{Millis, Oid, OperationId, Point, ReleaseId, RestorePlan, Source};

use super::{Database, PointKind, Trouble, named};
use crate::host::backups::Reason;
use crate::host::postgres::archive::{self, Owners};
use crate::host::postgres::contents::{Contents, Snapshot};
use crate::host::postgres::verify::{self, Wanted};
use crate::host::postgres::{
    DatabaseFacts, DbError, DbName, Kind, Made, Marker, Session, build, claims, facts, properties,
};
use crate::{crash, text};

/// Dumps, restores and copies: a large database on a slow disk takes long.
pub(super) const LONG: Duration = Duration::from_secs(6 * 3_600);
/// Counting every row of a large database.
pub(super) const COUNT: Duration = Duration::from_secs(1_800);

impl Database {
    pub(super) fn marker(&self, kind: Kind, made: Made) -> Marker {
        let installation = self.server.installation.clone();
        Marker { installation, operation: self.operation, kind, made }
    }

    pub(super) async fn live(&self, session: &Session) -> Result<DatabaseFacts, Trouble> {
        let name = &self.settings.name;
        let live = facts::database(session, name).await?;
        live.ok_or_else(|| Trouble::Refused(format!("there is no database \"{name}\"")))
    }

    pub(super) async fn snapshot(&self, database: &DbName) -> Result<Snapshot, Trouble> {
        let session = self.server.connect(database, self.operation).await?;
        Ok(Snapshot::open(session).await?)
    }

    /// Today's data, before anything takes its place.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn dump(&self, plan: &RestorePlan) -> Result<String, Trouble> {
        // What a kill left of an earlier try.
        self.sweep().await?;
        let (_, text) = self.back_up(Reason::Before(self.operation), plan.from).await?;
        Ok(text)
    }

    /// A copy of the live database, from right before a migration.
    ///
    /// # Errors
    /// [`Trouble`]; nothing of it is left then, unless the server is away:
    /// [`Database::drop_unrecorded_points`] removes it later.
    pub async fn point(&self, release: ReleaseId) -> Result<Point, Trouble> {
        let made = self.point_inner(release).await;
        if made.is_err() {
            // A clone has closed the live database; the session that did may be gone.
            let tidied = async {
                self.recover().await?;
                self.drop_point(release).await
            };
            if let Err(trouble) = tidied.await {
                tracing::warn!(%trouble, "what is left of a restore point is removed later");
            }
        }
        made
    }

    async fn point_inner(&self, release: ReleaseId) -> Result<Point, Trouble> {
        let started = Instant::now();
        let session = self.session().await?;
        claims::ensure_ledger(&session).await?;
        let live = self.live(&session).await?;
        self.has_room(&session, live.size.unwrap_or(0)).await?;
        let name = live.name.point(release);
        let building = self.marker(Kind::Point, Made::Building);
        let at = now();
        match self.settings.point {
            PointKind::Clone => {
                let limit = self.settings.max_hold;
                let closed = || crash::point("clone.closed");
                let within = (limit, &closed as &(dyn Fn() + Sync));
                let cloned = build::clone_within(&session, &live, &name, &building, within).await;
                cloned.map_err(|error| match error {
                    DbError::TooSlow { .. } => Trouble::Failed(format!(
                        "a clone closes \"{}\" for connections, so it may take max_hold ({}) at \
                         most, and takes longer: raise max_hold, or set restore_point = \"copy\"",
                        live.name,
                        text::duration(limit)
                    )),
                    other => other.into(),
                })?;
            }
            PointKind::Copy | PointKind::Off => {
                build::empty(&session, &live, &name, &building).await?;
                crash::point("point.empty");
                let snapshot = self.snapshot(&live.name).await?;
                let owners = self.owners(&session, &live).await?;
                let (from, into) = ((&live.name, &snapshot), (&name, &owners));
                let copied = async {
                    let counted = snapshot.contents(COUNT).await?;
                    archive::copy(&self.server, self.operation, from, into, LONG).await?;
                    Ok::<Contents, Trouble>(counted)
                };
                let copied = copied.await;
                snapshot.close().await;
                crash::point("point.copied");
                self.prove(&name, &copied?).await?;
            }
        }
        let verified = self.marker(Kind::Point, Made::Verified);
        let oid = claims::mark(&session, &name, &verified).await?;
        let bytes = facts::database_of(&session, oid).await?.and_then(|found| found.size);
        Ok(Point {
            release,
            name: name.into(),
            database: live.name.into(),
            oid: Oid(oid),
            at,
            bytes: bytes.unwrap_or(0),
            took_ms: millis(started.elapsed()),
        })
    }

    /// Drops a restore point; gone already is success.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn drop_point(&self, release: ReleaseId) -> Result<(), Trouble> {
        let session = self.session().await?;
        let live = &self.settings.name;
        let name = live.point(release);
        Ok(claims::drop_ours(&session, &self.server.installation, &name, live).await?)
    }

    /// Drops restore points of these deploys, which were killed or failed, that are not among the
    /// recorded ones: nobody will ever use them. Gives their names.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn drop_unrecorded_points(
        &self,
        known: &[String],
        deploys: &[OperationId],
    ) -> Result<Vec<String>, Trouble> {
        let session = self.session().await?;
        claims::ensure_ledger(&session).await?;
        let (installation, live) = (&self.server.installation, &self.settings.name);
        let mut gone = Vec::new();
        for (name, by, kind) in claims::claimed(&session, installation).await? {
            let is_known = known.iter().any(|known| known == name.as_str());
            if kind != Kind::Point || !deploys.contains(&by) || is_known {
                continue;
            }
            claims::drop_ours(&session, installation, &name, live).await?;
            gone.push(name.into());
        }
        Ok(gone)
    }

    /// A superuser gives everything back to whom it belonged; another role makes it the owner's.
    pub(super) async fn owners(
        &self,
        session: &Session,
        live: &DatabaseFacts,
    ) -> Result<Owners, Trouble> {
        match facts::server(session).await?.role.superuser {
            true => Ok(Owners::AsDumped),
            false => Ok(Owners::All(live.owner.clone())),
        }
    }

    /// Builds the candidate.
    ///
    /// # Errors
    /// [`Trouble`]; the candidate is not marked as checked then.
    pub async fn build(&self, plan: &RestorePlan) -> Result<String, Trouble> {
        let started = Instant::now();
        let session = self.session().await?;
        let live = self.live(&session).await?;
        let name = named(&plan.candidate)?;
        let building = self.marker(Kind::Candidate, Made::Building);
        match &plan.source {
            Source::Point { release } => {
                let from = live.name.point(*release);
                let model = facts::database(&session, &from).await?.ok_or_else(|| {
                    Trouble::Refused(format!("the restore point \"{from}\" is gone"))
                })?;
                // The dump was made since the preflight, and people have written.
                self.has_room(&session, model.size.unwrap_or(0)).await?;
                build::clone(&session, &model, &name, &building).await?;
                // Rights and settings are today's, as with a backup: they were changed since.
                self.lay_on(&session, (&live, &name)).await?;
            }
            Source::Backup { id } => {
                let backup = self.backup(id).await?;
                let kept = self.archive_of(&backup)?;
                archive::check_kept(&self.server, self.operation, &kept, LONG).await?;
                let held = serde_json::from_value::<Contents>(backup.manifest.contents.clone());
                let size = held.map_or(live.size.unwrap_or(0), |held| held.size);
                self.has_room(&session, size).await?;
                build::empty(&session, &live, &name, &building).await?;
                crash::point("restore.empty");
                let owners = self.owners(&session, &live).await?;
                let into = (&name, &owners);
                archive::restore_kept(&self.server, self.operation, &kept, into, LONG).await?;
            }
            Source::Aside { .. } => {}
        }
        crash::point("restore.built");
        let built = facts::database(&session, &name).await?;
        let size = built.and_then(|built| built.size).unwrap_or(0);
        Ok(format!("{}, {}", text::size(size), text::duration(started.elapsed())))
    }

    /// The rights and settings of one database on another.
    async fn lay_on(
        &self,
        session: &Session,
        (model, name): (&DatabaseFacts, &DbName),
    ) -> Result<(), Trouble> {
        let made = facts::database(session, name).await?;
        let made = made.ok_or_else(|| Trouble::Failed(format!("\"{name}\" is gone")))?;
        let wanted = properties::read(session, model).await?;
        Ok(properties::apply(session, &made, &wanted).await?)
    }

    /// Checks the candidate against what it was made from, and marks it as checked.
    ///
    /// # Errors
    /// [`Trouble::Refused`] that names what does not hold.
    pub async fn verify(&self, plan: &RestorePlan) -> Result<String, Trouble> {
        let session = self.session().await?;
        let name = named(&plan.candidate)?;
        let wanted = match &plan.source {
            Source::Backup { id } => {
                let backup = self.backup(id).await?;
                serde_json::from_value::<Contents>(backup.manifest.contents).ok()
            }
            Source::Point { release } => {
                let from = self.settings.name.point(*release);
                let snapshot = self.snapshot(&from).await?;
                let counted = snapshot.contents(COUNT).await;
                snapshot.close().await;
                Some(counted?)
            }
            Source::Aside { .. } => None,
        };
        if let Some(wanted) = &wanted {
            self.prove(&name, wanted).await?;
        }
        let asked = self.ask_integrity(&name).await?;
        claims::mark(&session, &name, &self.marker(Kind::Candidate, Made::Verified)).await?;
        crash::point("restore.verified");
        let tables = wanted.map_or(0, |wanted| wanted.rows.len());
        let mut passed = vec![format!("{} with every row", text::number_of(tables, "table"))];
        passed.push("sequences, rights".to_owned());
        passed.extend(asked.passed.iter().cloned());
        Ok(asked.below(format!("{}: all pass", passed.join(", "))))
    }

    pub(super) async fn prove(&self, name: &DbName, wanted: &Contents) -> Result<(), Trouble> {
        let session = self.session().await?;
        let live = self.live(&session).await?;
        let wanted =
            Wanted { contents: wanted, properties: &properties::read(&session, &live).await? };
        let inside = self.server.connect(name, self.operation).await?;
        let found = verify::compare(&inside, &wanted, COUNT).await?;
        match found.as_slice() {
            [] => Ok(()),
            findings => {
                let first: Vec<&str> = findings.iter().take(5).map(String::as_str).collect();
                let more = findings.len() - first.len();
                let more = if more > 0 { format!("; and {more} more") } else { String::new() };
                Err(Trouble::Refused(format!(
                    "the copy \"{name}\" is not what it should be: {}{more}",
                    first.join("; ")
                )))
            }
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(in crate::reconciler) fn now() -> Millis {
    Millis(jiff::Timestamp::now().as_millisecond())
}
