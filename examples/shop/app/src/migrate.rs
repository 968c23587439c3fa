//! `shop migrate`: applies the SQL folders of a Prisma project as `prisma migrate deploy` does,
//! with the same table, the same checksums and the same refusal after a failed migration.
//!
//! It never edits a migration that was applied. The way down is this program's own: `undo.sql`
//! beside `migration.sql`, each statement by itself.

use std::path::Path;

use sha2::{Digest, Sha256};
use tokio_postgres::Client;

use crate::Failure;
use crate::database::{Database, described};
use crate::settings::Settings;

/// The table of Prisma 4 and later.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS _prisma_migrations (
    id varchar(36) PRIMARY KEY NOT NULL,
    checksum varchar(64) NOT NULL,
    finished_at timestamptz,
    migration_name varchar(255) NOT NULL,
    logs text,
    rolled_back_at timestamptz,
    started_at timestamptz NOT NULL DEFAULT now(),
    applied_steps_count integer NOT NULL DEFAULT 0
)";
/// The advisory lock that Prisma takes.
const LOCK: i64 = 72_707_369;

struct Migration {
    name: String,
    sql: String,
    checksum: String,
}

pub(crate) async fn apply(
    settings: &Settings,
    folder: &str,
    url: Option<String>,
) -> Result<(), Failure> {
    let migrations = read(Path::new(folder))?;
    println!("{} migrations found in {folder}", migrations.len());
    let database = match url {
        Some(url) => Database::at(settings, url.trim().to_owned()),
        None => Database::new(settings),
    };
    let client = database?.connect().await?;
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    client.batch_execute(TABLE).await.map_err(|error| described(&error))?;
    refuse_after_a_failure(&client).await?;
    let mut applied = 0;
    for migration in &migrations {
        if is_applied(&client, migration).await? {
            continue;
        }
        run(&client, migration).await?;
        println!("applied {}", migration.name);
        applied += 1;
    }
    match applied {
        0 => println!("nothing to apply"),
        _ => println!("all migrations have been applied"),
    }
    Ok(())
}

/// Lists what the database has, newest first.
pub async fn status(settings: &Settings) -> Result<(), Failure> {
    for name in newest(&Database::new(settings)?.connect().await?).await? {
        println!("applied {name}");
    }
    Ok(())
}

/// Takes the newest migrations back by their `undo.sql`.
pub async fn take_back(settings: &Settings, folder: &str, count: usize) -> Result<(), Failure> {
    let client = Database::new(settings)?.connect().await?;
    for name in newest(&client).await?.into_iter().take(count) {
        let script = Path::new(folder).join(&name).join("undo.sql");
        let sql = std::fs::read_to_string(&script)
            .map_err(|error| format!("{}: {error}", script.display()))?;
        client.batch_execute(&sql).await.map_err(|error| described(&error))?;
        let row = "DELETE FROM _prisma_migrations WHERE migration_name = $1";
        client.execute(row, &[&name]).await?;
        println!("took {name} back");
    }
    Ok(())
}

async fn newest(client: &Client) -> Result<Vec<String>, Failure> {
    let rows = client
        .query(
            "SELECT migration_name FROM _prisma_migrations
             WHERE rolled_back_at IS NULL ORDER BY migration_name DESC",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn read(folder: &Path) -> Result<Vec<Migration>, Failure> {
    let mut migrations = Vec::new();
    let entries =
        std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let script = entry.path().join("migration.sql");
        if !script.is_file() {
            continue;
        }
        let sql = std::fs::read_to_string(&script)?;
        let checksum = Sha256::digest(&sql).iter().map(|byte| format!("{byte:02x}")).collect();
        let name = entry.file_name().to_string_lossy().into_owned();
        migrations.push(Migration { name, sql, checksum });
    }
    migrations.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(migrations)
}

async fn refuse_after_a_failure(client: &Client) -> Result<(), Failure> {
    let failed = client
        .query_opt(
            "SELECT migration_name, started_at::text FROM _prisma_migrations
             WHERE finished_at IS NULL AND rolled_back_at IS NULL LIMIT 1",
            &[],
        )
        .await?;
    match failed {
        None => Ok(()),
        Some(row) => Err(format!(
            "P3009: migration {} started at {} failed; resolve it before new ones are applied",
            row.get::<_, String>(0),
            row.get::<_, String>(1)
        )
        .into()),
    }
}

async fn is_applied(client: &Client, migration: &Migration) -> Result<bool, Failure> {
    let row = client
        .query_opt(
            "SELECT checksum FROM _prisma_migrations
             WHERE migration_name = $1 AND rolled_back_at IS NULL",
            &[&migration.name],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    if row.get::<_, String>(0) != migration.checksum {
        eprintln!("warning: {} was changed after it was applied", migration.name);
    }
    Ok(true)
}

async fn run(client: &Client, migration: &Migration) -> Result<(), Failure> {
    let row = client
        .query_one(
            "INSERT INTO _prisma_migrations (id, checksum, migration_name)
             VALUES (gen_random_uuid()::text, $1, $2) RETURNING id",
            &[&migration.checksum, &migration.name],
        )
        .await?;
    let id: String = row.get(0);
    if let Err(error) = client.batch_execute(&migration.sql).await {
        let said = described(&error).to_string();
        client
            .execute("UPDATE _prisma_migrations SET logs = $1 WHERE id = $2", &[&said, &id])
            .await?;
        return Err(format!("P3018: migration {} failed to apply: {said}", migration.name).into());
    }
    client
        .execute(
            "UPDATE _prisma_migrations
             SET finished_at = now(), applied_steps_count = 1 WHERE id = $1",
            &[&id],
        )
        .await?;
    Ok(())
}
