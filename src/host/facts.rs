//! Figures for a preflight: memory, disk, and the rows of known migration tables.
//!
//! Read-only. A figure that cannot be read is `None`, never 0: callers say that it is not known.
//! Migration rows are best effort, through `psql` inside the database's own container.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::docker::{Container, Docker, DockerError};

/// What the host has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRoom {
    /// Memory that can be had without swapping, bytes.
    pub memory_free: Option<u64>,
    /// All memory, bytes.
    pub memory_total: Option<u64>,
    /// Swap that is not used, bytes.
    pub swap_free: Option<u64>,
    /// Free disk where the state folder is, bytes.
    pub state_disk_free: Option<u64>,
    /// Free disk where Docker keeps images and volumes, bytes.
    pub docker_disk_free: Option<u64>,
}

/// What the host has left now.
#[must_use]
pub fn room(state: &Path, docker_root: &Path) -> HostRoom {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    HostRoom {
        memory_free: meminfo_field(&meminfo, "MemAvailable:"),
        memory_total: meminfo_field(&meminfo, "MemTotal:"),
        swap_free: meminfo_field(&meminfo, "SwapFree:"),
        state_disk_free: disk_free(state),
        docker_disk_free: disk_free(docker_root),
    }
}

fn meminfo_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Free bytes for users that are not root on the file system of a path.
#[must_use]
pub fn disk_free(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// How full memory and a disk are, in percent of what there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fill {
    /// Memory that cannot be had without swapping.
    pub memory: Option<u8>,
    /// The file system of a path, as `df` counts it.
    pub disk: Option<u8>,
}

/// How full memory and the disk of a path are now.
#[must_use]
pub fn fill(path: &Path) -> Fill {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Fill { memory: memory_fill(&meminfo), disk: disk_fill(path) }
}

fn memory_fill(meminfo: &str) -> Option<u8> {
    let total = meminfo_field(meminfo, "MemTotal:")?;
    let free = meminfo_field(meminfo, "MemAvailable:")?;
    percent(total.checked_sub(free)?, total)
}

fn disk_fill(path: &Path) -> Option<u8> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let used = stat.f_blocks.checked_sub(stat.f_bfree)?;
    // What only root may still fill counts for nobody.
    percent(used, used.checked_add(stat.f_bavail)?)
}

/// Rounded up: a disk with one free byte of a thousand is full.
fn percent(part: u64, whole: u64) -> Option<u8> {
    let hundredths = u128::from(part) * 100;
    let whole = u128::from(whole);
    (whole > 0).then(|| u8::try_from(hundredths.div_ceil(whole)).unwrap_or(100))
}

/// What a second copy of a stack needs, from the limits or the running copy's use.
///
/// # Errors
/// [`DockerError`] when the engine does not answer.
pub async fn memory_need(docker: &Docker, running: &[Container]) -> Result<u64, DockerError> {
    let mut need = 0_u64;
    for container in running {
        let bytes = match container.memory_limit {
            Some(limit) => limit,
            None => docker.memory_of(container).await?,
        };
        need = need.saturating_add(bytes);
    }
    Ok(need)
}

/// The migration tables that the usual tools keep, and what of them to show, newest last.
const TABLES: [(&str, &str); 11] = [
    (
        "_prisma_migrations",
        "migration_name FROM _prisma_migrations WHERE finished_at IS NOT NULL \
         AND rolled_back_at IS NULL ORDER BY started_at",
    ),
    (
        "_sqlx_migrations",
        "version::text FROM _sqlx_migrations WHERE success ORDER BY _sqlx_migrations.version",
    ),
    ("schema_migrations", "version FROM schema_migrations ORDER BY version"),
    ("flyway_schema_history", "version FROM flyway_schema_history ORDER BY installed_rank"),
    ("alembic_version", "version_num FROM alembic_version ORDER BY 1"),
    ("django_migrations", "app || '.' || name FROM django_migrations ORDER BY id"),
    ("knex_migrations", "name FROM knex_migrations ORDER BY id"),
    // TypeORM calls it name, Laravel migration.
    (
        "migrations",
        "coalesce(to_jsonb(m)->>'name', to_jsonb(m)->>'migration') FROM migrations m ORDER BY id",
    ),
    ("SequelizeMeta", "name FROM \"SequelizeMeta\" ORDER BY name"),
    ("__EFMigrationsHistory", "\"MigrationId\" FROM \"__EFMigrationsHistory\" ORDER BY 1"),
    ("goose_db_version", "version_id::text FROM goose_db_version WHERE is_applied ORDER BY id"),
];

