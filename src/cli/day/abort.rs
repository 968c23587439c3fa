//! `cutover abort`: the rollout given up: all traffic back to stable.

use cutover_model::OperationId;

use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Nothing, Wait, carry_out};
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ends the rollout and takes all traffic from the new release, at once. It keeps running, without
traffic, so that you can look at it with cutover logs and cutover preview.

With an operation's number it gives that one up instead: what it had begun is put back.

Examples:
  cutover abort
  cutover abort o41    a restore that is stuck, or runs")]
pub struct Args {
    /// The operation to give up, like o41; without it the rollout
    #[arg(value_name = "OPERATION")]
    operation: Option<OperationId>,
    /// Print the operation and return, without waiting for its end
    #[arg(long)]
    detach: bool,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    if let Some(operation) = args.operation {
        let path = format!("operations/{operation}/abort");
        let wait = Wait::from(args.detach);
        return carry_out(session, &client, &path, &Nothing {}, wait).await;
    }
    carry_out(session, &client, "abort", &Nothing {}, Wait::from(args.detach)).await
}
