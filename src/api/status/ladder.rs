//! How good a rollback of the data would be now, by what is on record: nothing is counted, no
//! server is asked.

use std::time::Duration;

use cutover_model::upkeep::Tried;
use cutover_model::{AppKind, AppState, Ending, Millis, OperationId};

use super::super::wire::{BackupLine, DataReadiness, DrillLine, Rung};
use crate::controller::App;
use crate::host::backups::{self, Backup, Listed};

/// How long a disk may take to list backups.
const LIST: Duration = Duration::from_millis(250);

/// What the folder of backups has; `None`: there is no database, or the disk does not answer.
pub(super) async fn listed(app: &App) -> Option<Listed> {
    let home = app.settings().database.as_ref()?.backups.clone();
    match tokio::time::timeout(LIST, backups::list(&home)).await {
        Ok(Ok(listed)) => Some(listed),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the backups cannot be listed");
            None
        }
        Err(_) => None,
    }
}

/// The cheapest way back, in the order in which a restore would take it; `None`: not known.
pub(super) fn data(state: &AppState, listed: Option<&Listed>) -> Option<DataReadiness> {
    if state.kind == AppKind::Static {
        listed?;
        return Some(DataReadiness {
            rung: Rung::None,
            what: "not from here, with fixed endpoints; beside the live database: cutover backup \
                   restore ID --aside"
                .to_owned(),
            at: None,
            takes_ms: None,
        });
    }
    let to = state.restore_target();
    // Without the right one a later one is none: it has migrations that the release did not have.
    let point = to.and_then(|to| state.point_for(to).ok().flatten());
    if let Some(point) = point {
        return Some(DataReadiness {
            rung: Rung::Point,
            what: format!("restore point before {}", point.release),
            at: Some(point.at.0),
            takes_ms: Some(point.took_ms),
        });
    }
    let listed = listed?;
    let spoilt = |backup: &Backup| state.spoilt_by(to?, backup.manifest.at);
    if let Some(backup) = ways_back(listed).rfind(|backup| spoilt(backup).is_none()) {
        let took = state.kept.drill.as_ref().and_then(Tried::took);
        return Some(DataReadiness {
            rung: Rung::Backup,
            what: format!("no restore point; backup {}", backup.id()),
            at: Some(backup.manifest.at.0),
            takes_ms: took.and_then(|took| u64::try_from(took.as_millis()).ok()),
        });
    }
    let newest = ways_back(listed).next_back().and_then(|backup| Some((backup, spoilt(backup)?)));
    let what = match (newest, damaged(listed)) {
        (Some((backup, by)), _) => format!(
            "NO WAY BACK to the data of before {by}: no restore point; backup {} has data of {by}",
            backup.id()
        ),
        (None, Some((id, why))) => format!("NO WAY BACK: no restore point, and of {id}: {why}"),
        (None, None) => "NO WAY BACK: no restore point and no backup".to_owned(),
    };
    Some(DataReadiness { rung: Rung::None, what, at: None, takes_ms: None })
}

/// The newest backup of the live database that cannot be read, and why.
fn damaged(listed: &Listed) -> Option<(&str, &str)> {
    listed.backups.iter().rev().find_map(|backup| {
        let (_, why) = backup.manifest.damaged.as_ref()?;
        backup.manifest.reason.is_ordinary().then_some((backup.id(), why.as_str()))
    })
}

/// The live database's own backups, oldest first: what a restore takes when none is named.
fn ways_back(listed: &Listed) -> impl DoubleEndedIterator<Item = &Backup> {
    listed.backups.iter().filter(|backup| backup.manifest.is_way_back())
}

fn why(ending: &Ending) -> Option<String> {
    match ending {
        Ending::Failed(why) | Ending::Refused(why) => Some(why.clone()),
        _ => None,
    }
}

/// The newest backup, the next one, and the newest drill.
pub(super) fn newest(
    state: &AppState,
    listed: &Listed,
    (next, waits_for): (Option<Millis>, Option<OperationId>),
) -> BackupLine {
    let newest = ways_back(listed).next_back().map(|backup| &backup.manifest);
    let tried = state.kept.backup.as_ref();
    BackupLine {
        not_copied: newest
            .filter(|manifest| manifest.copied.is_none())
            .and_then(|manifest| manifest.not_copied.clone())
            .map(|(at, why)| (at.0, why)),
        next_at: next.map(|at| at.0),
        waits_for,
        failed: tried.and_then(|tried| Some((tried.ended.0, why(&tried.ending)?))),
        drill: state.kept.drill.as_ref().map(|drill| DrillLine {
            at: drill.ended.0,
            backup: drill.backup.clone(),
            took_ms: drill.ended.since(drill.began),
            failed: why(&drill.ending),
        }),
        id: newest.map(|manifest| manifest.id.clone()),
        at: newest.map(|manifest| manifest.at.0),
        verified_at: newest.and_then(|manifest| manifest.verified_at).map(|at| at.0),
        copied_at: newest.and_then(|m| m.copied.as_ref()).map(|(at, _)| at.0),
        kept: listed.backups.len() as u64,
        broken: listed.broken.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use cutover_model::{
        Color, Millis, Oid, Point, Release, ReleaseId, ReleaseState, Split, Standing,
    };

    use super::*;

    fn point(release: u64, at: i64) -> (ReleaseId, Point) {
        let release = ReleaseId(release);
        let point = Point {
            release,
            name: format!("shop__point_{release}"),
            database: "shop".into(),
            oid: Oid(1),
            at: Millis(at),
            bytes: 1,
            took_ms: 3_400,
        };
        (release, point)
    }

    fn proven(id: u64, color: Color) -> (ReleaseId, Standing) {
        let release = serde_json::from_value::<Release>(serde_json::json!({
            "id": id, "color": color, "project": "p", "commit": null, "title": "", "images": {},
            "env_files": {}, "migrations": null, "folder": "", "made_at": 0,
        }));
        let standing = Standing {
            release: release.unwrap(),
            state: ReleaseState::Warm,
            proven_at: Some(Millis(1)),
            rejected_by: None,
        };
        (ReleaseId(id), standing)
    }

    #[test]
    fn the_rungs_are_taken_in_the_order_of_a_restore() {
        let mut state = AppState { split: Split::all(Color::Green), ..AppState::default() };
        assert_eq!(data(&state, None), None, "nothing is known of an app without a database");
        let none = data(&state, Some(&Listed::default())).unwrap();
        assert_eq!((none.rung, none.at), (Rung::None, None));
        state.releases = [proven(5, Color::Blue), proven(7, Color::Green)].into();
        *state.colors.get_mut(Color::Blue) = Some(ReleaseId(5));
        *state.colors.get_mut(Color::Green) = Some(ReleaseId(7));
        state.points = [point(4, 40), point(7, 70), point(8, 80)].into();
        let found = data(&state, Some(&Listed::default())).unwrap();
        assert_eq!((found.rung, found.at, found.takes_ms), (Rung::Point, Some(70), Some(3_400)));
        assert_eq!(found.what, "restore point before r7");
    }
}
