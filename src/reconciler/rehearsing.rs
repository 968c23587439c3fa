//! The rehearsal of a migration: the same command on a copy of the restore point, what it does
//! there, and whether the release that serves works on the outcome.
//!
//! The command runs as it would, in a container of the new release; only the database that its
//! environment names is the copy. Where the environment names none it is not tried, and that is
//! said. Nothing of it stays: containers and copy go, whatever came of it.
//! INVARIANT: what was not found out is recorded as not known.

use cutover_model::migration::{Applied, Class, Migrated, Works};
use cutover_model::{Color, Fact, LineLevel, ReleaseId, ServiceName};
use tokio::sync::mpsc;

use super::checking::{Outcome, smoke};
use super::database::{Database, now};
use super::migrating::{applied, applied_in, failed, fresh};
use super::perform::{
    Text, docker, folder_in, happened, made, probe_spec, release_folder, say, secrets_of, text,
};
use super::{ProbeTarget, Report, Work};
use crate::crash;
use crate::host::compose::Compose;
use crate::host::docker::Docker;
use crate::host::postgres::DbName;
use crate::host::postgres::contents::schema::Change;
use crate::host::probe::smoke::Smoke;
use crate::host::stack::Once;
use crate::host::{StackSettings, files, probe, stack};

/// How long a migration may take on a copy.
const MIGRATE: std::time::Duration = std::time::Duration::from_secs(3_600);
/// How long compose may take to start one container.
const START: std::time::Duration = std::time::Duration::from_secs(120);
/// Lines of a container's log that a failure shows.
const LOG_LINES: usize = 3;
/// What is told of a migration that does a lot.
const SHOWN: usize = 8;

/// What serves, and how it is asked whether it works.
#[derive(Debug, Clone)]
pub struct Former {
    /// The release.
    pub release: ReleaseId,
    /// Its color.
    pub color: Color,
    /// The service that its readiness probe reaches, and the port inside; an error says why there
    /// is none to be asked.
    pub service: Result<(ServiceName, u16), String>,
    /// The readiness probe; its address is another one.
    pub target: ProbeTarget,
    /// The smoke probes that reach the same service.
    pub smoke: Vec<Smoke>,
}

/// Tries the migration, records what came of it, and says first what it would break.
pub(super) async fn rehearse(
    settings: &StackSettings,
    release: ReleaseId,
    work: &mut Work,
    reports: &mpsc::Sender<Report>,
) -> Text {
    let (Some(database), Some((service, command))) =
        (work.database.clone(), work.migration.clone())
    else {
        return Ok(None);
    };
    let tried = Box::pin(on_a_copy(settings, release, work, &database, (&service, &command)));
    let tried = tried.await;
    let ended = end(settings, work).await;
    let tried = tried?;
    // Nothing may stand before the record that the live database was met.
    if !matches!(tried, Tried::OnLive { .. }) {
        ended?;
    }
    match tried {
        Tried::Nothing => Ok(None),
        Tried::Impossible(why) => {
            let text = format!("not tried on a copy: {why}. What it does is not known");
            say(reports, LineLevel::Note, "migration", text).await;
            Ok(None)
        }
        Tried::OnLive { names } => {
            work.met_live = true;
            let said = format!(
                "the command was told to use \"{}\" and has migrated the live database: {}. It \
                 takes its database from elsewhere than its environment: let it follow the \
                 variable, or set restore_point = \"off\"; the restore point is from before it",
                database.scratch_name(),
                names.join(", ")
            );
            happened(reports, Fact::MigrationBegun { release }).await?;
            happened(reports, Fact::MigrationDone { release, names }).await?;
            Err(said)
        }
        Tried::Known { migrated, is_unready, unknown } => {
            let migrated = *migrated;
            for line in first_said(&migrated, unknown.as_deref()) {
                say(reports, LineLevel::Note, "migration", line).await;
            }
            happened(reports, Fact::MigrationTried { migrated: Box::new(migrated.clone()) })
                .await?;
            crash::point("rehearsal.tried");
            if let (true, false, Some((former, Works::No { why }))) =
                (is_unready, work.is_closed, &migrated.former)
            {
                return Err(format!(
                    "{former} serves, and would fail as soon as {} is applied: {why}\nMake it in \
                     two releases (one that adds, a later one that takes away), or close the site \
                     for it first: cutover maintenance on",
                    migrated.names.join(", ")
                ));
            }
            work.tried = Some(migrated);
            Ok(None)
        }
    }
}

