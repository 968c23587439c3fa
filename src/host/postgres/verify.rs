//! Whether a candidate is what it should be: held against the counts of its model or manifest, its
//! indexes, sequences, extensions, rights and settings looked at, and the operator's own queries.
//!
//! It changes nothing but the planner's statistics. Only what passes here may be marked verified.

use std::time::Duration;

use tokio::time::Instant;

use super::connect::{ASK, Session};
use super::contents::{self, Contents};
use super::error::DbError;
use super::facts::{self, get};
use super::properties::{self, Properties};

/// One thing that is wrong with a candidate, in a sentence.
pub type Finding = String;

/// What a candidate has to be.
#[derive(Debug, Clone)]
pub struct Wanted<'w> {
    /// What it has to hold: counted when the dump, the copy or the clone was made.
    pub contents: &'w Contents,
    /// The rights and settings of the database that it stands in for.
    pub properties: &'w Properties,
}

/// Compares a candidate with what it has to be and gathers the planner's statistics. Gives every
/// difference; empty: it is right. `session`: one of the candidate.
///
/// # Errors
/// [`DbError`] when it cannot be found out within the limit.
pub async fn compare(
    session: &Session,
    wanted: &Wanted<'_>,
    limit: Duration,
) -> Result<Vec<Finding>, DbError> {
    let deadline = Instant::now() + limit;
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut found = Vec::new();
    let here = contents::contents(session, limit).await?;
    let (was, now) = (&wanted.contents.rows, &here.rows);
    for (table, rows) in was {
        match now.get(table) {
            None => found.push(format!("table {table} is missing")),
            Some(count) if count != rows => {
                found.push(format!("table {table} has {count} rows and should have {rows}"));
            }
            Some(_) => {}
        }
    }
    for table in now.keys().filter(|table| !was.contains_key(*table)) {
        found.push(format!("table {table} should not be there"));
    }
    for (sequence, at) in &wanted.contents.sequences {
        match here.sequences.get(sequence) {
            Some(now) if now >= at => {}
            now => {
                let now = now.map_or_else(|| "unused".to_owned(), ToString::to_string);
                found.push(format!("sequence {sequence} is behind: {now}, should be {at}"));
            }
        }
    }
    for name in wanted.contents.extensions.keys() {
        if !here.extensions.contains_key(name) {
            found.push(format!("extension {name} is missing"));
        }
    }
    if here.large_objects != wanted.contents.large_objects {
        let (now, was) = (here.large_objects, wanted.contents.large_objects);
        found.push(format!("there are {now} large objects and should be {was}"));
    }
    found.extend(indexes(session).await?);
    let own = facts::database(session, session.database()).await?;
    let own = own.ok_or_else(|| facts::answer("looking at the candidate", "it is gone"))?;
    let found_properties = properties::read(session, &own).await?;
    found.extend(properties::differences(wanted.properties, &found_properties));
    session.run("gathering statistics of the candidate", left(), "ANALYZE").await?;
    Ok(found)
}

async fn indexes(session: &Session) -> Result<Vec<Finding>, DbError> {
    let sql = "SELECT i.indexrelid::regclass::text FROM pg_index i
                WHERE NOT i.indisvalid OR NOT i.indisready ORDER BY 1";
    let rows = session.rows("looking for invalid indexes", ASK, sql, &[]).await?;
    rows.iter().map(|row| Ok(format!("index {} is invalid", get::<&str>(row, 0)?))).collect()
}

/// One query of the operator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its name.
    pub name: String,
    /// One statement.
    pub sql: String,
    /// The first column of its only row; `None`: it gives no row at all.
    pub expect: Option<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// As it should be.
    Pass,
    /// Not so, in a few words: `37 rows`.
    Fail(String),
    /// It asks for something that this database does not have; neither good nor bad.
    Misfit(String),
    /// It could not be asked; neither good nor bad.
    Unclear(String),
}

/// What PostgreSQL says of a table, column, function, schema or type that is not there.
const NOT_THERE: [&str; 5] = ["42P01", "42703", "42883", "3F000", "42704"];

/// Asks one question in a transaction that cannot write. `session`: one with
/// [`super::Lookup::AsSetUp`].
///
/// # Errors
/// [`DbError`] when the session is lost; a query that cannot be answered is [`Answered::Misfit`] or
/// [`Answered::Unclear`].
pub async fn ask(session: &Session, question: &Question) -> Result<Answered, DbError> {
    let what = "asking an integrity query";
    session.run(what, ASK, "BEGIN READ ONLY").await?;
    // One statement only: a second one could end the transaction that keeps it from writing.
    let answered = session.table(what, question.timeout, &question.sql).await;
    session.rollback().await?;
    let (rows, first) = match answered {
        Ok(answered) => answered,
        Err(error) if session.is_closed() => return Err(error),
        Err(DbError::Refused { code, text, .. }) if NOT_THERE.contains(&code.as_str()) => {
            return Ok(Answered::Misfit(text));
        }
        Err(error) => return Ok(Answered::Unclear(error.to_string())),
    };
    let plural = if rows == 1 { "row" } else { "rows" };
    Ok(match (&question.expect, rows, first) {
        (None, 0, _) => Answered::Pass,
        (None, rows, _) => Answered::Fail(format!("{rows} {plural}")),
        (Some(wanted), 1, Some(found)) if *wanted == found => Answered::Pass,
        (Some(wanted), 1, found) => {
            let found = found.unwrap_or_else(|| "nothing".to_owned());
            let found: String = crate::host::process::escape(&found).chars().take(80).collect();
            Answered::Fail(format!("{found} instead of {wanted}"))
        }
        (Some(_), rows, _) => Answered::Fail(format!("{rows} {plural} instead of one")),
    })
}
