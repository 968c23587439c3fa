//! The command line: what a person types, and what they read.
//!
//! Parses, asks the daemon through `client`, and prints what came back; it never changes a file of
//! the daemon. Each subcommand is one file; texts are made by pure functions in `show`, and printed
//! by `output` alone.
//! Invariant: a command returns when what it says is true, and its exit code says how it ended.

pub mod begin;
pub mod check;
pub mod day;
pub mod exit;
pub mod init;
pub mod output;
pub mod said;
pub mod tool;
pub mod trouble;

mod failure;
mod follow;
mod offline;
mod planned;
mod session;
mod show;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use exit::Exit;
use failure::CliError;
use output::{Format, Output};
use session::Session;

use crate::daemon::inherit;

/// What `cutover --help` says; the commands by the moment in which one needs them.
const GROUPS: &str = "\
Begin
  init         read the compose file, write a commented cutover.toml
  check        check cutover.toml, report every mistake at once
  adopt        take over a running application, without a restart; shows its plan first
  leave        give it back to plain docker compose
  serve        run the daemon in the foreground
  demo         see it work in a minute, without Docker

Every day
  status       who serves, how well, and what a rollback would do
  deploy       make a new release in the idle color, and begin its rollout
  shift        give the new release a share of the clients: 10%
  next         go to the next step of the rollout
  promote      give the new release everything
  abort        take the new release's traffic away
  preview      a link that shows you a release before clients see it
  releases     what is on record
  logs         what a release writes
  events       what happened, line by line

Trouble
  rollback     all traffic back to the release that proved itself, now
  undo         reverse an operation that moved traffic, or put data back
  db           the live database, and what is kept beside it: listed, exported, retired
  backup       make, list, verify, prune, import, restore beside the live database
  drill        whether the newest backup can be restored, and how long it takes
  migrate      status: what the database has; down: the way back, by scripts or a command
  continue     go on with an operation that waits for you
  maintenance  on: send clients away with a page; off: serve them again
  note         say why, for the record
  report       the incident report of a rollback, in English or Chinese
  wait         follow an operation to its end

The tool
  doctor       leftovers and dangers, and what to do about them
  config       the schema of cutover.toml
  completions  for your shell";

const TEMPLATE: &str = "\
{about}

{usage-heading} {usage}

{before-help}{after-help}

Options:
{options}
";

/// Two stacks, one switch: blue-green and canary releases for docker compose, on one host.
#[derive(Debug, Parser)]
#[command(
    name = "cutover",
    version,
    before_help = GROUPS,
    help_template = TEMPLATE,
    after_help = "\
Something is wrong right now?   cutover rollback   moves all traffic back. It asks nothing, it is
harmless when typed twice, and  cutover undo  takes it back. More on each:  cutover help COMMAND"
)]
pub struct Cli {
    /// What all commands understand.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What all commands understand.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The app, where there is more than one
    #[arg(long, global = true, display_order = 900, value_name = "NAME")]
    pub app: Option<String>,
    /// The daemon's socket
    #[arg(
        long,
        global = true,
        help_heading = "Everywhere",
        env = "CUTOVER_SOCKET",
        hide_env_values = true,
        value_name = "PATH"
    )]
    pub socket: Option<PathBuf>,
    /// The operator's file; it names the socket, too
    #[arg(
        long,
        global = true,
        help_heading = "Everywhere",
        env = "CUTOVER_CONFIG",
        hide_env_values = true,
        value_name = "PATH"
    )]
    pub config: Option<PathBuf>,
    /// Answer in JSON, for scripts
    #[arg(long, global = true, display_order = 900)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Who serves, how well, and what a rollback would do
    Status(day::status::Args),
    /// Make a new release in the idle color, and begin its rollout
    Deploy(day::deploy::Args),
    /// Give the new release a share of the clients
    Shift(day::shift::Args),
    /// Go to the next step of the rollout
    Next(day::next::Args),
    /// Give the new release everything
    Promote(day::promote::Args),
    /// Take the new release's traffic away and end the rollout
    Abort(day::abort::Args),
    /// A link that shows you a release before clients see it
    Preview(day::preview::Args),
    /// What is on record
    Releases(day::releases::Args),
    /// What a release writes
    Logs(day::logs::Args),
    /// What happened, line by line
    Events(day::events::Args),
    /// All traffic back to the release that proved itself, now
    Rollback(trouble::rollback::Args),
    /// Reverse an operation that moved traffic, or put data back
    Undo(trouble::undo::Args),
    /// Send clients away with a page, or serve them again
    Maintenance(trouble::maintenance::Args),
    /// The live database, and what is kept beside it
    Db(trouble::db::Args),
    /// Backups: make, list, verify, prune, import, restore beside the live database
    Backup(trouble::backup::Args),
    /// Whether the newest backup can be restored, and how long it takes
    Drill(trouble::drill::Args),
    /// What migrations the database has; the way back, by scripts or a command
    Migrate(trouble::migrate::Args),
    /// Go on with an operation that waits for you
    Continue(trouble::go_on::Args),
    /// Say why, for the record
    Note(trouble::note::Args),
    /// The incident report of a rollback, in English or Chinese
    Report(trouble::report::Args),
    /// Follow an operation to its end
    Wait(trouble::wait::Args),
    /// Read the compose file, write a commented cutover.toml
    Init(begin::init::Args),
    /// Take over a running application, without a restart; shows its plan first
    Adopt(begin::adopt::Args),
    /// Give it back to plain docker compose
    Leave(begin::leave::Args),
    /// See it work in a minute, without Docker
    Demo(begin::demo::Args),
    /// Run the daemon in the foreground
    Serve(begin::serve::Args),
    /// Check cutover.toml, report every mistake at once
    Check(begin::check::Args),
    /// Leftovers and dangers, and what to do about them
    Doctor(tool::doctor::Args),
    /// The form of cutover.toml
    Config(tool::schema::Args),
    /// Completions for your shell
    Completions(tool::completions::Args),
}

