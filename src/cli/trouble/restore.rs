//! The way back of data: traffic first, then a plan with its losses, a number, and the exchange.
//!
//! Nothing is accepted but the most rows that may be lost: no `--yes` covers it.

use cutover_model::restore::Loss;
use cutover_model::{Ending, Halt, Images, Leg, OperationId, Parts, ReleaseId};

use crate::api::wire::{self, DataAsk, Done, ProblemKind, RestoreAsk, RestorePlanned};
use crate::cli::exit::Exit;
use crate::cli::failure::{CliError, ONLY_DATA};
use crate::cli::follow::{Followed, end, follow, out_of_sight};
use crate::cli::output::Format;
use crate::cli::session::Session;
use crate::cli::show;
use crate::client::{Client, ClientError};

/// What the database's way back is asked with.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DataArgs {
    /// The data, too: shows what is lost, then asks
    #[arg(long)]
    pub database: bool,
    /// From this backup, "newest", or rN: the restore point before rN
    #[arg(long, value_name = "ID")]
    pub backup: Option<String>,
    /// The most rows that may be lost; nothing is asked then
    #[arg(long, value_name = "ROWS")]
    pub max_loss: Option<u64>,
}

impl DataArgs {
    fn data(&self) -> DataAsk {
        match self.backup.as_deref() {
            None => DataAsk::Cheapest,
            Some("newest") => DataAsk::NewestBackup,
            Some(id) => match id.parse() {
                Ok(release) => DataAsk::Point(release),
                Err(_) => DataAsk::Backup(id.to_owned()),
            },
        }
    }
}

/// What happens besides the exchange of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The plan is shown, and nothing else.
    Only,
    /// A person decides on it, or `--max-loss` has.
    Decide(Option<u64>),
}

/// It asks, and what waits for a person must not wait unseen.
pub(super) fn not_detached() -> CliError {
    let text = "a way back of data is followed until it has ended or waits for a person: leave \
                --detach out. Ctrl-C leaves it, and it goes on";
    CliError::new(Exit::Usage, text)
}

/// `rollback --database`: traffic first, unless only the data was asked for.
pub(super) async fn rollback(
    session: &Session,
    client: &Client,
    (to, traffic): (Option<ReleaseId>, Option<&wire::Rollback>),
    (args, look): (&DataArgs, Look),
) -> Result<Exit, CliError> {
    let mut ask = RestoreAsk { to, as_of: None, data: args.data() };
    let mut goes_first = None;
    if let Some(traffic) = traffic.filter(|traffic| traffic.composes() || look == Look::Only)
        && let Some(plan) = preview(session, client, traffic).await?
    {
        if let Some(parts) = plan.parts.as_ref().filter(|_| traffic.composes()) {
            // It serves as a release of its own, on the data of the one that its parts came from.
            ask.as_of = Some(source_of(traffic, parts));
        }
        if look == Look::Only {
            session.out.text(&show::rollback_plan(&plan, true));
            session.out.text("");
            goes_first = Some(plan.release);
        }
    }
    let before = match traffic.filter(|_| look != Look::Only) {
        Some(traffic) => move_traffic(session, client, traffic).await?,
        None => Traffic::Stayed,
    };
    if before == Traffic::Moved {
        // Who serves now, also where that is a release which was just made.
        ask.to = None;
    }
    put_back_after(session, client, (ask, look), (before, goes_first)).await.map_err(|mut error| {
        if before == Traffic::Moved {
            error.only_data_unchanged();
        }
        error
    })
}

