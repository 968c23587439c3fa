//! The exchange of two names: the live database for a verified candidate, in one transaction.
//!
//! Close both, end their sessions, then {rename, rename, comments, claim, row, open} commits as
//! one. Which side of it the server is on is read from OIDs that were recorded before and from the
//! system's identifier; names and comments only add intent. A swap is its own undo: the database
//! put aside is the candidate of the next one.
//!
//! INVARIANT: the live name exists exactly once outside of the transaction, and whatever happens
//! here both databases take connections again, at the latest when [`super::gate::reopen`] is
//! called.

use std::time::Duration;

use cutover_model::OperationId;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::claims;
use super::connect::{ASK, Session};
use super::error::DbError;
use super::facts::{self, DatabaseFacts, get};
use super::gate;
use super::names::{DbName, Installation, Kind, Made, Marker, literal};

/// How long sessions may take to go, and the renames to pass.
pub const LIMIT: Duration = Duration::from_secs(3);

/// The least that the one transaction gets, once the sessions are gone.
const LEAST: Duration = Duration::from_millis(500);

/// How long opening again may take in the session that failed; the caller has new ones.
const PUT_BACK: Duration = Duration::from_secs(2);

/// What is exchanged; recorded before anything is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// Who does it.
    pub installation: Installation,
    /// On behalf of which operation.
    pub operation: OperationId,
    /// Which process: a later one has a higher number, and fences the earlier ones.
    pub epoch: u64,
    /// Which data directory.
    pub system_identifier: String,
    /// The name that clients know.
    pub live: DbName,
    /// The OID of the database that has it before.
    pub live_oid: u32,
    /// The name of the candidate before.
    pub candidate: DbName,
    /// Its OID.
    pub candidate_oid: u32,
    /// The name of the former live one after.
    pub aside: DbName,
}

/// Which side of a swap the server is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// The live name is the recorded live database's.
    Before,
    /// It is the candidate's.
    After,
    /// It is neither's: a person has to look.
    Neither(String),
}

/// A swap that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swapped {
    /// How long both databases were closed; zero where it had been made before.
    pub took: Duration,
    /// How many sessions were ended.
    pub ended: usize,
}

impl Swap {
    /// Records a swap: reads OIDs and identifier as they are now.
    ///
    /// # Errors
    /// [`DbError::NoDatabase`] when one of the two is not there.
    pub async fn plan(
        session: &Session,
        installation: &Installation,
        (operation, epoch): (OperationId, u64),
        live: &DbName,
        candidate: &DbName,
    ) -> Result<Self, DbError> {
        let oid = async |name: &DbName| match facts::database(session, name).await? {
            Some(database) => Ok(database.oid),
            None => {
                let what = format!("planning to exchange \"{name}\"");
                Err(DbError::NoDatabase { what, text: "it is gone".to_owned() })
            }
        };
        Ok(Self {
            installation: installation.clone(),
            operation,
            epoch,
            system_identifier: facts::server(session).await?.system_identifier,
            live: live.clone(),
            live_oid: oid(live).await?,
            candidate: candidate.clone(),
            candidate_oid: oid(candidate).await?,
            aside: live.previous(operation),
        })
    }
}

/// Which side of the swap the server is on now.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn side(session: &Session, swap: &Swap) -> Result<Side, DbError> {
    let server = facts::server(session).await?;
    if server.system_identifier != swap.system_identifier {
        let seen = server.system_identifier;
        return Ok(Side::Neither(format!("this is another server (identifier {seen})")));
    }
    let live = facts::database(session, &swap.live).await?;
    let other = |oid| facts::database_of(session, oid);
    Ok(match live.map(|live| live.oid) {
        Some(oid) if oid == swap.live_oid => Side::Before,
        Some(oid) if oid == swap.candidate_oid => match other(swap.live_oid).await? {
            Some(aside) if aside.name != swap.aside => {
                Side::Neither(format!("\"{}\" is called \"{}\" now", swap.aside, aside.name))
            }
            // Retired by a person since.
            _ => Side::After,
        },
        Some(oid) => Side::Neither(format!("\"{}\" is another database (OID {oid})", swap.live)),
        None => Side::Neither(format!("there is no database \"{}\"", swap.live)),
    })
}

