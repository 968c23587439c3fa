//! Closing databases for connections, emptying them, and opening them again.
//!
//! Each closing is noted in the same transaction, by OID, so that after any crash [`reopen`] opens
//! exactly what this installation closed and nothing that an operator closed on purpose. Sessions
//! are ended without waiting for each one, and again in each round, since pools come back until the
//! gate holds.

use std::time::Duration;

use cutover_model::OperationId;
use tokio::time::Instant;

use super::connect::{ASK, Session};
use super::error::DbError;
use super::facts::{self, DatabaseFacts, get};
use super::names::{DbName, Installation, literal};

/// How often it is looked whether sessions are gone.
const LOOK: Duration = Duration::from_millis(2);

/// Closes databases for connections; closed by us already is success.
///
/// # Errors
/// [`DbError::Preflight`] when somebody else closed one.
pub async fn close(
    session: &Session,
    installation: &Installation,
    operation: OperationId,
    databases: &[&DatabaseFacts],
) -> Result<(), DbError> {
    let mut sql = String::new();
    for database in databases {
        let now = facts::database_of(session, database.oid).await?;
        let Some(now) = now.filter(|now| now.name == database.name) else {
            let what = format!("\"{}\" is not what it was", database.name);
            return Err(DbError::Moved { what });
        };
        if !now.allows && !closed_by(session, installation, now.oid).await? {
            let what = format!(
                "\"{}\" is closed for connections, and not by Cutover; open it with: ALTER \
                 DATABASE {} ALLOW_CONNECTIONS true",
                now.name,
                now.name.quoted()
            );
            return Err(DbError::Preflight { what });
        }
        sql.push_str(&format!(
            "INSERT INTO cutover.gates (oid, installation, operation) VALUES ({}, {}, '{operation}')
                 ON CONFLICT (oid) DO UPDATE SET operation = excluded.operation;
             ALTER DATABASE {} ALLOW_CONNECTIONS false;\n",
            now.oid,
            literal(installation.as_str()),
            now.name.quoted(),
        ));
    }
    session.run("closing databases for connections", ASK, &sql).await
}

/// Whether this installation has noted that it closes a database.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn is_noted(
    session: &Session,
    installation: &Installation,
    oid: u32,
) -> Result<bool, DbError> {
    Ok(super::claims::has_ledger(session).await? && closed_by(session, installation, oid).await?)
}

async fn closed_by(
    session: &Session,
    installation: &Installation,
    oid: u32,
) -> Result<bool, DbError> {
    let sql = "SELECT EXISTS (SELECT FROM cutover.gates WHERE oid = $1 AND installation = $2)";
    let what = "asking who closed a database";
    get(&session.row(what, ASK, sql, &[&oid, &installation.as_str()]).await?, 0)
}

/// Opens every database that this installation closed, and gives their names: the first thing
/// after any crash, and what abandons a swap.
///
/// # Errors
/// [`DbError`] when the server does not answer: then they may still be closed.
pub async fn reopen(
    session: &Session,
    installation: &Installation,
) -> Result<Vec<DbName>, DbError> {
    reopen_up_to(session, installation, None).await
}

/// The same, but what a later operation than this one closed stays closed: for a look that is
/// repeated while others may work.
///
/// # Errors
/// As [`reopen`].
pub async fn reopen_up_to(
    session: &Session,
    installation: &Installation,
    newest: Option<OperationId>,
) -> Result<Vec<DbName>, DbError> {
    let what = "opening databases for connections";
    let sql = "SELECT to_regclass('cutover.gates') IS NOT NULL";
    if !get::<bool>(&session.row(what, ASK, sql, &[]).await?, 0)? {
        return Ok(Vec::new());
    }
    let sql = "SELECT g.oid, d.datname::text, g.operation FROM cutover.gates g
                 LEFT JOIN pg_database d USING (oid) WHERE g.installation = $1";
    let mut opened = Vec::new();
    let mut sql_all = String::new();
    for row in &session.rows(what, ASK, sql, &[&installation.as_str()]).await? {
        let (oid, name): (u32, Option<String>) = (get(row, 0)?, get(row, 1)?);
        let by = get::<&str>(row, 2)?.parse::<OperationId>();
        if let (Ok(by), Some(newest)) = (by, newest)
            && by > newest
        {
            continue;
        }
        if let Some(name) = name {
            let name = DbName::new(name).map_err(|e| facts::answer(what, &e.to_string()))?;
            let quoted = name.quoted();
            sql_all.push_str(&format!("ALTER DATABASE {quoted} ALLOW_CONNECTIONS true;\n"));
            opened.push(name);
        }
        sql_all.push_str(&format!("DELETE FROM cutover.gates WHERE oid = {oid};\n"));
    }
    if !sql_all.is_empty() {
        session.run(what, ASK, &sql_all).await?;
    }
    Ok(opened)
}

/// Ends every session of the databases until none is left; to be called once they are closed.
/// Gives how many there were at first.
///
/// # Errors
/// [`DbError::NotEmptied`] at the limit; the databases are still closed then.
pub async fn empty(
    session: &Session,
    databases: &[&DatabaseFacts],
    limit: Duration,
) -> Result<usize, DbError> {
    let oids: Vec<u32> = databases.iter().map(|database| database.oid).collect();
    // Who is no superuser may end clients only, and one refusal would end the whole question. The
    // server itself ends its vacuum workers for a rename.
    let sql = "SELECT count(*), count(*) FILTER (WHERE CASE
                        WHEN a.backend_type = 'client backend' OR r.rolsuper
                        THEN pg_terminate_backend(a.pid) END)
                 FROM pg_stat_activity a, pg_roles r
                WHERE r.rolname = current_user AND a.datid = ANY ($1)
                  AND a.pid <> pg_backend_pid()
                  AND (r.rolsuper OR a.backend_type <> 'autovacuum worker')";
    let deadline = Instant::now() + limit;
    let mut first = None;
    loop {
        let row = session.row("ending the sessions of a database", ASK, sql, &[&oids]).await?;
        let left = usize::try_from(get::<i64>(&row, 0)?).unwrap_or(0);
        let found = *first.get_or_insert(left);
        if left == 0 {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            let name = databases.first().map(|database| database.name.clone());
            let name = name.ok_or_else(|| facts::answer("ending sessions", "of no database"))?;
            return Err(DbError::NotEmptied { name, left, limit });
        }
        tokio::time::sleep(LOOK).await;
    }
}