/// What came of it.
enum Tried {
    /// There is nothing to apply.
    Nothing,
    /// It was to run on the copy, and the live database got these.
    OnLive { names: Vec<String> },
    /// It could not be tried, for this reason.
    Impossible(String),
    /// It ran.
    Known {
        migrated: Box<Migrated>,
        /// Whether what serves failed its readiness probe on the copy.
        is_unready: bool,
        /// Why it is not known what it does, where that is so.
        unknown: Option<String>,
    },
}

async fn on_a_copy(
    settings: &StackSettings,
    release: ReleaseId,
    work: &Work,
    database: &Database,
    (service, command): (&ServiceName, &[String]),
) -> Result<Tried, String> {
    let docker = docker(settings).await?;
    let new = made(work)?;
    let folder = release_folder(settings, release);
    let scratch = database.scratch_name();
    let (compose, generated) = (Compose::new(settings), files::generated(&folder, new));
    let variables = compose.environment(&generated, service).await.map_err(text)?;
    let env = match pointed(&variables, database.live_name().as_str(), scratch.as_str()) {
        Ok(env) => env,
        Err(why) => return Ok(Tried::Impossible(format!("{service}: {why}"))),
    };
    database.scratch_of_point(release).await.map_err(text)?;
    crash::point("rehearsal.cloned");
    let watched = database.watch(&scratch).await.map_err(text)?;
    let once = Once { service, command, env: &env, limit: MIGRATE };
    let out = stack::run_once(&docker, &compose, &generated, &once, None).await;
    crash::point("rehearsal.ran");
    if let Some(names) = met_live(settings, &docker, work).await {
        return Ok(Tried::OnLive { names });
    }
    let out = out.map_err(text)?;
    if out.code != 0 {
        return Err(format!(
            "the migration fails on a copy of the database; the live one was not touched\n{}",
            failed(&out, service, command, &secrets_of(&folder).await)
        ));
    }
    let before = work.made.migrations.clone();
    let now_there = applied_in(settings, &docker, new, Some(scratch.as_str())).await;
    let names = before.zip(now_there).map(|(before, now)| fresh(&before, now));
    let (changes, unknown) = match &watched {
        Some(watched) => (Some(database.seen(&scratch, watched).await.map_err(text)?), None),
        None => (None, Some("event triggers need a superuser, and our role is none".to_owned())),
    };
    let is_nothing = changes.as_ref().is_some_and(Vec::is_empty);
    if is_nothing && names.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Tried::Nothing);
    }
    let (former, is_unready) = match &work.former {
        Some(former) => {
            let asked = Box::pin(ask(settings, &docker, former, (database, &scratch))).await;
            let (works, is_unready) = match asked {
                Ok(asked) => asked,
                Err(why) => (Works::NotKnown { why }, false),
            };
            (Some((former.release, works)), is_unready)
        }
        None => (None, false),
    };
    let migrated = Migrated {
        release,
        names: names.unwrap_or_default(),
        class: changes.as_deref().map(class),
        breaks: changes.map(breaks).unwrap_or_default(),
        former,
        at: now(),
        state: Applied::No,
        undone: None,
    };
    Ok(Tried::Known { migrated: Box::new(migrated), is_unready, unknown })
}

fn class(changes: &[Change]) -> Class {
    changes.iter().map(|change| change.class).max().unwrap_or(Class::None)
}

fn breaks(changes: Vec<Change>) -> Vec<String> {
    let grave = changes.into_iter().filter(|change| change.class == Class::Contract);
    grave.map(|change| change.what).take(SHOWN).collect()
}

