//! `cutover promote`: everything to the new release.

use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Nothing, Wait, carry_out};
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The old release stays warm until the next deploy: cutover rollback is instant then and loses no
data, unless a migration of the new one took something away that the old one needs. The last line
says which.

Examples:
  cutover promote")]
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
    carry_out(session, &client, "promote", &Nothing {}, Wait::from(args.detach)).await
}
