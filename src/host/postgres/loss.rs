//! What would be lost: the rows that are in the live database and not in the one that would replace
//! it, table by table.
//!
//! [`exact`] compares the two databases row by row, by primary key where there is one and by the
//! whole row where there is none. [`at_most`] is the difference of the server's own counters: an
//! upper bound that counts rows taken back again, and that TRUNCATE or a crash of the server makes
//! unknown. A figure says which of the two it is.

pub mod export;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_postgres::RowStream;

use super::connect::{ASK, Session};
use super::contents::TABLES;
use super::error::DbError;
use super::facts::{get, unsigned};

/// The loss of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableLoss {
    /// Rows that are only in the live database.
    pub new: u64,
    /// Rows that differ.
    pub changed: u64,
    /// Rows that are only in the other one: they come back.
    pub deleted: u64,
    /// Columns that only the live one has: their values are lost in every row.
    pub columns: Vec<String>,
}

/// Whether a bill is the truth or a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exactness {
    /// Every row was compared.
    Exact,
    /// By counters that cannot be too low.
    AtMost,
}

/// What would be lost, table by table; tables without any loss are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// Truth or bound.
    pub exactness: Exactness,
    /// By the quoted name of the table with its schema.
    pub tables: BTreeMap<String, TableLoss>,
}

impl Bill {
    /// How many rows in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.tables.values().map(|table| table.new + table.changed + table.deleted).sum()
    }
}

/// The server's counters of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Inserted, updated, deleted since the counters began, by table.
    pub tables: BTreeMap<String, (u64, u64, u64)>,
    /// When they were set back last, as text; empty: never.
    pub reset: String,
    /// When the server started: a crash sets the counters back without a word.
    pub server_start: String,
    /// The database that was counted: after an exchange the name means another one, with counters
    /// of its own. 0 in what was written before this was kept.
    #[serde(default)]
    pub oid: u32,
}

/// Reads the counters of the database of a session.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn activity(session: &Session) -> Result<Activity, DbError> {
    let what = "reading the counters of a database";
    let sql = "SELECT coalesce(stats_reset::text, ''), pg_postmaster_start_time()::text, datid
                 FROM pg_stat_database WHERE datname = current_database()";
    let row = session.row(what, ASK, sql, &[]).await?;
    let (reset, server_start, oid) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
    let sql = "SELECT format('%I.%I', schemaname, relname), n_tup_ins, n_tup_upd, n_tup_del
                 FROM pg_stat_user_tables";
    let mut tables = BTreeMap::new();
    for row in &session.rows(what, ASK, sql, &[]).await? {
        let count = |column| get::<i64>(row, column).map(unsigned);
        tables.insert(get(row, 0)?, (count(1)?, count(2)?, count(3)?));
    }
    Ok(Activity { tables, reset, server_start, oid })
}

/// The most that can have changed between two readings; `None`: the counters began anew between
/// them, or are another database's, so nothing is known.
#[must_use]
pub fn at_most(then: &Activity, now: &Activity) -> Option<Bill> {
    let is_same = then.oid != 0 && then.oid == now.oid;
    if !is_same || then.reset != now.reset || then.server_start != now.server_start {
        return None;
    }
    let mut tables = BTreeMap::new();
    for (name, now) in &now.tables {
        let was = then.tables.get(name).copied().unwrap_or_default();
        // A table that was made anew has counters of its own.
        let since = |now: u64, was: u64| now.checked_sub(was).unwrap_or(now);
        let loss = TableLoss {
            new: since(now.0, was.0),
            changed: since(now.1, was.1),
            deleted: since(now.2, was.2),
            columns: Vec::new(),
        };
        if loss != TableLoss::default() {
            tables.insert(name.clone(), loss);
        }
    }
    Some(Bill { exactness: Exactness::AtMost, tables })
}

