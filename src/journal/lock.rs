//! The lock of the state folder: one daemon at a time.
//!
//! Owns the file `lock` and a `flock` on it, which the kernel drops with the process. The lock is
//! never broken: a second daemon is refused and told who has it. What stands in the file is only
//! for that message. Invariant: whoever writes to the state holds a [`StateLock`].

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cutover_model::Millis;
use rustix::fs::FlockOperation;

use super::JournalError;

/// The daemon that has the lock, as far as the file says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: Option<u32>,
    /// When it took the lock.
    pub since: Option<Millis>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}")?,
            None => f.write_str("a process that has not written its number yet")?,
        }
        let time = self.since.and_then(|since| jiff::Timestamp::from_millisecond(since.0).ok());
        match time {
            Some(time) => {
                let local = time.to_zoned(jiff::tz::TimeZone::system());
                write!(f, ", since {}", local.strftime("%Y-%m-%d %H:%M:%S"))
            }
            None => Ok(()),
        }
    }
}

/// The lock, held until this value is dropped.
#[derive(Debug)]
pub struct StateLock {
    path: PathBuf,
    // Opened close-on-exec, so that no child process keeps the lock.
    _file: File,
}

impl StateLock {
    /// Takes the lock of a state folder, or says who has it. Does not wait.
    ///
    /// # Errors
    /// [`JournalError::Locked`]; [`JournalError::Disk`] or [`JournalError::Full`] when the file
    /// cannot be made.
    pub fn take(folder: &Path, now: Millis) -> Result<Self, JournalError> {
        let path = folder.join("lock");
        let failed = |step, error: &std::io::Error| JournalError::io(&path, step, error);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(|error| failed("opening", &error))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = read_holder(&mut file);
                return Err(JournalError::Locked { folder: folder.to_owned(), holder });
            }
            Err(errno) => return Err(failed("locking", &errno.into())),
        }
        // On a full disk the lock holds all the same; only the holder's number is missing.
        if let Err(error) = write_holder(&mut file, now) {
            tracing::warn!(%error, "the lock file could not be written; the lock itself holds");
        }
        Ok(Self { path, _file: file })
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Who has the lock of a state folder right now; `None` when nobody has.
///
/// # Errors
/// [`JournalError::Disk`] when the file is there but cannot be read.
pub fn holder(folder: &Path) -> Result<Option<Holder>, JournalError> {
    let path = folder.join("lock");
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(JournalError::io(&path, "opening", &error)),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Some(read_holder(&mut file))),
        Err(errno) => Err(JournalError::io(&path, "locking", &errno.into())),
    }
}

fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    if file.take(200).read_to_string(&mut text).is_err() {
        return Holder::default();
    }
    let mut lines = text.lines();
    let mut value = |name: &str| lines.next().and_then(|line| line.strip_prefix(name));
    Holder {
        pid: value("pid ").and_then(|pid| pid.parse().ok()),
        since: value("since ").and_then(|ms| ms.parse().ok()).map(Millis),
    }
}

fn write_holder(file: &mut File, now: Millis) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("pid {}\nsince {}\n", std::process::id(), now.0).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_and_told_who_has_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateLock::take(folder.path(), Millis(1_700_000_000_000)).unwrap();
        let Err(JournalError::Locked { holder, .. }) = StateLock::take(folder.path(), Millis(2))
        else {
            panic!("the second one must be refused");
        };
        assert_eq!(holder.pid, Some(std::process::id()));
        assert_eq!(holder.since, Some(Millis(1_700_000_000_000)));
        assert!(holder.to_string().contains(", since 2023-11-1"), "{holder}");
        assert_eq!(super::holder(folder.path()), Ok(Some(holder)));
        drop(first);
        assert_eq!(super::holder(folder.path()), Ok(None));
        assert!(StateLock::take(folder.path(), Millis(3)).is_ok());
    }

    #[test]
    fn a_lock_file_that_is_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("lock")).unwrap();
        assert!(matches!(
            StateLock::take(folder.path(), Millis(0)),
            Err(JournalError::Disk { .. })
        ));
    }
}
