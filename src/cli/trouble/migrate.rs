//! `cutover migrate status` and `migrate down`: what the database has, and the way back by the down
//! scripts of the newest release, or by a command.

use crate::api::wire::{MigrateDown, Migrations};
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Wait, carry_out};
use crate::cli::output::Consent;
use crate::cli::session::Session;
use crate::cli::show;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Down scripts are those that the release brought: NAME/down.sql beside migration.sql, or pairs of
NAME.up.sql and NAME.down.sql. Where down_command is configured it runs instead, in a container of
the release. Both are tried on a copy first: the schema has to become what it was before the
release, byte for byte. Rows that were written since stay, but for what is dropped.

Examples:
  cutover migrate status
  cutover migrate down --dry-run     what it would take back; changes nothing
  cutover migrate down               shows it, and asks
  cutover migrate down --yes")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// What the database has, which release brought it, and whether it can go back
    Status,
    /// Take the newest release's migrations back by its down scripts or the configured command
    Down {
        /// Ask nothing
        #[arg(long)]
        yes: bool,
        /// Show what it would take back, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    let seen: Migrations = client.get(&session.path("migrations")).await?;
    let (yes, dry_run) = match args.what {
        What::Status => {
            session.out.value(&seen);
            session.out.text(&show::migrations(&seen));
            return Ok(Exit::Done);
        }
        What::Down { yes, dry_run } => (yes, dry_run),
    };
    if dry_run {
        session.out.value(&seen);
    }
    session.out.text(&show::down_plan(&seen));
    let Some(shown) = seen.down.filter(|down| down.impossible.is_none()) else {
        let text = "there is no way down. NOTHING WAS CHANGED.";
        return Err(CliError::new(Exit::Refused, text)
            .way("cutover rollback --database", "puts the data back: shows what is lost"));
    };
    if dry_run {
        return Ok(Exit::Done);
    }
    if !yes && session.out.ask("Go on?") == Consent::No {
        return Err(CliError::new(Exit::Refused, "stopped. NOTHING WAS CHANGED."));
    }
    // What was agreed to, and nothing that came since.
    let body = MigrateDown { release: shown.release, names: shown.names };
    carry_out(session, &client, "migrations/down", &body, Wait::from(false)).await
}
