//! What is left on the server of work that has ended, and what there holds disk or connections
//! until a person ends it. To be asked only while no operation runs: what one makes looks the same.
//!
//! INVARIANT: only what carries our claim or our note of a gate is ever removed or opened.

use std::collections::BTreeSet;

use cutover_model::OperationId;

use super::{Database, Trouble, named};
use crate::host::postgres::recover::stale;
use crate::host::postgres::{Kind, Made, Whose, claims, facts, gate};
use crate::host::process::escape;
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
    /// Looks. `recorded`: databases that the journal names: none of them is left over, whatever it
    /// says of itself.
    ///
    /// # Errors
    /// [`Trouble`] when the server cannot be asked.
    pub async fn leftovers(&self, recorded: &BTreeSet<String>) -> Result<Vec<Left>, Trouble> {
        let session = self.session().await?;
        let (who, name) = (&self.server.installation, &self.settings.name);
        let mut found = Vec::new();
        if claims::has_ledger(&session).await? {
            for (name, ..) in claims::claimed(&session, who).await? {
                // A copy to look into is not left over, nor is what was put aside.
                if recorded.contains(name.as_str()) {
                    continue;
                }
                if let Whose::Ours { database, marker } =
                    claims::whose(&session, who, &name).await?
                    // Somebody's own words on it mean that somebody wants it.
                    && (database.comment.is_none() || database.marker().is_some())
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
                let key = format!("closed:{name}");
                found.push(danger(&key, what, sql("ALLOW_CONNECTIONS true")));
            }
            if live.connection_limit == 0 {
                let what = format!("\"{name}\" takes connections of superusers only (limit 0)");
                found.push(danger("limit", what, sql("CONNECTION LIMIT -1")));
            }
        }
        for one in stale::prepared(&session, name).await? {
            let gid = escape(&one.gid);
            let what = format!(
                "transaction \"{gid}\" in \"{name}\" was prepared {} ago and has not ended: it \
                 keeps locks and disk, and a restore is refused until it has",
                text::duration(one.age)
            );
            let quoted = gid.replace('\'', "''");
            let command = format!(
                "COMMIT PREPARED '{quoted}' or ROLLBACK PREPARED '{quoted}', as its coordinator \
                 has decided, in that database"
            );
            found.push(danger(&format!("prepared:{}", one.gid), what, command));
        }
        for slot in stale::idle_slots(&session, name).await? {
            let held =
                slot.held.map_or_else(|| "WAL".to_owned(), |b| format!("{} of WAL", text::size(b)));
            let what = format!(
                "nobody reads the replication slot {} now: the server keeps {held} for it, and \
                 more with each write",
                slot.name
            );
            let command = format!(
                "if its reader never comes back: SELECT pg_drop_replication_slot('{}')",
                slot.name
            );
            found.push(danger(&format!("slot:{}", slot.name), what, command));
        }
        Ok(found)
    }

    /// Allows connections to the live database again, whichever operation of ours closed it; only
    /// while none runs.
    ///
    /// # Errors
    /// [`Trouble`]; also when it still takes none.
    pub async fn reopen_live(&self) -> Result<(), Trouble> {
        self.recover().await?;
        let session = self.session().await?;
        let (who, name) = (&self.server.installation, &self.settings.name);
        // An older state folder does not know the operation that closed it.
        gate::reopen(&session, who).await?;
        match facts::database(&session, name).await? {
            Some(live) if live.allows => Ok(()),
            _ => Err(Trouble::Refused(format!("\"{name}\" still takes no connections"))),
        }
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