/// Exchanges the names. Made already is success. On any error the databases are opened again,
/// unless the server cannot be reached for that, or not in time.
///
/// # Errors
/// [`DbError::NotEmptied`], [`DbError::Fenced`], [`DbError::Moved`] with nothing changed; an error
/// that [`DbError::leaves_doubt`] has to be followed by a new session, [`gate::reopen`] and
/// [`side`].
pub async fn swap(session: &Session, swap: &Swap, limit: Duration) -> Result<Swapped, DbError> {
    swap_while(session, swap, limit, || true).await
}

/// The same, if this still holds at the last moment: right before the one transaction commits.
/// Everything before it is given up at the limit.
///
/// # Errors
/// As [`swap`].
pub async fn swap_while(
    session: &Session,
    swap: &Swap,
    limit: Duration,
    holds: impl Fn() -> bool,
) -> Result<Swapped, DbError> {
    let begun = Instant::now();
    let deadline = begun + limit;
    let slow = || DbError::TooSlow { what: "exchanging the names".to_owned(), limit };
    let Ok(ready) = timeout_at(deadline + LEAST, ready(session, swap, deadline)).await else {
        // A question hangs in this session, so nothing can be put back with it.
        return Err(slow());
    };
    let committed = match ready {
        Ok(None) => return Ok(Swapped { took: Duration::ZERO, ended: 0 }),
        // The server's limit is one for each statement: this one is for all of them.
        Ok(Some(_)) if Instant::now() > deadline + LEAST || !holds() => Err(slow()),
        Ok(Some(ended)) => {
            // CRASH: before this answer the server may have done it or not: `side` says which.
            session.run("committing the exchange", ASK, "COMMIT").await.map(|()| ended)
        }
        Err(error) => Err(error),
    };
    match committed {
        Ok(ended) => Ok(Swapped { took: begun.elapsed(), ended }),
        Err(error) => {
            let put_back = async {
                // A transaction that is still open would keep the doors closed, too.
                if let Err(second) = session.rollback().await {
                    tracing::debug!(error = %second, "a swap's transaction was not taken back");
                }
                if let Err(second) = gate::reopen(session, &swap.installation).await {
                    tracing::warn!(error = %second, "databases could not be opened again yet");
                }
            };
            if tokio::time::timeout(PUT_BACK, put_back).await.is_err() {
                tracing::warn!("the server does not answer: databases may still be closed");
            }
            Err(error)
        }
    }
}

/// Everything before the commit: how many sessions were ended; `None`: it stands already.
async fn ready(
    session: &Session,
    swap: &Swap,
    deadline: Instant,
) -> Result<Option<usize>, DbError> {
    match side(session, swap).await? {
        Side::Before => {}
        Side::After => return Ok(None),
        Side::Neither(what) => return Err(DbError::Moved { what }),
    }
    let (live, candidate) = both(session, swap).await?;
    exchange(session, swap, &live, &candidate, deadline).await.map(Some)
}

/// Both databases, if they are what may be exchanged.
async fn both(session: &Session, swap: &Swap) -> Result<(DatabaseFacts, DatabaseFacts), DbError> {
    let gone = |name: &DbName| DbError::Moved { what: format!("\"{name}\" is gone") };
    let live = facts::database_of(session, swap.live_oid).await?;
    let live = live.ok_or_else(|| gone(&swap.live))?;
    let candidate = facts::database_of(session, swap.candidate_oid).await?;
    let candidate = candidate.ok_or_else(|| gone(&swap.candidate))?;
    if candidate.name != swap.candidate {
        let what = format!("\"{}\" is called \"{}\" now", swap.candidate, candidate.name);
        return Err(DbError::Moved { what });
    }
    match candidate.marker() {
        Some(marker) if marker.installation != swap.installation => {
            let why = "it carries the mark of another installation".to_owned();
            return Err(DbError::NotOurs { name: candidate.name, why });
        }
        Some(Marker { made: Made::Verified, .. }) => {}
        _ => {
            let what = format!("\"{}\" was not verified, so it cannot become live", candidate.name);
            return Err(DbError::Preflight { what });
        }
    }
    for database in [&live, &candidate] {
        if let Some((gid, _)) = database.prepared.first() {
            let what = format!(
                "\"{}\" has a prepared transaction ({}), which nothing can end but COMMIT PREPARED \
                 or ROLLBACK PREPARED; decide it first",
                database.name,
                crate::host::process::escape(gid)
            );
            return Err(DbError::Preflight { what });
        }
    }
    if facts::database(session, &swap.aside).await?.is_some() {
        let why = "its name is needed for the database that is put aside".to_owned();
        return Err(DbError::NotOurs { name: swap.aside.clone(), why });
    }
    Ok((live, candidate))
}

