//! `cutover db ...`: the live database, and what is kept beside it: listed, exported, retired.

mod export;

use std::path::PathBuf;

use cutover_model::OperationId;

use crate::api::wire::{self, Databases, RetirePlan};
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Wait, carry_out};
use crate::cli::planned::Planned;
use crate::cli::session::Session;
use crate::cli::show;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cutover db list
  cutover db export o41 --csv    the rows that o41 put aside, for the people who enter them again
  cutover db retire o41          when you are sure: dumps it, reads the dump back, drops it")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The live database, restore points, and what restores put aside
    List,
    /// The rows that an operation put aside and the live database has not, as CSV
    Export(Export),
    /// Dump the database that an operation put aside, then drop it; shows it first, then asks
    Retire(Retire),
}

/// `db export`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes one file for each table. The first column says what is lost: `new`, a row that the live
database has not; `changed`, one that it has with other values (the file has those put aside).

Examples:
  cutover db export o41 --csv
  cutover db export o41 --csv --output /srv/lost")]
pub(super) struct Export {
    /// The operation that put the database aside, like o41
    #[arg(value_name = "OPERATION")]
    operation: OperationId,
    /// As CSV, which is the only form
    #[arg(long)]
    csv: bool,
    /// The folder of the files; it is made. Default: lost-o41
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// `db retire`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A database that a restore put aside is dumped first, and the dump is read back; it stays a month
as a backup. After that the restore cannot be undone by `cutover undo` any more, but with that
backup. A copy of a backup (`backup restore --aside`) is dropped as it is.

Examples:
  cutover db retire o41")]
struct Retire {
    /// The operation that left the database, like o41
    #[arg(value_name = "OPERATION")]
    operation: OperationId,
    #[command(flatten)]
    planned: Planned,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    match args.what {
        What::List => {
            let databases: Databases = client.get(&session.path("db")).await?;
            session.out.value(&databases);
            session.out.text(&show::databases(&databases, &session.clock));
            Ok(Exit::Done)
        }
        What::Export(args) => export::run(session, &client, args).await,
        What::Retire(retire) => {
            let operation = retire.operation;
            let path = session.path(&format!("db/retire?operation={operation}"));
            let plan: RetirePlan = client.get(&path).await?;
            if retire.planned.dry_run {
                session.out.value(&plan);
            }
            if let Some(exit) = retire.planned.show(session, &show::retire_plan(&plan)) {
                return Ok(exit);
            }
            let body = wire::Retire { operation };
            carry_out(session, &client, "db/retire", &body, Wait::Follow).await
        }
    }
}
