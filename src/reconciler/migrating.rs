//! Migrations: the command that a deploy runs once, and what the database says of them.
//!
//! The rows of the known migration tables are read inside the shared database's own container, best
//! effort: what cannot be read is not known, and nothing fails for it. Rows are named, never taken
//! back one by one: data goes back as a whole, by a restore (`reconciler/database`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cutover_model::migration::{Class, Migrated};
use cutover_model::{Color, Fact, ReleaseId, ServiceName};
use tokio::sync::mpsc;

use super::perform::{Text, docker, folder_in, happened, made, release_folder, secrets_of, text};
use super::{Reconciler, Report, Work};
use crate::crash;
use crate::host::compose::{ColoredStack, Compose};
use crate::host::docker::{Container, Docker};
use crate::host::facts::{self, MigrationSource};
use crate::host::redact::Secrets;
use crate::host::stack::{Once, RunOutput};
use crate::host::{StackSettings, files, shared, stack};

/// How long a migration may take.
const MIGRATE: Duration = Duration::from_secs(3_600);
/// How long a container may take to say its environment.
const ENVIRONMENT: Duration = Duration::from_secs(10);

/// Runs the migration command once, and says what it added. That it begins is recorded first.
pub(super) async fn migrate(
    settings: &StackSettings,
    release: ReleaseId,
    work: &Work,
    reports: &mpsc::Sender<Report>,
) -> Text {
    let Some((service, command)) = &work.migration else { return Ok(None) };
    let docker = docker(settings).await?;
    let compose = Compose::new(settings);
    let stack = made(work)?;
    let folder = release_folder(settings, release);
    let generated = files::generated(&folder, stack);
    happened(reports, Fact::MigrationBegun { release }).await?;
    // CRASH: it may be applied or not; a rollback counts it as applied.
    crash::point("migrate.begun");
    let once = Once { service, command, env: &[], limit: MIGRATE };
    let out = stack::run_once(&docker, &compose, &generated, &once, None).await.map_err(text)?;
    crash::point("migrate.ran");
    let secrets = secrets_of(&folder).await;
    let fresh = added(settings, &docker, work).await;
    if let Some(names) = fresh.clone() {
        // No new row is nothing only where nothing went wrong, and nothing was found on a copy.
        let is_nothing = |tried: &Migrated| {
            tried.names.is_empty() && matches!(tried.class, None | Some(Class::None | Class::Data))
        };
        let is_nothing = out.code == 0 && work.tried.as_ref().is_none_or(is_nothing);
        if !names.is_empty() || is_nothing {
            happened(reports, Fact::MigrationDone { release, names }).await?;
        }
    }
    if out.code != 0 {
        return Err(format!(
            "{}\nThe database may have part of it: look at the migrations table before the next \
             deploy",
            failed(&out, service, command, &secrets)
        ));
    }
    let last = last_line(&out);
    let said = match (fresh.as_deref(), &work.tried) {
        (Some([]), None) => "nothing to apply".to_owned(),
        (Some([]), Some(tried)) => {
            format!(
                "{} (no new row in the migrations table; on a copy: {})",
                secrets.mask(last),
                tried.told()
            )
        }
        (Some(names), Some(tried)) => {
            format!("{}: tried on a copy: {}. Applied", names.join(", "), tried.told())
        }
        (Some(names), None) => format!("applied: {}", names.join(", ")),
        (None, _) => secrets.mask(last),
    };
    Ok(Some(match work.has_point {
        true => said,
        false => format!("{said} (there is no restore point: a rollback moves traffic, not data)"),
    }))
}

/// What a command said that failed, without the operator's secrets.
pub(super) fn failed(
    out: &RunOutput,
    service: &ServiceName,
    command: &[String],
    secrets: &Secrets,
) -> String {
    format!(
        "\"{}\" in {service} ended with exit {}:\n{}",
        command.join(" "),
        out.code,
        secrets.mask(&out.tail.join("\n"))
    )
}

/// The last line of its own; compose tells of what it makes in the same breath.
fn last_line(out: &RunOutput) -> &str {
    let is_composes = |line: &str| {
        let first = line.split_whitespace().next().unwrap_or_default();
        matches!(first, "Container" | "Network" | "Volume")
    };
    let mut lines = out.tail.iter().rev();
    let last = lines.find(|line| !line.trim().is_empty() && !is_composes(line));
    last.map_or("done", String::as_str)
}

/// The migrations that the database has and had not before this release; `None`: not known.
pub(super) async fn added(
    settings: &StackSettings,
    docker: &Docker,
    work: &Work,
) -> Option<Vec<String>> {
    let before = work.made.migrations.as_ref()?;
    let now = look(settings, docker, work.made.stack.as_ref()?, None).await?;
    // Without a table of a tool that we know nothing is told of what was applied.
    now.has_table.then(|| fresh(before, now.names))
}

