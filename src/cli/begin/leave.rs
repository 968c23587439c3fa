//! `cutover leave`: the ports go back to plain docker compose; its plan first, then it asks.

use crate::api::wire::Plan;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Nothing, Wait, carry_out};
use crate::cli::offline;
use crate::cli::output::Consent;
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
    /// Show the plan and do nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
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
        session.out.text(&leaving.plan.to_string());
        if args.dry_run {
            return Ok(Exit::Done);
        }
        if !args.yes && session.out.ask("Go on?") == Consent::No {
            session.out.text("Nothing was changed.");
            return Ok(Exit::Refused);
        }
        return offline::leave(session, leaving).await;
    }
    let client = session.daemon()?;
    let plan = client.get::<Plan>(&session.path("leave")).await.map_err(offline::without_daemon)?;
    session.out.value(&plan);
    session.out.text(plan.text.trim_end());
    if args.dry_run {
        return Ok(Exit::Done);
    }
    if !args.yes && session.out.ask("Go on?") == Consent::No {
        session.out.text("Nothing was changed.");
        return Ok(Exit::Refused);
    }
    carry_out(session, &client, "leave", &Nothing {}, Wait::Follow).await
}
