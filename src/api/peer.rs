//! Who calls: the socket's peer credentials, and who of them may come in.

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
    /// The user's name for the record, from `/etc/passwd`, or the number.
    #[must_use]
    pub fn name(&self) -> String {
        let Some(uid) = self.uid else { return "unknown".to_owned() };
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let named = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let number = fields.nth(1)?;
            (number == uid.to_string()).then(|| name.to_owned())
        });
        named.unwrap_or_else(|| format!("uid {uid}"))
    }
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
    fn root_has_its_name() {
        assert_eq!(Peer { uid: Some(0), ..Peer::default() }.name(), "root");
        assert_eq!(Peer::default().name(), "unknown");
    }
}
