//! `cutover drill`: whether the newest backup can be restored, and how long that takes.

use crate::api::wire;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Wait, carry_out};
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Restores a backup into a database beside the live one, holds every table against the backup's
counts, asks the integrity queries ([[apps.NAME.integrity]]), notes how long it took, and drops it
again. The site keeps serving. `cutover status` shows the last one.

Examples:
  cutover drill
  cutover drill --backup b-118")]
pub struct Args {
    /// Which backup
    #[arg(long, value_name = "ID", default_value = "newest")]
    backup: String,
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
    let body = wire::Drill { backup: args.backup };
    carry_out(session, &client, "drill", &body, Wait::from(args.detach)).await
}
