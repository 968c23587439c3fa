//! How fast a rollback is, and what it does not wait for.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::harness::fronted::Fronted;
use crate::harness::{engine, eventually};

/// Until the first line stands on the terminal.
const FIRST_LINE: Duration = Duration::from_millis(50);

/// Runs `rollback` and returns how long its first line took, and when it was there.
fn first_line(fronted: &Fronted) -> (String, Duration, Instant) {
    let started = Instant::now();
    let mut child = fronted.cutover.spawn(&["rollback"]);
    let mut line = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let (took, at) = (started.elapsed(), Instant::now());
    let status = eventually("the rollback ends", Duration::from_secs(60), || {
        child.try_wait().expect("the state of a child")
    });
    assert!(status.success(), "{status}, first line {line}");
    (line, took, at)
}

#[test]
fn the_first_line_of_a_rollback_stands_within_50_ms_and_no_later_request_meets_the_old_color() {
    let fronted = Fronted::with_standby("good");
    let load = fronted.load(300, 600);
    let mut times = Vec::new();
    for _ in 0..10 {
        fronted.run(&["promote"]).succeeded();
        load.wait_for(100);
        let (line, took, at) = first_line(&fronted);
        assert!(line.contains("all traffic is on r1"), "{line}");
        times.push(took);
        load.wait_for(150);
        let after = load.so_far().sent_between(at, Instant::now());
        assert_eq!(after.by_release().keys().collect::<Vec<_>>(), ["v1"]);
        fronted.run(&["undo"]).succeeded();
        fronted.run(&["rollback"]).succeeded();
        fronted.deploy("good", &["--no-traffic"]).succeeded();
    }
    load.stop().assert_none_failed();
    times.sort();
    eprintln!("first line of a rollback: {times:?}");
    assert!(times[times.len() / 2] < FIRST_LINE, "{times:?}");
}

#[test]
fn a_rollback_works_while_a_deploy_runs() {
    let fronted = Fronted::adopted();
    fronted.deploy("good", &["--at-once"]).succeeded();
    fronted.shop.release("unhealthy");
    let mut deploy = fronted.cutover.spawn(&["deploy"]);
    // The third release goes to the color of the first: once it is there, r1 cannot come back.
    let (line, took, _) = first_line(&fronted);
    assert!(took < FIRST_LINE * 4, "{took:?}: {line}");
    fronted.serves("v1");
    let status = eventually("the deploy ends", Duration::from_secs(120), || {
        deploy.try_wait().expect("the state of a child")
    });
    assert_ne!(status.code(), Some(0));
    assert_eq!(fronted.release_now(), "v1");
}

#[test]
fn a_rollback_works_with_a_full_state_folder_and_survives_a_kill() {
    let tmpfs = Tmpfs::mount();
    let place = tmpfs.folder.clone();
    let mut fronted = Fronted::with_state(move |_| place.clone());
    fronted.run(&["adopt", "--yes"]).succeeded();
    fronted.deploy("good", &["--at-once"]).succeeded();
    tmpfs.fill();
    let ran = fronted.run(&["rollback"]);
    let said = ran.printed.both();
    assert!(said.contains("all traffic is on r1"), "{said}");
    assert!(said.contains("not yet"), "it must say that it is not recorded: {said}");
    fronted.serves("v1");
    fronted.cutover.kill();
    fronted.cutover.serve();
    fronted.serves("v1");
    tmpfs.empty();
}

/// A small file system that can be filled.
struct Tmpfs {
    folder: PathBuf,
    _holder: tempfile::TempDir,
}

impl Tmpfs {
    fn mount() -> Self {
        let holder = tempfile::Builder::new().prefix("cutover-small-").tempdir().expect("a folder");
        let folder = holder.path().join("state");
        std::fs::create_dir(&folder).expect("a folder");
        let target = folder.display().to_string();
        let size = ["-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs", &target];
        engine::run("mount", &size, holder.path()).succeeded();
        Self { folder, _holder: holder }
    }

    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.folder.join("ballast")).expect("a file");
        let block = [0u8; 4096];
        while file.write_all(&block).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.folder.join("ballast")).expect("the ballast goes");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        engine::run("umount", &["-l", &self.folder.display().to_string()], "/".as_ref());
    }
}
