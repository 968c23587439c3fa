//! Keeps a journalled rule standing: at start and every 10 s, for as long as it is needed.
//!
//! Firewall reloads, `nft flush ruleset` and reboots take rules away; this puts ours back. It says
//! something only when it had to, or when it could not.

use std::time::Duration;

use cutover_model::Redirect;
use tokio_util::sync::CancellationToken;

use crate::host::redirect::{self, Asserted};

/// How often the rule is looked at.
pub const EVERY: Duration = Duration::from_secs(10);

/// What the keeper has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// The rule had to be set again, with what was found instead.
    SetAgain(String),
    /// It could not be looked at or set; tried again next time.
    Failed(String),
}

/// Runs until it is stopped; the rule stays when it stops.
pub async fn standing(rule: Redirect, stop: CancellationToken, mut say: impl FnMut(Kept)) {
    let mut beat = tokio::time::interval(EVERY);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => {}
        }
        match redirect::assert(&rule).await {
            Ok(Asserted::Stood) => failing = false,
            Ok(Asserted::Set { found }) => {
                failing = false;
                say(Kept::SetAgain(found));
            }
            // Said once, not every 10 s.
            Err(error) if !failing => {
                failing = true;
                say(Kept::Failed(error.to_string()));
            }
            Err(_) => {}
        }
    }
}