/// Compares two databases row by row. `live` and `other`: sessions of the two.
///
/// # Errors
/// [`DbError::TooSlow`] at the limit: then only [`at_most`] can say something.
pub async fn exact(live: &Session, other: &Session, limit: Duration) -> Result<Bill, DbError> {
    let deadline = Instant::now() + limit;
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    for session in [live, other] {
        // One snapshot for all tables, and the same text for the same value on both sides.
        session.run("comparing two databases", ASK, ALIKE).await?;
    }
    let compared = async {
        let (here, there) = (shapes(live).await?, shapes(other).await?);
        let mut tables = BTreeMap::new();
        for (name, shape) in &here {
            let loss = match there.get(name) {
                Some(model) => compare(live, other, (name, shape, model), &left).await?,
                None => TableLoss { new: count(live, name, left()).await?, ..Default::default() },
            };
            if loss != TableLoss::default() {
                tables.insert(name.clone(), loss);
            }
        }
        let (loss, exactness) = large_objects(live, other, &left).await?;
        if loss != TableLoss::default() {
            tables.insert(LARGE_OBJECTS.to_owned(), loss);
        }
        Ok(Bill { exactness, tables })
    };
    let bill = match tokio::time::timeout(limit, compared).await {
        Ok(bill) => bill,
        Err(_) => Err(DbError::TooSlow { what: "comparing two databases".to_owned(), limit }),
    };
    if bill.is_ok() {
        live.rollback().await?;
        other.rollback().await?;
    }
    bill
}

pub(super) const ALIKE: &str = "
SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; SET intervalstyle = 'postgres';
SET bytea_output = 'hex'; SET extra_float_digits = 1; SET xmloption = 'content';
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// Tables of extensions that hold data of the database's own; `pg_dump` takes it, too.
const OF_EXTENSIONS: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), c.oid
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_extension e ON c.oid = ANY (e.extconfig)
     WHERE c.relkind = 'r'";

/// How a bill calls them.
const LARGE_OBJECTS: &str = "large objects";

/// Large objects, each by all that it holds. A role that may not read them gets a bound: every one
/// of the live database.
async fn large_objects(
    live: &Session,
    other: &Session,
    left: &impl Fn() -> Duration,
) -> Result<(TableLoss, Exactness), DbError> {
    let what = "asking for large objects";
    let sql = "SELECT (SELECT count(*) FROM pg_largeobject_metadata),
                      has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')";
    let row = live.row(what, ASK, sql, &[]).await?;
    let (here, may_read) = (unsigned(get(&row, 0)?), get::<bool>(&row, 1)?);
    if !may_read {
        let exactness = if here == 0 { Exactness::Exact } else { Exactness::AtMost };
        return Ok((TableLoss { changed: here, ..TableLoss::default() }, exactness));
    }
    let sql = "SELECT m.oid::text COLLATE \"C\" AS k,
                      md5(coalesce(string_agg(md5(o.data), '' ORDER BY o.pageno), '')) AS v
                 FROM pg_largeobject_metadata m LEFT JOIN pg_largeobject o ON o.loid = m.oid
                GROUP BY m.oid ORDER BY k";
    Ok((merged(live, other, sql, left).await?, Exactness::Exact))
}

/// The columns of a table, quoted, and those of its primary key.
#[derive(Default)]
pub(super) struct Shape {
    pub(super) columns: BTreeSet<String>,
    pub(super) key: BTreeSet<String>,
}

pub(super) async fn shapes(session: &Session) -> Result<BTreeMap<String, Shape>, DbError> {
    let what = "asking for the columns of tables";
    let sql = format!(
        "SELECT t.name, quote_ident(a.attname), coalesce(a.attnum = ANY (i.indkey), false)
           FROM (({TABLES}) UNION ({OF_EXTENSIONS})) t (name, oid)
           LEFT JOIN pg_attribute a
             ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
            AND a.attgenerated = ''
           LEFT JOIN pg_index i ON i.indrelid = t.oid AND i.indisprimary"
    );
    let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
    for row in &session.rows(what, ASK, &sql, &[]).await? {
        let shape = shapes.entry(get(row, 0)?).or_default();
        if let Some(column) = get::<Option<String>>(row, 1)? {
            if get(row, 2)? {
                shape.key.insert(column.clone());
            }
            shape.columns.insert(column);
        }
    }
    Ok(shapes)
}

