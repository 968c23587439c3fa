//! `cutover leave`: the ports go back to plain docker compose; its plan first, then it asks.

use crate::api::wire::Plan;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Nothing, Wait, carry_out};
use crate::cli::offline;
use crate::cli::planned::Planned;
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The release that serves goes on serving: from the old containers if they still run it, else docker
compose puts it on the ports first. Your compose files are not changed.

Examples:
  sudo cutover leave --dry-run     the plan, and nothing else
  sudo cutover leave
  sudo cutover leave --offline     without the daemon")]
pub struct Args {
    #[command(flatten)]
    planned: Planned,
    /// Without the daemon, from its state folder
    #[arg(long)]
    offline: bool,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    if args.offline {
        let leaving = offline::leaving(session).await?;
        return match args.planned.show(session, &leaving.plan.to_string()) {
            Some(exit) => Ok(exit),
            None => offline::leave(session, leaving).await,
        };
    }
    let client = session.daemon()?;
    let plan = client.get::<Plan>(&session.path("leave")).await;
    let plan = plan.map_err(|error| offline::without_daemon(session, error))?;
    session.out.value(&plan);
    if let Some(exit) = args.planned.show(session, &plan.text) {
        return Ok(exit);
    }
    carry_out(session, &client, "leave", &Nothing {}, Wait::Follow).await
}
