//! Faults of docs/faults.md against the real program: a log that nobody takes, damaged state,
//! signals, a daemon that stands still, a disk that fails once, opposite commands at once.

mod calls;
mod limits;

use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{Cutover, until};
use crate::reload::{moved, rewrite, signal};

fn status(cutover: &Cutover) -> Value {
    serde_json::from_str(&cutover.good(&["status", "--json"])).unwrap()
}

/// Fills a pipe to the last byte, by a handle of its own: the daemon's stays one that waits.
fn fill(writer: &PipeWriter) {
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut own = std::fs::File::options().write(true).custom_flags(flags).open(path).unwrap();
    for size in [4_096, 1] {
        while own.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

/// A daemon whose log goes to a pipe that takes nothing.
fn check_log(spoil: impl FnOnce(PipeReader, &PipeWriter) -> Option<PipeReader>) {
    let mut cutover = Cutover::start(None);
    cutover.kill();
    let (reader, writer) = std::io::pipe().unwrap();
    cutover.serve_logging_to(writer.try_clone().unwrap());
    let reader = spoil(reader, &writer);
    cutover.good(&["shift", "50%"]);
    // Each of these is a line of the log, on the thread that listens for signals.
    for name in ["USR1", "USR2", "USR1"] {
        signal(&cutover, name);
    }
    rewrite(&cutover, moved);
    signal(&cutover, "HUP");
    until("the file was read again", || ["blue", "green"].contains(&cutover.get("/new").as_str()));
    let back = cutover.good(&["rollback"]);
    assert!(back.contains("DONE: all traffic is on r1"), "{back}");
    signal(&cutover, "TERM");
    assert_eq!(cutover.ended(), Some(0));
    drop(reader);
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    check_log(|reader, writer| {
        fill(writer);
        Some(reader)
    });
}

#[test]
fn a_log_whose_reader_has_gone_stops_nothing() {
    check_log(|reader, _| {
        drop(reader);
        None
    });
}

#[test]
fn a_damaged_journal_stops_changes_and_no_traffic() {
    let mut cutover = Cutover::start(None);
    cutover.good(&["shift", "100%"]);
    signal(&cutover, "TERM");
    assert_eq!(cutover.ended(), Some(0));
    let path = cutover.path("state/journal.db");
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[3] ^= 0x10;
    for bad in [Some(flipped), Some(Vec::new()), None] {
        put(&path, bad.as_deref());
        cutover.serve();
        assert_eq!(cutover.greens(20), 20, "the weights file says how traffic is split");
        let said = cutover.good(&["status"]);
        assert!(said.contains("TROUBLE") && said.contains("cannot be trusted"), "{said}");
        for words in [&["shift", "10%"][..], &["promote"]] {
            let ran = cutover.run(words);
            assert_eq!(ran.exit, 4, "{words:?}: {ran:?}");
            assert!(ran.err.contains("journal.db"), "{words:?}: {ran:?}");
        }
        assert_eq!(cutover.greens(20), 20);
        cutover.kill();
        assert_eq!(std::fs::read(&path).ok(), bad, "it is left as it was found");
    }
    put(&path, Some(&good));
    cutover.serve();
    cutover.good(&["rollback"]);
    assert_eq!(cutover.greens(20), 0);
}

fn put(path: &Path, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => std::fs::write(path, bytes).unwrap(),
        None => std::fs::remove_file(path).unwrap(),
    }
}

#[test]
fn a_damaged_weights_file_leaves_the_split_to_the_journal() {
    let mut cutover = Cutover::start(None);
    cutover.good(&["shift", "100%"]);
    cutover.kill();
    let path = cutover.path("state/weights");
    let bad = vec![b'?'; std::fs::read(&path).unwrap().len()];
    put(&path, Some(&bad));
    cutover.serve();
    assert_eq!(cutover.greens(20), 20);
    let back = cutover.good(&["rollback", "--detach"]);
    assert!(back.contains("DONE: all traffic is on r1"), "{back}");
    assert_eq!(cutover.greens(20), 0);
    assert_eq!(std::fs::read(&path).unwrap(), bad, "never reset by itself");
}

#[test]
fn a_second_signal_in_a_drain_ends_it_at_once_and_the_state_is_whole() {
    for second in ["TERM", "INT"] {
        let mut cutover = Cutover::start(None);
        let open = cutover.ask("/slow");
        until("blue has it", || cutover.blue.waiting.load(Ordering::SeqCst) > 0);
        cutover.good(&["shift", "50%"]);
        // Its drain waits for the open request.
        cutover.good(&["promote", "--detach"]);
        signal(&cutover, "TERM");
        until("nobody is accepted", || TcpStream::connect(cutover.address).is_err());
        let began = Instant::now();
        for _ in 0..20 {
            let pid = cutover.pid().to_string();
            // It may have ended by the first of them.
            drop(Command::new("kill").args(["-s", second, &pid]).stderr(Stdio::null()).status());
        }
        cutover.ended();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        drop(open);
        cutover.serve();
        assert_eq!(cutover.greens(20), 20, "what was promoted stays so");
        let waited = cutover.good(&["wait", "o2"]);
        assert!(waited.contains("o2 is done"), "{waited}");
        assert_eq!(status(&cutover)["apps"][0]["running"].as_array().map(Vec::len), Some(0));
    }
}

#[test]
fn an_open_request_is_answered_although_the_daemon_was_told_to_end() {
    let mut cutover = Cutover::start(None);
    let mut open = cutover.ask("/slow");
    until("blue has it", || cutover.blue.waiting.load(Ordering::SeqCst) > 0);
    signal(&cutover, "TERM");
    until("nobody is accepted", || TcpStream::connect(cutover.address).is_err());
    cutover.blue.is_slow.store(false, Ordering::SeqCst);
    let mut answer = String::new();
    open.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("blue"), "{answer}");
    assert_eq!(cutover.ended(), Some(0));
}

