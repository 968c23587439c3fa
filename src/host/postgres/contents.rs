//! What is in a database: counted, so that a copy can be held against it.
//!
//! Everything is read in one snapshot that other sessions and `pg_dump` can share, so the numbers
//! are exactly those of the dump made with it. Sequences are outside of every snapshot: they are
//! read before, so that a copy's may be ahead and never behind.

mod ddl;
pub mod down;
mod objects;
pub mod schema;
pub mod watch;
mod width;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::connect::{ASK, Session};
use super::error::DbError;
use super::facts::{get, unsigned};

/// What a database holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The rows of each table, by its quoted name with its schema.
    pub rows: BTreeMap<String, u64>,
    /// How many large objects there are.
    pub large_objects: u64,
    /// Where each sequence stands, by its quoted name; unused ones are left out.
    pub sequences: BTreeMap<String, i64>,
    /// The extensions and their versions.
    pub extensions: BTreeMap<String, String>,
    /// The roles that own something here or have a right to it.
    pub roles: BTreeSet<String>,
    /// The server's version, as `150018`.
    pub server_version: i32,
    /// How large the database was, bytes.
    pub size: u64,
}

/// A snapshot that is held open for others to share; it ends with its session.
#[derive(Debug)]
pub struct Snapshot {
    session: Session,
    id: String,
}

impl Snapshot {
    /// Opens one on a session of the database.
    ///
    /// # Errors
    /// [`DbError`] when the server does not answer.
    pub async fn open(session: Session) -> Result<Self, DbError> {
        let what = "opening a snapshot";
        let sql = "SET idle_in_transaction_session_timeout = 0";
        session.run(what, ASK, sql).await?;
        session.run(what, ASK, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        let row = session.row(what, ASK, "SELECT pg_export_snapshot()", &[]).await?;
        let id = get(&row, 0)?;
        Ok(Self { session, id })
    }

    /// Its name, for `pg_dump --snapshot`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Counts what it shows.
    ///
    /// # Errors
    /// [`DbError::TooSlow`] at the limit.
    pub async fn contents(&self, limit: Duration) -> Result<Contents, DbError> {
        contents(&self.session, limit).await
    }

    /// Lets it go.
    pub async fn close(self) {
        self.session.close().await;
    }
}

/// Tables with rows of their own, those of extensions left out (`pg_dump` leaves them out, too).
pub(super) const TABLES: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), c.oid
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                          AND d.objid = c.oid AND d.deptype = 'e')
     ORDER BY 1";

/// Counts what is in the database of a session.
///
/// # Errors
/// [`DbError::TooSlow`] at the limit.
pub async fn contents(session: &Session, limit: Duration) -> Result<Contents, DbError> {
    let what = "counting what is in a database";
    let deadline = Instant::now() + limit;
    let mut found = Contents::default();
    let sql = "SELECT format('%I.%I', schemaname, sequencename), last_value FROM pg_sequences
                WHERE last_value IS NOT NULL";
    for row in &session.rows(what, ASK, sql, &[]).await? {
        found.sequences.insert(get(row, 0)?, get(row, 1)?);
    }
    let sql = "SELECT extname::text, extversion FROM pg_extension";
    for row in &session.rows(what, ASK, sql, &[]).await? {
        found.extensions.insert(get(row, 0)?, get(row, 1)?);
    }
    let sql = "SELECT DISTINCT r.rolname::text FROM pg_shdepend s
                 JOIN pg_roles r ON r.oid = s.refobjid
                WHERE s.refclassid = 'pg_authid'::regclass
                  AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    for row in &session.rows(what, ASK, sql, &[]).await? {
        found.roles.insert(get(row, 0)?);
    }
    let sql = "SELECT (SELECT count(*) FROM pg_largeobject_metadata),
                      current_setting('server_version_num')::int,
                      pg_database_size(current_database())";
    let row = session.row(what, ASK, sql, &[]).await?;
    found.large_objects = unsigned(get(&row, 0)?);
    found.server_version = get(&row, 1)?;
    found.size = unsigned(get(&row, 2)?);
    for row in &session.rows(what, ASK, TABLES, &[]).await? {
        let table: String = get(row, 0)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let sql = format!("SELECT count(*) FROM ONLY {table}");
        let counted = session.row(what, left, &sql, &[]).await?;
        found.rows.insert(table, unsigned(get(&counted, 0)?));
    }
    Ok(found)
}
