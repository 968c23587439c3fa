//! What on a server is ours: claims in the maintenance database, marks on databases, and the lock.
//!
//! `CREATE DATABASE` cannot be part of a transaction, so a database is claimed by name before it is
//! made, in a transaction that has seen that the name is free; the claim gets the OID afterwards,
//! and the database a comment. What has neither a mark nor a claim of this installation is foreign.
//! All of it lives in the schema `cutover` of the maintenance database.
//!
//! INVARIANT: [`drop_ours`] is the only place that drops a database.

use std::time::Duration;

use cutover_model::OperationId;

use super::connect::{ASK, Session};
use super::error::DbError;
use super::facts::{self, DatabaseFacts, get};
use super::names::{DbName, Installation, Kind, Made, Marker, literal};

/// Dropping removes files: large databases take a while on a slow disk.
const DROP: Duration = Duration::from_secs(120);
/// The first half of our advisory locks; the second is the OID of the live database.
const LOCK: i32 = 0x6375_746f;

/// Whose a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// There is none of this name.
    Nobody,
    /// It carries our mark, or our claim and nothing else.
    Ours {
        /// The database.
        database: Box<DatabaseFacts>,
        /// What it is, and which operation made it.
        marker: Marker,
    },
    /// It is not ours, for this reason.
    Foreign(String),
}

/// Makes the schema `cutover` in the maintenance database, unless it is there.
///
/// # Errors
/// [`DbError::NotPermitted`] when the role may not create a schema there.
pub async fn ensure_ledger(session: &Session) -> Result<(), DbError> {
    if has_ledger(session).await? {
        return Ok(());
    }
    // Two at once: the lock makes one wait for the other.
    let sql = format!("SELECT pg_advisory_xact_lock({LOCK}, 0); {LEDGER}");
    session.run("making the schema cutover in the maintenance database", ASK, &sql).await
}

/// Whether the schema `cutover` is there, with all that belongs into it.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn has_ledger(session: &Session) -> Result<bool, DbError> {
    let what = "looking for the schema cutover";
    let sql = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = 'cutover'
                  AND c.relname IN ('claims', 'gates', 'fences', 'epochs', 'swaps')";
    let there: i64 = get(&session.row(what, ASK, sql, &[]).await?, 0)?;
    Ok(there == 5)
}

const LEDGER: &str = "
CREATE SCHEMA IF NOT EXISTS cutover;
COMMENT ON SCHEMA cutover IS 'What on this server belongs to Cutover.';
CREATE TABLE IF NOT EXISTS cutover.claims (
    name text PRIMARY KEY, installation text NOT NULL, operation text NOT NULL,
    kind text NOT NULL, oid oid, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS cutover.gates (
    oid oid PRIMARY KEY, installation text NOT NULL, operation text NOT NULL,
    at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS cutover.fences (
    role text PRIMARY KEY, installation text NOT NULL, operation text NOT NULL,
    at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS cutover.epochs (
    installation text PRIMARY KEY, epoch bigint NOT NULL);
CREATE TABLE IF NOT EXISTS cutover.swaps (
    installation text NOT NULL, operation text NOT NULL, live oid NOT NULL, aside oid NOT NULL,
    at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (installation, operation, live));
";

/// Takes the lock of one live database for as long as the session lives. Taken already by this
/// session is success.
///
/// # Errors
/// [`DbError::Busy`] naming the session that has it.
pub async fn lock(session: &Session, live: &DatabaseFacts) -> Result<(), DbError> {
    let key = i32::from_ne_bytes(live.oid.to_ne_bytes());
    let held = format!(
        "l.locktype = 'advisory' AND l.granted AND l.classid = {LOCK} AND l.objid = {}",
        live.oid
    );
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pg_locks l WHERE {held} AND l.pid = pg_backend_pid())
                OR pg_try_advisory_lock({LOCK}, {key})"
    );
    if get(&session.row("taking the lock", ASK, &sql, &[]).await?, 0)? {
        return Ok(());
    }
    let sql = format!(
        "SELECT coalesce(string_agg(format('session %s, %s', a.pid, a.application_name), '; '),
                         'it has just ended')
           FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE {held}"
    );
    let row = session.row("asking who has the lock", ASK, &sql, &[]).await?;
    Err(DbError::Busy { name: live.name.clone(), who: get(&row, 0)? })
}

/// Finds out whose a database is.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn whose(
    session: &Session,
    installation: &Installation,
    name: &DbName,
) -> Result<Whose, DbError> {
    let Some(database) = facts::database(session, name).await? else { return Ok(Whose::Nobody) };
    if let Some(marker) = database.marker() {
        if marker.installation == *installation {
            return Ok(Whose::Ours { database: Box::new(database), marker });
        }
        let why = format!("it carries the mark of installation {}", marker.installation.as_str());
        return Ok(Whose::Foreign(why));
    }
    let sql = "SELECT installation, operation, kind, oid FROM cutover.claims WHERE name = $1";
    let rows = session.rows("asking for a claim", ASK, sql, &[&name.as_str()]).await?;
    let Some(row) = rows.first() else {
        return Ok(Whose::Foreign("it carries no mark of Cutover's".to_owned()));
    };
    let oid: Option<u32> = get(row, 3)?;
    if get::<&str>(row, 0)? != installation.as_str() {
        return Ok(Whose::Foreign("another installation has claimed its name".to_owned()));
    }
    if oid.is_some_and(|oid| oid != database.oid) {
        return Ok(Whose::Foreign("it was made after ours of this name was gone".to_owned()));
    }
    let operation = get::<&str>(row, 1)?.parse::<OperationId>();
    let (Ok(operation), Some(kind)) = (operation, Kind::from_word(get(row, 2)?)) else {
        return Err(facts::answer("asking for a claim", "no operation or kind in it"));
    };
    let (installation, made) = (installation.clone(), Made::Building);
    let marker = Marker { installation, operation, kind, made };
    Ok(Whose::Ours { database: Box::new(database), marker })
}

