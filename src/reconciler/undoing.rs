//! Migrations are taken back: the down scripts on a copy of the live database first, then on it.
//!
//! The copy has to become what the restore point from before the migrations is: its schema byte for
//! byte, and the tool's rows; and what serves has to pass its probe on it. Only then the live
//! database meets the scripts, in one transaction, so a kill leaves all of it or nothing.

use std::collections::{BTreeMap, BTreeSet};

use cutover_model::migration::Works;
use cutover_model::{LineLevel, Release, ReleaseId};
use tokio::sync::mpsc;

use super::database::Database;
use super::perform::{Text, docker, folder_in, say, text};
use super::rehearsing::{ask, end};
use super::{Report, Work, migrating};
use crate::crash;
use crate::host::{StackSettings, files};

/// Tries the scripts on a copy of the live database.
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
    database.run_down(Some(&scratch), downs).await.map_err(|trouble| {
        format!("the down scripts of {release} fail on a copy of the database: {trouble}")
    })?;
    crash::point("down.tried");
    let differs = database.differs_from_point(&scratch, release).await.map_err(text)?;
    if let Some((wanted, found)) = differs {
        return Err(format!(
            "after the down scripts of {release} the schema is not what it was before it: \
             \"{wanted}\" has become \"{found}\". Correct the scripts, or put the data back: \
             cutover rollback --database"
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
                "after the down scripts of {release} the migrations table has other rows than \
                 before it: another migration came in between"
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

/// Runs the scripts on the live database.
pub(super) async fn take_down(work: &Work) -> Text {
    let Some(database) = &work.database else {
        return Err("no database is configured".to_owned());
    };
    // CRASH: all of it or nothing: the tool's rows tell.
    crash::point("down.begun");
    database.run_down(None, &work.downs.0).await.map_err(text)?;
    crash::point("down.ran");
    let names: Vec<&str> = work.downs.0.iter().map(|down| down.name.as_str()).collect();
    Ok(Some(format!("{} taken back", names.join(", "))))
}

/// The migrations that the database has; `None`: it cannot be asked.
pub(super) async fn applied(settings: &StackSettings, release: &Release) -> Option<Vec<String>> {
    let folder = folder_in(settings, release.id, release.color);
    let stack = files::load_stack(&folder).await.ok()?;
    migrating::applied(settings, &docker(settings).await.ok()?, &stack).await
}

/// The down scripts that a release kept.
pub(super) async fn kept(
    settings: &StackSettings,
    release: &Release,
) -> Result<BTreeMap<String, String>, String> {
    let folder = settings.state.join("releases").join(release.id.to_string());
    files::down::kept(&folder).await.map_err(text)
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
