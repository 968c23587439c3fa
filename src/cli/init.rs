//! `cutover init`: reads the operator's compose file and writes a commented `cutover.toml`.
//!
//! Writes one file, whole or not at all, and never over one that is there. What it writes has been
//! read back and checked before.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cutover_model::AppName;
use serde_json::json;

use super::said::Said;
use crate::host::{Compose, ComposeError, Docker, StackSettings};
use crate::init::duty::Duty;
use crate::init::proposal::Proposal;
use crate::init::{self, seen::Seen, stack::Stack, tell::Written};

/// The exit code when nothing was changed on purpose.
const REFUSED: u8 = 4;
/// The exit code of a failure.
const FAILED: u8 = 1;

/// Reads your compose file and writes a commented cutover.toml beside it.
#[derive(Debug, Clone, clap::Args)]
pub struct InitArgs {
    /// The file to write; it stands in the folder of the compose file.
    #[arg(long, env = "CUTOVER_CONFIG", value_name = "FILE", default_value = "cutover.toml")]
    pub config: PathBuf,
    /// A compose file; may be given several times. Default: those that compose would find.
    #[arg(long = "file", short = 'f', value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write over a file that is there.
    #[arg(long)]
    pub force: bool,
    /// Print the file instead of writing it.
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the folder or the file cannot be used at all.
pub async fn run(args: &InitArgs) -> anyhow::Result<Said> {
    if !args.force && !args.dry_run && args.config.symlink_metadata().is_ok() {
        return Ok(there_already(&args.config));
    }
    let path = std::path::absolute(&args.config)?;
    let folder = path.parent().context("the file has no folder")?.canonicalize()?;
    let around = init::around::here(&folder);
    let files = match (args.files.is_empty(), around.files.is_empty()) {
        (false, _) => args.files.clone(),
        (true, false) => around.files.clone(),
        (true, true) => compose_files(&folder),
    };
    // The name is not known before the file is read; this one is only for the second look.
    let any_app = AppName::new("init")?;
    let rendered = match render(any_app, &folder, &files).await {
        Ok(rendered) => rendered,
        Err(error) => return Ok(unreadable(&folder, &error)),
    };
    let stack: Stack = serde_json::from_value(rendered.operator)
        .context("docker compose describes the stack in a form that is not known")?;
    let (seen, trouble) = see(&stack).await;
    let findings = init::folder::look(&folder, &stack);
    let mut proposal = init::proposal::propose(&folder, &stack, &rendered.blanks, &findings, &seen);
    proposal.around = around;
    if proposal.with_duty(Duty::TwoCopies).next().is_none() {
        return Ok(nothing_to_copy(&proposal));
    }
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let text = init::file::write(&proposal, &names);
    let origin = args.config.display().to_string();
    if let Err(problems) = cutover_config::parse(&text, &origin, &folder, []) {
        anyhow::bail!("the proposal does not pass its own check; nothing was written:\n{problems}");
    }
    let lines = text.lines().count();
    if !args.dry_run {
        store(&path, &text, args.force)?;
    }
    let written = Written { path: origin.clone(), lines };
    if args.json {
        let written = (!args.dry_run).then_some(&origin);
        let mut out = json!({
            "schema": "cutover.init/1",
            "written": written,
            "lines": lines,
            "proposal": proposal,
            "file": text,
        })
        .to_string();
        out.push('\n');
        return Ok(Said { out, err: trouble, exit: 0 });
    }
    let told = init::tell::tell(&proposal, &names, &seen, &written);
    Ok(match args.dry_run {
        true => {
            Said { out: text, err: format!("{trouble}Dry run: nothing was written.\n"), exit: 0 }
        }
        false => Said { out: told, err: trouble, exit: 0 },
    })
}

/// The files that compose finds in a folder by itself: one, and its override.
fn compose_files(folder: &Path) -> Vec<PathBuf> {
    let stems = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
    let Some(found) = stems.iter().find(|name| folder.join(name).is_file()) else {
        return Vec::new();
    };
    let mut files = vec![PathBuf::from(found)];
    let stem = found.split('.').next().unwrap_or_default();
    let more = ["yml", "yaml"].map(|ending| format!("{stem}.override.{ending}"));
    files.extend(more.into_iter().find(|name| folder.join(name).is_file()).map(PathBuf::from));
    files
}

async fn render(
    app: AppName,
    folder: &Path,
    files: &[PathBuf],
) -> Result<crate::host::Rendered, ComposeError> {
    let mut settings = StackSettings::new(app, folder.to_owned(), folder.to_owned());
    settings.compose_files = files.to_vec();
    Compose::new(&settings).render("cutover-init").await
}

/// What runs, as far as Docker says; without Docker the file is written all the same.
async fn see(stack: &Stack) -> (Seen, String) {
    let looked = async {
        let docker = Docker::connect(None).await?;
        init::running::look(&docker, stack, jiff::Timestamp::now()).await
    };
    match looked.await {
        Ok(seen) => (seen, String::new()),
        Err(error) => {
            let said = format!("note: what runs is not known: {error}\n");
            (Seen::default(), said)
        }
    }
}

/// Writes the file whole, or not at all.
fn store(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = path.parent().context("the file has no folder")?;
    let mut file = tempfile::Builder::new().prefix(".cutover.toml.").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    match force {
        true => file.persist(path).map(drop)?,
        // Somebody may have made one since we looked: theirs stays.
        false => file.persist_noclobber(path).map(drop)?,
    }
    Ok(())
}

fn there_already(path: &Path) -> Said {
    let path = path.display();
    let err = format!(
        "cutover: {path} is there already. NOTHING WAS CHANGED.\n  \
         cutover check              reads it and says what it means\n  \
         cutover init --dry-run     prints what a new one would say\n  \
         cutover init --force       writes a new one over it\n"
    );
    Said { out: String::new(), err, exit: REFUSED }
}

/// A stack of which nothing can run twice.
fn nothing_to_copy(proposal: &Proposal) -> Said {
    let mut err =
        "cutover: no service of this stack can have two copies. NOTHING WAS CHANGED.\n".to_owned();
    for service in &proposal.services {
        let fate = match service.duty {
            Duty::Singleton => "one copy: nobody calls it",
            _ => "one copy, for both colors",
        };
        err.push_str(&format!("  {}  {} ({fate})\n", service.name, service.looks_like));
    }
    err.push_str(
        "  A service has two copies if it publishes or exposes a port, or if others depend on it, \
         and if it keeps no data and does not use the host itself.\n",
    );
    Said { out: String::new(), err, exit: REFUSED }
}

fn unreadable(folder: &Path, error: &ComposeError) -> Said {
    let mut err = format!("cutover: {error}\n");
    if matches!(error, ComposeError::Invalid { .. }) {
        err.push_str(&format!(
            "  cutover init reads the compose file in the folder where you are: {}\n  \
             another file:   cutover init -f FILE\n  no Docker:      see [apps.NAME.endpoints] in \
             docs/configuration.md\n",
            folder.display()
        ));
    }
    Said { out: String::new(), err, exit: FAILED }
}
