//! What stays on a server until somebody ends it, and holds something meanwhile: transactions that
//! were prepared, replication slots that nobody reads. Looks only.

use std::time::Duration;

use super::super::connect::{ASK, Session};
use super::super::error::DbError;
use super::super::facts::get;

/// A transaction between its two phases for longer than that was forgotten, seconds.
const PREPARED: i64 = 10;

/// A prepared transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its name.
    pub gid: String,
    /// The database that it changes.
    pub database: String,
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

/// The transactions that were prepared a while ago, of every database.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn prepared(session: &Session) -> Result<Vec<Prepared>, DbError> {
    let sql = format!(
        "SELECT gid, database::text, extract(epoch FROM now() - prepared)::bigint
           FROM pg_prepared_xacts WHERE now() - prepared > interval '{PREPARED} s' ORDER BY 1"
    );
    let rows = session.rows("looking for prepared transactions", ASK, &sql, &[]).await?;
    let one = |row| {
        let age = u64::try_from(get::<i64>(row, 2)?).unwrap_or(0);
        Ok(Prepared { gid: get(row, 0)?, database: get(row, 1)?, age: Duration::from_secs(age) })
    };
    rows.iter().map(one).collect()
}

/// The replication slots that nobody reads now.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn idle_slots(session: &Session) -> Result<Vec<Idle>, DbError> {
    let sql = "SELECT slot_name::text,
                      CASE WHEN pg_is_in_recovery() THEN NULL
                           ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint END
                 FROM pg_replication_slots WHERE NOT active ORDER BY 1";
    let rows = session.rows("looking for replication slots", ASK, sql, &[]).await?;
    let one = |row| {
        let held: Option<i64> = get(row, 1)?;
        Ok(Idle { name: get(row, 0)?, held: held.and_then(|held| u64::try_from(held).ok()) })
    };
    rows.iter().map(one).collect()
}
