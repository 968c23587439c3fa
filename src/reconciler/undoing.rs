//! Migrations are taken back: by scripts or a command, on a copy of the live database first.
//!
//! The copy has to become what the restore point from before the migrations is: its schema byte for
//! byte, and the tool's rows; and what serves has to pass its probe on it. Only then the live
//! database meets them: scripts in one transaction, so a kill leaves all of it or nothing; a
//! command in a container of the release, as it does it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use cutover_model::migration::Works;
use cutover_model::{LineLevel, Release, ReleaseId, ServiceName};
use tokio::sync::mpsc;

use super::database::Database;
use super::migrating::failed;
use super::perform::{Text, docker, folder_in, say, secrets_of, text};
use super::rehearsing::{ask, end, pointed};
use super::{Reconciler, Report, Work, migrating};
use crate::crash;
use crate::host::compose::Compose;
use crate::host::postgres::DbName;
use crate::host::stack::Once;
use crate::host::{StackSettings, files, stack};

/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(3_600);
/// How long the command may take that says which migrations there are.
const STATUS: Duration = Duration::from_secs(30);

/// A command that takes migrations back.
#[derive(Debug, Clone)]
pub struct DownCommand {
    /// The service whose image runs it.
    pub service: ServiceName,
    /// Its words.
    pub words: Vec<String>,
    /// What it takes back, newest first.
    pub names: Vec<String>,
}

impl DownCommand {
    /// What it is told beside its words.
    fn env(&self) -> [(String, String); 2] {
        [
            ("CUTOVER_DOWN".to_owned(), self.names.join(" ")),
            ("CUTOVER_DOWN_COUNT".to_owned(), self.names.len().to_string()),
        ]
    }
}

/// Tries them on a copy of the live database.
pub(super) async fn try_down(
    settings: &StackSettings,
    release: ReleaseId,
    work: &mut Work,
    reports: &mpsc::Sender<Report>,
) -> Text {
    let Some(database) = work.database.clone() else {
        return Err("no database is configured".to_owned());
    };
    let tried = Box::pin(on_a_copy(settings, release, work, &database, reports)).await;
    let ended = end(settings, work).await;
    let said = tried?;
    ended?;
    Ok(said)
}

async fn on_a_copy(
    settings: &StackSettings,
    release: ReleaseId,
    work: &Work,
    database: &Database,
    reports: &mpsc::Sender<Report>,
) -> Text {
    let (downs, before) = &work.downs;
    let scratch = database.scratch_of_live().await.map_err(text)?;
    crash::point("down.copied");
    match &work.down_command {
        Some(command) => {
            let on = (database, &scratch);
            command_on_a_copy(settings, release, work, on, command).await?;
        }
        None => database.run_down(Some(&scratch), downs).await.map_err(|trouble| {
            format!("the down scripts of {release} fail on a copy of the database: {trouble}")
        })?,
    }
    crash::point("down.tried");
    let differs = database.differs_from_point(&scratch, release).await.map_err(text)?;
    if let Some((wanted, found)) = differs {
        return Err(format!(
            "after {} of {release} the schema is not what it was before it: \"{wanted}\" has \
             become \"{found}\". Correct it, or put the data back: cutover rollback --database",
            way(work)
        ));
    }
    let mut rows = None;
    if let Some(known) = work.known.get(&release) {
        let docker = docker(settings).await?;
        let folder = folder_in(settings, release, known.color);
        let stack = files::load_stack(&folder).await.map_err(text)?;
        rows = migrating::applied_in(settings, &docker, &stack, Some(scratch.as_str())).await;
    }
    let rows = Rows::compare(before.as_deref(), rows);
    match rows {
        Rows::Other => {
            return Err(format!(
                "after {} of {release} the migrations table has other rows than before it: \
                 another migration came in between",
                way(work)
            ));
        }
        Rows::NotCompared if downs.is_empty() => {
            return Err(format!(
                "whether the migrations of {release} are gone is not known: the rows of the \
                 migrations table cannot be held against those from before it"
            ));
        }
        Rows::Same | Rows::NotCompared => {}
    }
    if let Some(former) = &work.former {
        let docker = docker(settings).await?;
        let asked = ask(settings, &docker, former, (database, &scratch)).await;
        let serves = former.release;
        match asked {
            Ok((Works::No { why }, true)) if !work.is_closed => {
                return Err(format!(
                    "{serves} serves, and would fail without the migrations of {release}: \
                     {why}\nBring the traffic back first: cutover rollback --force, or close the \
                     site for it: cutover maintenance on"
                ));
            }
            Ok((Works::No { why }, _)) | Ok((Works::NotKnown { why }, _)) | Err(why) => {
                let line = format!("whether {serves} works after it is not known: {why}");
                say(reports, LineLevel::Note, "rehearsal", line).await;
            }
            Ok((Works::Yes { .. }, _)) => {}
        }
    }
    Ok(Some(format!("on a copy: the schema is byte for byte what it was before{}", rows.told())))
}

fn way(work: &Work) -> &'static str {
    if work.down_command.is_some() { "the down command" } else { "the down scripts" }
}

