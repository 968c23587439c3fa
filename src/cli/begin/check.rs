//! `cutover check`: the words of the command; what it does is in `cli::check`.

use std::path::PathBuf;

use cutover_config::Paint;

use crate::cli::check::{self, CheckArgs};
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::output::Format;
use crate::cli::session::Session;

/// The file when none is named.
pub(super) const FILE: &str = "cutover.toml";

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads the file and the compose files that it names; changes nothing and needs no daemon. Exit code
78 when there are mistakes.

Examples:
  cutover check
  cutover check --config /etc/cutover/cutover.toml")]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// None of its own: mistakes are its result.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let Args {} = args;
    let config = session.global.config.clone().unwrap_or_else(|| PathBuf::from(FILE));
    let args = CheckArgs { config, json: session.out.format == Format::Json };
    Ok(session.out.said(&check::run(&args, std::env::vars().collect(), Paint::Colored).await))
}
