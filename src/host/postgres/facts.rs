//! What is so on a database server now: the server, one database, who is connected. Read-only.
//!
//! Nothing is decided here; [`super::preflight`] makes refusals of these facts. OIDs and the
//! system's identifier are what tells databases apart: names move.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use super::connect::{ASK, Session};
use super::error::DbError;
use super::names::{DbName, Marker};

/// The server, and what our role may do on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// As `150018`.
    pub version: i32,
    /// Which data directory this is; the same for its standbys and physical copies.
    pub system_identifier: String,
    /// Whether it is a standby or being recovered.
    pub in_recovery: bool,
    /// Whether new transactions can only read.
    pub read_only: bool,
    /// The role we are.
    pub role: RoleFacts,
    /// The most WAL between two checkpoints, bytes.
    pub max_wal: u64,
    /// Where the data is, on the server's file system; `None`: the role may not know.
    pub data_directory: Option<String>,
    /// `minimal`, `replica` or `logical`.
    pub wal_level: String,
    /// The most sessions, and how many of them there are now.
    pub sessions: (u32, u32),
}

impl ServerFacts {
    /// The major version, such as 15.
    #[must_use]
    pub fn major(&self) -> i32 {
        self.version / 10_000
    }
}

/// What our role may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleFacts {
    /// Its name.
    pub name: String,
    /// It may do everything.
    pub superuser: bool,
    /// It may create databases, and rename its own.
    pub createdb: bool,
    /// It may end sessions of roles that are not its own.
    pub signals: bool,
    /// It may create a schema in the database that it is connected to.
    pub creates_here: bool,
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// Which one it is, whatever its name.
    pub oid: u32,
    /// Its name now.
    pub name: DbName,
    /// The role that owns it.
    pub owner: String,
    /// Whether our role is its owner, a member of it, or a superuser.
    pub ours_to_alter: bool,
    /// Whether it takes connections.
    pub allows: bool,
    /// The most connections of ordinary roles; -1: any.
    pub connection_limit: i32,
    /// Its comment.
    pub comment: Option<String>,
    /// Its size in bytes; `None`: the role may not know.
    pub size: Option<u64>,
    /// Who is connected, ourselves left out.
    pub sessions: Vec<SessionSeen>,
    /// Transactions that were prepared and wait for their second phase: gid and owner.
    pub prepared: Vec<(String, String)>,
    /// Logical replication slots: name, and whether somebody reads it now.
    pub slots: Vec<(String, Active)>,
    /// How many subscriptions feed it.
    pub subscriptions: i64,
}

/// What PostgreSQL from 15.4 on notes as the limit of a database whose drop was cut off.
const HALF_DROPPED: i32 = -2;

impl DatabaseFacts {
    /// Whether a drop of it was cut off: then it can only be dropped.
    #[must_use]
    pub fn is_half_dropped(&self) -> bool {
        self.connection_limit == HALF_DROPPED
    }

    /// What its comment says, if that is a mark of Cutover's.
    #[must_use]
    pub fn marker(&self) -> Option<Marker> {
        self.comment.as_deref().and_then(Marker::read)
    }
}

/// Whether a slot is read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Active {
    /// Somebody reads it.
    Active,
    /// Nobody does; it is dropped silently with its database.
    Idle,
}

/// One session of somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSeen {
    /// Its process on the server.
    pub pid: i32,
    /// Its role; empty for workers of extensions.
    pub role: String,
    /// What it calls itself.
    pub application: String,
    /// `client backend`, `autovacuum worker`, or that of an extension.
    pub kind: String,
    /// What it does, as `active` or `idle in transaction`.
    pub state: String,
}

/// Asks for the server.
///
/// # Errors
/// [`DbError`] when it does not answer.
pub async fn server(session: &Session) -> Result<ServerFacts, DbError> {
    let what = "asking the server about itself";
    let row = session.row(what, ASK, SERVER, &[]).await?;
    Ok(ServerFacts {
        version: get(&row, 0)?,
        system_identifier: get(&row, 1)?,
        in_recovery: get(&row, 2)?,
        read_only: get(&row, 3)?,
        role: RoleFacts {
            name: get(&row, 4)?,
            superuser: get(&row, 5)?,
            createdb: get(&row, 6)?,
            signals: get(&row, 7)?,
            creates_here: get(&row, 8)?,
        },
        max_wal: unsigned(get(&row, 9)?),
        data_directory: get(&row, 10)?,
        wal_level: get(&row, 11)?,
        sessions: (count(get(&row, 12)?), count(get(&row, 13)?)),
    })
}

const SERVER: &str = "
SELECT current_setting('server_version_num')::int,
       (SELECT system_identifier::text FROM pg_control_system()),
       pg_is_in_recovery(),
       current_setting('default_transaction_read_only')::bool,
       r.rolname::text, r.rolsuper, r.rolcreatedb OR r.rolsuper,
       r.rolsuper OR pg_has_role(r.oid, 'pg_signal_backend', 'USAGE'),
       has_database_privilege(current_database(), 'CREATE'),
       pg_size_bytes(current_setting('max_wal_size')),
       (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
       current_setting('wal_level'),
       current_setting('max_connections')::bigint,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
  FROM pg_roles r WHERE r.rolname = current_user";

/// Asks for one database by name; `None`: there is none. Any session of the server will do.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn database(session: &Session, name: &DbName) -> Result<Option<DatabaseFacts>, DbError> {
    let which = format!("d.datname = {}", super::names::literal(name.as_str()));
    Ok(databases(session, &which).await?.pop())
}

/// Asks for one database by its OID.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn database_of(session: &Session, oid: u32) -> Result<Option<DatabaseFacts>, DbError> {
    Ok(databases(session, &format!("d.oid = {oid}")).await?.pop())
}

