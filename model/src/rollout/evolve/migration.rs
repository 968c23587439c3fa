//! How a fact about a migration changes the state; and how a restore does.

use crate::fact::{Fact, Happened};
use crate::migration::{Applied, Migrated, Undone};
use crate::restore::{Restore, Source};
use crate::rollout::{AppState, MIGRATED_KEPT};
use crate::{Color, OperationId, ReleaseId, Weight};

pub(super) fn evolve(state: &mut AppState, happened: &Happened) {
    match &happened.fact {
        Fact::MigrationTried { migrated } => {
            state.migrated.insert(migrated.release, (**migrated).clone());
            while state.migrated.len() > MIGRATED_KEPT {
                state.migrated.pop_first();
            }
        }
        Fact::MigrationBegun { release } => {
            let begun =
                state.migrated.entry(*release).or_insert_with(|| unknown(happened, *release));
            begun.state = Applied::Yes;
        }
        Fact::MigrationDone { release, names } if names.is_empty() => {
            state.migrated.remove(release);
        }
        Fact::MigrationDone { release, names } => {
            if let Some(migrated) = state.migrated.get_mut(release) {
                migrated.names.clone_from(names);
            }
        }
        Fact::MigrationUndone { release, operation } => {
            let serves = |color: &Color| state.split.share(*color) > Weight::ZERO;
            let serving = Color::BOTH.into_iter().filter(serves);
            let works = serving.filter_map(|color| *state.colors.get(color)).collect();
            let newest = state.newest_release;
            if let Some(migrated) = state.migrated.get_mut(release) {
                migrated.state = Applied::Undone { operation: *operation };
                let brought_back = None;
                migrated.undone = Some(Undone { by: *operation, newest, works, brought_back });
            }
        }
        _ => {}
    }
}

fn unknown(happened: &Happened, release: ReleaseId) -> Migrated {
    Migrated {
        release,
        names: Vec::new(),
        class: None,
        breaks: Vec::new(),
        former: None,
        at: happened.at,
        state: Applied::Yes,
        undone: None,
    }
}

/// A restore exchanged the names: the live database has the migrations of other data now.
pub(super) fn exchanged(state: &mut AppState, operation: OperationId) {
    let Some(Restore { plan, .. }) = state.restores.get(&operation) else { return };
    let (source, data_of) = (plan.source.clone(), plan.data_of);
    let since = match &source {
        Source::Aside { operation } => state.asides.get(operation).map(|aside| aside.since),
        Source::Point { .. } | Source::Backup { .. } => None,
    };
    let newest = state.newest_release;
    // What was taken back only after that moment is in data of that moment.
    let came_after =
        |by: &OperationId| state.operations.get(by).is_some_and(|by| by.started_at > data_of);
    let undone_since: Vec<OperationId> =
        state.migrated.values().filter_map(|m| Some(m.undone.as_ref()?.by)).collect();
    let undone_since: Vec<OperationId> = undone_since.into_iter().filter(came_after).collect();
    for migrated in state.migrated.values_mut() {
        let came_later = match &source {
            Source::Point { release } => migrated.release >= *release,
            Source::Backup { .. } => migrated.at > data_of,
            Source::Aside { .. } => since.is_some_and(|since| migrated.at > since),
        };
        let is_older = match &source {
            Source::Point { release } => migrated.release < *release,
            Source::Backup { .. } => migrated.at <= data_of,
            Source::Aside { .. } => false,
        };
        if let Source::Aside { operation: of } = &source {
            back_before(migrated, *of);
        }
        match migrated.state {
            Applied::Undone { operation: by }
                if is_older && by != operation && undone_since.contains(&by) =>
            {
                migrated.state = Applied::Yes;
                if let Some(undone) = &mut migrated.undone {
                    undone.brought_back = Some(operation);
                }
            }
            Applied::Yes if came_later => {
                migrated.state = Applied::Undone { operation };
                let (works, brought_back) = (Vec::new(), None);
                migrated.undone = Some(Undone { by: operation, newest, works, brought_back });
            }
            _ => {}
        }
    }
}

/// The names were exchanged back by the operation that exchanged them.
pub(super) fn exchanged_back(state: &mut AppState, operation: OperationId) {
    for migrated in state.migrated.values_mut() {
        back_before(migrated, operation);
    }
}

/// As it was before this restore exchanged the names.
fn back_before(migrated: &mut Migrated, restore: OperationId) {
    if migrated.state == (Applied::Undone { operation: restore }) {
        migrated.state = Applied::Yes;
        migrated.undone = None;
    } else if let Some(undone) = &mut migrated.undone
        && undone.brought_back == Some(restore)
    {
        undone.brought_back = None;
        migrated.state = Applied::Undone { operation: undone.by };
    }
}
