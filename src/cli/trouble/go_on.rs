//! `cutover continue OPERATION`: an operation that waits for a person goes on.

use cutover_model::OperationId;

use super::restore;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An operation that is stuck says why, and traffic is on the safe color meanwhile. When the reason is
mended it goes on where it stopped: it looks first, and repeats nothing that is done.

Examples:
  cutover continue o41
  cutover continue o41 --max-loss 1400    when more is lost by now than was accepted
  cutover abort o41                       gives it up instead")]
pub struct Args {
    /// The operation, like o41
    #[arg(value_name = "OPERATION")]
    operation: OperationId,
    /// The most rows that may be lost, when it asks
    #[arg(long, value_name = "ROWS")]
    max_loss: Option<u64>,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    let done = restore::go_on(session, &client, args.operation, args.max_loss).await?;
    session.out.value(&done);
    restore::see_through(session, &client, args.operation).await
}