/// Every database that carries a mark of Cutover's, of this installation or another.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn marked(session: &Session) -> Result<Vec<DatabaseFacts>, DbError> {
    let mark = "shobj_description(d.oid, 'pg_database') LIKE 'cutover/%'";
    let mut found = databases(session, mark).await?;
    found.retain(|database| database.marker().is_some());
    Ok(found)
}

async fn databases(session: &Session, which: &str) -> Result<Vec<DatabaseFacts>, DbError> {
    let what = "asking for a database";
    let sql = format!(
        "SELECT d.oid, d.datname::text, r.rolname::text, pg_has_role(d.datdba, 'USAGE'),
                d.datallowconn, d.datconnlimit, shobj_description(d.oid, 'pg_database'),
                CASE WHEN has_database_privilege(d.oid, 'CONNECT')
                       OR pg_has_role('pg_read_all_stats', 'USAGE')
                     THEN pg_database_size(d.oid) END,
                (SELECT count(*) FROM pg_subscription s WHERE s.subdbid = d.oid)
           FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
          WHERE {which} ORDER BY d.datname"
    );
    let mut found = Vec::new();
    for row in session.rows(what, Duration::from_secs(30), &sql, &[]).await? {
        let oid: u32 = get(&row, 0)?;
        let name: String = get(&row, 1)?;
        let name = DbName::new(name).map_err(|e| answer(what, &e.to_string()))?;
        let size: Option<i64> = get(&row, 7)?;
        found.push(DatabaseFacts {
            oid,
            prepared: prepared(session, &name).await?,
            slots: slots(session, &name).await?,
            sessions: sessions(session, oid).await?,
            name,
            owner: get(&row, 2)?,
            ours_to_alter: get(&row, 3)?,
            allows: get(&row, 4)?,
            connection_limit: get(&row, 5)?,
            comment: get(&row, 6)?,
            size: size.map(unsigned),
            subscriptions: get(&row, 8)?,
        });
    }
    Ok(found)
}

/// Who is connected to a database, ourselves left out.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn sessions(session: &Session, oid: u32) -> Result<Vec<SessionSeen>, DbError> {
    let sql = "SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''),
                      coalesce(backend_type, ''), coalesce(state, '')
                 FROM pg_stat_activity WHERE datid = $1 AND pid <> pg_backend_pid() ORDER BY pid";
    let rows = session.rows("asking who is connected", ASK, sql, &[&oid]).await?;
    let seen = |row: &Row| {
        Ok(SessionSeen {
            pid: get(row, 0)?,
            role: get(row, 1)?,
            application: crate::host::process::escape(&get::<String>(row, 2)?),
            kind: get(row, 3)?,
            state: get(row, 4)?,
        })
    };
    rows.iter().map(seen).collect()
}

async fn prepared(session: &Session, name: &DbName) -> Result<Vec<(String, String)>, DbError> {
    let sql = "SELECT gid, owner::text FROM pg_prepared_xacts WHERE database = $1 ORDER BY gid";
    let rows =
        session.rows("asking for prepared transactions", ASK, sql, &[&name.as_str()]).await?;
    rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

async fn slots(session: &Session, name: &DbName) -> Result<Vec<(String, Active)>, DbError> {
    let sql = "SELECT slot_name::text, active FROM pg_replication_slots
                WHERE database = $1 AND slot_type = 'logical' ORDER BY slot_name";
    let rows = session.rows("asking for replication slots", ASK, sql, &[&name.as_str()]).await?;
    let slot = |row: &Row| {
        let active = if get(row, 1)? { Active::Active } else { Active::Idle };
        Ok((get(row, 0)?, active))
    };
    rows.iter().map(slot).collect()
}

/// One column of a row.
pub(super) fn get<'r, T>(row: &'r Row, column: usize) -> Result<T, DbError>
where
    T: tokio_postgres::types::FromSql<'r>,
{
    row.try_get(column).map_err(|error| answer("reading an answer", &error.to_string()))
}

pub(super) fn answer(what: &str, text: &str) -> DbError {
    DbError::Answer { what: what.to_owned(), text: text.to_owned() }
}

/// A number that cannot be negative.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn count(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Whether the server counts what is written. Without it a second count sees nothing.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn counts_writes(session: &Session, oid: u32) -> Result<bool, DbError> {
    // The file's value, and no database or role that says otherwise.
    let sql = "SELECT (SELECT reset_val = 'on' FROM pg_settings WHERE name = 'track_counts')
                  AND NOT EXISTS (SELECT FROM pg_db_role_setting s, unnest(s.setconfig) c
                                   WHERE s.setdatabase IN (0, $1)
                                     AND c IN ('track_counts=off', 'track_counts=false',
                                               'track_counts=0', 'track_counts=no'))";
    get(&session.row("asking whether writes are counted", ASK, sql, &[&oid]).await?, 0)
}

/// Rows written to a database since its statistics began: an upper bound, since those of
/// transactions that were rolled back, and of the catalog, count as well.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn writes(session: &Session, oid: u32) -> Result<u64, DbError> {
    written(session, oid).await.map(|written| written.rows)
}

/// What a server has counted of the writes to a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Rows since the counters began.
    pub rows: u64,
    /// When they were set back last, as text; empty: never.
    pub reset: String,
}

/// The same, and since when.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn written(session: &Session, oid: u32) -> Result<Written, DbError> {
    let sql = "SELECT coalesce(sum(tup_inserted + tup_updated + tup_deleted), 0)::bigint,
                      coalesce(max(stats_reset)::text, '')
                 FROM pg_stat_database WHERE datid = $1";
    let row = session.row("asking how much was written", ASK, sql, &[&oid]).await?;
    Ok(Written { rows: get(&row, 0).map(unsigned)?, reset: get(&row, 1)? })
}
