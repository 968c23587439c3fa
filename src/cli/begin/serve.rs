//! `cutover serve`: the daemon in the foreground, as the service manager runs it.

use std::path::PathBuf;

use anyhow::Context as _;
use cutover_config::Paint;
use cutover_model::Color;

use super::check::FILE;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::session::Session;
use crate::daemon::signals::Signals;
use crate::daemon::{Daemon, Resume, ServeOptions, log};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ends on TERM or INT: no new connections, open requests may end; a second signal ends it at once.
What it does is logged to stderr; CUTOVER_LOG sets how much (error, warn, info, debug).

Examples:
  cutover serve --config /etc/cutover/cutover.toml")]
pub struct Args {
    /// Give this color everything from the start, whatever the journal says
    #[arg(long, value_name = "COLOR")]
    start_on: Option<Color>,
    /// Leave an operation that was cut off waiting, for  cutover continue  or  cutover abort
    #[arg(long)]
    wait: bool,
}

/// Runs it until a signal.
///
/// # Errors
/// What keeps the daemon from starting.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let mut signals = Signals::listen().context("signals cannot be waited for")?;
    let file = session.global.config.clone().unwrap_or_else(|| PathBuf::from(FILE));
    let loaded = match cutover_config::load(&file, std::env::vars()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            session.out.talk(problems.render(Paint::Colored).trim_end());
            return Ok(Exit::BadConfig);
        }
    };
    if !loaded.warnings.is_empty() {
        session.out.talk(loaded.warnings.render(Paint::Colored).trim_end());
    }
    log::start();
    let file = std::path::absolute(&file).unwrap_or(file);
    let mut config = loaded.config;
    if let Some(socket) = &session.global.socket {
        config.admin.socket.clone_from(socket);
    }
    let resume = if args.wait { Resume::Wait } else { Resume::GoOn };
    let inherited = session.inherited().context("the sockets that were handed over")?;
    let options = ServeOptions { file, start_on: args.start_on, resume, inherited };
    let Some(daemon) = signals.unless_ended(Daemon::start(config, options)).await else {
        session.out.talk("cutover: ended by a signal before it had started");
        return Ok(Exit::Failed);
    };
    let daemon = daemon?;
    let listen: Vec<String> = daemon.addresses.iter().map(ToString::to_string).collect();
    let (listen, socket) = (listen.join(", "), daemon.socket.display().to_string());
    session.out.text(&format!("cutover listens on {listen}; commands come in by {socket}"));
    let schema = "cutover.serving/1";
    session.out.value(&serde_json::json!({"schema": schema, "listen": listen, "socket": socket}));
    daemon.run_until_signal(signals).await;
    Ok(Exit::Done)
}
