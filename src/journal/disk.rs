//! Files that are whole or not there: folders that are safe, files replaced in one step.
//!
//! Owns how the daemon writes small files. Does not know what is in them.
//! Invariant: after [`replace_file`] returned, the new content survives a power cut; before, the
//! path holds the old content. A failed sync is never repeated on the same open file, because the
//! system may have dropped the pages: the content is written to a new file again.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::JournalError;

/// Makes a folder that only its owner may enter, whatever the umask says, or checks the one that is
/// there and closes it to others.
///
/// # Errors
/// [`JournalError::Unsafe`] when it is not a folder, belongs to somebody else, or others may write
/// to it or exchange it; [`JournalError::Disk`] and [`JournalError::Full`].
pub fn make_folder(path: &Path) -> Result<(), JournalError> {
    let failed = |step, error: &std::io::Error| JournalError::io(path, step, error);
    match std::fs::DirBuilder::new().mode(0o700).recursive(false).create(path) {
        Ok(()) => {
            if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                sync_folder(parent)?;
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                std::fs::create_dir_all(parent).map_err(|e| failed("making its parent", &e))?;
            }
            return make_folder_once(path);
        }
        Err(error) => return Err(failed("making the folder", &error)),
    }
    check_folder(path)
}

fn make_folder_once(path: &Path) -> Result<(), JournalError> {
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|error| JournalError::io(path, "making the folder", &error))?;
    check_folder(path)
}

/// Checks that nobody else can change what a folder holds, and takes from others the right to read.
///
/// # Errors
/// Those of [`make_folder`].
pub fn check_folder(path: &Path) -> Result<(), JournalError> {
    let unsafe_because = |why: String| Err(JournalError::Unsafe { path: path.to_owned(), why });
    let found = std::fs::metadata(path).map_err(|e| JournalError::io(path, "looking", &e))?;
    if !found.is_dir() {
        return unsafe_because("it is not a folder".to_owned());
    }
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != me {
        return unsafe_because(format!(
            "it belongs to user {}, this is user {me}. Type: chown {me} {}",
            found.uid(),
            path.display()
        ));
    }
    if found.mode() & 0o022 != 0 {
        return unsafe_because(format!(
            "others may write to it. Type: chmod 700 {0}, after a look at what is in it",
            path.display()
        ));
    }
    if let Some(parent) = path.canonicalize().ok().as_deref().and_then(Path::parent) {
        let above =
            std::fs::metadata(parent).map_err(|e| JournalError::io(parent, "looking", &e))?;
        if above.mode() & 0o022 != 0 && above.mode() & 0o1000 == 0 && parent.as_os_str() != "/" {
            return unsafe_because(format!(
                "others may exchange it, because they may write to {}. Choose another place, or \
                 type: chmod go-w {0}",
                parent.display()
            ));
        }
    }
    if found.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(|error| JournalError::io(path, "closing it to others", &error))?;
    }
    Ok(())
}

/// Free bytes for users that are not root on the file system of a path; `None`: not known.
#[must_use]
pub fn free(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// Puts new content at a path in one step: temporary name, sync, rename, sync of the folder; 0600.
///
/// # Errors
/// [`JournalError::Full`] and [`JournalError::Disk`]; the path then holds the old content or, when
/// only the last sync failed, either.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    let fresh = beside(path, ".new");
    let written = write_fresh(&fresh, bytes);
    if let Err(error) = written {
        // The half-written file is of no use to anybody; if it stays, the next call removes it.
        drop(std::fs::remove_file(&fresh));
        return Err(error);
    }
    std::fs::rename(&fresh, path).map_err(|error| JournalError::io(path, "renaming", &error))?;
    match path.parent() {
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

fn write_fresh(path: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(JournalError::io(path, "removing what a crash left", &error));
        }
        _ => {}
    }
    let mut file = create_private(path)?;
    file.write_all(bytes).map_err(|error| JournalError::io(path, "writing", &error))?;
    file.sync_all().map_err(|error| JournalError::io(path, "syncing", &error))
}