pub(super) fn fresh(before: &[String], now: Vec<String>) -> Vec<String> {
    now.into_iter().filter(|name| !before.contains(name)).collect()
}

/// The names of the migrations that the app's database has; `None`: not everything that may have
/// them could be asked.
pub(super) async fn applied(
    settings: &StackSettings,
    docker: &Docker,
    stack: &ColoredStack,
) -> Option<Vec<String>> {
    applied_in(settings, docker, stack, None).await
}

/// The same of another database on its server.
pub(super) async fn applied_in(
    settings: &StackSettings,
    docker: &Docker,
    stack: &ColoredStack,
    database: Option<&str>,
) -> Option<Vec<String>> {
    look(settings, docker, stack, database).await.map(|rows| rows.names)
}

/// What the tables of the usual tools hold.
struct Rows {
    names: Vec<String>,
    /// Whether there is such a table at all.
    has_table: bool,
}

async fn look(
    settings: &StackSettings,
    docker: &Docker,
    stack: &ColoredStack,
    database: Option<&str>,
) -> Option<Rows> {
    let configured = settings.database.as_ref();
    let database = database.or(configured.map(|(_, name)| name.as_str()));
    let is_asked = |service: &ServiceName| configured.is_none_or(|(own, _)| own == service);
    let mut found: Option<Rows> = None;
    for shared in stack.shared.iter().filter(|shared| is_asked(&shared.service)) {
        let containers = shared::containers(docker, stack, &shared.service).await.ok()?;
        let running = containers.into_iter().find(Container::is_running);
        let Some(container) = running else { continue };
        let Some(mut source) = source(docker, &container).await else { continue };
        if let Some(database) = database {
            database.clone_into(&mut source.database);
        }
        match facts::migrations(docker, &container, &source).await {
            Ok(Some(tables)) => {
                let rows = found.get_or_insert(Rows { names: Vec::new(), has_table: false });
                rows.has_table |= !tables.is_empty();
                rows.names.extend(tables.into_values().flatten());
            }
            Ok(None) => return None,
            Err(error) => {
                tracing::debug!(%error, "the migration tables cannot be read");
                return None;
            }
        }
    }
    found
}

impl Reconciler {
    /// Whether the live database has the migrations that a restore point of it has, and no others;
    /// `None`: it is not known.
    pub async fn has_rows_of(
        &self,
        settings: &StackSettings,
        (release, color): (ReleaseId, Color),
        point: &str,
    ) -> Option<bool> {
        let stack = files::load_stack(&folder_in(settings, release, color)).await.ok()?;
        let docker = docker(settings).await.ok()?;
        let live = look(settings, &docker, &stack, None).await.filter(|rows| rows.has_table)?;
        let point = look(settings, &docker, &stack, Some(point)).await?;
        let sorted = |rows: Rows| rows.names.into_iter().collect::<BTreeSet<_>>();
        Some(sorted(live) == sorted(point))
    }
}

/// Which database a container serves, by its own environment; `None`: it is no PostgreSQL.
async fn source(docker: &Docker, container: &Container) -> Option<MigrationSource> {
    let out = docker.exec(container, &["env"], &[], ENVIRONMENT).await.ok()?;
    if out.code != 0 {
        return None;
    }
    source_in(&out.stdout)
}

fn source_in(environment: &str) -> Option<MigrationSource> {
    let known: BTreeMap<&str, &str> =
        environment.lines().filter_map(|line| line.split_once('=')).collect();
    if !known.contains_key("PGDATA") && !known.contains_key("POSTGRES_USER") {
        return None;
    }
    let user = known.get("POSTGRES_USER").copied().unwrap_or("postgres");
    Some(MigrationSource {
        database: known.get("POSTGRES_DB").copied().unwrap_or(user).to_owned(),
        user: user.to_owned(),
        password: known.get("POSTGRES_PASSWORD").map(|password| (*password).to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_database_come_from_the_containers_environment() {
        let source = source_in("PATH=/bin\nPOSTGRES_USER=shop\nPOSTGRES_DB=main\n").unwrap();
        assert_eq!((source.user.as_str(), source.database.as_str()), ("shop", "main"));
        let source = source_in("PGDATA=/var/lib/postgresql/data\n").unwrap();
        assert_eq!((source.user.as_str(), source.database.as_str()), ("postgres", "postgres"));
        assert_eq!(source.password, None);
        assert_eq!(source_in("REDIS_VERSION=7\n"), None, "another shared service is left alone");
    }

    #[test]
    fn only_what_was_not_there_before_counts_as_applied() {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(fresh(&names(&["a", "b"]), names(&["a", "b", "c"])), ["c"]);
        assert!(fresh(&names(&["a"]), names(&["a"])).is_empty());
    }
}
