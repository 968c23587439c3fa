//! Following an operation to its end, and carrying out a command that moves traffic.
//!
//! Ctrl-C leaves the view and nothing else: the operation is the daemon's.

use std::time::Duration;

use cutover_model::{Ending, Fact, Halt, LEFT, OperationId};
use serde::Serialize;

use super::exit::Exit;
use super::failure::CliError;
use super::offline::without_daemon;
use super::session::Session;
use super::show;
use crate::api::wire::{AppStatus, Done, Event, ProblemKind, Status};
use crate::client::{Client, ClientError};

/// How long an operation that waits says nothing before the view is left.
const QUIET: Duration = Duration::from_millis(300);

/// How a followed operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Followed {
    /// It ended so.
    Ended(Ending),
    /// It waits for a person, for this reason.
    Halted(Halt),
    /// Ctrl-C.
    Left,
}

/// Whether a command waits for the end of what it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// To the end.
    Follow,
    /// Not at all.
    Detach,
}

impl From<bool> for Wait {
    fn from(detach: bool) -> Self {
        if detach { Self::Detach } else { Self::Follow }
    }
}

/// The body of a command that says nothing.
#[derive(Debug, Serialize)]
pub(super) struct Nothing {}

/// Asks for a change; what is so already is said on stdout and is no failure.
pub(super) async fn ask(
    session: &Session,
    client: &Client,
    rest: &str,
    body: &impl Serialize,
) -> Result<Option<Done>, CliError> {
    match client.post::<Done>(&session.path(rest), body).await {
        Ok(done) => Ok(Some(done)),
        Err(ClientError::Problem(problem)) if problem.kind == ProblemKind::NothingToDo => {
            session.out.value(&problem);
            session.out.text(&show::nothing_to_do(&problem));
            Ok(None)
        }
        Err(error) if rest == "rollback" => Err(without_daemon(session, error)),
        Err(error) => Err(error.into()),
    }
}

/// A command that moves traffic: its first line at once, then what follows, then its last lines.
pub(super) async fn carry_out(
    session: &Session,
    client: &Client,
    rest: &str,
    body: &impl Serialize,
    wait: Wait,
) -> Result<Exit, CliError> {
    let Some(done) = ask(session, client, rest, body).await? else { return Ok(Exit::Done) };
    session.out.value(&done);
    // What it is that is given up has its own words, and they are those of going on.
    let gives_up = rest.ends_with("/abort");
    session.out.text(&match gives_up {
        true => format!("{} is being given up.", done.operation),
        false => show::first_lines(&done, &session.clock),
    });
    if wait == Wait::Detach {
        session.out.text(&format!("Follow it:  cutover wait {}", done.operation));
        return Ok(Exit::Done);
    }
    let until = if gives_up { Until::End } else { Until::Halt };
    let mut left = None;
    match follow_until(session, client, done.operation, (until, Some(&mut left))).await? {
        Followed::Left => Ok(Exit::Done),
        Followed::Halted(_) => Ok(Exit::Stuck),
        Followed::Ended(ending) => {
            let exit = end(session, done.operation, &ending);
            if exit == Exit::Done && !gives_up {
                if done.moved.is_none() && !done.cuts_only && done.what == "rollback" {
                    moved_meanwhile(session, client, done.operation).await;
                }
                let last = show::last_lines(&done, left.as_deref());
                if !last.is_empty() {
                    session.out.text(&last);
                }
            }
            Ok(exit)
        }
    }
}

/// The line that a rollback could not begin with, because a release had to be started first.
async fn moved_meanwhile(session: &Session, client: &Client, operation: OperationId) {
    // What was asked is done, whoever answers now: its failure is not this command's.
    let Ok(status) = client.get::<Status>("/v1/status").await else {
        let text = format!("{operation} is done. Who serves now:  cutover status");
        session.out.text(&text);
        return;
    };
    let name = session.global.app.as_deref();
    let is_ours = |app: &&AppStatus| name.is_none_or(|name| app.app.as_str() == name);
    if let Some(app) = status.apps.iter().find(is_ours) {
        session.out.text(&show::serves_all(app, status.now, &session.clock));
    }
}

/// Prints the lines of an operation until it ends.
pub(super) async fn follow(
    session: &Session,
    client: &Client,
    operation: OperationId,
) -> Result<Followed, CliError> {
    follow_until(session, client, operation, (Until::Halt, None)).await
}