/// What the operator reads before anything is applied.
fn first_said(migrated: &Migrated, unknown: Option<&str>) -> Vec<String> {
    let names = match migrated.names.as_slice() {
        [] => "this deploy's migration".to_owned(),
        names => names.join(", "),
    };
    let mut lines = Vec::new();
    if let Some(why) = unknown {
        lines.push(format!("{names}: what it does is not known: {why}"));
    }
    let (former, works) = match &migrated.former {
        Some((former, works)) => (former.to_string(), Some(works)),
        None => ("what came before".to_owned(), None),
    };
    if migrated.class == Some(Class::Contract) {
        lines.push(format!(
            "{names}: {}. This closes the way back: once it is applied a plain rollback to \
             {former} is refused",
            migrated.breaks.join(", ")
        ));
    }
    match works {
        Some(Works::No { why }) => {
            lines.push(format!("{former} does not work with {names}: {why}"));
        }
        Some(Works::NotKnown { why }) => {
            lines.push(format!("whether {former} works with {names} is not known: {why}"));
        }
        Some(Works::Yes { .. }) | None => {}
    }
    lines
}

/// What the live database got of a command that takes its database from elsewhere than its
/// environment; `None`: nothing.
async fn met_live(settings: &StackSettings, docker: &Docker, work: &Work) -> Option<Vec<String>> {
    let (Some(before), Some(stack)) = (&work.made.migrations, &work.made.stack) else {
        return None;
    };
    let names = fresh(before, applied(settings, docker, stack).await?);
    (!names.is_empty()).then_some(names)
}

/// Asks the release that serves on the migrated copy: its probe and the smoke probes that reach the
/// same service. The second value: whether it was the readiness probe that failed.
pub(super) async fn ask(
    settings: &StackSettings,
    docker: &Docker,
    former: &Former,
    (database, scratch): (&Database, &DbName),
) -> Result<(Works, bool), String> {
    let (service, port) = former.service.clone()?;
    let folder = folder_in(settings, former.release, former.color);
    if !files::is_release(&folder) {
        let why = "it was taken over from plain compose, so it cannot be started beside itself";
        return Err(why.to_owned());
    }
    let old = files::load_stack(&folder).await.map_err(text)?;
    let (compose, generated) = (Compose::new(settings), files::generated(&folder, &old));
    let variables = compose.environment(&generated, &service).await.map_err(text)?;
    let env = pointed(&variables, database.live_name().as_str(), scratch.as_str());
    let env = env.map_err(|why| format!("its {service}: {why}"))?;
    let once = Once { service: &service, command: &[], env: &env, limit: START };
    let container = stack::start_beside(docker, &compose, &generated, &once).await;
    let container = container.map_err(text)?;
    let address = container.dial().ok_or("its container has no address")?;
    let mut target = former.target.clone();
    target.address = std::net::SocketAddr::new(address, port);
    if let Err(error) = probe::probe(&probe_spec(&target)).await {
        let secrets = secrets_of(&folder).await;
        let log = docker.log_tail(&container, LOG_LINES).await.unwrap_or_default();
        let log: Vec<String> = log.iter().map(|line| secrets.mask(&line.text)).collect();
        let log = if log.is_empty() { String::new() } else { format!(" ({})", log.join("; ")) };
        return Ok((Works::No { why: format!("{error}{log}") }, true));
    }
    let checked = smoke(&former.smoke, &target).await;
    let wrong: Vec<String> = checked.iter().filter_map(super::Checked::wrong).collect();
    let passed = checked.iter().filter(|check| check.outcome == Outcome::Pass).count();
    Ok(match wrong.is_empty() {
        false => {
            let (failed, all) = (wrong.len(), checked.len());
            let why = format!("{failed} of {all} smoke probes failed: {}", wrong.join("; "));
            (Works::No { why }, false)
        }
        true if checked.is_empty() => (Works::Yes { what: "its probe".to_owned() }, false),
        true => {
            let what = format!("its probe and {passed} of {} smoke probes", checked.len());
            (Works::Yes { what }, false)
        }
    })
}

