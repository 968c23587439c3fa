//! A look at SQLite's write-ahead file before SQLite recovers from it.
//!
//! SQLite takes the first bad frame for the torn end of a crash and drops all that follows, even
//! acknowledged transactions. A crash can tear only the last transaction, because each one is
//! synced before the next begins; so a bad frame with more than one transaction behind it is
//! damage. Read-only. The file's form:
//! <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::JournalError;

const HEADER: usize = 32;
const FRAME: usize = 24;

/// Refuses a write-ahead file whose damage cannot come from a crash.
pub(super) fn check(path: &Path) -> Result<(), JournalError> {
    let failed = |error: std::io::Error| JournalError::io(path, "reading", &error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let mut from = BufReader::new(file);
    let mut header = Vec::new();
    from.by_ref().take(HEADER as u64).read_to_end(&mut header).map_err(failed)?;
    let Some(shape) = Shape::read(&header) else {
        let mut more = [0; 1];
        let torn = from.read(&mut more).map_err(failed)? == 0;
        let what = "the head of its write-ahead file is wrong, and facts may be behind it";
        return if torn {
            Ok(())
        } else {
            Err(JournalError::Corrupt { path: path.to_owned(), what: what.to_owned() })
        };
    };
    let mut walk = Walk { shape, sum: shape.sum, state: State::Good };
    let mut frame = vec![0; FRAME + shape.page];
    let mut number = 0_u64;
    while read_frame(&mut from, &mut frame).map_err(failed)? {
        number += 1;
        if let Some(bad) = walk.step(number, &frame) {
            let what = format!("frame {bad} of its write-ahead file is wrong, and facts follow it");
            return Err(JournalError::Corrupt { path: path.to_owned(), what });
        }
    }
    Ok(())
}

/// Reads one whole frame; `false` at the end, also in the middle of a frame (a torn write).
fn read_frame(from: &mut impl Read, frame: &mut [u8]) -> std::io::Result<bool> {
    match from.read_exact(frame) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the head of the file says.
#[derive(Clone, Copy)]
struct Shape {
    big_endian: bool,
    page: usize,
    salts: [u8; 8],
    sum: (u32, u32),
}

impl Shape {
    fn read(header: &[u8]) -> Option<Self> {
        if header.len() < HEADER {
            return None;
        }
        let big_endian = match be(header, 0)? {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return None,
        };
        let page = usize::try_from(be(header, 8)?).ok()?;
        if !page.is_power_of_two() || !(512..=65_536).contains(&page) {
            return None;
        }
        let sum = add(big_endian, (0, 0), header.get(..24)?);
        let stored = (be(header, 24)?, be(header, 28)?);
        let salts = header.get(16..24)?.try_into().ok()?;
        (sum == stored).then_some(Self { big_endian, page, salts, sum })
    }
}

/// How far the walk over the frames has come.
#[derive(Clone, Copy)]
enum State {
    /// All frames so far are as they were written.
    Good,
    /// From this frame on the file is torn or damaged; the transaction that it is in goes on.
    Bad(u64),
    /// The transaction with the bad frame is over: nothing of ours may follow.
    Ended(u64),
}

struct Walk {
    shape: Shape,
    sum: (u32, u32),
    state: State,
}

impl Walk {
    /// Takes the next frame; the number of the bad frame when this one proves the damage.
    fn step(&mut self, number: u64, frame: &[u8]) -> Option<u64> {
        let (Some(size), Some(salts)) = (be(frame, 4), frame.get(8..16)) else { return None };
        let ours = salts == self.shape.salts;
        if let State::Good = self.state {
            if self.is_good(frame, ours) {
                return None;
            }
            self.state = State::Bad(number);
        }
        match self.state {
            State::Ended(bad) if ours => return Some(bad),
            State::Bad(bad) if ours && size != 0 => self.state = State::Ended(bad),
            _ => {}
        }
        None
    }

    fn is_good(&mut self, frame: &[u8], ours: bool) -> bool {
        let (Some(head), Some(page)) = (frame.get(..8), frame.get(FRAME..)) else { return false };
        let big = self.shape.big_endian;
        let sum = add(big, add(big, self.sum, head), page);
        let stored = (be(frame, 16).unwrap_or(0), be(frame, 20).unwrap_or(0));
        self.sum = sum;
        ours && sum == stored
    }
}

fn be(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes)
}

/// SQLite's checksum, carried on over more bytes.
fn add(big_endian: bool, start: (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let word = |four: &[u8]| {
        let four: [u8; 4] = four.try_into().unwrap_or_default();
        if big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
    };
    bytes.chunks_exact(8).fold(start, |(first, second), eight| {
        let (left, right) = eight.split_at(4);
        let first = first.wrapping_add(word(left)).wrapping_add(second);
        let second = second.wrapping_add(word(right)).wrapping_add(first);
        (first, second)
    })
}
