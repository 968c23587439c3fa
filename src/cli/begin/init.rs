//! `cutover init`: the words of the command; what it does is in `cli::init`.

use std::path::PathBuf;

use super::check::FILE;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::init::{self, InitArgs};
use crate::cli::output::Format;
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Type it in the folder of your compose file. It writes one file and touches nothing else; what it
could not know is marked ASK and set to the safe side.

Examples:
  cutover init --dry-run     prints the file instead of writing it
  cutover init
  cutover check              reads it back, and says what it means")]
pub struct Args {
    /// A compose file; may be given several times. Default: those that compose would find
    #[arg(long = "file", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// Print the file instead of writing it
    #[arg(long)]
    dry_run: bool,
}

/// Runs it.
///
/// # Errors
/// When the folder or the file cannot be used at all.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let Args { files, force, dry_run } = args;
    let config = session.global.config.clone().unwrap_or_else(|| PathBuf::from(FILE));
    let json = session.out.format == Format::Json;
    let said = init::run(&InitArgs { config, files, force, dry_run, json }).await?;
    Ok(session.out.said(&said))
}
