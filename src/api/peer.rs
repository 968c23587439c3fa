//! Who calls: the socket's peer credentials, their names, and who of them may come in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

/// The process at the other end of the socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its user; `None` when the kernel did not say.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
    /// Its process id.
    pub pid: Option<i32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        match stream.io().peer_cred() {
            Ok(cred) => Self { uid: Some(cred.uid()), gid: Some(cred.gid()), pid: cred.pid() },
            Err(_) => Self::default(),
        }
    }
}

impl Peer {
    /// The user's name for the record, as far as it is known in memory, or the number.
    #[must_use]
    pub fn name(&self, users: &Users) -> String {
        let Some(uid) = self.uid else { return "unknown".to_owned() };
        let known = users.known.load();
        known.names.get(&uid).cloned().unwrap_or_else(|| format!("uid {uid}"))
    }
}

/// The names of this host's users, kept in memory.
///
/// INVARIANT: a name is looked up without a file or a lock: a cut-back asks for one before traffic
/// moves. The file is read at the start, and anew before commands that may wait.
#[derive(Debug)]
pub struct Users {
    file: PathBuf,
    known: ArcSwap<Known>,
}

#[derive(Debug, Default)]
struct Known {
    names: BTreeMap<u32, String>,
    changed: Option<SystemTime>,
}

impl Users {
    /// Those of a file in the form of `/etc/passwd`; none if it cannot be read.
    #[must_use]
    pub fn read(file: impl Into<PathBuf>) -> Self {
        let file = file.into();
        let known = ArcSwap::from_pointee(Known::read(&file));
        Self { file, known }
    }

    /// Reads the file again if it was changed; blocks on the disk.
    pub fn refresh(&self) {
        if changed(&self.file) != self.known.load().changed {
            self.known.store(Arc::new(Known::read(&self.file)));
        }
    }
}

impl Known {
    fn read(file: &Path) -> Self {
        let changed = changed(file);
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let named = |line: &str| -> Option<(u32, String)> {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
        };
        // The first line of a number counts, as for everybody else: the last one that is put in.
        let names = text.lines().rev().filter_map(named).collect();
        Self { names, changed }
    }
}

fn changed(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|found| found.modified()).ok()
}

/// Who may come in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Door {
    /// The daemon's own user.
    pub uid: u32,
    /// The socket's group, whose members the file mode lets in.
    pub gid: Option<u32>,
}

impl Door {
    /// Admits root, the daemon's own user, and the socket's group (which the file's mode enforces
    /// for members by other than their first group).
    ///
    /// # Errors
    /// What to do instead.
    pub fn admit(&self, peer: &Peer) -> Result<(), &'static str> {
        let is_known = match peer.uid {
            Some(0) => true,
            Some(uid) if uid == self.uid => true,
            Some(_) => self.gid.is_some(),
            None => false,
        };
        if is_known {
            Ok(())
        } else {
            Err("only root and the user that runs the daemon may do this: try it with sudo")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_stay_outside() {
        let door = Door { uid: 990, gid: None };
        let by = |uid| Peer { uid, gid: Some(100), pid: Some(1) };
        assert!(door.admit(&by(Some(0))).is_ok());
        assert!(door.admit(&by(Some(990))).is_ok());
        assert!(door.admit(&by(Some(1000))).is_err());
        assert!(door.admit(&by(None)).is_err());
    }

    #[test]
    fn a_name_comes_from_memory_and_a_new_user_is_known_after_a_refresh() {
        let by = |uid| Peer { uid: Some(uid), ..Peer::default() };
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nodd\n")
            .expect("written");
        let users = Users::read(file.path());
        std::fs::write(file.path(), "li:x:1000:1000::/home/li:/bin/sh\n").expect("written");
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        std::fs::File::options()
            .write(true)
            .open(file.path())
            .expect("open")
            .set_modified(later)
            .expect("a time");
        assert_eq!(by(0).name(&users), "root", "what stands in the file now is not looked at");
        assert_eq!(by(1000).name(&users), "uid 1000");
        users.refresh();
        assert_eq!(by(1000).name(&users), "li");
        assert_eq!(by(0).name(&users), "uid 0");
        assert_eq!(Peer::default().name(&users), "unknown");
        assert_eq!(by(0).name(&Users::read("/nowhere/passwd")), "uid 0");
    }
}
