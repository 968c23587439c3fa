//! What happened, and what will: the journal's facts as JSON lines.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cutover_model::{AppName, Fact, Happened, OperationId, Seq};
use futures_util::stream;
use tokio::sync::broadcast::{self, error::RecvError};

use super::wire::{self, ProblemKind};
use super::{Desk, Words, answers, find, problem};
use crate::controller::App;
use crate::journal::codec;

/// Facts that `events` shows when nothing is said.
const SHOWN: usize = 200;
/// Facts at most.
const MOST: usize = 10_000;

/// `GET …/events?last=200`, with `follow=1` going on.
pub async fn events(State(desk): State<Desk>, Path(name): Path<String>, words: Words) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let last = match words.0.get("last").map(|text| text.parse::<usize>()) {
        None => SHOWN,
        Some(Ok(last)) => last.min(MOST),
        Some(Err(_)) => return problem(ProblemKind::Usage, "last is a number of events", 2),
    };
    let following = words.0.contains_key("follow").then(|| app.follow());
    let past = match stored(app, last).await {
        Ok(past) => past,
        Err(answer) => return answer,
    };
    let next = following.map(|following| following.next);
    lines(Feed { app: app.name.clone(), past, next, until: None })
}

/// Every fact that the journal still has, and those that it does not have yet; oldest first.
pub async fn all(app: &Arc<App>) -> Result<Vec<Arc<Happened>>, Response> {
    let recent = app.follow().past;
    let mut facts: Vec<Arc<Happened>> =
        stored(app, MOST).await?.into_iter().map(|(_, happened)| happened).collect();
    let waits = recent.into_iter().filter(|happened| {
        // Only what is newer than the journal's end can be missing in it.
        facts.last().is_none_or(|last| happened.at >= last.at) && !facts.contains(happened)
    });
    let waits: Vec<_> = waits.collect();
    facts.extend(waits);
    Ok(facts)
}

async fn stored(
    app: &Arc<App>,
    last: usize,
) -> Result<VecDeque<(Option<u64>, Arc<Happened>)>, Response> {
    let failed = |why: String| problem(ProblemKind::Failed, why, 1);
    let (journal, name) = (&app.shared().journal, &app.name);
    let head = journal.head(name).await.map_err(|error| failed(error.to_string()))?;
    let after = Seq(head.0.saturating_sub(last as u64));
    let facts = journal.read(name, after, last).await.map_err(|e| failed(e.to_string()))?;
    facts
        .iter()
        .map(|stored| match codec::decode(stored) {
            Ok(happened) => Ok((Some(stored.seq.0), Arc::new(happened))),
            Err(error) => Err(failed(error.to_string())),
        })
        .collect()
}

/// `GET …/operations/o41/follow`: its facts until it has ended.
pub async fn follow(
    State(desk): State<Desk>,
    Path((name, operation)): Path<(String, String)>,
) -> Response {
    let app = match find(&desk, &name) {
        Ok(app) => app,
        Err(answer) => return answer,
    };
    let operation: OperationId = match operation.parse() {
        Ok(operation) => operation,
        Err(error) => {
            return answers::failed(&crate::controller::Failure::Unknown(format!("{error}")));
        }
    };
    let following = app.follow();
    let is_ours = |happened: &Arc<Happened>| happened.operation == Some(operation);
    let mut past: VecDeque<_> =
        following.past.into_iter().filter(is_ours).map(|happened| (None, happened)).collect();
    if past.is_empty() {
        past = match stored(app, MOST).await {
            Ok(stored) => stored.into_iter().filter(|(_, happened)| is_ours(happened)).collect(),
            Err(answer) => return answer,
        };
    }
    if past.is_empty() {
        let text = format!("there is no operation {operation} on record");
        return problem(ProblemKind::NotFound, text, 2);
    }
    let next = Some(following.next);
    lines(Feed { app: app.name.clone(), past, next, until: Some(operation) })
}

/// Where lines come from.
struct Feed {
    app: AppName,
    past: VecDeque<(Option<u64>, Arc<Happened>)>,
    next: Option<broadcast::Receiver<Arc<Happened>>>,
    /// Only this operation's facts, until it has ended.
    until: Option<OperationId>,
}

impl Feed {
    async fn next(&mut self) -> Option<(Option<u64>, Arc<Happened>)> {
        loop {
            let (seq, happened) = match self.past.pop_front() {
                Some(known) => known,
                None => match self.next.as_mut()?.recv().await {
                    Ok(happened) => (None, happened),
                    // A reader that is too slow misses lines; the journal has them.
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return None,
                },
            };
            let Some(operation) = self.until else { return Some((seq, happened)) };
            if happened.operation != Some(operation) {
                continue;
            }
            if matches!(happened.fact, Fact::OperationEnded { .. }) {
                self.past.clear();
                self.next = None;
            }
            return Some((seq, happened));
        }
    }
}

fn lines(feed: Feed) -> Response {
    let body = stream::unfold(feed, |mut feed| async move {
        let (seq, happened) = feed.next().await?;
        let event = wire::Event {
            schema: wire::schema::EVENT.to_owned(),
            app: feed.app.clone(),
            seq,
            happened: (*happened).clone(),
        };
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), feed))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response()
}
