//! Reading the operator's file from disk, with bounds.
//!
//! Only a regular file of at most 1 MiB is read. A symlink is followed only inside its own folder:
//! a link that leads elsewhere could be pointed at anything by whoever may write the folder.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::problem::Problems;

/// The longest file that is read.
const LONGEST: u64 = 1024 * 1024;

/// Reads the text, or says why not.
pub(crate) fn read(path: &Path) -> Result<String, Problems> {
    let origin = path.display().to_string();
    let refuse = |what: String, hint: Option<String>| Problems::about_file(&origin, what, hint);
    let target = resolve(path).map_err(|(what, hint)| refuse(what, hint))?;
    // Without waiting: opening a FIFO would last until somebody writes into it.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&target);
    let file = file.map_err(|error| refuse(unreadable(&error), None))?;
    let metadata = file.metadata().map_err(|error| refuse(unreadable(&error), None))?;
    if !metadata.is_file() {
        let what = "this is not a regular file".to_owned();
        return Err(refuse(what, Some("name a file with --config".to_owned())));
    }
    let mut bytes = Vec::new();
    let read = file.take(LONGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| refuse(unreadable(&error), None))?;
    if bytes.len() as u64 > LONGEST {
        return Err(refuse("the file is longer than 1 MiB".to_owned(), None));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        let hint = "save the file as UTF-8".to_owned();
        refuse(format!("line {line} is not UTF-8 text"), Some(hint))
    })
}

fn resolve(path: &Path) -> Result<PathBuf, (String, Option<String>)> {
    let metadata =
        std::fs::symlink_metadata(path).map_err(|error| (unreadable(&error), hint(&error)))?;
    if !metadata.is_symlink() {
        return Ok(path.to_owned());
    }
    let target = path.canonicalize().map_err(|error| (unreadable(&error), hint(&error)))?;
    let folder = match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => parent,
        None => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(|error| (unreadable(&error), None))?;
    if target.starts_with(&folder) {
        return Ok(target);
    }
    let what = format!("this is a link that leads out of its folder, to {}", target.display());
    Err((what, Some(format!("name the file itself: --config {}", target.display()))))
}

fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "the file may not be read".to_owned(),
        _ => format!("the file cannot be read: {error}"),
    }
}

fn hint(error: &std::io::Error) -> Option<String> {
    (error.kind() == std::io::ErrorKind::NotFound)
        .then(|| "name one with --config, or write one with `cutover init`".to_owned())
}