/// Claims a name that is free, or that is ours already; to be called before the database is made.
///
/// # Errors
/// [`DbError::NotOurs`] when a foreign database or claim has the name.
pub async fn claim(session: &Session, name: &DbName, marker: &Marker) -> Result<(), DbError> {
    if let Whose::Foreign(why) = whose(session, &marker.installation, name).await? {
        return Err(DbError::NotOurs { name: name.clone(), why });
    }
    // A claim of ours whose database is gone says nothing any more, so its OID goes with it.
    let sql = "INSERT INTO cutover.claims AS c (name, installation, operation, kind)
               VALUES ($1, $2, $3, $4)
               ON CONFLICT (name) DO UPDATE
                  SET operation = excluded.operation, kind = excluded.kind, at = now(),
                      oid = (SELECT oid FROM pg_database WHERE datname = $1)
                WHERE c.installation = excluded.installation
               RETURNING 1";
    let (operation, id) = (marker.operation.to_string(), marker.installation.as_str());
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
        [&name.as_str(), &id, &operation, &marker.kind.word()];
    let rows = session.rows("claiming a name", ASK, sql, &params).await?;
    match rows.is_empty() {
        false => Ok(()),
        true => {
            let why = "another installation has claimed its name".to_owned();
            Err(DbError::NotOurs { name: name.clone(), why })
        }
    }
}

/// Puts a mark on a database of ours and notes its OID with the claim.
///
/// # Errors
/// [`DbError::NotOurs`] when it is not ours, [`DbError::NoDatabase`] when there is none.
pub async fn mark(session: &Session, name: &DbName, marker: &Marker) -> Result<u32, DbError> {
    let what = format!("marking \"{name}\"");
    let database = match whose(session, &marker.installation, name).await? {
        Whose::Ours { database, .. } => database,
        Whose::Foreign(why) => return Err(DbError::NotOurs { name: name.clone(), why }),
        Whose::Nobody => {
            return Err(DbError::NoDatabase { what, text: "it is gone".to_owned() });
        }
    };
    let sql = format!(
        "COMMENT ON DATABASE {} IS {}; UPDATE cutover.claims SET oid = {} WHERE name = {}",
        name.quoted(),
        literal(&marker.to_string()),
        database.oid,
        literal(name.as_str()),
    );
    session.run(&what, ASK, &sql).await?;
    Ok(database.oid)
}

/// Drops a database of ours with its sessions; gone already is success. `live` is never dropped.
///
/// # Errors
/// [`DbError::NotOurs`] when it does not carry our mark or claim.
pub async fn drop_ours(
    session: &Session,
    installation: &Installation,
    name: &DbName,
    live: &DbName,
) -> Result<(), DbError> {
    if name == live {
        let why = "it is the live one".to_owned();
        return Err(DbError::NotOurs { name: name.clone(), why });
    }
    match whose(session, installation, name).await? {
        Whose::Foreign(why) => return Err(DbError::NotOurs { name: name.clone(), why }),
        Whose::Nobody => {}
        Whose::Ours { .. } => {
            let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", name.quoted());
            session.run(&format!("dropping \"{name}\""), DROP, &sql).await?;
        }
    }
    let sql = "DELETE FROM cutover.claims WHERE name = $1 AND installation = $2
                  AND NOT EXISTS (SELECT FROM pg_database WHERE datname = $1)";
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
        [&name.as_str(), &installation.as_str()];
    session.rows("taking back a claim", ASK, sql, &params).await.map(drop)
}

/// The names that this installation has claimed on the server, with what they are for.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn claimed(
    session: &Session,
    installation: &Installation,
) -> Result<Vec<(DbName, OperationId, Kind)>, DbError> {
    let sql = "SELECT name, operation, kind FROM cutover.claims WHERE installation = $1 ORDER BY 1";
    let rows = session.rows("asking for claims", ASK, sql, &[&installation.as_str()]).await?;
    let mut found = Vec::new();
    for row in &rows {
        let name = DbName::new(get::<String>(row, 0)?);
        let operation = get::<&str>(row, 1)?.parse::<OperationId>();
        match (name, operation, Kind::from_word(get(row, 2)?)) {
            (Ok(name), Ok(operation), Some(kind)) => found.push((name, operation, kind)),
            _ => return Err(facts::answer("asking for claims", "a claim is malformed")),
        }
    }
    Ok(found)
}
