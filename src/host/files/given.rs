//! A file that a caller names by its path and the daemon reads: by the caller's rights.
//!
//! The way to it is walked folder by folder, each held by a handle, and no symbolic link is
//! followed, so that nothing can be exchanged between the look at its rights and the reading. What
//! is read afterwards is read through that handle, whatever the path leads to by then.
//! Where it is read later, after a restart even, it is only if it is the very file that was looked
//! at, by its identity.
//! INVARIANT: nothing is opened for reading whose rights were not seen on a handle to it.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, Stat};

/// Whose rights count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Everything can be read.
    Root,
    /// A user of this host, and the group that its process acts for.
    User(u32, Option<u32>),
    /// Somebody: only what everybody can read.
    Unknown,
}

impl Asker {
    /// Whether the rights of a file have this one, given as everybody's, for who asks. The first of
    /// owner, group and everybody that fits decides, as for the kernel; whose other groups are not
    /// known may be in the file's, so that must not say less than everybody does.
    ///
    /// With an access list the group's bits are what the list allows at most, not the group's
    /// rights: then the group counts like anybody.
    fn may(self, (stat, has_list): (&Stat, bool), right: u32) -> bool {
        let has = |right: u32| stat.st_mode & right != 0;
        let (owner, group) = (right << 6, right << 3);
        match self {
            Self::Root => true,
            Self::User(uid, _) if uid == stat.st_uid => has(owner),
            Self::User(_, Some(gid)) if gid == stat.st_gid && !has_list => has(group),
            Self::User(..) | Self::Unknown => has(group) && has(right),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Given {
    handle: OwnedFd,
    stat: Stat,
}

/// How long a file system is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens a file on a thread of its own: one on a file system that hangs may take for ever, and
/// nothing else waits for it.
///
/// # Errors
/// Why it cannot be opened, in plain words.
pub async fn aside(
    open: impl FnOnce() -> Result<Given, String> + Send + 'static,
) -> Result<Given, String> {
    match tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(open)).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(broken)) => Err(format!("the file cannot be opened: {broken}")),
        Err(_) => Err(format!(
            "its file system does not answer within {} s: copy the file to a local disk",
            PATIENCE.as_secs()
        )),
    }
}

impl Given {
    /// Opens a file on behalf of who asks for it; the path is absolute.
    ///
    /// # Errors
    /// Why not, with the path.
    pub fn open(path: &Path, asker: Asker) -> Result<Self, String> {
        let shown = path.display();
        let mut parts = path.components();
        if parts.next() != Some(Component::RootDir) {
            return Err(format!("{shown} does not begin at the root of this host"));
        }
        let mut parts: Vec<_> = parts.collect();
        let Some(Component::Normal(name)) = parts.pop() else {
            return Err(format!("{shown} is no file"));
        };
        let mut folder = open(None, Path::new("/"), path)?;
        for part in parts {
            let Component::Normal(part) = part else {
                return Err(format!("{shown} has a part that leads back"));
            };
            folder = open(Some(&folder), Path::new(part), path)?;
            let stat = stat(&folder, path)?;
            if !FileType::from_raw_mode(stat.st_mode).is_dir() {
                return Err(format!("{shown}: {} is no folder", part.display()));
            }
            if !asker.may((&stat, has_list(&folder)), 0o001) {
                return Err(format!("{shown} is not yours to read"));
            }
        }
        let handle = open(Some(&folder), Path::new(name), path)?;
        let stat = stat(&handle, path)?;
        if FileType::from_raw_mode(stat.st_mode).is_symlink() {
            return Err(format!("{shown} is a symbolic link: name the file itself"));
        }
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(format!("{shown} is no file"));
        }
        match asker.may((&stat, has_list(&handle)), 0o004) {
            true => Ok(Self { handle, stat }),
            false => Err(format!("{shown} is not yours to read")),
        }
    }

    /// Opens a file that was opened before on somebody's behalf: only if it is the same one, and
    /// neither its contents nor its rights were changed since.
    ///
    /// # Errors
    /// Why not, with the path.
    pub fn again(path: &Path, identity: Option<&str>) -> Result<Self, String> {
        let given = Self::open(path, Asker::Root)?;
        match identity == Some(given.identity().as_str()) {
            true => Ok(given),
            false => Err(format!(
                "{} is not the file that was accepted, or it was changed since: begin again",
                path.display()
            )),
        }
    }

    /// Which file it is, and when it was last changed.
    #[must_use]
    pub fn identity(&self) -> String {
        let Stat { st_dev, st_ino, st_ctime, st_ctime_nsec, .. } = self.stat;
        format!("{st_dev}:{st_ino}:{st_ctime}.{st_ctime_nsec}")
    }

    /// When it was last written, in milliseconds.
    #[must_use]
    pub fn written_ms(&self) -> i64 {
        self.stat.st_mtime.saturating_mul(1_000)
    }

    /// What is opened to read it, as long as this value lives; programs of ours may, too.
    #[must_use]
    pub fn reading(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.handle.as_raw_fd()))
    }
}