/// Runs a command line on a runtime of its own. To be called first of all: sockets that were handed
/// to this process are taken before there is a second thread.
#[must_use]
pub fn main(words: impl IntoIterator<Item = OsString>) -> Exit {
    let inherited = inherit::take();
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    let format = if cli.global.json { Format::Json } else { Format::Text };
    let session = Session::new(cli.global, Output::new(format), inherited);
    // A command asks and waits; only the daemon has several things to do at once.
    let mut runtime = match cli.command {
        Command::Serve(_) | Command::Demo(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = match runtime.worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let text = format!("the system gives no threads or descriptors: {error}");
            return session.out.failure(&CliError::new(Exit::Failed, text));
        }
    };
    let ended = runtime.block_on(async {
        match dispatch(&session, cli.command).await {
            Ok(exit) => Ok(exit),
            Err(error) => Err(error.with_unit().await),
        }
    });
    // A disk that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended.unwrap_or_else(|error| session.out.failure(&error))
}

async fn dispatch(session: &Session, command: Command) -> Result<Exit, CliError> {
    match command {
        Command::Status(args) => day::status::run(session, args).await,
        Command::Deploy(args) => day::deploy::run(session, args).await,
        Command::Shift(args) => day::shift::run(session, args).await,
        Command::Next(args) => day::next::run(session, args).await,
        Command::Promote(args) => day::promote::run(session, args).await,
        Command::Abort(args) => day::abort::run(session, args).await,
        Command::Preview(args) => day::preview::run(session, args).await,
        Command::Releases(args) => day::releases::run(session, args).await,
        Command::Logs(args) => day::logs::run(session, args).await,
        Command::Events(args) => day::events::run(session, args).await,
        Command::Rollback(args) => trouble::rollback::run(session, args).await,
        Command::Undo(args) => trouble::undo::run(session, args).await,
        Command::Maintenance(args) => trouble::maintenance::run(session, args).await,
        Command::Db(args) => trouble::db::run(session, args).await,
        Command::Backup(args) => trouble::backup::run(session, args).await,
        Command::Drill(args) => trouble::drill::run(session, args).await,
        Command::Migrate(args) => trouble::migrate::run(session, args).await,
        Command::Continue(args) => trouble::go_on::run(session, args).await,
        Command::Note(args) => trouble::note::run(session, args).await,
        Command::Report(args) => trouble::report::run(session, args).await,
        Command::Wait(args) => trouble::wait::run(session, args).await,
        Command::Init(args) => begin::init::run(session, args).await,
        Command::Adopt(args) => begin::adopt::run(session, args).await,
        Command::Leave(args) => begin::leave::run(session, args).await,
        Command::Demo(args) => begin::demo::run(session, args).await,
        Command::Serve(args) => begin::serve::run(session, args).await,
        Command::Check(args) => begin::check::run(session, args).await,
        Command::Doctor(args) => tool::doctor::run(session, args).await,
        Command::Config(args) => Ok(tool::schema::run(session, &args)),
        Command::Completions(args) => Ok(tool::completions::run(session, &args, Cli::command())),
    }
}

#[cfg(test)]
mod tests;