/// Removes containers and copy of a rehearsal; nothing there is success.
pub(super) async fn end(settings: &StackSettings, work: &Work) -> Result<(), String> {
    let docker = docker(settings).await?;
    if let (Some((_, color)), Some((service, _))) = (work.release, &work.migration) {
        // After a kill it may run on, and would make the copy again.
        stack::end_once(&docker, &settings.project(color), service).await.map_err(text)?;
    }
    if let Some(Former { service: Ok((service, _)), color, .. }) = &work.former
        && let Some(project) = work.projects.get(*color).as_deref()
    {
        stack::end_beside(&docker, project, service).await.map_err(text)?;
    }
    match &work.database {
        Some(database) => database.drop_scratch().await.map_err(text),
        None => Ok(()),
    }
}

/// Variables that name the live database, with the copy instead.
///
/// # Errors
/// Why nothing says that everything would be led to the copy: then it is not tried at all, for it
/// might meet the live database.
pub(super) fn pointed(
    variables: &[(String, String)],
    live: &str,
    scratch: &str,
) -> Result<Vec<(String, String)>, String> {
    let mut led = Vec::new();
    for (name, value) in variables {
        match lead(name, value, live, scratch) {
            Some(value) => led.push((name.clone(), value)),
            None if may_name_a_database(name, value, live) => {
                return Err(format!(
                    "{name} names a database, and it cannot be led to the copy of \"{live}\": \
                     write it as a URL that ends in /{live}, or take it out of this service's \
                     environment"
                ));
            }
            None => {}
        }
    }
    match led.is_empty() {
        true => Err(format!(
            "no variable that compose gives it names the database \"{live}\", so nothing can lead \
             it to a copy: name it in the service's environment or env_file (DATABASE_URL or \
             PGDATABASE), where the command takes it from"
        )),
        false => Ok(led),
    }
}

/// Whether a client of PostgreSQL may take the live database from this variable.
fn may_name_a_database(name: &str, value: &str, live: &str) -> bool {
    let name = name.to_ascii_uppercase();
    // A database for a tool's own trials.
    let is_apart = ["SHADOW", "TEST"].iter().any(|word| name.contains(word));
    if is_apart && !value.contains('$') && !tokens(value).any(|token| token == live) {
        return false;
    }
    let scheme = value.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if let Some(scheme) = scheme {
        return is_postgres(&scheme);
    }
    if value.split_whitespace().any(|word| word.starts_with("dbname=")) {
        return true;
    }
    let about_else = ["PASSWORD", "PASS", "USER", "USERNAME", "HOST", "PORT", "KEY", "SECRET"];
    let about = ["DATABASE", "DB", "PG", "POSTGRES", "SQL", "CONNECTION", "DSN", "TYPEORM"];
    let is_about = about.iter().any(|word| name.contains(word))
        && !about_else.iter().any(|word| name.ends_with(word));
    is_about && (value.contains('$') || tokens(value).any(|token| token == live))
}

fn tokens(value: &str) -> impl Iterator<Item = &str> {
    value.split(['/', ';', '=', '?', '&', ' '])
}

fn is_postgres(scheme: &str) -> bool {
    ["postgres", "postgis", "pgsql"].iter().any(|known| scheme.contains(known))
}