async fn command_on_a_copy(
    settings: &StackSettings,
    release: ReleaseId,
    work: &Work,
    (database, scratch): (&Database, &DbName),
    command: &DownCommand,
) -> Result<(), String> {
    let folder = release_folder_of(settings, release, work)?;
    let stack = files::load_stack(&folder).await.map_err(text)?;
    let (compose, generated) = (Compose::new(settings), files::generated(&folder, &stack));
    let variables = compose.environment(&generated, &command.service).await.map_err(text)?;
    let env = pointed(&variables, database.live_name().as_str(), scratch.as_str());
    let mut env = env.map_err(|why| {
        format!("the down command cannot be tried on a copy: {}: {why}", command.service)
    })?;
    env.extend(command.env());
    let ran = run(settings, release, work, (&command.service, &command.words, &env, COMMAND)).await;
    let is_gone = database.lacks(release, &command.names).await.map_err(text)?;
    if is_gone {
        return Err(format!(
            "the down command was told to use \"{scratch}\" and has taken {} back on the live \
             database: it takes its database from elsewhere than its environment",
            command.names.join(", ")
        ));
    }
    let fails =
        |why| format!("the down command of {release} fails on a copy of the database\n{why}");
    ran.map_err(fails).map(drop)
}

/// Runs a command in a container of a release.
///
/// # Errors
/// Why it did not run, or what it said when it failed.
async fn run(
    settings: &StackSettings,
    release: ReleaseId,
    work: &Work,
    (service, command, env, limit): (&ServiceName, &[String], &[(String, String)], Duration),
) -> Result<Vec<String>, String> {
    let folder = release_folder_of(settings, release, work)?;
    let docker = docker(settings).await?;
    let stack = files::load_stack(&folder).await.map_err(text)?;
    let generated = files::generated(&folder, &stack);
    let once = Once { service, command, env, limit };
    let out = stack::run_once(&docker, &Compose::new(settings), &generated, &once, None).await;
    let (out, secrets) = (out.map_err(text)?, secrets_of(&folder).await);
    match out.code {
        0 => Ok(out.tail.iter().map(|line| secrets.mask(line)).collect()),
        _ => Err(failed(&out, service, command, &secrets)),
    }
}

fn release_folder_of(
    settings: &StackSettings,
    release: ReleaseId,
    work: &Work,
) -> Result<PathBuf, String> {
    let known = work.known.get(&release).ok_or(format!("{release} is not on record any more"))?;
    let folder = folder_in(settings, release, known.color);
    match files::is_release(&folder) {
        true => Ok(folder),
        false => Err(format!("{release} was taken over from plain compose: no command runs in it")),
    }
}

/// The rows of the migrations table on the copy, held against those from before the migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    Same,
    Other,
    /// What was there, or what is there, is not known.
    NotCompared,
}

impl Rows {
    fn compare(before: Option<&[String]>, now: Option<Vec<String>>) -> Self {
        let (Some(before), Some(now)) = (before, now) else { return Self::NotCompared };
        let now: BTreeSet<&String> = now.iter().collect();
        if now == before.iter().collect() { Self::Same } else { Self::Other }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Same => ", the rows of the migrations table too",
            Self::Other => "",
            Self::NotCompared => "; the rows of the migrations table could not be compared",
        }
    }
}

/// Takes them back on the live database.
pub(super) async fn take_down(settings: &StackSettings, release: ReleaseId, work: &Work) -> Text {
    let Some(database) = &work.database else {
        return Err("no database is configured".to_owned());
    };
    // CRASH: scripts: all of it or nothing; a command: the tool's rows tell how much.
    crash::point("down.begun");
    let mut names: Vec<&str> = work.downs.0.iter().map(|down| down.name.as_str()).collect();
    match &work.down_command {
        Some(command) => {
            let env = command.env();
            let how = (&command.service, command.words.as_slice(), env.as_slice(), COMMAND);
            run(settings, release, work, how).await?;
            names.extend(command.names.iter().map(String::as_str));
        }
        None => database.run_down(None, &work.downs.0).await.map_err(text)?,
    }
    crash::point("down.ran");
    Ok(Some(format!("{} taken back", names.join(", "))))
}

/// The migrations that the database has; `None`: it cannot be asked.
pub(super) async fn applied(settings: &StackSettings, release: &Release) -> Option<Vec<String>> {
    let folder = folder_in(settings, release.id, release.color);
    let stack = files::load_stack(&folder).await.ok()?;
    migrating::applied(settings, &docker(settings).await.ok()?, &stack).await
}

impl Reconciler {
    /// The down scripts that a release kept, by migration.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub async fn down_scripts(
        &self,
        settings: &StackSettings,
        release: &Release,
    ) -> Result<BTreeMap<String, String>, String> {
        let folder = settings.state.join("releases").join(release.id.to_string());
        files::down::kept(&folder).await.map_err(text)
    }

    /// What a tool says itself of its migrations, by the configured command.
    ///
    /// # Errors
    /// Why it did not run, or what it said when it failed.
    pub async fn tool_says(
        &self,
        settings: &StackSettings,
        release: &Release,
        (service, command): (&ServiceName, &[String]),
    ) -> Result<Vec<String>, String> {
        let mut work = Work::new(settings.app.clone());
        work.known.insert(release.id, release.clone());
        run(settings, release.id, &work, (service, command, &[], STATUS)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_as_the_same_only_where_they_were_compared() {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let before = names(&["a", "b"]);
        let compare =
            |before: Option<&[String]>, now: Option<&[&str]>| Rows::compare(before, now.map(names));
        assert_eq!(compare(Some(&before), Some(&["b", "a"])), Rows::Same);
        assert_eq!(compare(Some(&before), Some(&["a"])), Rows::Other);
        for unknown in [compare(None, Some(&["a"])), compare(Some(&before), None)] {
            assert_eq!(unknown, Rows::NotCompared);
            assert!(unknown.told().contains("could not be compared"));
        }
    }
}