async fn exchange(
    session: &Session,
    swap: &Swap,
    live: &DatabaseFacts,
    candidate: &DatabaseFacts,
    deadline: Instant,
) -> Result<usize, DbError> {
    claims::lock(session, live).await?;
    gate::close(session, &swap.installation, swap.operation, &[live, candidate]).await?;
    // CRASH: both databases are closed, and noted as closed by us: reopen opens them.
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut ended = 0;
    loop {
        ended += gate::empty(session, &[live, candidate], left()).await?;
        match rename(session, swap, live, deadline).await {
            // Somebody had passed the gate before it was closed and is only seen now.
            Err(DbError::InUse { .. }) if Instant::now() < deadline => {
                session.rollback().await?;
            }
            Err(error) => return Err(error),
            Ok(()) => return Ok(ended),
        }
    }
}

/// The one transaction, up to its commit.
async fn rename(
    session: &Session,
    swap: &Swap,
    live: &DatabaseFacts,
    deadline: Instant,
) -> Result<(), DbError> {
    let limit = deadline.saturating_duration_since(Instant::now()).max(LEAST);
    session.run("beginning a swap", ASK, "BEGIN").await?;
    let sql = "INSERT INTO cutover.epochs AS e (installation, epoch) VALUES ($1, $2)
               ON CONFLICT (installation) DO UPDATE
                  SET epoch = greatest(e.epoch, excluded.epoch) RETURNING epoch";
    let ours = i64::try_from(swap.epoch).unwrap_or(i64::MAX);
    let id = swap.installation.as_str();
    let row = session.row("looking at the epoch", ASK, sql, &[&id, &ours]).await?;
    let newer: i64 = get(&row, 0)?;
    if newer > ours {
        return Err(DbError::Fenced { ours: swap.epoch, newer: facts::unsigned(newer) });
    }
    let marker = Marker {
        installation: swap.installation.clone(),
        operation: swap.operation,
        kind: Kind::Previous,
        made: Made::Verified,
    };
    let comment = live.comment.as_deref().map_or_else(|| "NULL".to_owned(), literal);
    let (name, aside, candidate) = (swap.live.quoted(), swap.aside.quoted(), &swap.candidate);
    let (id, operation) = (literal(id), swap.operation);
    let sql = format!(
        "ALTER DATABASE {name} RENAME TO {aside};
         ALTER DATABASE {was} RENAME TO {name};
         COMMENT ON DATABASE {name} IS {comment};
         COMMENT ON DATABASE {aside} IS {mark};
         DELETE FROM cutover.claims WHERE name = {claimed};
         INSERT INTO cutover.claims (name, installation, operation, kind, oid)
              VALUES ({aside_text}, {id}, '{operation}', 'previous', {old})
         ON CONFLICT (name) DO UPDATE SET oid = excluded.oid, operation = excluded.operation,
              kind = excluded.kind, installation = excluded.installation;
         INSERT INTO cutover.swaps (installation, operation, live, aside)
              VALUES ({id}, '{operation}', {new}, {old}) ON CONFLICT DO NOTHING;
         DELETE FROM cutover.gates WHERE oid IN ({old}, {new});
         ALTER DATABASE {name} ALLOW_CONNECTIONS true;
         ALTER DATABASE {aside} ALLOW_CONNECTIONS true;",
        was = candidate.quoted(),
        mark = literal(&marker.to_string()),
        claimed = literal(candidate.as_str()),
        aside_text = literal(swap.aside.as_str()),
        old = swap.live_oid,
        new = swap.candidate_oid,
    );
    session.run("exchanging the names", limit, &sql).await
}
