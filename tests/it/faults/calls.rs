//! System calls that write less than they were asked to, or are interrupted: no record is torn.

use std::process::Command;

use super::{Injected, status};
use crate::daemon::{Cutover, until};

/// The share of the traffic that goes to the canary, in hundredths of a percent.
fn weight(cutover: &Cutover) -> u64 {
    status(cutover)["apps"][0]["standby"]["weight"].as_u64().unwrap()
}

#[test]
fn writes_that_are_interrupted_again_and_again_lose_nothing() {
    let mut cutover = Cutover::start(None);
    let interrupted = Injected::into(&cutover, "pwrite64", "error=EINTR:when=1+2");
    for step in 1..=9 {
        cutover.good(&["shift", &format!("{}%", step * 5)]);
    }
    assert!(interrupted.count() >= 9, "only {} calls were interrupted", interrupted.count());
    drop(interrupted);
    assert_eq!(weight(&cutover), 4_500);
    cutover.kill();
    cutover.serve();
    assert_eq!(weight(&cutover), 4_500, "all of it is on the disk");
    let said = cutover.good(&["status"]);
    assert!(!said.contains("cannot be trusted"), "{said}");
}

#[test]
fn a_sync_that_is_interrupted_is_repeated_or_is_no_success() {
    let mut cutover = Cutover::start(None);
    cutover.good(&["shift", "10%"]);
    let interrupted = Injected::into(&cutover, "fsync,fdatasync", "error=EINTR:when=1");
    let first = cutover.run(&["shift", "20%"]);
    assert!(interrupted.count() > 0);
    if first.exit != 0 {
        assert!(first.err.contains("journal.db"), "{first:?}");
    }
    until("it is repeated", || cutover.run(&["shift", "30%"]).exit == 0);
    drop(interrupted);
    cutover.kill();
    cutover.serve();
    assert_eq!(weight(&cutover), 3_000);
}

/// A file may not become larger than this: the write that would make it so ends short, and the
/// next one ends the process. Then the last record is torn for real.
#[test]
fn a_record_that_was_written_short_is_no_record_after_the_restart() {
    // Into the head of the record, its page, and the page after it.
    for more in [10, 30, 700, 4_200] {
        let mut cutover = Cutover::start(None);
        cutover.good(&["shift", "10%"]);
        let journal = cutover.path("state/journal.db-wal");
        let size = std::fs::metadata(&journal).unwrap().len();
        let (pid, limit) = (cutover.pid().to_string(), format!("--fsize={}", size + more));
        let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
        assert!(set.success());
        let torn = cutover.run(&["shift", "20%"]);
        assert_ne!(torn.exit, 0, "{more}: {torn:?}");
        let written = std::fs::metadata(&journal).unwrap().len();
        assert_eq!(written, size + more, "{more}: it was not written short");
        cutover.kill();
        cutover.serve();
        assert_eq!(weight(&cutover), 1_000, "{more}: a torn record counts");
        let said = cutover.good(&["status"]);
        assert!(!said.contains("cannot be trusted"), "{more}: {said}");
        cutover.good(&["shift", "30%"]);
        assert_eq!(weight(&cutover), 3_000);
    }
}
