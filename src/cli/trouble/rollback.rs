//! `cutover rollback`: all traffic back, now. No question, no reason, before traffic has moved.

mod at;

use cutover_model::ReleaseId;

use super::{legs, restore};
use crate::api::wire::{self, ProblemKind};
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Wait, carry_out};
use crate::cli::offline;
use crate::cli::session::Session;
use crate::cli::show;
use crate::client::{Client, ClientError};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --to it goes to the newest release that proved itself, other than the one that serves; in
the middle of a rollout to the one that serves the others. Typed twice it does nothing the second
time; going forward again is  cutover undo. The database stays as it is, unless you add
--database: traffic goes first, then a plan shows what the old data cost, and asks.

Examples:
  cutover rollback
  cutover rollback --to r5         a stopped release is started first, one whose containers are
                                   gone is made again from its record; what serves goes on
  cutover rollback --to r5 --dry-run     the plan, and nothing else
  cutover rollback --only config         today's code and images with r5's env files
  cutover rollback --to r5 --rebuild     r5's code with images built anew
  cutover rollback --to r6 --force       also to one that never proved itself, without its probe
  cutover rollback --drop-in-flight      the bad release's open requests are cut, not finished
  cutover rollback --database --dry-run      what the data would cost; changes nothing
  cutover rollback --database                traffic, then the data; asks before it loses a row
  cutover rollback --at 03:00            the same rollback, at night; --at never takes it back
  sudo cutover rollback --offline  when no daemon answers")]
pub struct Args {
    /// To this release
    #[arg(long, value_name = "RELEASE")]
    to: Option<ReleaseId>,
    /// Also to a release that never proved itself; one that has to be started is not probed
    #[arg(long, conflicts_with = "offline")]
    force: bool,
    /// Cut the open requests of the release that loses the traffic, instead of letting them finish
    #[arg(long, conflicts_with = "offline")]
    drop_in_flight: bool,
    /// Not now but then: 03:00, "tomorrow 03:00", +2h, 2026-11-27T03:00:00+08:00; or never
    #[arg(long, value_name = "TIME", value_parser = at::parse, conflicts_with_all = [
        "only", "rebuild", "database", "offline", "detach",
    ])]
    at: Option<at::At>,
    /// The parts
    #[command(flatten)]
    parts: legs::Args,
    /// The data
    #[command(flatten)]
    data: restore::DataArgs,
    /// Show what would be done, by the same plan, and do nothing
    #[arg(long, conflicts_with = "offline")]
    dry_run: bool,
    /// Without the daemon: it is started with the former release at 100 %
    #[arg(long, conflicts_with_all = ["detach", "database"])]
    offline: bool,
    /// Return when traffic has moved, without waiting for open requests
    #[arg(long)]
    detach: bool,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    if args.offline {
        return offline::rollback(session, args.to).await;
    }
    let client = session.daemon()?;
    let body = wire::Rollback {
        to: args.to,
        force: args.force,
        drop_in_flight: args.drop_in_flight,
        legs: args.parts.legs(),
        rebuild: args.parts.rebuild(),
        dry_run: args.dry_run,
    };
    if args.data.database || args.parts.names_database() {
        if args.detach {
            return Err(restore::not_detached());
        }
        let traffic = match args.parts.only.as_slice() {
            [legs::Part::Database] => None,
            _ => Some(&body),
        };
        let look = match args.dry_run {
            true => restore::Look::Only,
            false => restore::Look::Decide(args.data.max_loss),
        };
        let data = (&args.data, look);
        return restore::rollback(session, &client, (args.to, traffic), data).await;
    }
    if args.data.backup.is_some() || args.data.max_loss.is_some() {
        let text = "--backup and --max-loss are about the data: add --database";
        return Err(CliError::new(Exit::Usage, text));
    }
    if args.dry_run {
        return legs::plan(session, &client, &body).await;
    }
    if let Some(at) = args.at {
        return schedule(session, &client, at, body).await;
    }
    carry_out(session, &client, "rollback", &body, Wait::from(args.detach)).await
}

/// Sets it for later, or takes back what was set.
async fn schedule(
    session: &Session,
    client: &Client,
    at: at::At,
    rollback: wire::Rollback,
) -> Result<Exit, CliError> {
    let at = match at {
        at::At::Time(millis) => Some(millis),
        at::At::Never => None,
    };
    let body = wire::RollbackAt { at, rollback };
    let path = session.path("rollback/schedule");
    match client.post::<wire::RollbackSet>(&path, &body).await {
        Ok(set) => {
            session.out.value(&set);
            session.out.text(&match at {
                Some(_) => show::rollback_set(&set, &session.clock),
                None => show::rollback_taken_back(&set, &session.clock),
            });
        }
        Err(ClientError::Problem(problem)) if problem.kind == ProblemKind::NothingToDo => {
            session.out.value(&problem);
            session.out.text(&show::nothing_to_do(&problem));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Exit::Done)
}