/// Makes a file that must not exist yet, 0600 whatever the umask says, and opens it for writing.
///
/// # Errors
/// [`JournalError::Full`] and [`JournalError::Disk`], also when it exists.
pub fn create_private(path: &Path) -> Result<File, JournalError> {
    let failed = |error: std::io::Error| JournalError::io(path, "making the file", &error);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(failed)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(file)
}

/// Syncs a folder, so that a rename or a new name in it survives a power cut.
///
/// # Errors
/// [`JournalError::Full`] and [`JournalError::Disk`].
pub fn sync_folder(path: &Path) -> Result<(), JournalError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| JournalError::io(path, "syncing the folder", &error))
}

/// Reads a plain file of at most `most` bytes; `None` when there is none.
///
/// # Errors
/// [`JournalError::Unsafe`] for anything else than a plain file (a pipe, a folder),
/// [`JournalError::Corrupt`] when it is larger, [`JournalError::Disk`].
pub fn read_file(path: &Path, most: u64) -> Result<Option<Vec<u8>>, JournalError> {
    let failed = |step, error: &std::io::Error| JournalError::io(path, step, error);
    let opened = File::options()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("opening", &error)),
    };
    let kind = file.metadata().map_err(|error| failed("looking", &error))?;
    if !kind.is_file() {
        let why = "it is not a plain file. Move it away".to_owned();
        return Err(JournalError::Unsafe { path: path.to_owned(), why });
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| failed("reading", &error))?;
    if bytes.len() as u64 > most {
        let what = format!("it has more than {most} bytes");
        return Err(JournalError::Corrupt { path: path.to_owned(), what });
    }
    Ok(Some(bytes))
}

/// A name in the same folder: the file's own and an ending.
#[must_use]
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("state");
        make_folder(&folder).unwrap();
        assert_eq!(mode(&folder), 0o700);
        for bad in [0o777, 0o720, 0o702] {
            std::fs::set_permissions(&folder, Permissions::from_mode(bad)).unwrap();
            let error = make_folder(&folder).unwrap_err();
            assert!(error.to_string().contains("chmod 700"), "{bad:o}: {error}");
        }
    }

    #[test]
    fn a_folder_that_others_may_read_is_closed_to_them() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("state");
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        make_folder(&folder).unwrap();
        assert_eq!(mode(&folder), 0o700);
    }

    #[test]
    fn a_folder_in_a_place_open_to_everybody_is_refused() {
        let top = tempfile::tempdir().unwrap();
        let open = top.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        let error = make_folder(&open.join("state")).unwrap_err();
        assert!(matches!(error, JournalError::Unsafe { .. }), "{error}");
        std::fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
        make_folder(&open.join("state")).unwrap();
    }

    #[test]
    fn a_file_or_a_foreign_folder_in_the_place_of_the_state_is_refused() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(matches!(make_folder(&file), Err(JournalError::Unsafe { .. })));
        if rustix::process::geteuid().is_root() {
            let foreign = top.path().join("foreign");
            std::fs::create_dir(&foreign).unwrap();
            std::os::unix::fs::chown(&foreign, Some(65_534), None).unwrap();
            let error = make_folder(&foreign).unwrap_err().to_string();
            assert!(error.contains("belongs to user 65534"), "{error}");
        }
    }

    #[test]
    fn replace_leaves_the_new_content_private_and_no_other_file() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("thing");
        std::fs::write(beside(&path, ".new"), "left by a crash").unwrap();
        replace_file(&path, b"one").unwrap();
        replace_file(&path, b"two").unwrap();
        assert_eq!(read_file(&path, 10), Ok(Some(b"two".to_vec())));
        assert_eq!(mode(&path), 0o600);
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 1);
    }

    #[test]
    fn reading_is_bounded_and_takes_plain_files_only() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("thing");
        assert_eq!(read_file(&path, 3), Ok(None));
        std::fs::write(&path, "four").unwrap();
        assert!(matches!(read_file(&path, 3), Err(JournalError::Corrupt { .. })));
        let pipe = top.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert!(matches!(read_file(&pipe, 3), Err(JournalError::Unsafe { .. })));
    }
}