#[test]
fn a_daemon_that_stood_still_goes_on_where_it_was_and_nobody_took_its_place() {
    let cutover = Cutover::start(None);
    cutover.good(&["shift", "50%"]);
    let before = (status(&cutover)["apps"][0]["last_move"].clone(), cutover.good(&["events"]));
    signal(&cutover, "STOP");
    let second = cutover.run(&["serve"]);
    assert_eq!(second.exit, 1, "{second:?}");
    assert!(second.err.contains(&format!("process {}", cutover.pid())), "{second:?}");
    let mut open = cutover.ask("/");
    open.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut answer = String::new();
    assert!(open.read_to_string(&mut answer).is_err(), "it stands still: {answer}");
    signal(&cutover, "CONT");
    open.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    open.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let after = (status(&cutover)["apps"][0]["last_move"].clone(), cutover.good(&["events"]));
    assert_eq!(after, before, "nothing moved by itself");
    cutover.good(&["rollback"]);
    assert_eq!(cutover.greens(20), 0);
}

#[test]
fn opposite_commands_at_once_end_as_the_journal_says() {
    let cutover = Cutover::start(None);
    for round in 0..12 {
        let started: Vec<Child> = [&["shift", "100%"][..], &["rollback", "--detach"]]
            .iter()
            .map(|words| cutover.command(words).spawn().unwrap())
            .collect();
        for child in started {
            let ended = child.wait_with_output().unwrap();
            // Done, refused (there was nothing to go back from), or overtaken by the other one.
            assert!(matches!(ended.status.code(), Some(0 | 4 | 6)), "round {round}: {ended:?}");
        }
        // A cut-back moves traffic first and is written down behind that.
        let mut after = Value::Null;
        until("the journal and the table agree", || {
            let events = cutover.good(&["events", "--json", "--last", "1000"]);
            let last = events
                .lines()
                .map(|line| {
                    serde_json::from_str::<Value>(line).unwrap()["happened"]["fact"].clone()
                })
                .filter(|fact| fact["fact"] == "split_changed")
                .max_by_key(|fact| fact["number"].as_u64());
            after = last.expect("a move")["after"].clone();
            status(&cutover)["apps"][0]["standby"]["weight"] == after["weight"]
        });
        let share = cutover.greens(20);
        let is_green = (after["stable"] == "green") == (after["weight"] == 0);
        assert_eq!(share, if is_green { 20 } else { 0 }, "round {round}: {after}");
    }
}

/// `strace` makes system calls of the daemon end otherwise; goes away at the end.
struct Injected {
    strace: Child,
    log: PathBuf,
}

impl Injected {
    /// `calls` of each of its threads end as `outcome` says, in `strace`'s own words.
    fn into(cutover: &Cutover, calls: &str, outcome: &str) -> Self {
        let pid = cutover.pid().to_string();
        let (said, log) = (cutover.path("strace"), cutover.path("strace.calls"));
        let mut strace = Command::new("strace")
            .args(["-f", "-p", &pid, "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{outcome}")])
            .arg("-o")
            .arg(&log)
            .stderr(std::fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        until("strace is attached", || {
            assert_eq!(strace.try_wait().unwrap(), None, "{:?}", std::fs::read_to_string(&said));
            std::fs::read_to_string(&said).unwrap().contains("attached")
        });
        Self { strace, log }
    }

    /// How many calls did not end by themselves so far.
    fn count(&self) -> usize {
        let calls = std::fs::read_to_string(&self.log).unwrap();
        calls.lines().filter(|line| line.contains("(INJECTED)")).count()
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        // TERM lets it go of the daemon first.
        let pid = rustix::process::Pid::from_child(&self.strace);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap_or(());
        drop(self.strace.wait());
    }
}

#[test]
fn a_sync_that_fails_once_is_no_success_and_the_next_command_converges() {
    let mut cutover = Cutover::start(None);
    cutover.good(&["shift", "10%"]);
    // It is durable only after all that the first shift left to be written.
    cutover.good(&["note", "o1", "the disk has everything"]);
    let failing = Injected::into(&cutover, "fsync,fdatasync", "error=EIO:when=1");
    let refused = cutover.run(&["shift", "100%"]);
    assert_ne!(refused.exit, 0, "its fact may be lost: {refused:?}");
    assert!(refused.err.contains("journal.db"), "{refused:?}");
    until("it is repeated", || cutover.run(&["shift", "100%"]).exit == 0);
    drop(failing);
    assert_eq!(cutover.greens(20), 20);
    cutover.kill();
    cutover.serve();
    assert_eq!(cutover.greens(20), 20, "what was acknowledged is durable");
    let said = cutover.good(&["status"]);
    assert!(!said.contains("cannot be trusted"), "{said}");
}
