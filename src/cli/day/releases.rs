//! `cutover releases`: what is on record, newest first.

use crate::api::wire::Releases;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::session::Session;
use crate::cli::show;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A release that proved itself has served everyone; a rollback goes to the newest of those.
With --json: commits, image ids and migrations, too.")]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let Args {} = args;
    let client = session.daemon()?;
    let releases: Releases = client.get(&session.path("releases")).await?;
    session.out.value(&releases);
    let now = jiff::Timestamp::now().as_millisecond();
    session.out.text(&show::releases(&releases, now, &session.clock));
    Ok(Exit::Done)
}
