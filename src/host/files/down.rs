//! Down scripts of a release: found beside its migrations, kept with its files.
//!
//! They live in the release that brought the migrations: the image that a rollback goes to does not
//! have them. Two forms: `NAME/down.sql` (beside `migration.sql`) and pairs `NAME.up.sql`,
//! `NAME.down.sql`; of a pair `NAME_text` the tool's table may have the part before the `_` only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{FilesError, ReleaseFile, io, off_runtime, read_bounded};

/// Where they are in a release's folder.
pub const FOLDER: &str = "down";

/// The scripts of a folder of migrations, as files of a release. A folder that is not there has
/// none.
///
/// # Errors
/// [`FilesError`] when one cannot be read.
pub async fn scripts(migrations: PathBuf) -> Result<Vec<ReleaseFile>, FilesError> {
    off_runtime(move || {
        let mut found = Vec::new();
        let entries = match std::fs::read_dir(&migrations) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(io("read", &migrations)(error)),
        };
        for entry in entries {
            let path = entry.map_err(io("read", &migrations))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (name, script) = match (path.is_dir(), name.strip_suffix(".down.sql")) {
                (true, _) => (name, path.join("down.sql")),
                (false, Some(pair)) => (pair.to_owned(), path.clone()),
                (false, None) => continue,
            };
            if !script.is_file() {
                continue;
            }
            found.push(ReleaseFile {
                to: Path::new(FOLDER).join(format!("{name}.sql")),
                bytes: read_bounded(&script)?,
                mode: 0o600,
                owner: None,
            });
        }
        Ok(found)
    })
    .await
}

/// The scripts that a release kept, by the name of their migration.
///
/// # Errors
/// [`FilesError::Damaged`] when a file is not what was written.
pub async fn kept(release: &Path) -> Result<BTreeMap<String, String>, FilesError> {
    let copies = super::copies_of(release).await?;
    let scripts = copies.into_iter().filter_map(|file| {
        let name = file.to.strip_prefix(FOLDER).ok()?.to_str()?.strip_suffix(".sql")?.to_owned();
        Some((name, String::from_utf8_lossy(&file.bytes).into_owned()))
    });
    Ok(scripts.collect())
}

/// The script of one migration.
#[must_use]
pub fn of<'s>(scripts: &'s BTreeMap<String, String>, migration: &str) -> Option<&'s String> {
    let is_its = |name: &str| {
        name == migration || name.split_once('_').is_some_and(|(number, _)| number == migration)
    };
    scripts.iter().find(|(name, _)| is_its(name)).map(|(_, script)| script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_forms_are_found_and_a_migration_without_one_has_none() {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in [
            ("20261101_init/migration.sql", "up"),
            ("20261102_cart/migration.sql", "up"),
            ("20261102_cart/down.sql", "down cart"),
            ("0003_price.up.sql", "up"),
            ("0003_price.down.sql", "down price"),
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let found = scripts(folder.path().to_owned()).await.expect("read");
        let kept: BTreeMap<String, String> = found
            .into_iter()
            .map(|file| {
                let name = file.to.file_stem().expect("a name").to_string_lossy().into_owned();
                (name, String::from_utf8(file.bytes).expect("text"))
            })
            .collect();
        assert_eq!(of(&kept, "20261102_cart").map(String::as_str), Some("down cart"));
        assert_eq!(of(&kept, "0003").map(String::as_str), Some("down price"));
        assert_eq!(of(&kept, "20261101_init"), None);
        assert!(scripts(folder.path().join("none")).await.expect("read").is_empty());
    }
}
