//! `cutover abort`: the rollout given up: all traffic back to stable.

use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Nothing, Wait, carry_out};
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ends the rollout and takes all traffic from the new release, at once. It keeps running, without
traffic, so that you can look at it with cutover logs and cutover preview.

Examples:
  cutover abort")]
pub struct Args {
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
    carry_out(session, &client, "abort", &Nothing {}, Wait::from(args.detach)).await
}
