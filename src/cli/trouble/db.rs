//! `cutover db list`: the live database, and what is kept beside it.

use crate::api::wire::Databases;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::session::Session;
use crate::cli::show;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cutover db list")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The live database, restore points, and what restores put aside
    List,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    match args.what {
        What::List => {
            let databases: Databases = client.get(&session.path("db")).await?;
            session.out.value(&databases);
            session.out.text(&show::databases(&databases, &session.clock));
        }
    }
    Ok(Exit::Done)
}
