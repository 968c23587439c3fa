//! Draining: wait until a color has finished what it had when the drain began.
//!
//! The app's table is published once more with fresh leases, unchanged otherwise; what is left on
//! the old leases is what has to end. Invariant: a request that starts after the drain began is
//! never waited for, and none that started before is missed.

use std::sync::Arc;
use std::time::Duration;

use cutover_model::{AppName, Color};

use super::Board;
use crate::message::{AppDrained, Drain, DrainApp, Drained, Rest, Streams};
use crate::table::{self, Leases};

/// Between two looks at the counters; a drain is rare and the look is a few loads.
const LOOK: Duration = Duration::from_millis(5);
/// Between two orders to end what is left.
const AGAIN: Duration = Duration::from_millis(200);
/// How long ended requests and tunnels get to say goodbye.
const GOODBYE: Duration = Duration::from_secs(3);

/// Waits for one color of one app; `end` is told which leases to end at the deadline.
pub(crate) async fn drain(board: &Board, drain: Drain, end: impl Fn(&[u64])) -> Drained {
    renew(board, &drain.app);
    let waiting = board.retired(&drain.app, drain.color);
    let (requests, tunnels) = open(&waiting);
    let left = wait(&waiting, drain.deadline).await;
    if left > 0 && drain.rest == Rest::End {
        let ids: Vec<u64> = waiting.iter().map(|leases| leases.id).collect();
        let until = tokio::time::Instant::now() + GOODBYE;
        // Said more than once: a request may have taken its lease and not yet told its watch.
        while count(&waiting) > 0 && tokio::time::Instant::now() < until {
            end(&ids);
            wait(&waiting, AGAIN).await;
        }
    }
    Drained { requests, tunnels, left }
}

/// Waits for both colors of an app; `part` is told again and again whose streams shall come back.
/// Who waits at the gate holds no lease, and who comes from now on has a new one.
pub(crate) async fn drain_app(board: &Board, drain: DrainApp, part: impl Fn(&[u64])) -> AppDrained {
    renew(board, &drain.app);
    let old = Color::BOTH.into_iter().flat_map(|color| board.retired(&drain.app, color));
    let old: Vec<Arc<Leases>> = old.collect();
    let ids: Vec<u64> = old.iter().map(|leases| leases.id).collect();
    let (requests, tunnels) = open(&old);
    let until = tokio::time::Instant::now() + drain.deadline;
    let mut again = tokio::time::Instant::now();
    loop {
        let now = tokio::time::Instant::now();
        if drain.streams == Streams::Reconnect && now >= again {
            part(&ids);
            again = now + AGAIN;
        }
        let (requests_left, tunnels_left) = open(&old);
        let waited_for = match drain.streams {
            Streams::Stay => requests_left,
            Streams::Reconnect => requests_left + tunnels_left,
        };
        if waited_for == 0 || now >= until {
            return AppDrained { requests, tunnels, requests_left, tunnels_left };
        }
        tokio::time::sleep_until((now + LOOK).min(until)).await;
    }
}

/// Gives the app new leases, so that the old ones only fall.
fn renew(board: &Board, app: &AppName) {
    loop {
        let base = board.table.load_full();
        let Some(next) = table::renew(&board.registry, &base, app) else { return };
        if board.swap(&base, Arc::new(next), base.find(app).map(AsRef::as_ref)) {
            return;
        }
    }
}

async fn wait(leases: &[Arc<Leases>], deadline: Duration) -> u64 {
    let until = tokio::time::Instant::now() + deadline;
    loop {
        let left = count(leases);
        let now = tokio::time::Instant::now();
        if left == 0 || now >= until {
            return left;
        }
        tokio::time::sleep_until((now + LOOK).min(until)).await;
    }
}

fn open(leases: &[Arc<Leases>]) -> (u64, u64) {
    leases.iter().map(|l| l.open()).fold((0, 0), |sum, open| (sum.0 + open.0, sum.1 + open.1))
}

fn count(leases: &[Arc<Leases>]) -> u64 {
    let (requests, tunnels) = open(leases);
    requests + tunnels
}
