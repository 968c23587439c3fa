//! The planner: goal against observation gives a plan of repeatable actions.
//!
//! Actions are data: each one is journalled before it is performed, and each may run twice.
//! What is unknown is never taken for "not there": an unknown observation gives no destructive
//! action, only a refusal with its reason.

use serde::{Deserialize, Serialize};

use crate::parts::Parts;
use crate::{Color, ReleaseId};

/// One repeatable change to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Fix the sources (commit, env files) and write the color's compose file.
    Render {
        /// The release.
        release: ReleaseId,
        /// Its color.
        color: Color,
    },
    /// Put a former release's kept files, or those of several, together for the color.
    Assemble {
        /// The release that is made.
        release: ReleaseId,
        /// Its color.
        color: Color,
        /// What it is made of.
        parts: Parts,
    },
    /// Build, pull and resolve every image to its id.
    Images {
        /// The release.
        release: ReleaseId,
    },
    /// Remove the stack that is in a color, containers and networks that are ours; volumes stay.
    Clear {
        /// The color.
        color: Color,
        /// The release whose stack it is, if known.
        release: Option<ReleaseId>,
    },
    /// See that the shared services run, and link them to the color.
    Share {
        /// The color.
        color: Color,
    },
    /// Copy the database, so that the migration that follows can be taken back.
    Point {
        /// The release whose migration follows.
        release: ReleaseId,
    },
    /// Run the migration on a copy of the restore point first, and see what it does.
    Rehearse {
        /// The release whose migration it is.
        release: ReleaseId,
    },
    /// Run the migration command once.
    Migrate {
        /// The release whose image runs it.
        release: ReleaseId,
    },
    /// Run a release's down scripts on a copy of the live database, and hold it against what was
    /// before them.
    TryDown {
        /// The release whose migrations are taken back.
        release: ReleaseId,
    },
    /// Run them on the live database, all or nothing.
    TakeDown {
        /// The release whose migrations are taken back.
        release: ReleaseId,
    },
    /// Create and start the color's containers, without singletons; run its one-shot jobs.
    Start {
        /// The release.
        release: ReleaseId,
        /// Its color.
        color: Color,
    },
    /// Create and start the containers of a release that had a stack before: its one-shot jobs do
    /// not run again.
    Revive {
        /// The release.
        release: ReleaseId,
        /// Its color.
        color: Color,
    },
    /// Start the containers of a stopped color again, in the order of their dependencies.
    Wake {
        /// The release.
        release: ReleaseId,
        /// Its color.
        color: Color,
    },
    /// Wait until the color answers its probe on the path that traffic takes.
    Probe {
        /// The release.
        release: ReleaseId,
        /// Its color.
        color: Color,
    },
    /// Stop the singletons of one color, then start those of the other.
    MoveSingletons {
        /// Where they run now.
        from: Color,
        /// Where they shall run.
        to: Color,
    },
}

impl Action {
    /// The short word that progress lines begin with.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Render { .. } | Self::Assemble { .. } => "prepare",
            Self::Images { .. } => "build",
            Self::Clear { .. } => "clear",
            Self::Share { .. } => "shared",
            Self::Point { .. } => "restore point",
            Self::Rehearse { .. } => "rehearsal",
            Self::Migrate { .. } => "migration",
            Self::TryDown { .. } => "rehearsal",
            Self::TakeDown { .. } => "down",
            Self::Start { .. } | Self::Revive { .. } | Self::Wake { .. } => "start",
            Self::Probe { .. } => "ready",
            Self::MoveSingletons { .. } => "singletons",
        }
    }
}

/// What is wanted of one color.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// A new release runs in the color and is ready.
    Fresh {
        /// The release.
        release: ReleaseId,
        /// The color.
        color: Color,
        /// Whether the deploy has a migration to run.
        migration: Migration,
    },
    /// A former release, or a new one of former parts, is made in the color and is ready: never
    /// pulled, built only where the parts say so, no migration, no job.
    Remade {
        /// The release.
        release: ReleaseId,
        /// The color.
        color: Color,
        /// What it is made of.
        parts: Parts,
    },
    /// A former release, whose containers are there, runs again and is ready.
    Again {
        /// The release.
        release: ReleaseId,
        /// The color.
        color: Color,
    },
    /// Nothing of ours is left in the color.
    Empty {
        /// The color.
        color: Color,
    },
}

/// Whether a deploy runs migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migration {
    /// None is configured.
    None,
    /// The configured command runs once; nothing is copied before.
    Once,
    /// A restore point is made, the command is tried on a copy of it, then it runs once.
    AfterPoint,
}

/// What was seen of a thing on the host; not seen is not the same as not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// It was looked at.
    Known(T),
    /// It could not be looked at, for this reason.
    Unknown(String),
}

/// What was seen of one color.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The containers that carry the color's project label.
    pub containers: Seen<Containers>,
}

/// Containers of one color, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Containers {
    /// That run.
    pub running: u32,
    /// That are there and do not run.
    pub stopped: u32,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// The host could not be looked at.
    #[error("the state of {color} is not known: {why}")]
    Unknown {
        /// The color.
        color: Color,
        /// The reason.
        why: String,
    },
    /// A former release has no containers left.
    #[error("{release} has no containers left in {color}")]
    Gone {
        /// The release.
        release: ReleaseId,
        /// The color.
        color: Color,
    },
}

