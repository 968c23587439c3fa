//! `cutover next`: the next step of the rollout, or everything after the last one.

use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Nothing, Wait, carry_out};
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The steps stand in cutover.toml under [apps.NAME.rollout]; after the last one it promotes.

Examples:
  cutover status         which steps are left
  cutover next")]
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
    carry_out(session, &client, "next", &Nothing {}, Wait::from(args.detach)).await
}