async fn count(session: &Session, table: &str, limit: Duration) -> Result<u64, DbError> {
    let sql = format!("SELECT count(*) FROM ONLY {table}");
    Ok(unsigned(get(&session.row("counting rows", limit, &sql, &[]).await?, 0)?))
}

async fn compare(
    live: &Session,
    other: &Session,
    (name, shape, model): (&str, &Shape, &Shape),
    left: &impl Fn() -> Duration,
) -> Result<TableLoss, DbError> {
    let common: Vec<&str> =
        shape.columns.intersection(&model.columns).map(String::as_str).collect();
    let columns = shape.columns.difference(&model.columns).cloned().collect();
    let keyed = !shape.key.is_empty() && shape.key == model.key;
    let row = format!("md5(ROW({})::text)", common.join(", "));
    let key = match keyed {
        true => {
            let key: Vec<&str> = shape.key.iter().map(String::as_str).collect();
            format!("ROW({})::text", key.join(", "))
        }
        // Without a key a row is all that it holds; equal ones are counted.
        false => row.clone(),
    };
    let sql = format!("SELECT {key} COLLATE \"C\" AS k, {row} AS v FROM ONLY {name} ORDER BY k, v");
    Ok(TableLoss { columns, ..merged(live, other, &sql, left).await? })
}

/// What differs in two answers to one question, each ordered by its first column.
async fn merged(
    live: &Session,
    other: &Session,
    sql: &str,
    left: &impl Fn() -> Duration,
) -> Result<TableLoss, DbError> {
    let mut here = Side::open(live, sql, left()).await?;
    let mut there = Side::open(other, sql, left()).await?;
    let mut loss = TableLoss::default();
    loop {
        let order = match (&here.row, &there.row) {
            (None, None) => return Ok(loss),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.as_bytes().cmp(b.as_bytes()),
        };
        match order {
            Ordering::Less => loss.new += 1,
            Ordering::Greater => loss.deleted += 1,
            Ordering::Equal if here.row != there.row => loss.changed += 1,
            Ordering::Equal => {}
        }
        if order != Ordering::Greater {
            here.next().await?;
        }
        if order != Ordering::Less {
            there.next().await?;
        }
    }
}

/// The rows of one side in their order, one at a time.
struct Side {
    stream: std::pin::Pin<Box<RowStream>>,
    row: Option<(String, String)>,
}

impl Side {
    async fn open(session: &Session, sql: &str, limit: Duration) -> Result<Self, DbError> {
        let stream = session.stream("comparing rows", limit, sql).await?;
        let mut side = Self { stream: Box::pin(stream), row: None };
        side.next().await?;
        Ok(side)
    }

    async fn next(&mut self) -> Result<(), DbError> {
        self.row = match self.stream.next().await {
            None => None,
            Some(Ok(row)) => {
                // A table without columns has rows all the same.
                let text = |column| get::<Option<String>>(&row, column);
                Some((text(0)?.unwrap_or_default(), text(1)?.unwrap_or_default()))
            }
            Some(Err(error)) => return Err(DbError::of("comparing rows", ASK, &error)),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(oid: u32, rows: u64) -> Activity {
        let tables = BTreeMap::from([("public.orders".to_owned(), (rows, 0, 0))]);
        Activity { tables, reset: String::new(), server_start: "now".to_owned(), oid }
    }

    #[test]
    fn counters_of_another_database_say_nothing() {
        let total = |then: &Activity, now| at_most(then, &now).map(|bill| bill.total());
        assert_eq!(total(&counted(7, 1_000), counted(7, 1_030)), Some(30));
        // After an exchange: a copy whose own counters have just passed those of the other one.
        assert_eq!(total(&counted(7, 1_000), counted(8, 1_030)), None);
        assert_eq!(total(&counted(7, 1_000), counted(8, 20)), None);
    }

    #[test]
    fn what_was_kept_without_its_database_is_not_counted() {
        let old = r#"{"tables": {}, "reset": "", "server_start": "now"}"#;
        let old: Activity = serde_json::from_str(old).expect("an old manifest");
        assert_eq!(at_most(&old, &counted(7, 5)), None);
        assert_eq!(at_most(&old, &counted(0, 5)), None);
    }
}
