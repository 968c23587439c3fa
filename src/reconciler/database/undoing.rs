//! Taking migrations back: their down scripts on a copy of the live database, held against the
//! restore point from before them; then the same on the live one.

use cutover_model::ReleaseId;

use super::building::{COUNT, LONG};
use super::{Database, Trouble};
use crate::host::postgres::archive::schema::{dump_schema, first_difference};
use crate::host::postgres::contents::down::{self, Down};
use crate::host::postgres::recover::{self, Scope};
use crate::host::postgres::{DbName, Kind, Lookup, Made, archive, build, claims, facts};

impl Database {
    /// Makes a copy of the live database; no session of anybody is touched.
    ///
    /// # Errors
    /// [`Trouble`]; too little space is refused.
    pub async fn scratch_of_live(&self) -> Result<DbName, Trouble> {
        let session = self.session().await?;
        claims::ensure_ledger(&session).await?;
        let live = self.live(&session).await?;
        self.has_room(&session, live.size.unwrap_or(0)).await?;
        let name = self.scratch_name();
        build::empty(&session, &live, &name, &self.marker(Kind::Scratch, Made::Building)).await?;
        let snapshot = self.snapshot(&live.name).await?;
        let owners = self.owners(&session, &live).await?;
        let (from, into) = ((&live.name, &snapshot), (&name, &owners));
        let copied = archive::copy(&self.server, self.operation, from, into, LONG).await;
        snapshot.close().await;
        copied?;
        Ok(name)
    }

    /// Runs down scripts, all or nothing, on the live database (`None`) or on a copy.
    ///
    /// # Errors
    /// [`Trouble`] with what the server said.
    pub async fn run_down(&self, of: Option<&DbName>, downs: &[Down]) -> Result<(), Trouble> {
        let name = of.unwrap_or(&self.settings.name);
        let session = self.server.open(name, self.operation, Lookup::AsSetUp).await?;
        let ran = down::run(&session, downs, COUNT).await;
        session.close().await;
        Ok(ran?)
    }

    /// How this operation's down scripts came out on the live database, once nothing of it works on
    /// the server any more: whether all of these migrations are gone.
    ///
    /// # Errors
    /// [`Trouble`]: it is not known.
    pub async fn has_gone_down(
        &self,
        release: ReleaseId,
        names: &[String],
    ) -> Result<bool, Trouble> {
        let session = self.session().await?;
        let installation = &self.server.installation;
        // A commit whose connection broke may still be on its way.
        recover::end_sessions(&session, installation, Scope::Operation(self.operation)).await?;
        session.close().await;
        self.lacks(release, names).await
    }

    /// Whether the live database has none of these migrations (`true`), or all of them.
    ///
    /// # Errors
    /// [`Trouble`]: it is not known; also where it has some of them.
    pub async fn lacks(&self, release: ReleaseId, names: &[String]) -> Result<bool, Trouble> {
        let session = self.session().await?;
        let (live, point) = (&self.settings.name, self.settings.name.point(release));
        // On another server, or beside another database, an absent row says nothing.
        if facts::database(&session, &point).await?.is_none() {
            let why = format!("the restore point \"{point}\" is not where \"{live}\" is");
            return Err(Trouble::Refused(why));
        }
        session.close().await;
        let session = self.server.open(live, self.operation, Lookup::AsSetUp).await?;
        let left = down::left(&session, names).await?;
        session.close().await;
        match left {
            Some(0) => Ok(true),
            Some(left) if left == names.len() => Ok(false),
            Some(left) => Err(Trouble::Refused(format!(
                "\"{live}\" has {left} of the {} migrations of {release}",
                names.len()
            ))),
            None => Err(Trouble::Refused(format!("\"{live}\" has no known migrations table"))),
        }
    }

    /// How a copy's schema differs from that of the restore point before a release: the first line,
    /// as it should be and as it is.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn differs_from_point(
        &self,
        scratch: &DbName,
        release: ReleaseId,
    ) -> Result<Option<(String, String)>, Trouble> {
        let point = self.settings.name.point(release);
        let wanted = dump_schema(&self.server, self.operation, &point).await?;
        let found = dump_schema(&self.server, self.operation, scratch).await?;
        Ok(first_difference(&wanted, &found))
    }
}