/// A value that leads to one database, led to another; `None`: it does not.
fn lead(name: &str, value: &str, live: &str, other: &str) -> Option<String> {
    if let Some((scheme, rest)) = value.split_once("://") {
        if !is_postgres(&scheme.to_ascii_lowercase()) {
            return None;
        }
        let (authority, path) = rest.split_once('/')?;
        let end = path.find(['?', '#']).unwrap_or(path.len());
        let (database, more) = path.split_at(end);
        return (database == live).then(|| format!("{scheme}://{authority}/{other}{more}"));
    }
    let dsn = format!("dbname={live}");
    if value.split_whitespace().any(|word| word == dsn) {
        let words = value.split_whitespace();
        let led = words.map(|word| match word == dsn {
            true => format!("dbname={other}"),
            false => word.to_owned(),
        });
        return Some(led.collect::<Vec<_>>().join(" "));
    }
    // As .NET has it: Host=db;Database=shop.
    let is_part = |part: &str| {
        let pair = part.split_once('=');
        pair.is_some_and(|(key, value)| {
            key.trim().eq_ignore_ascii_case("database") && value.trim() == live
        })
    };
    if value.contains(';') && value.split(';').any(is_part) {
        let led = value.split(';').map(|part| match is_part(part) {
            true => format!("Database={other}"),
            false => part.to_owned(),
        });
        return Some(led.collect::<Vec<_>>().join(";"));
    }
    let name = name.to_ascii_uppercase();
    let is_name = ["DB", "POSTGRES_DB", "PG_DB"].contains(&name.as_str())
        || name.ends_with("DB_NAME")
        || name.ends_with("DATABASE")
        || name.ends_with("DATABASE_NAME");
    (is_name && value == live).then(|| other.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_led_to_the_copy_is_told_with_what_to_do() {
        let tried = |pairs: &[(&str, &str)]| {
            let owned = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            pointed(&owned.collect::<Vec<_>>(), "shop", "shop__try_o4")
        };
        let url = ("DATABASE_URL", "postgres://shop:a$b@db/shop");
        let led = "postgres://shop:a$b@db/shop__try_o4";
        assert_eq!(tried(&[url, ("PORT", "80")]), Ok(vec![(url.0.to_owned(), led.to_owned())]));
        for (pairs, said) in [
            (&[("PORT", "80")][..], "name it in the service's environment or env_file"),
            (&[url, ("REPLICA_URL", "postgres://db/other")], "REPLICA_URL names a database"),
            (&[url, ("PGDATABASE", "${NAME}")], "take it out of this service's environment"),
        ] {
            let why = tried(pairs).unwrap_err();
            assert!(why.contains(said) && why.contains("\"shop\""), "{why}");
        }
    }

    #[test]
    fn only_what_leads_to_the_live_database_is_led_to_the_copy() {
        let led = |name: &str, value: &str| lead(name, value, "shop", "shop__try_o4");
        for (name, value, wanted) in [
            (
                "DATABASE_URL",
                "postgres://shop:a%2Fb@postgres:5432/shop?schema=public",
                "postgres://shop:a%2Fb@postgres:5432/shop__try_o4?schema=public",
            ),
            ("URL", "jdbc:postgresql://db/shop", "jdbc:postgresql://db/shop__try_o4"),
            ("U", "postgresql+asyncpg://u@db/shop", "postgresql+asyncpg://u@db/shop__try_o4"),
            ("DSN", "host=db dbname=shop", "host=db dbname=shop__try_o4"),
            ("PGDATABASE", "shop", "shop__try_o4"),
            ("APP_DB_NAME", "shop", "shop__try_o4"),
            ("TYPEORM_DATABASE", "shop", "shop__try_o4"),
            ("URL", "postgis://db/shop", "postgis://db/shop__try_o4"),
            ("C", "Host=db;Database=shop;Port=1", "Host=db;Database=shop__try_o4;Port=1"),
        ] {
            assert_eq!(led(name, value).as_deref(), Some(wanted), "{name}");
        }
        for (name, value) in [
            ("PGUSER", "shop"),
            ("DATABASE_URL", "postgres://shop@db/shop2"),
            ("DATABASE_URL", "postgres://shop@db/other?x=/shop"),
            ("REDIS_URL", "redis://redis/shop"),
            ("DATABASE_URL", "postgres://shop"),
        ] {
            assert_eq!(led(name, value), None, "{name}={value}");
        }
        for (name, value, may) in [
            ("PGUSER", "shop", false),
            ("REDIS_URL", "redis://redis/shop", false),
            ("PRICE", "$1", false),
            ("ANALYTICS", "postgres://shop@db/shop2", true),
            ("DATABASE_URL", "postgres://shop", true),
            ("DATABASE_URL", "postgres://shop:a$$b@db/shop", true),
            ("DATABASE_URL", "${URL}", true),
            ("PGDATABASE", "${NAME}", true),
            ("DSN", "host=db dbname=other", true),
            ("SHOP_DATABASE_PASSWORD", "pa$$w0rd", false),
            ("SHADOW_DATABASE_URL", "postgres://db/shop_shadow", false),
            ("SHADOW_DATABASE_URL", "postgres://db/shop", true),
            ("APP_NAME", "shop", false),
            ("PG_OPTIONS", "--db=shop", true),
        ] {
            assert_eq!(may_name_a_database(name, value, "shop"), may, "{name}={value}");
        }
    }
}
