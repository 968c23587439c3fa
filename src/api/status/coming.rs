//! What will happen by itself, for `status`: a rollback that is set for later, and the watch of
//! data that a restore put back, with what came of it.

use cutover_model::restore::{self, Watch};
use cutover_model::{AppState, Scheduled};

use crate::controller::{App, now};
use crate::text;

/// How long it is said that nothing failed, in milliseconds.
const GOOD_NEWS_MS: i64 = 60 * 60 * 1_000;

/// A rollback that is set for later.
pub(super) fn rollback(scheduled: &Scheduled) -> String {
    let Scheduled { at, to, from, by, .. } = scheduled;
    format!(
        "{to} gets all traffic at {} in the place of {from} (set by {}); take it back: cutover \
         rollback --at never",
        text::day(at.0),
        by.0
    )
}

/// The watch of restored data; `None`: there is none to speak of.
pub(super) fn watch(app: &App, state: &AppState) -> Option<String> {
    let (operation, aside) = state.live_restore()?;
    if let Some(watched) = &aside.watched {
        let wrong = watched.wrong.join("; ");
        return match (watched.failed, watched.ended) {
            (Some(at), _) if watched.passes_again => Some(format!(
                "on the data that {operation} put back something failed at {}, and passes now: \
                 {wrong}",
                text::day(at.0)
            )),
            (Some(at), _) => Some(format!(
                "on the data that {operation} put back something failed at {}: {wrong}; data of \
                 before it: cutover undo {operation}",
                text::day(at.0)
            )),
            (None, Some(ended)) if now().0 - ended.0 < GOOD_NEWS_MS => Some(format!(
                "the data that {operation} put back was watched until {}: nothing failed",
                text::clock(ended.0)
            )),
            (None, _) => None,
        };
    }
    let has_ended = state.operations.get(&operation).is_none_or(|known| known.ended.is_some());
    match restore::watch(aside.since, None, app.watch_ms(), now()) {
        Watch::Until(until) if has_ended && app.has_checks() => Some(format!(
            "the data that {operation} put back is watched until {}",
            text::clock(until.0)
        )),
        _ => None,
    }
}