/// How far an operation is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Until it has ended, or waits for a person.
    Halt,
    /// Until it has ended: a person has just decided what it waited for.
    End,
}

/// Follows; the line that says what a rollback has left goes to the caller, if it wants it.
async fn follow_until(
    session: &Session,
    client: &Client,
    operation: OperationId,
    (until, mut left): (Until, Option<&mut Option<String>>),
) -> Result<Followed, CliError> {
    let path = session.path(&format!("operations/{operation}/follow"));
    let lines = client.lines(&path).await;
    let mut lines = lines.map_err(|error| out_of_sight(operation, error))?;
    let leave = tokio::signal::ctrl_c();
    tokio::pin!(leave);
    let mut halted = None;
    loop {
        let next = tokio::select! {
            next = lines.next::<Event>() => next,
            // What was read so far is old when more comes at once.
            () = tokio::time::sleep(QUIET), if halted.is_some() && until == Until::Halt => {
                return Ok(halted.map_or(Followed::Left, Followed::Halted));
            }
            _ = &mut leave => {
                session.out.talk(&format!(
                    "\nYou left; {operation} goes on. Back:  cutover wait {operation}"
                ));
                return Ok(Followed::Left);
            }
        };
        let event = match next {
            Ok(Some(event)) => event,
            Ok(None) => return Err(lost(operation, "the daemon ended")),
            Err(error) => return Err(out_of_sight(operation, error)),
        };
        session.out.value(&event);
        match &event.happened.fact {
            // What stays as it is stands in the last lines, where there are any.
            Fact::Line { label, text, .. } if label == LEFT && left.is_some() => {
                left = left.map(|left| {
                    *left = Some(text.clone());
                    left
                });
            }
            Fact::Line { level, label, text, .. } => {
                let (at, level) = (event.happened.at.0, *level);
                session.out.text(&show::line(&session.clock, at, level, label, text));
            }
            Fact::OperationEnded { ending, .. } => return Ok(Followed::Ended(ending.clone())),
            Fact::RestoreHalted { halt, .. } => halted = Some(halt.clone()),
            Fact::RestoreResumed { .. } => halted = None,
            _ => {}
        }
    }
}

/// What a command says of an accepted operation that it cannot ask about any more: never that
/// nothing was changed.
pub(super) fn out_of_sight(operation: OperationId, error: ClientError) -> CliError {
    match error {
        ClientError::NoDaemon { .. } | ClientError::Broken(_) => {
            lost(operation, &error.to_string())
        }
        // The daemon knows it better.
        error @ ClientError::Problem(_) => CliError::from(error),
        error => CliError::from(error).way(
            format!("cutover wait {operation}"),
            "follows it; it was accepted, and nothing ended it by this",
        ),
    }
}

fn lost(operation: OperationId, why: &str) -> CliError {
    CliError::silent(format!("{why}; what became of {operation} is not known"))
        .way(
            "sudo systemctl restart cutover",
            "unless it comes back by itself; its start goes on with the operation, or ends it",
        )
        .way(format!("cutover wait {operation}"), "follows it, once the daemon is back")
        .way("cutover status", "says who serves")
}

/// Says how an operation ended, where its lines have not, and gives the exit code.
pub(super) fn end(session: &Session, operation: OperationId, ending: &Ending) -> Exit {
    match ending {
        Ending::Done => Exit::Done,
        Ending::Failed(why) => {
            let why = why.lines().next().unwrap_or_default();
            session.out.text(&format!("FAILED ({operation}): {why}"));
            Exit::Failed
        }
        Ending::Refused(why) => {
            let why = why.lines().next().unwrap_or_default().trim_end_matches(':');
            session.out.text(&format!("REFUSED ({operation}): {why}. NOTHING WAS CHANGED."));
            Exit::Refused
        }
        Ending::GivenUp => {
            // What was put back is in its lines; what was not, too.
            session.out.text(&format!("{operation} was given up. What runs now: cutover status"));
            Exit::Done
        }
        Ending::Overtaken => {
            let text =
                format!("{operation} ended: a later rollback took its place. cutover status");
            session.out.text(&text);
            Exit::Failed
        }
        Ending::Interrupted => {
            let text = format!(
                "{operation} was interrupted, because the daemon ended; what it had begun was \
                 put back"
            );
            session.out.text(&text);
            Exit::Failed
        }
    }
}
