//! `cutover demo`: the main job, played on this machine alone.

use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::session::Session;
use crate::demo::{self, Afterwards, Options, Pace};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Two small web shops, the real daemon in front, some hundred requests a second: a canary grows, goes
bad, and is cut back. No Docker, no network but loopback, nothing left behind.

Examples:
  cutover demo
  cutover demo --keep      runs on until Ctrl-C, and says what to try")]
pub struct Args {
    /// Leave it running after the story, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Tell the story in about ten seconds
    #[arg(long)]
    fast: bool,
}

/// Runs it.
///
/// # Errors
/// When the daemon or the shops cannot be started.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let options = Options {
        pace: if args.fast { Pace::Fast } else { Pace::Watch },
        afterwards: if args.keep { Afterwards::Keep } else { Afterwards::End },
    };
    if let demo::Ending::Stopped = demo::run(options).await? {
        session.out.talk("Stopped. Nothing is left behind.");
    }
    Ok(Exit::Done)
}
