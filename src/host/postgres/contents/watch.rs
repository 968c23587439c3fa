//! Event triggers on a copy: what a migration drops and rewrites while it runs, which its end state
//! may not show; and the rows that it changes, by the server's own counters.
//!
//! Only ever on a copy of ours. Event triggers need a superuser (before PostgreSQL 18 in every
//! case): for another role there is no answer, and none is made up.

use std::collections::{BTreeMap, BTreeSet};

use std::time::Duration;

use cutover_model::migration::Class;
use tokio::time::Instant;

use super::ddl;
use super::schema::{self, Change, Schema};
use crate::host::postgres::connect::{ASK, Session};
use crate::host::postgres::error::DbError;
use crate::host::postgres::facts::{self, get, unsigned};

/// How long the sessions of a command that has ended may take to end.
const SETTLED: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// Tables that migration tools write into by themselves.
const TOOLS: [&str; 15] = [
    "_prisma_migrations",
    "_sqlx_migrations",
    "schema_migrations",
    "ar_internal_metadata",
    "flyway_schema_history",
    "alembic_version",
    "django_migrations",
    "knex_migrations",
    "knex_migrations_lock",
    "migrations",
    "SequelizeMeta",
    "__EFMigrationsHistory",
    "goose_db_version",
    "databasechangelog",
    "databasechangeloglock",
];

const TRIGGERS: &str = "
CREATE SCHEMA cutover_rehearsal;
CREATE TABLE cutover_rehearsal.seen (what text NOT NULL, kind text NOT NULL, name text NOT NULL);
CREATE FUNCTION cutover_rehearsal.dropped() RETURNS event_trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog AS $body$
BEGIN
    INSERT INTO cutover_rehearsal.seen
    SELECT 'drop', object_type, object_identity FROM pg_event_trigger_dropped_objects()
     WHERE (original OR normal) AND NOT is_temporary;
END $body$;
CREATE FUNCTION cutover_rehearsal.rewrote() RETURNS event_trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog AS $body$
BEGIN
    INSERT INTO cutover_rehearsal.seen
    VALUES ('rewrite', 'table', pg_event_trigger_table_rewrite_oid()::regclass::text);
END $body$;
CREATE FUNCTION cutover_rehearsal.ran() RETURNS event_trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog AS $body$
BEGIN
    INSERT INTO cutover_rehearsal.seen
    SELECT 'ran', command_tag, coalesce(object_identity, lower(object_type), '')
      FROM pg_event_trigger_ddl_commands()
     WHERE schema_name IS DISTINCT FROM 'pg_temp' AND NOT in_extension;
END $body$;
CREATE EVENT TRIGGER cutover_dropped ON sql_drop
    EXECUTE FUNCTION cutover_rehearsal.dropped();
CREATE EVENT TRIGGER cutover_rewrote ON table_rewrite
    EXECUTE FUNCTION cutover_rehearsal.rewrote();
CREATE EVENT TRIGGER cutover_ran ON ddl_command_end
    EXECUTE FUNCTION cutover_rehearsal.ran();
";

/// A copy before a migration.
#[derive(Debug)]
pub struct Watched {
    schema: Schema,
    rows: BTreeMap<u32, u64>,
}

/// Begins to watch a copy. `None`: our role may not.
///
/// # Errors
/// [`DbError`].
pub async fn begin(session: &Session) -> Result<Option<Watched>, DbError> {
    if !facts::server(session).await?.role.superuser {
        return Ok(None);
    }
    settled(session).await?;
    session.run("watching a copy", ASK, TRIGGERS).await?;
    let schema = schema::look(session).await?;
    Ok(Some(Watched { schema, rows: written(session).await? }))
}

/// Rows that were written since the counters began, by table.
async fn written(session: &Session) -> Result<BTreeMap<u32, u64>, DbError> {
    let sql = "SELECT relid, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables";
    let rows = session.rows("counting rows that were written", ASK, sql, &[]).await?;
    rows.iter().map(|row| Ok((get(row, 0)?, unsigned(get(row, 1)?)))).collect()
}