/// The actions that lead from what was seen to what is wanted, in order.
///
/// # Errors
/// [`NoPlan`] when the observation does not allow one.
pub fn plan(goal: &Goal, seen: &Observation) -> Result<Vec<Action>, NoPlan> {
    let (Goal::Fresh { color, .. }
    | Goal::Remade { color, .. }
    | Goal::Again { color, .. }
    | Goal::Empty { color }) = goal;
    let there = match &seen.containers {
        Seen::Known(containers) => *containers,
        Seen::Unknown(why) => {
            return Err(NoPlan::Unknown { color: *color, why: why.clone() });
        }
    };
    let is_empty = there == Containers::default();
    match goal {
        Goal::Fresh { release, color, migration } => {
            let (release, color) = (*release, *color);
            let mut actions = vec![Action::Render { release, color }, Action::Images { release }];
            // What is refused on a copy has cost nothing: the old standby is still there.
            if *migration == Migration::AfterPoint {
                actions.push(Action::Share { color });
                actions.push(Action::Point { release });
                actions.push(Action::Rehearse { release });
            }
            if !is_empty {
                actions.push(Action::Clear { color, release: None });
            }
            if !is_empty || *migration != Migration::AfterPoint {
                actions.push(Action::Share { color });
            }
            if *migration != Migration::None {
                actions.push(Action::Migrate { release });
            }
            actions.push(Action::Start { release, color });
            actions.push(Action::Probe { release, color });
            Ok(actions)
        }
        Goal::Remade { release, color, parts } => {
            let (release, color) = (*release, *color);
            let mut actions = vec![Action::Assemble { release, color, parts: *parts }];
            if !is_empty {
                actions.push(Action::Clear { color, release: None });
            }
            actions.push(Action::Share { color });
            actions.push(Action::Revive { release, color });
            actions.push(Action::Probe { release, color });
            Ok(actions)
        }
        Goal::Again { release, color } => {
            let (release, color) = (*release, *color);
            if is_empty {
                return Err(NoPlan::Gone { release, color });
            }
            let mut actions = Vec::new();
            if there.stopped > 0 {
                actions.push(Action::Share { color });
                actions.push(Action::Wake { release, color });
            }
            actions.push(Action::Probe { release, color });
            Ok(actions)
        }
        // Networks may be left where containers are not, so an empty color is cleared, too.
        Goal::Empty { color } => Ok(vec![Action::Clear { color: *color, release: None }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(running: u32, stopped: u32) -> Observation {
        Observation { containers: Seen::Known(Containers { running, stopped }) }
    }

    #[test]
    fn the_old_standby_is_cleared_only_after_the_images_are_there() {
        let goal =
            Goal::Fresh { release: ReleaseId(3), color: Color::Blue, migration: Migration::Once };
        let labels: Vec<_> = plan(&goal, &seen(2, 0)).unwrap().iter().map(Action::label).collect();
        assert_eq!(labels, ["prepare", "build", "clear", "shared", "migration", "start", "ready"]);
    }

    #[test]
    fn what_is_made_again_is_neither_built_nor_migrated_and_clears_last() {
        let parts = Parts::of(ReleaseId(1), Some(ReleaseId(2)));
        let goal = Goal::Remade { release: ReleaseId(1), color: Color::Blue, parts };
        let actions = plan(&goal, &seen(3, 0)).unwrap();
        let labels: Vec<_> = actions.iter().map(Action::label).collect();
        assert_eq!(labels, ["prepare", "clear", "shared", "start", "ready"]);
        let is_wrong = |a: &Action| {
            matches!(a, Action::Images { .. } | Action::Migrate { .. } | Action::Start { .. })
        };
        assert!(!actions.iter().any(is_wrong));
    }

    #[test]
    fn a_restore_point_and_a_rehearsal_come_right_before_the_migration() {
        let migration = Migration::AfterPoint;
        let goal = Goal::Fresh { release: ReleaseId(3), color: Color::Blue, migration };
        let labels: Vec<_> = plan(&goal, &seen(0, 0)).unwrap().iter().map(Action::label).collect();
        let tried = ["prepare", "build", "shared", "restore point", "rehearsal"];
        assert_eq!(labels[..5], tried);
        assert_eq!(labels[5..], ["migration", "start", "ready"]);
        let labels: Vec<_> = plan(&goal, &seen(2, 0)).unwrap().iter().map(Action::label).collect();
        assert_eq!(labels[..5], tried, "the old standby is still there when it is refused");
        assert_eq!(labels[5..], ["clear", "shared", "migration", "start", "ready"]);
    }

    #[test]
    fn what_is_unknown_gets_no_plan() {
        let unknown = Observation { containers: Seen::Unknown("docker does not answer".into()) };
        for goal in [
            Goal::Empty { color: Color::Blue },
            Goal::Again { release: ReleaseId(1), color: Color::Blue },
            Goal::Remade {
                release: ReleaseId(1),
                color: Color::Blue,
                parts: Parts::of(ReleaseId(1), None),
            },
            Goal::Fresh { release: ReleaseId(1), color: Color::Blue, migration: Migration::None },
        ] {
            assert!(matches!(plan(&goal, &unknown), Err(NoPlan::Unknown { .. })), "{goal:?}");
        }
    }

    #[test]
    fn a_stopped_color_is_woken_and_never_made_anew() {
        let goal = Goal::Again { release: ReleaseId(1), color: Color::Blue };
        let actions = plan(&goal, &seen(0, 3)).unwrap();
        assert!(actions.contains(&Action::Wake { release: ReleaseId(1), color: Color::Blue }));
        assert!(!actions.iter().any(|a| matches!(a, Action::Start { .. } | Action::Clear { .. })));
        assert!(matches!(plan(&goal, &seen(0, 0)), Err(NoPlan::Gone { .. })));
    }
}
