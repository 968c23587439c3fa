//! `cutover releases`: what is on record, newest first.

use cutover_model::ReleaseId;

use crate::api::wire::{Releases, ReleasesDiff};
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::session::Session;
use crate::cli::show;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A release that proved itself has served everyone; a rollback goes to the newest of those.
With --json: commits, image ids in full and migrations, too.

Examples:
  cutover releases
  cutover releases --diff r4 r5      never shows a value of a variable")]
pub struct Args {
    /// What differs between two releases: commits, images, migrations, names of env keys
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"])]
    diff: Vec<ReleaseId>,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    if let [from, to] = args.diff.as_slice() {
        let path = session.path(&format!("releases/diff?from={from}&to={to}"));
        let diff: ReleasesDiff = client.get(&path).await?;
        session.out.value(&diff);
        session.out.text(&show::releases_diff(&diff));
        return Ok(Exit::Done);
    }
    let releases: Releases = client.get(&session.path("releases")).await?;
    session.out.value(&releases);
    let now = jiff::Timestamp::now().as_millisecond();
    session.out.text(&show::releases(&releases, now, &session.clock));
    Ok(Exit::Done)
}
