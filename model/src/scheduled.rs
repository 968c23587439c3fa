//! A rollback that a person has set for later: what it takes the traffic from, and where to.
//!
//! It names both releases, so that what happens in between can be seen: it is carried out only
//! where the release that was to lose its traffic still has some. Pure; the clock is the caller's.

use serde::{Deserialize, Serialize};

use crate::rollout::{AppState, Input, Manner};
use crate::{Actor, Color, Millis, OperationId, ReleaseId, Weight};

/// How late a rollback is still carried out that was due while nothing ran to do it. Later, the
/// hour is another one than a person chose.
pub const LATE_MS: i64 = 10 * 60 * 1_000;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduled {
    /// When.
    pub at: Millis,
    /// The release that gets the traffic.
    pub to: ReleaseId,
    /// The release that loses it.
    pub from: ReleaseId,
    /// How.
    #[serde(default, skip_serializing_if = "Manner::is_usual")]
    pub manner: Manner,
    /// Who set it.
    pub by: Actor,
    /// When it was set.
    pub set_at: Millis,
}

/// What is to be done about it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    NotYet,
    /// It is carried out.
    Now,
    /// This operation is it: a kill came between the two.
    Done(OperationId),
    /// It is not carried out any more, for this reason.
    Over(String),
}

impl Scheduled {
    /// What is asked of the machine when it is due.
    #[must_use]
    pub fn input(&self) -> Input {
        Input::Rollback { to: Some(self.to), manner: self.manner }
    }

    /// The id of that request: carried out twice it is one operation.
    #[must_use]
    pub fn request(&self) -> String {
        format!("scheduled-{}-{}", self.set_at.0, self.to)
    }

    /// What is to be done now.
    #[must_use]
    pub fn due(&self, state: &AppState, now: Millis) -> Due {
        let request = self.request();
        let done = state.operations.iter().find(|(_, o)| o.request.as_ref() == Some(&request));
        if let Some((operation, _)) = done {
            return Due::Done(*operation);
        }
        let has_traffic = Color::BOTH.into_iter().any(|color| {
            *state.colors.get(color) == Some(self.from) && state.split.share(color) > Weight::ZERO
        });
        if !has_traffic {
            return Due::Over(format!("{} has no traffic any more", self.from));
        }
        match now.0 - self.at.0 {
            ..0 => Due::NotYet,
            0..=LATE_MS => Due::Now,
            _ => Due::Over(format!(
                "it could not be carried out at its time, and that is more than {} minutes ago",
                LATE_MS / 60_000
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ByColor, Operation, OperationKind, Split};

    fn state(split: Split) -> AppState {
        let colors = ByColor { blue: Some(ReleaseId(5)), green: Some(ReleaseId(7)) };
        AppState { colors, split, ..AppState::default() }
    }

    fn scheduled() -> Scheduled {
        Scheduled {
            at: Millis(10_000_000),
            to: ReleaseId(5),
            from: ReleaseId(7),
            manner: Manner::default(),
            by: Actor("li".to_owned()),
            set_at: Millis(1),
        }
    }

    #[test]
    fn it_is_carried_out_in_its_time_and_not_long_after() {
        let state = state(Split::all(Color::Green));
        let due = |now: i64| scheduled().due(&state, Millis(now));
        assert_eq!(due(9_999_999), Due::NotYet);
        assert_eq!(due(10_000_000), Due::Now);
        assert_eq!(due(10_000_000 + LATE_MS), Due::Now);
        assert!(matches!(due(10_000_001 + LATE_MS), Due::Over(_)));
    }

    #[test]
    fn what_was_carried_out_before_a_kill_is_known_again() {
        let mut state = state(Split::all(Color::Blue));
        let operation = Operation {
            what: OperationKind::Shift { weight: Weight::ZERO },
            actor: Actor("li".to_owned()),
            started_at: Millis(10_000_000),
            ended: None,
            request: Some(scheduled().request()),
            moved: None,
            notes: Vec::new(),
        };
        state.operations.insert(OperationId(9), operation);
        assert_eq!(scheduled().due(&state, Millis(10_000_001)), Due::Done(OperationId(9)));
    }

    #[test]
    fn it_is_over_once_the_release_has_no_traffic() {
        let over = Due::Over("r7 has no traffic any more".to_owned());
        for now in [0, 10_000_000] {
            let back = state(Split::all(Color::Blue));
            assert_eq!(scheduled().due(&back, Millis(now)), over);
        }
        // A canary that serves a few has traffic to lose.
        let few = Split { stable: Color::Blue, weight: Weight::from_basis_points(100).unwrap() };
        assert_eq!(scheduled().due(&state(few), Millis(10_000_000)), Due::Now);
    }
}
