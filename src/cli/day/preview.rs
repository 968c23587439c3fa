//! `cutover preview`: a link that shows one release.

use cutover_model::ReleaseId;

use crate::api::wire::Preview;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::session::Session;
use crate::cli::show;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Whoever opens the link sees that release, whatever the weight is; their requests do not count for
the rollout. On this host a header does the same:  curl -H 'X-Cutover-Color: green' ...

Examples:
  cutover preview        the release of the rollout
  cutover preview r6")]
pub struct Args {
    /// The release; without it that of the rollout, or the one that serves
    #[arg(value_name = "RELEASE")]
    release: Option<ReleaseId>,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    let query = args.release.map_or_else(String::new, |release| format!("?release={release}"));
    let preview: Preview = client.get(&session.path(&format!("preview{query}"))).await?;
    session.out.value(&preview);
    session.out.text(&show::preview(&preview, &session.clock));
    Ok(Exit::Done)
}
