//! What a rollback of traffic leaves as it is: what the release that lost it has done to the data.
//!
//! It only looks, within a short time; what cannot be known is left out.

use std::time::Duration;

use cutover_model::{AppState, Applied, Release, ReleaseId};

use super::super::App;
use crate::text;

/// How long the database may take to say which migrations it has.
const ASK: Duration = Duration::from_secs(5);

impl App {
    /// What a release that lost the traffic has left in the database, as far as it is known.
    pub(super) async fn what_stays(&self, from: ReleaseId) -> String {
        let state = self.state();
        let Some(standing) = state.standing(from) else { return format!("{from} wrote into it") };
        let point = state.points.get(&from);
        // What was found out when it was tried; it tells without asking anybody.
        let known = state.migrated.get(&from).filter(|m| m.state == Applied::Yes);
        let told = known.map_or_else(String::new, |known| format!(" ({})", known.told()));
        let ran_by = match known.map(|known| known.names.len()).filter(|number| *number > 0) {
            Some(number) => Some(number),
            None => self.ran_by(&state, &standing.release).await,
        };
        let ran = match (ran_by, point) {
            (Some(0), _) => " ran no migration and".to_owned(),
            (Some(number), _) => {
                format!(" ran {}{told} and", text::number_of(number, "migration"))
            }
            (None, Some(_)) => format!(" ran its migration command{told} and"),
            (None, None) => String::new(),
        };
        // What a release writes begins with its migration, right after the restore point.
        let since = point.map_or(standing.release.made_at, |point| point.at);
        format!("{from}{ran} has written since {}", text::day(since.0))
    }

    /// How many migrations came with a release; `None`: the database does not tell.
    async fn ran_by(&self, state: &AppState, release: &Release) -> Option<usize> {
        let before = release.migrations.as_ref()?;
        let next = state.releases.range(release.id.next()..).find_map(|(_, later)| {
            let made = later.release.parts.is_none();
            later.release.migrations.as_ref().filter(|_| made)
        });
        let after = match next {
            Some(next) => next.clone(),
            None => {
                let (reconciler, stack) = (self.shared.reconciler.as_ref()?, self.stack()?);
                let asked = reconciler.applied(&stack, release);
                tokio::time::timeout(ASK, asked).await.ok().flatten()?
            }
        };
        Some(after.iter().filter(|name| !before.contains(name)).count())
    }
}
