//! `cutover undo OPERATION`: the split from before it.

use cutover_model::OperationId;

use crate::api::wire;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Wait, carry_out};
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reverses the newest move of traffic. Each command that moves traffic says its number.

Examples:
  cutover undo o40")]
pub struct Args {
    /// The operation, like o40
    #[arg(value_name = "OPERATION")]
    operation: OperationId,
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
    let body = wire::Undo { operation: args.operation };
    carry_out(session, &client, "undo", &body, Wait::from(args.detach)).await
}
