//! `cutover report [OPERATION]`: the incident report, and what people add to it.
//!
//! The daemon gathers and checks; the words are made here. What people write is kept by the daemon,
//! with the operation, so it is in the report when that is made again.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;
use cutover_model::OperationId;
use serde_json::Value;

use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::session::Session;
use crate::cli::show;
use crate::report::{self, Language, Report, Style};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Health, speed and user access are checked when the report is made, so it also says how things are
now. Root cause, improvements and prevention are yours to write: --edit.

Examples:
  cutover report                              of the newest rollback or restore
  cutover report o41 --language zh
  cutover report o41 --html --output o41.html
  cutover report o41 --edit                   opens $EDITOR; kept with o41")]
pub struct Args {
    /// The operation, like o41; the newest rollback or restore when left out
    #[arg(value_name = "OPERATION")]
    operation: Option<OperationId>,
    /// One HTML page instead of Markdown
    #[arg(long, conflicts_with = "edit")]
    html: bool,
    /// The language
    #[arg(long, value_enum, default_value_t = Words::En)]
    language: Words,
    /// Write root cause, improvements and prevention in your editor
    #[arg(long, conflicts_with_all = ["output", "json"])]
    edit: bool,
    /// Write it to a file instead of the terminal
    #[arg(long, short, value_name = "FILE", conflicts_with = "json")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Words {
    /// English
    En,
    /// Chinese
    Zh,
}

impl From<Words> for Language {
    fn from(words: Words) -> Self {
        match words {
            Words::En => Self::En,
            Words::Zh => Self::Zh,
        }
    }
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that there is none.
pub async fn run(session: &Session, args: Args) -> Result<Exit, CliError> {
    let client = session.daemon()?;
    let asked = args.operation.map_or_else(|| "-".to_owned(), |operation| operation.to_string());
    let report: Report = client.get(&session.path(&format!("operations/{asked}/report"))).await?;
    let (language, operation) = (args.language.into(), report.operation);
    if args.edit {
        let before = report::to_edit(&report.written, language);
        let after = edit(&before)?;
        if after == before {
            session.out.text("Nothing was written; the report is as it was.");
            return Ok(Exit::Done);
        }
        let path = session.path(&format!("operations/{operation}/report"));
        let kept: Value = client.post(&path, &report::edited(&after)).await?;
        session.out.value(&kept);
        session.out.text(&format!("Kept with {operation}.  See it:  cutover report {operation}"));
        return Ok(Exit::Done);
    }
    session.out.value(&report);
    if session.global.json {
        return Ok(Exit::Done);
    }
    let style = Style { language, zone: crate::text::zone(), tell: &show::said };
    let text = match args.html {
        true => report::html(&report, &style),
        false => report::markdown(&report, &style),
    };
    match &args.output {
        Some(path) => {
            store(path, &text).with_context(|| format!("{} is not written", path.display()))?;
            session.out.text(&format!("Wrote {}.", path.display()));
        }
        None => session.out.raw(text.trim_end()),
    }
    Ok(Exit::Done)
}

/// Writes the file whole, or leaves the former one.
fn store(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(std::path::Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".cutover-report.").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Lets a person change a text; what is left of it afterwards.
fn edit(text: &str) -> anyhow::Result<String> {
    let mut file = tempfile::Builder::new().prefix("cutover-report-").suffix(".md").tempfile()?;
    file.write_all(text.as_bytes())?;
    file.flush()?;
    let named = ["VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok());
    let editor = named.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| "vi".to_owned());
    // As git does it: the editor may have arguments of its own.
    let ended = std::process::Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file.path())
        .status()
        .with_context(|| format!("the editor \"{editor}\" cannot be run: set $EDITOR"))?;
    anyhow::ensure!(ended.success(), "the editor \"{editor}\" failed; nothing was changed");
    Ok(std::fs::read_to_string(file.path())?)
}
