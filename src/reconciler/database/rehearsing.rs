//! Copies to try something on: made from a restore point, watched, and dropped afterwards.
//!
//! A copy is claimed and marked as scratch of its operation, so nobody takes it for anything else.
//! The live database is not read but for its name.

use cutover_model::ReleaseId;

use super::{Database, Trouble};
use crate::host::postgres::contents::schema::Change;
use crate::host::postgres::contents::watch::{self, Watched};
use crate::host::postgres::recover::{self, Scope};
use crate::host::postgres::{DbName, Kind, Made, build, claims, facts, gate};

impl Database {
    /// The live database's name.
    #[must_use]
    pub fn live_name(&self) -> &DbName {
        &self.settings.name
    }

    /// The name of this operation's copy.
    #[must_use]
    pub fn scratch_name(&self) -> DbName {
        self.settings.name.scratch(self.operation)
    }

    /// Makes a copy of the restore point before a release.
    ///
    /// # Errors
    /// [`Trouble`]; too little space is refused.
    pub async fn scratch_of_point(&self, release: ReleaseId) -> Result<DbName, Trouble> {
        let session = self.session().await?;
        claims::ensure_ledger(&session).await?;
        let from = self.settings.name.point(release);
        let model = facts::database(&session, &from).await?;
        let model = model
            .ok_or_else(|| Trouble::Refused(format!("the restore point \"{from}\" is gone")))?;
        self.has_room(&session, model.size.unwrap_or(0)).await?;
        let name = self.scratch_name();
        build::clone(&session, &model, &name, &self.marker(Kind::Scratch, Made::Building)).await?;
        Ok(name)
    }

    /// Begins to watch a copy. `None`: our role may not set event triggers.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn watch(&self, name: &DbName) -> Result<Option<Watched>, Trouble> {
        let session = self.server.connect(name, self.operation).await?;
        Ok(watch::begin(&session).await?)
    }

    /// What was done to a copy since it is watched, the gravest last.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn seen(&self, name: &DbName, watched: &Watched) -> Result<Vec<Change>, Trouble> {
        let session = self.server.connect(name, self.operation).await?;
        Ok(watch::end(&session, watched).await?)
    }

    /// Drops this operation's copy, and ends what a killed process left working on it.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn drop_scratch(&self) -> Result<(), Trouble> {
        let session = self.session().await?;
        claims::ensure_ledger(&session).await?;
        let installation = &self.server.installation;
        recover::end_sessions(&session, installation, Scope::Operation(self.operation)).await?;
        gate::reopen_up_to(&session, installation, Some(self.operation)).await?;
        let (name, live) = (self.scratch_name(), &self.settings.name);
        Ok(claims::drop_ours(&session, installation, &name, live).await?)
    }
}
