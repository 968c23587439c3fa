//! `cutover db export`: rows as they come, into one CSV file for each table.
//!
//! Files are 0600: they hold people's data. A file has a temporary name until all rows of its table
//! are in it, so that one that is there is whole.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Export;
use crate::api::wire::ExportLine;
use crate::cli::exit::Exit;
use crate::cli::failure::CliError;
use crate::cli::session::Session;
use crate::client::Client;
use crate::text;

/// What was written, for scripts.
#[derive(Debug, Serialize)]
struct Exported {
    schema: &'static str,
    folder: String,
    rows: u64,
    tables: Vec<(String, u64)>,
}

/// A file that is being written.
struct Table {
    name: String,
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
    rows: u64,
}

fn unwritten(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(Exit::Failed, format!("{}: {error}", path.display()))
}

impl Table {
    fn begin(folder: &Path, name: String, columns: &[String]) -> Result<Self, CliError> {
        // Two names may be the same one without their odd letters.
        let plain = file_name(&name);
        let numbered = (2..).map(|number| folder.join(format!("{plain}-{number}.csv")));
        let first = folder.join(format!("{plain}.csv"));
        let free = std::iter::once(first).chain(numbered).find(|path| !path.exists());
        let path = free.unwrap_or_else(|| folder.join("rows.csv"));
        let part = path.with_extension("csv.part");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&part).map_err(|error| unwritten(&part, &error))?;
        let mut table = Self { name, path, part, file: BufWriter::new(file), rows: 0 };
        let head = columns.iter().map(|column| Some(column.clone()));
        table.line("lost", head)?;
        Ok(table)
    }

    fn line(
        &mut self,
        first: &str,
        values: impl Iterator<Item = Option<String>>,
    ) -> Result<(), CliError> {
        let mut line = first.to_owned();
        for value in values {
            line.push(',');
            line.push_str(&cell(value.as_deref()));
        }
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(|error| unwritten(&self.part, &error))
    }

    fn end(self) -> Result<(String, u64), CliError> {
        let Self { name, path, part, file, rows } = self;
        let file = file.into_inner().map_err(|error| unwritten(&part, error.error()))?;
        file.sync_all().map_err(|error| unwritten(&part, &error))?;
        std::fs::rename(&part, &path).map_err(|error| unwritten(&path, &error))?;
        Ok((name, rows))
    }
}

/// A value as CSV has it: NULL is nothing, an empty text is a pair of quotes.
fn cell(value: Option<&str>) -> String {
    match value {
        None => String::new(),
        Some(text) if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Some(text) => text.to_owned(),
    }
}

/// A name that leads nowhere: without `public.`, and without anything but letters and digits.
fn file_name(table: &str) -> String {
    let bare = table.strip_prefix("public.").unwrap_or(table);
    let plain = |c: char| if c.is_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    let name: String = bare.chars().map(plain).collect();
    name.trim_start_matches('.').to_owned()
}

/// Runs it.
///
/// # Errors
/// What the daemon refuses, or that a file cannot be written.
pub(super) async fn run(
    session: &Session,
    client: &Client,
    args: Export,
) -> Result<Exit, CliError> {
    // There is one form today; the word says it in scripts that outlive that.
    let Export { operation, csv: _, output } = args;
    let folder = output.unwrap_or_else(|| PathBuf::from(format!("lost-{operation}")));
    let path = session.path(&format!("db/export?operation={operation}&follow=1"));
    let mut lines = client.lines(&path).await?;
    let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&folder);
    made.map_err(|error| unwritten(&folder, &error))?;
    let mut there = std::fs::read_dir(&folder).map_err(|error| unwritten(&folder, &error))?;
    if there.next().is_some() {
        let why = format!(
            "{} is not empty, and rows of another time would stand beside these: name another \
             folder (--output)",
            folder.display()
        );
        return Err(CliError::new(Exit::Refused, why));
    }
    let (mut tables, mut open): (Vec<(String, u64)>, Option<Table>) = (Vec::new(), None);
    let rows = loop {
        let Some(line) = lines.next::<ExportLine>().await? else {
            return Err(CliError::new(Exit::Failed, "the daemon ended before all rows were sent"));
        };
        match line {
            ExportLine::Table { name, columns } => {
                if let Some(former) = open.take() {
                    tables.push(former.end()?);
                }
                open = Some(Table::begin(&folder, name, &columns)?);
            }
            ExportLine::Row { changed, values } => {
                if let Some(table) = &mut open {
                    table.rows += 1;
                    let word = if changed { "changed" } else { "new" };
                    table.line(word, values.into_iter())?;
                }
            }
            ExportLine::End { rows } => break rows,
            ExportLine::Failed { why } => {
                return Err(CliError::new(Exit::Failed, format!("not all rows were sent: {why}")));
            }
        }
    };
    if let Some(last) = open.take() {
        tables.push(last.end()?);
    }
    let width = tables.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, rows) in &tables {
        session.out.text(&format!("   {name:<width$}  {:>9}", text::count(*rows)));
    }
    let shown = folder.display().to_string();
    let count = text::number_of(usize::try_from(rows).unwrap_or(usize::MAX), "row");
    session.out.text(&match rows {
        0 => format!("The live database has every row of {operation}. {shown} is empty."),
        _ => format!("{count} in {shown}, which the live database has not, or has otherwise."),
    });
    let schema = "cutover.exported/1";
    session.out.value(&Exported { schema, folder: shown, rows, tables });
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_out_as_they_went_in() {
        for (value, csv) in [
            (None, ""),
            (Some(""), "\"\""),
            (Some("cup"), "cup"),
            (Some("a,b"), "\"a,b\""),
            (Some("5\" disk\nnew"), "\"5\"\" disk\nnew\""),
        ] {
            assert_eq!(cell(value), csv);
        }
    }

    #[test]
    fn a_tables_name_leads_nowhere_else() {
        for (table, name) in [
            ("public.orders", "orders"),
            ("audit.log", "audit.log"),
            ("public.\"../../etc/passwd\"", "_.._.._etc_passwd_"),
        ] {
            assert_eq!(file_name(table), name);
        }
    }
}
