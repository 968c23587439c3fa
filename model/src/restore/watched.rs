//! What came of watching data that a restore made live.
//!
//! The checks of the operator's file are made again and again for a while after the exchange. What
//! fails is said and kept here. Nothing is undone by it: an undo loses what was written since.

use serde::{Deserialize, Serialize};

use crate::Millis;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// When the watch ended; `None`: it goes on.
    pub ended: Option<Millis>,
    /// When something failed first.
    pub failed: Option<Millis>,
    /// What failed then, a line for each check.
    pub wrong: Vec<String>,
    /// Whether something failed, and the last look found nothing wrong.
    #[serde(default)]
    pub passes_again: bool,
}

/// How far a watch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// It goes on until then.
    Until(Millis),
    /// Its time is over, and its last look is still to be taken.
    Last,
    /// There is nothing to do.
    Over,
}

/// How long after its end a watch is still concluded: a daemon that was away for longer has missed
/// it, and says nothing of a time that it has not seen.
const MISSED_MS: i64 = 60 * 60 * 1_000;

/// How far the watch of data is that became live at `since` and is watched for `most_ms`.
#[must_use]
pub fn watch(since: Millis, watched: Option<&Watched>, most_ms: i64, now: Millis) -> Watch {
    let until = since.0.saturating_add(most_ms);
    if most_ms <= 0 || watched.is_some_and(|watched| watched.ended.is_some()) {
        return Watch::Over;
    }
    match now.0 {
        now if now < until => Watch::Until(Millis(until)),
        now if now < until.saturating_add(MISSED_MS) => Watch::Last,
        _ => Watch::Over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_lasts_its_time_and_is_concluded_once() {
        let at =
            |now: i64, watched: Option<&Watched>| watch(Millis(1_000), watched, 500, Millis(now));
        assert_eq!(at(1_000, None), Watch::Until(Millis(1_500)));
        let failed = Watched { failed: Some(Millis(1_200)), ..Watched::default() };
        assert_eq!(at(1_499, Some(&failed)), Watch::Until(Millis(1_500)), "it goes on");
        assert_eq!(at(1_500, None), Watch::Last);
        assert_eq!(at(1_499 + MISSED_MS, None), Watch::Last);
        assert_eq!(at(1_500 + MISSED_MS, None), Watch::Over, "nobody has seen that time");
        let ended = Watched { ended: Some(Millis(1_500)), ..Watched::default() };
        assert_eq!(at(1_500, Some(&ended)), Watch::Over);
        assert_eq!(watch(Millis(1_000), None, 0, Millis(1_000)), Watch::Over, "it is off");
    }
}
