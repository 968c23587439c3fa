//! The rows that one database has and another has not, or has otherwise: for people who enter them
//! again.
//!
//! Both are read in the same order and compared as they come, so any number of rows takes the same
//! memory. Values are the server's own text for them.

use std::cmp::Ordering;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_postgres::RowStream;

use super::{ALIKE, Shape, shapes};
use crate::host::postgres::connect::{ASK, Session};
use crate::host::postgres::error::DbError;
use crate::host::postgres::facts::get;

/// What is told of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A table, with its columns, before its rows.
    Table {
        /// Its quoted name with its schema.
        name: String,
        /// Its columns, by name.
        columns: Vec<String>,
    },
    /// A row of that table.
    Row {
        /// Whether the other database has a row with its key, but with other values.
        changed: bool,
        /// The values; `None`: NULL.
        values: Vec<Option<String>>,
    },
}

/// Sends every row of `newer` that `older` has not, or has otherwise, table by table. Gives how
/// many. Ends early when nobody listens any more.
///
/// # Errors
/// [`DbError`].
pub async fn rows(
    newer: &Session,
    older: &Session,
    to: &mpsc::Sender<Difference>,
    limit: Duration,
) -> Result<u64, DbError> {
    for session in [newer, older] {
        session.run("comparing two databases", ASK, ALIKE).await?;
        // Where all rows come from the other one it idles: who reads them has a limit of its own.
        let patient = "SET idle_in_transaction_session_timeout = 0";
        session.run("comparing two databases", ASK, patient).await?;
    }
    let (here, there) = (shapes(newer).await?, shapes(older).await?);
    let mut sent = 0;
    for (name, shape) in &here {
        let table = Table { name, shape, model: there.get(name) };
        match table.send(newer, older, to, limit).await? {
            Some(rows) => sent += rows,
            None => break,
        }
    }
    newer.rollback().await?;
    older.rollback().await?;
    Ok(sent)
}

/// How long a reader may take nothing: meanwhile a transaction is open on both databases, which
/// keeps the server from tidying up.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq, Eq)]
enum Handed {
    Taken,
    /// Nobody listens any more.
    Gone,
}

async fn hand(to: &mpsc::Sender<Difference>, difference: Difference) -> Result<Handed, DbError> {
    match tokio::time::timeout(PATIENCE, to.send(difference)).await {
        Ok(Ok(())) => Ok(Handed::Taken),
        Ok(Err(_)) => Ok(Handed::Gone),
        Err(_) => Err(DbError::TooSlow {
            what: "waiting for whoever reads the rows to take one".to_owned(),
            limit: PATIENCE,
        }),
    }
}

struct Table<'t> {
    name: &'t str,
    shape: &'t Shape,
    model: Option<&'t Shape>,
}

