//! Files from elsewhere become backups of our own: restored beside the live database by a role that
//! may do nothing else, dumped from there, read back.
//!
//! What was imported is then like every backup: with a manifest, and to be restored by the same
//! commands. The role and the database are gone afterwards.

use cutover_model::Millis;

use super::backing_up::Of;
use super::building::{COUNT, LONG};
use super::{Database, Trouble, named};
use crate::host::backups::{Backup, Reason};
use crate::host::files::given::Given;
use crate::host::postgres::archive::foreign::{self, Foreign};
use crate::host::postgres::archive::restricted;
use crate::host::postgres::{DbName, Kind, Made, Password, Server, build, claims};
use crate::{crash, text};

impl Database {
    /// Looks at a file: whether it is whole, and what is in it.
    ///
    /// # Errors
    /// [`Trouble::Refused`] with what speaks against it.
    pub async fn look_at(&self, file: &Given) -> Result<Foreign, Trouble> {
        let found = foreign::look(&self.server, self.operation, &file.reading(), LONG).await?;
        self.preflight_beside(|need| {
            need.made_by = found.made_from;
            need.size = found.bytes.saturating_mul(2);
        })
        .await?;
        Ok(found)
    }

    /// What was found, in words.
    #[must_use]
    pub fn found_text(found: &Foreign) -> String {
        let rows: u64 = found.rows.values().sum();
        let kind = match found.form {
            foreign::Form::Archive(_) => "an archive, read completely".to_owned(),
            foreign::Form::Plain { packed, .. } => format!(
                "a plain dump{}, whole, {} rows in {}",
                if packed { ", packed" } else { "" },
                text::count(rows),
                text::number_of(found.rows.len(), "table")
            ),
        };
        match found.left_out {
            0 => kind,
            count => format!("{kind}; {count} statements about owners and rights are left out"),
        }
    }

    /// Restores a file that was looked at and is still open, makes a backup of it, and drops the
    /// database again.
    ///
    /// # Errors
    /// [`Trouble`]; what was made is removed by [`Database::clear`].
    pub async fn import(
        &self,
        found: &Foreign,
        data_of: Millis,
    ) -> Result<(Backup, String), Trouble> {
        let session = self.session().await?;
        let live = self.live(&session).await?;
        let name = named(&self.scratch())?;
        let building = self.marker(Kind::Scratch, Made::Building);
        build::empty(&session, &live, &name, &building).await?;
        crash::point("import.empty");
        let password = restricted::password();
        let role = restricted::make(&session, &self.server, self.operation, &password).await?;
        restricted::give(&session, &name, &role).await?;
        crash::point("import.role");
        let server = Server {
            user: role.clone(),
            password: Some(Password::new(password)),
            ..self.server.clone()
        };
        foreign::pour(&server, self.operation, found, &name, LONG).await?;
        crash::point("import.poured");
        let inside = self.server.connect(&name, self.operation).await?;
        restricted::take_back(&inside, &role, &live.owner).await?;
        inside.close().await;
        self.counted_alike(found, &name).await?;
        let reason = Reason::Imported;
        let of = Of { from: &name, reason, release: None, at: Some(data_of) };
        let made = self.back_up_of(of).await?;
        claims::drop_ours(&session, &self.server.installation, &name, &live.name).await?;
        restricted::forget(&session, &self.server).await?;
        crash::point("import.dropped");
        Ok(made)
    }

    /// Every row of the file is there.
    async fn counted_alike(&self, found: &Foreign, name: &DbName) -> Result<(), Trouble> {
        let snapshot = self.snapshot(name).await?;
        let contents = snapshot.contents(COUNT).await;
        snapshot.close().await;
        let contents = contents?;
        for (table, rows) in &found.rows {
            match contents.rows.get(table) {
                Some(there) if there != rows => {
                    return Err(Trouble::Refused(format!(
                        "table {table} has {there} rows, and the file has {rows}"
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