/// A handle to what has this name in a folder; nothing is read, and no link followed.
fn open(within: Option<&OwnedFd>, name: &Path, whole: &Path) -> Result<OwnedFd, String> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match within {
        Some(folder) => rustix::fs::openat(folder, name, flags, Mode::empty()),
        None => rustix::fs::open(name, flags, Mode::empty()),
    };
    opened.map_err(|error| format!("{}: {}", whole.display(), std::io::Error::from(error)))
}

/// Whether an access list stands beside the rights; where that cannot be asked there is one.
fn has_list(handle: &OwnedFd) -> bool {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let asked = rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0][..]);
    !matches!(asked, Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP))
}

fn stat(handle: &OwnedFd, whole: &Path) -> Result<Stat, String> {
    let seen = rustix::fs::fstat(handle);
    seen.map_err(|error| format!("{}: {}", whole.display(), std::io::Error::from(error)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    struct Yard(tempfile::TempDir);

    impl Yard {
        /// A folder with `dump.sql`, both with these rights.
        fn new(folder: u32, file: u32) -> Self {
            let yard = Self(tempfile::tempdir().unwrap());
            fs::set_permissions(yard.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
            fs::create_dir(yard.path("in")).unwrap();
            fs::write(yard.dump(), "rows").unwrap();
            fs::set_permissions(yard.dump(), fs::Permissions::from_mode(file)).unwrap();
            fs::set_permissions(yard.path("in"), fs::Permissions::from_mode(folder)).unwrap();
            yard
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(name)
        }

        fn dump(&self) -> PathBuf {
            self.path("in/dump.sql")
        }
    }

    #[test]
    fn a_file_is_read_by_the_rights_of_who_asks() {
        // With the rights of the group it is also kept from who may be in it: 604.
        for (folder, file, group, everybody) in [
            (0o755, 0o644, true, true),
            (0o755, 0o640, true, false),
            (0o755, 0o604, false, false),
            (0o755, 0o600, false, false),
            (0o750, 0o644, true, false),
            (0o700, 0o644, false, false),
        ] {
            let yard = Yard::new(folder, file);
            let about = fs::metadata(yard.dump()).unwrap();
            let (owner, of) = (about.uid(), about.gid());
            for (asker, may) in [
                (Asker::Root, true),
                (Asker::User(owner, None), true),
                (Asker::User(owner, Some(of + 1)), true),
                (Asker::User(owner + 1, Some(of)), group),
                (Asker::User(owner + 1, Some(of + 1)), everybody),
                (Asker::User(owner + 1, None), everybody),
                (Asker::Unknown, everybody),
            ] {
                let opened = Given::open(&yard.dump(), asker).map(drop);
                assert_eq!(opened.is_ok(), may, "{folder:o} {file:o} {asker:?}: {opened:?}");
            }
        }
        // What the owner may not read he does not read, whatever others may.
        let yard = Yard::new(0o755, 0o044);
        let owner = fs::metadata(yard.dump()).unwrap().uid();
        assert!(Given::open(&yard.dump(), Asker::User(owner, None)).is_err());
    }

    #[test]
    fn no_link_is_followed_and_nothing_but_a_file_is_opened() {
        let yard = Yard::new(0o755, 0o644);
        symlink(yard.dump(), yard.path("link.sql")).unwrap();
        symlink(yard.path("in"), yard.path("other")).unwrap();
        for (path, said) in [
            (yard.path("link.sql"), "symbolic link"),
            (yard.path("other/dump.sql"), "no folder"),
            (yard.path("in"), "is no file"),
            (yard.path("in/none"), "No such file"),
            (PathBuf::from("/dev/zero"), "is no file"),
            (PathBuf::from("in/dump.sql"), "does not begin at the root"),
            (yard.path("in/../in/dump.sql"), "leads back"),
        ] {
            let why = Given::open(&path, Asker::Root).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }

    #[test]
    fn what_was_exchanged_since_is_not_read() {
        let yard = Yard::new(0o755, 0o644);
        let given = Given::open(&yard.dump(), Asker::Root).unwrap();
        let identity = given.identity();
        assert!(Given::again(&yard.dump(), Some(&identity)).is_ok());
        assert!(Given::again(&yard.dump(), None).is_err(), "an older record has none");
        fs::rename(yard.dump(), yard.path("in/was.sql")).unwrap();
        fs::write(yard.dump(), "secrets").unwrap();
        assert!(Given::again(&yard.dump(), Some(&identity)).is_err());
        // Who has the handle reads what was accepted.
        assert_eq!(fs::read_to_string(given.reading()).unwrap(), "rows");
    }
}
