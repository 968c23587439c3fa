//! Down scripts: one transaction with the removal of their rows from the tool's table.
//!
//! A script that ends the transaction by itself is found out on a copy, where it is tried first,
//! and is refused there; it never meets the live database.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::host::postgres::connect::{ASK, Session};
use crate::host::postgres::error::DbError;
use crate::host::postgres::facts::get;
use crate::host::postgres::names::literal;

/// A migration that is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// Its name, as the tool's table has it.
    pub name: String,
    /// The script.
    pub sql: String,
}

/// How many rows of the known tables name one of these migrations; which table, and its column.
const TABLES: [(&str, &str); 4] = [
    ("_prisma_migrations", "migration_name"),
    ("_sqlx_migrations", "version::text"),
    ("schema_migrations", "version::text"),
    ("knex_migrations", "name"),
];

/// Runs the scripts in their order and removes the rows, all or nothing.
///
/// # Errors
/// [`DbError`] with what the server said; nothing was changed then, unless a script ended the
/// transaction by itself.
pub async fn run(session: &Session, downs: &[Down], limit: Duration) -> Result<(), DbError> {
    let what = "running down scripts";
    let wrong = |text: String| DbError::Answer { what: what.to_owned(), text };
    session.run(what, ASK, "BEGIN").await?;
    let ran = async {
        let number = "SELECT pg_current_xact_id()::text";
        let begun: String = get(&session.row(what, ASK, number, &[]).await?, 0)?;
        for down in downs {
            let name = &down.name;
            session.run(&format!("running the down script of {name}"), limit, &down.sql).await?;
            let now: String = get(&session.row(what, ASK, number, &[]).await?, 0)?;
            if now != begun {
                return Err(wrong(format!(
                    "the down script of {name} ends its transaction (COMMIT or ROLLBACK): take \
                     that out of it"
                )));
            }
            if remove(session, name).await? == 0 {
                return Err(wrong(format!("no known migrations table has a row for {name}")));
            }
        }
        session.run(what, limit, "COMMIT").await
    };
    let ran = ran.await;
    if ran.is_err() {
        session.rollback().await?;
    }
    ran
}

/// How many of these migrations have a row in a known table; `None`: there is no such table.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn left(session: &Session, names: &[String]) -> Result<Option<usize>, DbError> {
    let what = "asking which migrations are there";
    let (mut is_known, mut found) = (false, BTreeSet::new());
    let list: Vec<String> = names.iter().map(|name| literal(name)).collect();
    for (table, column) in TABLES {
        if list.is_empty() || !is_there(session, what, table).await? {
            continue;
        }
        is_known = true;
        let list = list.join(", ");
        let sql = format!("SELECT ({column})::text FROM {table} WHERE {column} IN ({list})");
        for row in session.rows(what, ASK, &sql, &[]).await? {
            found.insert(get::<String>(&row, 0)?);
        }
    }
    Ok(is_known.then_some(found.len()))
}

async fn is_there(session: &Session, what: &str, table: &str) -> Result<bool, DbError> {
    let sql = "SELECT to_regclass($1) IS NOT NULL";
    get(&session.row(what, ASK, sql, &[&table]).await?, 0)
}

async fn remove(session: &Session, name: &str) -> Result<u64, DbError> {
    let what = "removing the row of a migration";
    let mut removed = 0;
    for (table, column) in TABLES {
        if !is_there(session, what, table).await? {
            continue;
        }
        let sql = format!(
            "WITH gone AS (DELETE FROM {table} WHERE {column} = {} RETURNING 1)
             SELECT count(*) FROM gone",
            literal(name)
        );
        let count: i64 = get(&session.row(what, ASK, &sql, &[]).await?, 0)?;
        removed += u64::try_from(count).unwrap_or(0);
    }
    Ok(removed)
}
