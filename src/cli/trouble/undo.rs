//! `cutover undo OPERATION`: the split from before it.

use cutover_model::OperationId;

use super::restore::{self, Look};
use crate::api::wire::{self, DataAsk, RestoreAsk};
use crate::cli::exit::Exit;
use crate::cli::failure::{CliError, Kind};
use crate::cli::follow::{Wait, carry_out};
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reverses the newest move of traffic, or a restore of the database: that one loses what was written
after it, so it counts first and asks. Each command says its number.

Examples:
  cutover undo o40
  cutover undo o41 --dry-run    a restore: what the way back would lose")]
pub struct Args {
    /// The operation, like o40
    #[arg(value_name = "OPERATION")]
    operation: OperationId,
    /// The most rows that may be lost, where it puts a database back; nothing is asked then
    #[arg(long, value_name = "ROWS")]
    max_loss: Option<u64>,
    /// Only show what undoing a restore of the database would do
    #[arg(long)]
    dry_run: bool,
    /// Return when traffic has moved, without waiting for open requests
    #[arg(long)]
    detach: bool,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    let operation = args.operation;
    let body = wire::Undo { operation };
    if args.dry_run {
        let ask = RestoreAsk { to: None, as_of: None, data: DataAsk::Aside(operation) };
        return restore::put_back(session, &client, ask, Look::Only).await;
    }
    match carry_out(session, &client, "undo", &body, Wait::from(args.detach)).await {
        Err(error) if error.kind == Kind::AsksLoss && args.detach => Err(restore::not_detached()),
        Err(error) if error.kind == Kind::AsksLoss => {
            let ask = RestoreAsk { to: None, as_of: None, data: DataAsk::Aside(operation) };
            let look = Look::Decide(args.max_loss);
            restore::put_back(session, &client, ask, look).await
        }
        done => done,
    }
}
