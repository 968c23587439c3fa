//! `cutover deploy`: a new release in the idle color, then its first share of the traffic.

use crate::api::wire;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Wait, carry_out};
use crate::cli::session::Session;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Builds or pulls the images, starts the idle color, waits until it is ready on the path that clients
take, then gives it the first step's share. The serving color is never touched; a deploy that fails
says why and removes what it had made.

Examples:
  cutover deploy                             the commit that is checked out
  cutover deploy --ref v1.5.0                a tag, branch or commit
  cutover deploy --image backend=shop:1.5    an image of your own for one service
  cutover deploy --at-once                   100 % as soon as it is ready; the old one stays warm
  cutover deploy --no-traffic                ready, but nobody sees it until  cutover shift")]
pub struct Args {
    /// The commit, tag or branch; without it the commit that is checked out
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    /// Run this image for a service; may be given several times
    #[arg(long = "image", value_name = "SERVICE=IMAGE", value_parser = image)]
    images: Vec<(String, String)>,
    /// 100 % as soon as it is ready
    #[arg(long, conflicts_with = "no_traffic")]
    at_once: bool,
    /// No traffic when it is ready
    #[arg(long)]
    no_traffic: bool,
    /// Deploy a release again that was rolled back
    #[arg(long)]
    again: bool,
    /// Build the files as they lie in the folder, changes that are not committed included
    #[arg(long, conflicts_with = "reference")]
    dirty: bool,
    /// Print the operation and return, without waiting for its end
    #[arg(long)]
    detach: bool,
}

fn image(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((service, image)) if !service.is_empty() && !image.is_empty() => {
            Ok((service.to_owned(), image.to_owned()))
        }
        _ => Err("write SERVICE=IMAGE, like backend=shop:1.5".to_owned()),
    }
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    let body = wire::Deploy {
        reference: args.reference,
        images: args.images,
        at_once: args.at_once,
        no_traffic: args.no_traffic,
        again: args.again,
        dirty: args.dirty,
    };
    carry_out(session, &client, "deploy", &body, Wait::from(args.detach)).await
}
