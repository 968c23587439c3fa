//! The first bytes of an archive: which PostgreSQL it is from, and which `pg_dump` wrote it.
//!
//! `pg_restore` says of an archive of a later version only that it does not know its form. Pure; as
//! `ReadHead` of PostgreSQL's `pg_backup_archiver.c` reads it, which has been so since version 10.

/// Who made an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The major version of the server that it was made from.
    pub(super) server: i32,
    /// The major version of `pg_dump`.
    pub(super) tool: i32,
}

/// How many bytes of a file are enough.
pub(super) const LENGTH: usize = 1024;

/// Reads them; `None`: it is no such header.
pub(super) fn parse(bytes: &[u8]) -> Option<Header> {
    let mut rest = Rest(bytes.strip_prefix(b"PGDMP")?);
    let form = (rest.byte()?, rest.byte()?);
    // The revision; how long a number is; how long an offset is; the format.
    let (_, width, _, _) = (rest.byte()?, rest.byte()?, rest.byte()?, rest.byte()?);
    let width = usize::from(width);
    // How it is packed, then when it was made, in seven numbers.
    match form >= (1, 15) {
        true => rest.skip(1)?,
        false => rest.skip(1 + width)?,
    }
    rest.skip(7 * (1 + width))?;
    rest.text(width)?;
    let (server, tool) = (rest.text(width)?, rest.text(width)?);
    Some(Header { server: major(server)?, tool: major(tool)? })
}

fn major(version: &[u8]) -> Option<i32> {
    let digits = version.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&version[..digits]).ok()?.parse().ok()
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(drop)
    }

    /// A number, the sign first and then the lowest byte, and as many bytes.
    fn text(&mut self, width: usize) -> Option<&'a [u8]> {
        let sign = self.byte()?;
        let number = self.take(width)?.iter().rev();
        let length = number.fold(0_usize, |sum, byte| sum.wrapping_mul(256) | usize::from(*byte));
        if sign == 0 { self.take(length) } else { Some(b"") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(minor: u8, server: &str, tool: &str) -> Vec<u8> {
        let mut bytes = [b"PGDMP".as_slice(), &[1, minor, 0, 4, 8, 1]].concat();
        let number = |n: u8| [0, n, 0, 0, 0];
        if minor >= 15 {
            bytes.push(1);
        } else {
            bytes.extend(number(1));
        }
        (0..7).for_each(|n| bytes.extend(number(n)));
        for text in ["shop", server, tool] {
            bytes.extend(number(u8::try_from(text.len()).unwrap()));
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    #[test]
    fn an_archive_says_who_made_it_and_nothing_else_does() {
        let new = header(16, "15.20 (Debian 15.20-0+deb12u1)", "18.4");
        assert_eq!(parse(&new), Some(Header { server: 15, tool: 18 }));
        let old = header(14, "15.20 (Debian 15.20-0+deb12u1)", "15.20");
        assert_eq!(parse(&old), Some(Header { server: 15, tool: 15 }));
        for end in 0..new.len() {
            let part = parse(&new[..end]);
            assert!(part.is_none(), "cut at {end}: {part:?}");
        }
        assert_eq!(parse(b"PGDMP\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
