//! After a crash: what a killed process left running on the server.
//!
//! A killed client's `CREATE DATABASE` goes on for seconds, and children of `docker exec` survive,
//! too; both are sessions whose name begins like ours. Only once none is left does the catalog
//! say how far things came. The order is: [`super::claims::lock`], [`end_sessions`], the gates,
//! then looking.

pub mod stale;

use std::time::Duration;

use cutover_model::OperationId;
use tokio::time::Instant;

use super::connect::{ASK, Session};
use super::error::DbError;
use super::facts::get;
use super::names::Installation;

/// A backend looks for interrupts between two files that it copies, so this is long.
const LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// Which sessions of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of one operation.
    Operation(OperationId),
    /// All of this installation: at the start of the daemon, before anything else runs.
    Installation,
}

/// Ends every session of ours but this one, and waits until none is left. Gives how many there were
/// at first.
///
/// # Errors
/// [`DbError::TooSlow`] when some are still there after half a minute.
pub async fn end_sessions(
    session: &Session,
    installation: &Installation,
    scope: Scope,
) -> Result<usize, DbError> {
    let what = "ending what a killed process left running on the server";
    let (name, test) = match scope {
        Scope::Operation(operation) => {
            (installation.session_name(operation), "application_name = $1")
        }
        Scope::Installation => {
            (installation.session_prefix(), "left(application_name, length($1)) = $1")
        }
    };
    let sql = format!(
        "SELECT count(*), count(*) FILTER (WHERE pg_terminate_backend(pid))
           FROM pg_stat_activity WHERE {test} AND pid <> pg_backend_pid()"
    );
    let deadline = Instant::now() + LIMIT;
    let mut first = None;
    loop {
        let row = session.row(what, ASK, &sql, &[&name]).await?;
        let left = usize::try_from(get::<i64>(&row, 0)?).unwrap_or(0);
        let found = *first.get_or_insert(left);
        if left == 0 {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(DbError::TooSlow { what: what.to_owned(), limit: LIMIT });
        }
        tokio::time::sleep(LOOK).await;
    }
}