impl Table<'_> {
    /// The query that gives key, value and, for the side that is sent, every column as text.
    fn sql(&self, whole: bool) -> String {
        let own = Shape::default();
        let model = self.model.unwrap_or(&own);
        let common: Vec<&str> =
            self.shape.columns.intersection(&model.columns).map(String::as_str).collect();
        let row = format!("md5(ROW({})::text)", common.join(", "));
        let keyed = !self.shape.key.is_empty() && self.shape.key == model.key;
        let key = match keyed {
            true => {
                let key: Vec<&str> = self.shape.key.iter().map(String::as_str).collect();
                format!("ROW({})::text", key.join(", "))
            }
            false => row.clone(),
        };
        let values = match whole {
            true => {
                let all: Vec<String> =
                    self.shape.columns.iter().map(|column| format!("{column}::text")).collect();
                format!("ARRAY[{}]::text[]", all.join(", "))
            }
            false => "NULL::text[]".to_owned(),
        };
        let name = self.name;
        format!(
            "SELECT {key} COLLATE \"C\" AS k, {row} AS v, {values} FROM ONLY {name} ORDER BY k, v"
        )
    }

    /// `None`: nobody listens any more.
    async fn send(
        &self,
        newer: &Session,
        older: &Session,
        to: &mpsc::Sender<Difference>,
        limit: Duration,
    ) -> Result<Option<u64>, DbError> {
        let mut here = Side::open(newer, &self.sql(true), limit).await?;
        let mut there = match self.model {
            Some(_) => Side::open(older, &self.sql(false), limit).await?,
            None => Side { stream: None, row: None },
        };
        let mut sent = 0;
        loop {
            let order = match (&here.row, &there.row) {
                (None, _) => return Ok(Some(sent)),
                (Some(_), None) => Ordering::Less,
                (Some(a), Some(b)) => a.key.as_bytes().cmp(b.key.as_bytes()),
            };
            let changed = match order {
                Ordering::Less => Some(false),
                Ordering::Equal => {
                    let differ = here.row.as_ref().map(|row| &row.value)
                        != there.row.as_ref().map(|row| &row.value);
                    differ.then_some(true)
                }
                Ordering::Greater => None,
            };
            if let (Some(changed), Some(row)) = (changed, &mut here.row) {
                if sent == 0 {
                    let (name, columns) = (self.name.to_owned(), self.columns());
                    if hand(to, Difference::Table { name, columns }).await? == Handed::Gone {
                        return Ok(None);
                    }
                }
                let values = std::mem::take(&mut row.values);
                if hand(to, Difference::Row { changed, values }).await? == Handed::Gone {
                    return Ok(None);
                }
                sent += 1;
            }
            if order != Ordering::Greater {
                here.next().await?;
            }
            if order != Ordering::Less {
                there.next().await?;
            }
        }
    }

    fn columns(&self) -> Vec<String> {
        let bare = |quoted: &String| match quoted.strip_prefix('"') {
            Some(rest) => rest.trim_end_matches('"').replace("\"\"", "\""),
            None => quoted.clone(),
        };
        self.shape.columns.iter().map(bare).collect()
    }
}

struct Row {
    key: String,
    value: String,
    values: Vec<Option<String>>,
}

/// The rows of one side in their order, one at a time.
struct Side {
    stream: Option<Pin<Box<RowStream>>>,
    row: Option<Row>,
}

impl Side {
    async fn open(session: &Session, sql: &str, limit: Duration) -> Result<Self, DbError> {
        let stream = session.stream("comparing rows", limit, sql).await?;
        let mut side = Self { stream: Some(Box::pin(stream)), row: None };
        side.next().await?;
        Ok(side)
    }

    async fn next(&mut self) -> Result<(), DbError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        self.row = match stream.next().await {
            None => None,
            Some(Ok(row)) => {
                let text = |column| get::<Option<String>>(&row, column);
                let values = get::<Option<Vec<Option<String>>>>(&row, 2)?.unwrap_or_default();
                let (key, value) = (text(0)?.unwrap_or_default(), text(1)?.unwrap_or_default());
                Some(Row { key, value, values })
            }
            Some(Err(error)) => return Err(DbError::of("comparing rows", ASK, &error)),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Difference {
        Difference::Row { changed: false, values: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let (to, mut rows) = mpsc::channel(1);
        assert_eq!(hand(&to, row()).await.unwrap(), Handed::Taken);
        let begun = tokio::time::Instant::now();
        let error = hand(&to, row()).await.unwrap_err();
        assert!(matches!(error, DbError::TooSlow { .. }), "{error}");
        assert!(error.to_string().contains("whoever reads the rows"), "{error}");
        assert_eq!(begun.elapsed(), PATIENCE);
        rows.recv().await.unwrap();
        assert_eq!(hand(&to, row()).await.unwrap(), Handed::Taken, "one that is slow goes on");
        drop(rows);
        assert_eq!(hand(&to, row()).await.unwrap(), Handed::Gone);
    }
}
