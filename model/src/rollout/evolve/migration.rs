//! How a fact about a migration changes the state; and how a restore does.

use crate::fact::{Fact, Happened};
use crate::migration::{Applied, Migrated};
use crate::restore::{Restore, Source};
use crate::rollout::{AppState, MIGRATED_KEPT};
use crate::{OperationId, ReleaseId};

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
            if let Some(migrated) = state.migrated.get_mut(release) {
                migrated.state = Applied::Undone { operation: *operation };
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
    for migrated in state.migrated.values_mut() {
        let came_later = match &source {
            Source::Point { release } => migrated.release >= *release,
            Source::Backup { .. } => migrated.at > data_of,
            Source::Aside { .. } => since.is_some_and(|since| migrated.at > since),
        };
        // What was applied once and came before the data is in it again, whatever took it back.
        let is_in_it = match &source {
            Source::Point { release } => migrated.release < *release,
            Source::Backup { .. } => migrated.at <= data_of,
            Source::Aside { .. } => false,
        };
        match (&source, migrated.state) {
            (_, Applied::Undone { operation: by }) if is_in_it && by != operation => {
                migrated.state = Applied::Yes;
            }
            (_, Applied::Yes) if came_later => migrated.state = Applied::Undone { operation },
            (Source::Aside { operation: of }, Applied::Undone { operation })
                if operation == *of =>
            {
                migrated.state = Applied::Yes;
            }
            _ => {}
        }
    }
}

/// The names were exchanged back by the operation that exchanged them.
pub(super) fn exchanged_back(state: &mut AppState, operation: OperationId) {
    for migrated in state.migrated.values_mut() {
        let undone = Applied::Undone { operation };
        if migrated.state == undone {
            migrated.state = Applied::Yes;
        }
    }
}