/// What was done to the copy since, the gravest last. Sessions that did it have to have ended.
///
/// # Errors
/// [`DbError`].
pub async fn end(session: &Session, watched: &Watched) -> Result<Vec<Change>, DbError> {
    settled(session).await?;
    let after = schema::look(session).await?;
    let mut found = schema::changes(&watched.schema, &after);
    let sql = "SELECT DISTINCT what, kind, name FROM cutover_rehearsal.seen ORDER BY 1, 2, 3";
    let mut rewritten = BTreeSet::new();
    for row in session.rows("asking what was seen", ASK, sql, &[]).await? {
        let (what, kind, name): (String, String, String) =
            (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
        let shown = name.strip_prefix("public.").unwrap_or(&name).to_owned();
        match (what.as_str(), kind.as_str()) {
            ("rewrite", _) => {
                rewritten.insert(shown);
            }
            // What is gone is told by the comparison; what is there again has lost its rows.
            (_, "table") if watched.schema.has(&name) && after.has(&name) => {
                let what = format!("dropped {shown} and made it again");
                found.push(Change { class: Class::Contract, what });
            }
            (_, "table column" | "type" | "schema" | "sequence" | "extension") => {
                let what = format!("dropped {kind} {shown}");
                let what = what.replace("dropped table column ", "dropped ");
                let is_told = found.iter().any(|change| change.what == what);
                let is_part = found.iter().any(|change: &Change| {
                    change.class == Class::Contract
                        && shown.starts_with(change.what.trim_start_matches("dropped "))
                });
                if !is_told && !is_part {
                    found.push(Change { class: Class::Contract, what });
                }
            }
            ("ran", command) if ddl::is_compared(command, &name) => {}
            ("ran", command) => {
                let what = format!("ran {command} on {shown} {}", ddl::UNKNOWN);
                found.push(Change { class: Class::Contract, what });
            }
            (_, kind) if ddl::is_drop_compared(kind) => {}
            (_, kind) => {
                let what = format!("dropped the {kind} {shown} {}", ddl::UNKNOWN);
                found.push(Change { class: Class::Contract, what });
            }
        }
    }
    // One that was written anew may have been emptied before: both are said.
    let emptied = watched.schema.refiled(&after);
    let emptied = emptied.into_iter().filter(|table| !is_tools(table));
    for table in &rewritten {
        found.push(Change { class: Class::Rewrite, what: format!("rewrote {table}") });
    }
    for table in emptied {
        let what = format!("emptied {table}, or wrote it anew");
        found.push(Change { class: Class::Data, what });
    }
    let now = written(session).await?;
    for (oid, table) in watched.schema.tables() {
        let count = |rows: &BTreeMap<u32, u64>| rows.get(&oid).copied().unwrap_or(0);
        let rows = count(&now).saturating_sub(count(&watched.rows));
        if rows > 0 && !is_tools(&table) {
            let what =
                format!("wrote {} of {table}", crate::text::number_of(usize_of(rows), "row"));
            found.push(Change { class: Class::Data, what });
        }
    }
    found.sort();
    Ok(found)
}

/// Waits until nobody else is connected: a session counts what it wrote at its end, at the latest.
async fn settled(session: &Session) -> Result<(), DbError> {
    let what = "waiting for the end of the migration's sessions";
    let sql = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                  AND backend_type = 'client backend'";
    let deadline = Instant::now() + SETTLED;
    while get::<i64>(&session.row(what, ASK, sql, &[]).await?, 0)? > 0 {
        if Instant::now() >= deadline {
            tracing::warn!("a session of a migration is still open: its rows may not be counted");
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn is_tools(table: &str) -> bool {
    let name = table.rsplit('.').next().unwrap_or(table);
    TOOLS.contains(&name)
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