/// Which database to look into. Its `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct MigrationSource {
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// Its password, when the socket inside the container asks for one.
    pub password: Option<String>,
}

impl fmt::Debug for MigrationSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigrationSource")
            .field("database", &self.database)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish()
    }
}

/// The names of the applied migrations by table; `None`: the container has no `psql`, or it may not
/// look. An empty map: it looked, and none of the known tables is there.
///
/// # Errors
/// [`DockerError`] when the engine does not answer.
pub async fn migrations(
    docker: &Docker,
    postgres: &Container,
    source: &MigrationSource,
) -> Result<Option<BTreeMap<String, Vec<String>>>, DockerError> {
    let names: Vec<_> = TABLES.iter().map(|(table, _)| format!("'{table}'")).collect();
    let question = format!(
        "SELECT tablename FROM pg_tables WHERE schemaname = ANY (current_schemas(false)) \
         AND tablename IN ({})",
        names.join(", ")
    );
    let Some(present) = psql(docker, postgres, source, &question).await? else {
        return Ok(None);
    };
    let mut found = BTreeMap::new();
    for (table, select) in TABLES {
        if present.iter().any(|name| name == table) {
            let rows = psql(docker, postgres, source, &format!("SELECT {select}")).await?;
            let Some(rows) = rows else { return Ok(None) };
            found.insert(table.to_owned(), rows);
        }
    }
    Ok(Some(found))
}

async fn psql(
    docker: &Docker,
    postgres: &Container,
    source: &MigrationSource,
    question: &str,
) -> Result<Option<Vec<String>>, DockerError> {
    let command = [
        "psql",
        "-X",
        "-q",
        "-A",
        "-t",
        "-w",
        "-v",
        "ON_ERROR_STOP=1",
        "-U",
        &source.user,
        "-d",
        &source.database,
        "-c",
        question,
    ];
    let mut env = vec![
        ("PGOPTIONS", "-c statement_timeout=5000 -c default_transaction_read_only=on"),
        ("PGCONNECT_TIMEOUT", "5"),
    ];
    env.extend(source.password.as_deref().map(|password| ("PGPASSWORD", password)));
    let out = docker.exec(postgres, &command, &env, Duration::from_secs(15)).await?;
    if out.code != 0 {
        tracing::debug!(code = out.code, "the migration tables cannot be read");
        return Ok(None);
    }
    let lines = out.stdout.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(Some(lines.map(super::process::escape).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_debug_text() {
        let source = MigrationSource {
            database: "shop".to_owned(),
            user: "li".to_owned(),
            password: Some("sesame".to_owned()),
        };
        let text = format!("{source:?} {source:#?}");
        assert!(text.contains("***") && text.contains("li") && !text.contains("sesame"), "{text}");
    }

    #[test]
    fn memory_and_disk_of_this_machine_can_be_read() {
        let room = room(Path::new("/"), Path::new("/nonexistent"));
        assert!(room.memory_free.is_some_and(|free| free > 0));
        assert!(room.state_disk_free.is_some_and(|free| free > 0));
        assert_eq!(room.docker_disk_free, None, "what cannot be read is not 0");
    }

    #[test]
    fn percents_are_of_what_there_is_and_unknown_where_it_cannot_be_read() {
        let text = "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 380 kB\n";
        assert_eq!(memory_fill(text), Some(62));
        assert_eq!(memory_fill("MemTotal: 1000 kB\n"), None);
        assert_eq!(percent(999, 1000), Some(100));
        assert_eq!(percent(0, 1000), Some(0));
        assert_eq!(percent(0, 0), None);
        let here = fill(Path::new("/"));
        assert!(here.memory.is_some_and(|memory| memory <= 100));
        assert!(here.disk.is_some_and(|disk| disk <= 100));
        assert_eq!(fill(Path::new("/nonexistent")).disk, None);
    }

    #[test]
    fn meminfo_is_in_kibibytes() {
        assert_eq!(
            meminfo_field("MemTotal: 9 kB\nMemAvailable:   2 kB\n", "MemAvailable:"),
            Some(2048)
        );
    }
}
