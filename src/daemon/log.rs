//! The daemon's own log: lines on standard error, and never a wait for whoever takes them.
//!
//! A pipe that nobody empties, a reader that has gone and a disk that is full cost lines; they are
//! counted, and the number stands in the log as soon as a line is taken again. Does not decide
//! what is worth a line.
//! INVARIANT: a line neither blocks nor panics, whatever standard error leads to. With the
//! library's own writer a full pipe stops every thread that has something to say, a rollback too.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::EnvFilter;

/// What a pipe that has any room takes at once: POSIX's `PIPE_BUF` of Linux, in bytes.
const AT_ONCE: usize = 4_096;

/// Lines that nobody took since the last one that was taken.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Sends what is told from here on to standard error; `CUTOVER_LOG` says how much.
pub fn start() {
    let filter = EnvFilter::try_from_env("CUTOVER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // What it would say about a line that it could not write goes the same way, and would panic.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    if builder.with_writer(|| Lines).with_ansi(is_terminal).try_init().is_err() {
        tracing::debug!("logging was set up before");
    }
}

/// One call of `write` is one line.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        offer(&mut std::io::stderr().lock(), &LOST, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes a line if it is taken at once; counts it if not.
fn offer(to: &mut (impl Write + AsFd), lost: &AtomicU64, line: &[u8]) {
    let before = lost.swap(0, Ordering::Relaxed);
    let told = match before {
        0 => true,
        _ => send(
            to,
            format!("cutover: {before} log lines were lost: nobody took them\n").as_bytes(),
        ),
    };
    if !told {
        lost.fetch_add(before + 1, Ordering::Relaxed);
    } else if !send(to, line) {
        lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// In pieces that are taken at once; whether all of them were.
fn send(to: &mut (impl Write + AsFd), bytes: &[u8]) -> bool {
    bytes.chunks(AT_ONCE).all(|piece| has_room(to) && to.write_all(piece).is_ok())
}

fn has_room(to: &impl AsFd) -> bool {
    let mut asked = [PollFd::new(to, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&at_once)).is_ok() && asked[0].revents().contains(PollFlags::OUT)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_full_pipe_costs_lines_which_are_counted_and_told() {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let lost = AtomicU64::new(0);
        let mut offered = 0;
        while lost.load(Ordering::Relaxed) < 3 {
            offered += 1;
            offer(&mut writer, &lost, format!("line {offered}\n").as_bytes());
            assert!(offered < 1_000_000, "a pipe is bounded");
        }
        let mut taken = vec![0; 128 * 1024];
        let count = reader.read(&mut taken).unwrap();
        offer(&mut writer, &lost, b"the next\n");
        drop(writer);
        let mut rest = String::from_utf8(taken[..count].to_vec()).unwrap();
        reader.read_to_string(&mut rest).unwrap();
        let last: Vec<&str> = rest.lines().rev().take(3).collect();
        let kept = format!("line {}", offered - 3);
        assert_eq!(last, ["the next", "cutover: 3 log lines were lost: nobody took them", &kept]);
        assert_eq!(lost.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        drop(reader);
        let lost = AtomicU64::new(0);
        for _ in 0..4 {
            offer(&mut writer, &lost, b"a line\n");
        }
        assert_eq!(lost.load(Ordering::Relaxed), 4);
    }
}