/// What would happen with the traffic; `None`: nothing, before the data is put back.
async fn preview(
    session: &Session,
    client: &Client,
    traffic: &wire::Rollback,
) -> Result<Option<wire::RollbackPlan>, CliError> {
    let body = wire::Rollback { dry_run: true, ..traffic.clone() };
    match client.post(&session.path("rollback"), &body).await {
        Ok(plan) => Ok(Some(plan)),
        Err(ClientError::Problem(problem))
            if matches!(problem.kind, ProblemKind::NothingToDo | ProblemKind::Schema) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The release that the parts come from which were asked for.
fn source_of(traffic: &wire::Rollback, parts: &Parts) -> ReleaseId {
    match traffic.legs.first() {
        None | Some(Leg::Code) => parts.code,
        Some(Leg::Images) => match parts.images {
            Images::Of(release) => release,
            Images::Built(_) => parts.code,
        },
        Some(Leg::Config) => parts.config,
    }
}

/// What the command did with the traffic before the data was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Traffic {
    /// It went back, and stays there whatever becomes of the data.
    Moved,
    /// It is where it was.
    Stayed,
}

/// Traffic goes first: it costs nothing and loses nothing.
async fn move_traffic(
    session: &Session,
    client: &Client,
    traffic: &wire::Rollback,
) -> Result<Traffic, CliError> {
    match client.post::<Done>(&session.path("rollback"), traffic).await {
        Ok(done) => {
            session.out.text(&show::first_lines(&done, &session.clock));
            if done.moved.is_none() {
                // A release that is stopped has to be started before it can serve on any data.
                let operation = done.operation;
                let text = match follow(session, client, operation).await? {
                    Followed::Ended(Ending::Done) => None,
                    Followed::Left => Some(format!(
                        "{operation} goes on with the traffic. The data was not asked for: once \
                         {operation} is done, type the same command again"
                    )),
                    Followed::Halted(_) => Some(format!("{operation} waits; no data was touched")),
                    Followed::Ended(_) => {
                        Some(format!("{operation} did not end well; no data was touched"))
                    }
                };
                if let Some(text) = text {
                    return Err(CliError::new(Exit::Failed, text));
                }
            }
            session.out.text("");
            Ok(Traffic::Moved)
        }
        Err(ClientError::Problem(problem)) if problem.kind == ProblemKind::NothingToDo => {
            Ok(Traffic::Stayed)
        }
        // On today's data it would serve errors: it gets the traffic together with its own.
        Err(ClientError::Problem(problem)) if problem.kind == ProblemKind::Schema => {
            let why = problem.message.split(". NOTHING").next().unwrap_or_default();
            session.out.text(&format!("{why}: traffic goes back with the data, not before.\n"));
            Ok(Traffic::Stayed)
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows the plan, asks, and follows what was accepted.
pub(super) async fn put_back(
    session: &Session,
    client: &Client,
    ask: RestoreAsk,
    look: Look,
) -> Result<Exit, CliError> {
    put_back_after(session, client, (ask, look), (Traffic::Stayed, None)).await
}

async fn put_back_after(
    session: &Session,
    client: &Client,
    (ask, look): (RestoreAsk, Look),
    (before, goes_first): (Traffic, Option<ReleaseId>),
) -> Result<Exit, CliError> {
    let plan: RestorePlanned = client.post(&session.path("restore/plan"), &ask).await?;
    if look == Look::Only {
        session.out.value(&plan);
    }
    session.out.text(&show::restore_plan(&plan, goes_first, &session.clock));
    let max_loss = match look {
        Look::Only => return Ok(Exit::Done),
        Look::Decide(Some(most)) => most,
        Look::Decide(None) => match session.out.ask_number(&show::loss_question(&plan)) {
            Some(most) => most,
            None => return Err(stopped_here(session, &ask, &plan)),
        },
    };
    if let Some(rows) = plan.loss.as_ref().map(Loss::rows).filter(|rows| max_loss < *rows) {
        let text = format!("{rows} rows would be lost, {max_loss} are allowed");
        return Err(CliError::new(Exit::Refused, format!("{text}. NOTHING WAS CHANGED.")));
    }
    let go = wire::RestoreGo { token: plan.token.clone(), max_loss };
    let done: Done = client.post(&session.path("restore"), &go).await?;
    session.out.value(&done);
    let ended = see_until_halt(session, client, done.operation).await?;
    match ended {
        Seen::Ended(Ending::Refused(why)) if before == Traffic::Moved => {
            let why = why.lines().next().unwrap_or_default().trim_end_matches(':');
            session.out.text(&format!("REFUSED ({}): {why}. {ONLY_DATA}", done.operation));
            Ok(Exit::Refused)
        }
        Seen::Ended(ending) => Ok(end(session, done.operation, &ending)),
        Seen::Left(exit) => Ok(exit),
    }
}

fn stopped_here(session: &Session, ask: &RestoreAsk, plan: &RestorePlanned) -> CliError {
    let rows = plan.loss.as_ref().map_or("ROWS".to_owned(), |loss| loss.rows().to_string());
    let text = "no loss was accepted. The database is as it was.".to_owned();
    let error = CliError::new(Exit::Refused, text);
    if session.out.format == Format::Json || !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        let to = ask.to.map_or_else(String::new, |to| format!(" --to {to}"));
        let same = match &ask.data {
            DataAsk::Aside(operation) => format!("undo {operation}"),
            DataAsk::Cheapest => format!("rollback --database{to}"),
            DataAsk::Backup(id) => format!("rollback --database{to} --backup {id}"),
            DataAsk::NewestBackup => format!("rollback --database{to} --backup newest"),
            DataAsk::Point(release) => format!("rollback --database{to} --backup {release}"),
        };
        let command = format!("cutover {same} --max-loss {rows}");
        return error.way(command, "for scripts: accepts that loss");
    }
    error
}

/// Follows a restore until it has ended or waits for a person.
pub(super) async fn see_through(
    session: &Session,
    client: &Client,
    operation: OperationId,
) -> Result<Exit, CliError> {
    match see_until_halt(session, client, operation).await? {
        Seen::Ended(ending) => Ok(end(session, operation, &ending)),
        Seen::Left(exit) => Ok(exit),
    }
}

/// How far a restore was followed.
enum Seen {
    /// To its end.
    Ended(Ending),
    /// It goes on, or waits for a person.
    Left(Exit),
}

async fn see_until_halt(
    session: &Session,
    client: &Client,
    operation: OperationId,
) -> Result<Seen, CliError> {
    loop {
        match follow(session, client, operation).await? {
            Followed::Left => return Ok(Seen::Left(Exit::Done)),
            Followed::Ended(ending) => return Ok(Seen::Ended(ending)),
            Followed::Halted(Halt::Asks { rows, .. }) => {
                let question = format!(
                    "How many rows may be lost at most? A number ({rows} now), or Enter to leave \
                     it waiting:"
                );
                let Some(most) = session.out.ask_number(&question) else {
                    return Ok(Seen::Left(Exit::Stuck));
                };
                let body = wire::Continue { max_loss: Some(most) };
                let went_on = client.post::<Done>(&going_on(session, operation), &body).await;
                went_on.map_err(|error| out_of_sight(operation, error))?;
            }
            Followed::Halted(Halt::Stuck { .. } | Halt::Waits) => {
                return Ok(Seen::Left(Exit::Stuck));
            }
        }
    }
}

/// Tells a restore that waits to go on.
pub(super) async fn go_on(
    session: &Session,
    client: &Client,
    operation: OperationId,
    max_loss: Option<u64>,
) -> Result<Done, CliError> {
    Ok(client.post(&going_on(session, operation), &wire::Continue { max_loss }).await?)
}

fn going_on(session: &Session, operation: OperationId) -> String {
    session.path(&format!("operations/{operation}/continue"))
}
