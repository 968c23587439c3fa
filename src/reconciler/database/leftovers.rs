//! What is left on the server of work that has ended, and what there holds disk or connections
//! until a person ends it. To be asked only while no operation runs: what one makes looks the same.
//!
//! INVARIANT: only what carries our claim or our note of a gate is ever removed or opened.

use cutover_model::OperationId;

use super::{Database, Trouble, named};
use crate::host::postgres::recover::stale;
use crate::host::postgres::{Kind, Made, Whose, claims, facts, gate};
use crate::text;

/// One thing that is left, or is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// A database of ours that an operation did not finish.
    Half {
        /// Its name.
        name: String,
        /// The operation.
        operation: OperationId,
        /// Its size in bytes, when the role may know.
        bytes: Option<u64>,
    },
    /// The live database takes no connections, and it was closed by us.
    Closed {
        /// Its name.
        name: String,
    },
    /// Something that a person has to look at: its key, a sentence, what to type.
    Danger {
        /// The same for the same thing.
        key: String,
        /// What it is.
        what: String,
        /// What to type.
        command: String,
    },
}

impl Database {
    /// Looks.
    ///
    /// # Errors
    /// [`Trouble`] when the server cannot be asked.
    pub async fn leftovers(&self) -> Result<Vec<Left>, Trouble> {
        let session = self.session().await?;
        let (who, name) = (&self.server.installation, &self.settings.name);
        let mut found = Vec::new();
        if claims::has_ledger(&session).await? {
            for (name, ..) in claims::claimed(&session, who).await? {
                // A copy to look into is not left over, nor is what was put aside.
                if let Whose::Ours { database, marker } =
                    claims::whose(&session, who, &name).await?
                    && marker.kind != Kind::Previous
                    && (marker.kind == Kind::Candidate || marker.made == Made::Building)
                {
                    let (name, bytes) = (name.into(), database.size);
                    found.push(Left::Half { name, operation: marker.operation, bytes });
                }
            }
        }
        if let Some(live) = facts::database(&session, name).await? {
            let quoted = name.quoted();
            let sql = |change: &str| format!("ALTER DATABASE {quoted} {change}");
            if !live.allows && gate::is_noted(&session, who, live.oid).await? {
                found.push(Left::Closed { name: name.to_string() });
            } else if !live.allows {
                let what = format!("\"{name}\" takes no connections, and Cutover did not close it");
                found.push(danger("closed", what, sql("ALLOW_CONNECTIONS true")));
            }
            if live.connection_limit == 0 {
                let what = format!("\"{name}\" takes connections of superusers only (limit 0)");
                found.push(danger("limit", what, sql("CONNECTION LIMIT -1")));
            }
        }
        for one in stale::prepared(&session).await? {
            let what = format!(
                "transaction \"{}\" in {} was prepared {} ago and never ended: it keeps locks and \
                 disk, and refuses every restore",
                one.gid,
                one.database,
                text::duration(one.age)
            );
            let command = format!("ROLLBACK PREPARED '{}'", one.gid.replace('\'', "''"));
            found.push(danger(&format!("prepared:{}", one.gid), what, command));
        }
        for slot in stale::idle_slots(&session).await? {
            let held =
                slot.held.map_or_else(|| "WAL".to_owned(), |b| format!("{} of WAL", text::size(b)));
            let what = format!(
                "nobody reads the replication slot {}: the server keeps {held} for it, and more \
                 with each write",
                slot.name
            );
            let command = format!("SELECT pg_drop_replication_slot('{}')", slot.name);
            found.push(danger(&format!("slot:{}", slot.name), what, command));
        }
        Ok(found)
    }

    /// Drops a database of ours that an operation did not finish.
    ///
    /// # Errors
    /// [`Trouble`]; also when it is not ours.
    pub async fn drop_half(&self, name: &str) -> Result<(), Trouble> {
        let session = self.session().await?;
        let (who, live) = (&self.server.installation, &self.settings.name);
        Ok(claims::drop_ours(&session, who, &named(name)?, live).await?)
    }
}

fn danger(key: &str, what: String, sql: String) -> Left {
    Left::Danger { key: key.to_owned(), what, command: format!("in psql, as a superuser: {sql}") }
}
