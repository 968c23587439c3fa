//! The free space of the disk that a server's data is on. A restore that fills it stops the server
//! for good: its next checkpoint panics, and it does not start again.

use std::time::Duration;

use crate::host::postgres::connect::{Reach, Server};
use crate::host::postgres::error::DbError;
use crate::host::postgres::facts::ServerFacts;

/// What is free, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Where the data is.
    pub data: u64,
    /// How large that disk is in all.
    pub size: u64,
    /// Where the WAL is.
    pub wal: u64,
    /// Whether both are one disk.
    pub shared: Sharing,
}

/// Whether data and WAL are on one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// They share its space.
    OneDisk,
    /// Each has its own.
    TwoDisks,
}

impl Space {
    /// Whether a disk of this host is the one that the data is on: containers see disks by other
    /// names, so two of one size with nearly the same free space are taken for one.
    #[must_use]
    pub fn is_on(&self, (size, free): (u64, u64)) -> bool {
        size == self.size && self.data.abs_diff(free) <= size / 50
    }

    /// What is missing for a database of this size and this much WAL, with a tenth more; 0: it
    /// fits.
    #[must_use]
    pub fn missing(&self, database: u64, wal: u64) -> u64 {
        let more = |bytes: u64| bytes.saturating_add(bytes / 10);
        match self.shared {
            Sharing::OneDisk => more(database.saturating_add(wal)).saturating_sub(self.data),
            Sharing::TwoDisks => {
                more(database).saturating_sub(self.data).max(more(wal).saturating_sub(self.wal))
            }
        }
    }
}

/// Looks at the disk of a server; `None`: it is elsewhere, or the role may not know where.
///
/// # Errors
/// [`DbError`] when it is here and cannot be looked at.
pub async fn of(server: &Server, facts: &ServerFacts) -> Result<Option<Space>, DbError> {
    let Some(data) = &facts.data_directory else { return Ok(None) };
    let located = server.locate().await?;
    let (Reach::Service { docker, .. }, Some(container)) = (&server.reach, &located.container)
    else {
        return Ok(here(&located.host, data));
    };
    let wal = format!("{data}/pg_wal/.");
    let command = ["df", "-P", "-k", data, &wal];
    let out = docker.exec(container, &command, &[], Duration::from_secs(10)).await?;
    let unclear = || DbError::Answer {
        what: "asking for the free space of the server's disk".to_owned(),
        text: crate::host::process::tail(&format!("{}{}", out.stdout, out.stderr), 2),
    };
    parse(&out.stdout).map(Some).ok_or_else(unclear)
}

/// `Filesystem 1024-blocks Used Available Capacity Mounted-on`, one line for each of the two.
fn parse(text: &str) -> Option<Space> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().rev().collect();
        // From the end, since the first column may have blanks.
        let (mount, free, size) = (words.first()?, words.get(2)?, words.get(4)?);
        let bytes = |kilobytes: &str| Some(kilobytes.parse::<u64>().ok()?.saturating_mul(1024));
        Some(((*mount).to_owned(), bytes(free)?, bytes(size)?))
    };
    let mut lines = text.lines().skip(1).map(line);
    let ((data_mount, data, size), (wal_mount, wal, _)) = (lines.next()??, lines.next()??);
    let shared = if data_mount == wal_mount { Sharing::OneDisk } else { Sharing::TwoDisks };
    Some(Space { data, size, wal, shared })
}

/// A server on this very host, whose folders can be seen.
fn here(host: &str, data: &str) -> Option<Space> {
    let local = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if !local || !std::path::Path::new(data).is_dir() {
        return None;
    }
    let free = |path: &str| {
        let stat = rustix::fs::statvfs(path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Some((stat.f_fsid, bytes(stat.f_bavail), bytes(stat.f_blocks)))
    };
    let (data, wal) = (free(data)?, free(&format!("{data}/pg_wal"))?);
    let shared = if data.0 == wal.0 { Sharing::OneDisk } else { Sharing::TwoDisks };
    Some(Space { data: data.1, size: data.2, wal: wal.1, shared })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_than_needed_has_to_be_free() {
        let text = "Filesystem 1024-blocks Used Available Capacity Mounted on\n\
                    overlay x 100 10 90 10% /\ntmpfs 100 10 50 10% /pg_wal\n";
        let space = parse(text).expect("two lines");
        assert_eq!((space.data, space.size, space.wal), (92_160, 102_400, 51_200));
        assert!(space.is_on((102_400, 91_000)), "a little was written in between");
        assert!(!space.is_on((102_400, 40_000)) && !space.is_on((204_800, 92_160)));
        assert_eq!(space.shared, Sharing::TwoDisks);
        assert_eq!(space.missing(83_000, 46_000), 0);
        assert_eq!(space.missing(92_160, 0), 9_216);
        let one = Space { data: 100, size: 100, wal: 100, shared: Sharing::OneDisk };
        assert_eq!(one.missing(60, 40), 10);
    }
}
