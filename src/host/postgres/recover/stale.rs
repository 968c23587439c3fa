//! What stays on a server until somebody ends it, and holds something meanwhile: transactions that
//! were prepared, replication slots that nobody reads. Looks only.

use std::time::Duration;

use super::super::connect::{ASK, Session};
use super::super::error::DbError;
use super::super::facts::get;
use super::super::names::DbName;

/// A transaction between its two phases for longer than that was forgotten, seconds.
const PREPARED: i64 = 10;

/// A prepared transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its name, as a client chose it.
    pub gid: String,
    /// For how long it has waited.
    pub age: Duration,
}

/// A replication slot that nobody reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idle {
    /// Its name.
    pub name: String,
    /// The WAL that is kept for it, bytes; `None`: it is not known.
    pub held: Option<u64>,
}

/// The transactions that were prepared a while ago in a database.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn prepared(session: &Session, of: &DbName) -> Result<Vec<Prepared>, DbError> {
    let sql = format!(
        "SELECT gid, extract(epoch FROM now() - prepared)::bigint
           FROM pg_prepared_xacts
          WHERE database::text = $1 AND now() - prepared > interval '{PREPARED} s' ORDER BY 1"
    );
    let asked = "looking for prepared transactions";
    let rows = session.rows(asked, ASK, &sql, &[&of.as_str()]).await?;
    let one = |row| {
        let age = u64::try_from(get::<i64>(row, 1)?).unwrap_or(0);
        Ok(Prepared { gid: get(row, 0)?, age: Duration::from_secs(age) })
    };
    rows.iter().map(one).collect()
}

/// The replication slots of a database, and of the server as a whole, that nobody reads now and
/// that hold WAL.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn idle_slots(session: &Session, of: &DbName) -> Result<Vec<Idle>, DbError> {
    let sql = "SELECT slot_name::text,
                      CASE WHEN pg_is_in_recovery() THEN NULL
                           ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint END
                 FROM pg_replication_slots
                WHERE NOT active AND NOT temporary AND restart_lsn IS NOT NULL
                  AND (database IS NULL OR database::text = $1) ORDER BY 1";
    let asked = "looking for replication slots";
    let rows = session.rows(asked, ASK, sql, &[&of.as_str()]).await?;
    let one = |row| {
        let held: Option<i64> = get(row, 1)?;
        Ok(Idle { name: get(row, 0)?, held: held.and_then(|held| u64::try_from(held).ok()) })
    };
    rows.iter().map(one).collect()
}
