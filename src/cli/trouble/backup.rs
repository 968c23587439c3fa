//! `cutover backup ...`: made, listed, read back, let go, restored beside the live database.

use std::path::PathBuf;

use crate::api::wire;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::follow::{Nothing, Wait, carry_out};
use crate::cli::planned::Planned;
use crate::cli::session::Session;
use crate::cli::show;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A backup is a dump of the live database, made while it serves, and read back completely before it
counts. Each lies in a folder of its own with a manifest of its SHA-256. By itself, every night:
  backup = { schedule = \"0 3 * * *\", keep = { daily = 7, weekly = 4 } }   in [apps.NAME.database]

Examples:
  cutover backup create
  cutover backup verify newest
  cutover backup restore b-118 --aside    to look into it; the live database is not touched
  cutover rollback --database --backup b-118 --dry-run    what going back to it would lose")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make one now, and read it back
    Create(Create),
    /// What is kept: id, moment, why, size, read back, copied
    List,
    /// Read backups back, every block, and hold them against their SHA-256
    Verify(Verify),
    /// Let go what the rule does not keep; shows it first, then asks
    Prune(Prune),
    /// Make a backup of a file from elsewhere: .sql, .sql.gz, or an archive of pg_dump -Fc
    Import(Import),
    /// Restore one beside the live database, to look into it
    Restore(Restore),
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Print the operation and return, without waiting for its end
    #[arg(long)]
    detach: bool,
}

/// `backup verify`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cutover backup verify b-118
  cutover backup verify newest
  cutover backup verify --all")]
struct Verify {
    /// The backup, like b-118, or \"newest\"
    #[arg(value_name = "ID", required_unless_present = "all")]
    id: Option<String>,
    /// All of them
    #[arg(long, conflicts_with = "id")]
    all: bool,
}

/// `backup prune`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
backup.keep says how many days, weeks and months keep their newest backup. Never let go: the newest
one that was read back, and what an open plan needs. What a restore or `db retire` saved, what was
imported and what is damaged stands for no day: it goes a month after it was made, and what a
restore saved not before the database is retired that the restore put aside.

Examples:
  cutover backup prune --dry-run")]
struct Prune {
    #[command(flatten)]
    planned: Planned,
}

/// `backup import`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file is restored into a database beside the live one, by a role that may do nothing else, in
one transaction that ends at the first error; then a backup of our own is made of that, and the
database is dropped. A plain dump has to end with the line that pg_dump ends with. An encrypted
file is decrypted first:  age -d -i key.txt shop.pgc.age > shop.pgc

Examples:
  cutover backup import /srv/old/shop.sql.gz")]
struct Import {
    /// The file, on the daemon's host
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// `backup restore`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Only beside the live database. To put data back that users meet:  cutover rollback --database
--backup ID, which counts what is lost, and asks.

Examples:
  cutover backup restore b-118 --aside
  cutover backup restore newest --aside shop_look
  cutover db retire o12                   drops it again")]
struct Restore {
    /// The backup, like b-118, or \"newest\"
    #[arg(value_name = "ID")]
    id: String,
    /// Beside the live database, under this name or one of its own
    #[arg(long, value_name = "NAME", num_args = 0..=1, required = true)]
    aside: Option<Option<String>>,
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    match args.what {
        What::Create(create) => {
            let wait = Wait::from(create.detach);
            carry_out(session, &client, "backups", &Nothing {}, wait).await
        }
        What::List => {
            let listed: wire::Backups = client.get(&session.path("backups")).await?;
            session.out.value(&listed);
            session.out.text(&show::backups(&listed, &session.clock));
            Ok(Exit::Done)
        }
        What::Verify(verify) => {
            let body = wire::Verify { backup: verify.id };
            carry_out(session, &client, "backups/verify", &body, Wait::Follow).await
        }
        What::Prune(prune) => {
            let plan: wire::Prunable = client.get(&session.path("backups/prune")).await?;
            if prune.planned.dry_run || plan.going.is_empty() {
                session.out.value(&plan);
            }
            if plan.going.is_empty() {
                session.out.text(&show::prune_plan(&plan, &session.clock));
                return Ok(Exit::Done);
            }
            let text = show::prune_plan(&plan, &session.clock);
            if let Some(exit) = prune.planned.show(session, &text) {
                return Ok(exit);
            }
            let ids = plan.going.into_iter().map(|backup| backup.id).collect();
            let body = wire::Prune { ids };
            carry_out(session, &client, "backups/prune", &body, Wait::Follow).await
        }
        What::Import(import) => {
            // The daemon follows no link on the way; what cannot be found is its to say.
            let path = std::fs::canonicalize(&import.file)
                .or_else(|_| std::path::absolute(&import.file))
                .map_err(|error| CliError::new(Exit::Usage, error.to_string()))?;
            let body = wire::Import { path: path.display().to_string() };
            carry_out(session, &client, "backups/import", &body, Wait::Follow).await
        }
        What::Restore(restore) => {
            let name = restore.aside.flatten();
            let body = wire::Aside { backup: restore.id, name };
            carry_out(session, &client, "backups/aside", &body, Wait::Follow).await
        }
    }
}
