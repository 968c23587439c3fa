//! The admin socket: made before anybody can connect with the wrong rights, and never taken from a
//! daemon that still answers on it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::Context as _;
use tokio::net::UnixListener;

use crate::api::peer::Door;

/// Opens the socket: 0600, or 0660 where its folder has a group that is not root's.
///
/// # Errors
/// When another daemon answers on it, or it cannot be made.
pub fn open(path: &Path) -> anyhow::Result<UnixListener> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)
        .with_context(|| format!("[admin] socket: {} cannot be made", folder.display()))?;
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            anyhow::bail!(
                "another daemon answers on {}. Stop it first, or set another [admin] socket",
                path.display()
            );
        }
        std::fs::remove_file(path)
            .with_context(|| format!("{}, left by a former daemon, stays", path.display()))?;
    }
    // Bound under another name first: nobody can connect before the rights are right.
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    drop(std::fs::remove_file(&fresh));
    let listener = UnixListener::bind(&fresh)
        .with_context(|| format!("[admin] socket: {} cannot be made", path.display()))?;
    let mode = if group(folder).is_some() { 0o660 } else { 0o600 };
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode))?;
    if let Some(gid) = group(folder) {
        std::os::unix::fs::chown(&fresh, None, Some(gid))?;
    }
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

/// Who may come in by this socket.
#[must_use]
pub fn door(path: &Path) -> Door {
    let gid = group(path.parent().unwrap_or(Path::new("/")));
    Door { uid: rustix::process::geteuid().as_raw(), gid }
}

/// The folder's group, when it is neither root's nor everybody's folder.
fn group(folder: &Path) -> Option<u32> {
    let about = std::fs::metadata(folder).ok()?;
    let is_private = about.mode() & 0o007 == 0;
    (about.gid() != 0 && is_private).then(|| about.gid())
}
