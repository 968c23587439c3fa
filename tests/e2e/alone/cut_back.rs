//! How fast a rollback is, and what it does not wait for.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::harness::fronted::{Fronted, operation_of};
use crate::harness::{engine, eventually};

/// Until the first line stands on the terminal.
const FIRST_LINE: Duration = Duration::from_millis(50);
/// On a machine that is busy everything takes longer, and `cutover --version` says by how much: on
/// a quiet one this many of them take less than the 50 ms.
const VERSIONS: u32 = 5;

/// Starts the program, lets it say its version, and returns how long that took.
fn version(fronted: &Fronted) -> Duration {
    let started = Instant::now();
    let mut child = fronted.cutover.spawn(&["--version"]);
    let mut line = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let took = started.elapsed();
    assert!(line.starts_with("cutover "), "{line}");
    child.wait().expect("the end of the program");
    took
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Runs `rollback` and returns what it said, how long its first line took, and when it was there.
fn first_line(fronted: &Fronted) -> (String, Duration, Instant) {
    let started = Instant::now();
    let mut child = fronted.cutover.spawn(&["rollback"]);
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    stdout.read_line(&mut line).expect("a line");
    let (took, at) = (started.elapsed(), Instant::now());
    stdout.read_to_string(&mut line).expect("the other lines");
    let status = eventually("the rollback ends", Duration::from_secs(60), || {
        child.try_wait().expect("the state of a child")
    });
    assert!(status.success(), "{status}, first line {line}");
    (line, took, at)
}

#[test]
fn the_first_line_of_a_rollback_stands_within_50_ms_and_no_later_request_meets_the_old_color() {
    let fronted = Fronted::deployed();
    fronted.deploy("good", &["--at-once"]).succeeded();
    let load = fronted.load(100, 300);
    let (mut times, mut versions) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        load.wait_for(100);
        versions.push(version(&fronted));
        let (said, took, at) = first_line(&fronted);
        let line = said.lines().next().unwrap_or_default();
        assert!(line.contains("all traffic is on r1"), "{said}");
        times.push(took);
        load.wait_for(100);
        let after = load.sent_since(at);
        assert_eq!(after.by_release().keys().collect::<Vec<_>>(), ["v1"]);
        fronted.run(&["undo", &operation_of(&said)]).succeeded();
    }
    load.stop().assert_none_failed();
    let (took, idle) = (median(&mut times), median(&mut versions));
    eprintln!("first line of a rollback: {times:?}, of --version: {versions:?}");
    let allowed = FIRST_LINE.max(idle * VERSIONS);
    assert!(took < allowed, "{took:?} of {allowed:?}: {times:?}, --version {versions:?}");
}

#[test]
fn a_rollback_works_while_a_deploy_runs() {
    let fronted = Fronted::deployed();
    fronted.deploy("good", &["--at-once"]).succeeded();
    fronted.shop.release("good");
    let mut deploy = fronted.cutover.spawn(&["deploy"]);
    // The third release is on its way to the color of the first one, which is needed now.
    let mut begun = String::new();
    let stdout = deploy.stdout.take().expect("a pipe");
    let mut stdout = BufReader::new(stdout);
    stdout.read_line(&mut begun).expect("a line");
    let (line, took, _) = first_line(&fronted);
    // It shares the machine with a build, so that only waiting for the deploy would show.
    assert!(took < Duration::from_secs(2), "{took:?}: {line}");
    fronted.serves("v1");
    stdout.read_to_string(&mut begun).expect("the other lines");
    let status = eventually("the deploy ends", Duration::from_secs(120), || {
        deploy.try_wait().expect("the state of a child")
    });
    assert_ne!(status.code(), Some(0), "{begun}");
    assert_eq!(fronted.release_now(), "v1");
}

#[test]
fn a_rollback_works_with_a_full_state_folder_and_survives_a_kill() {
    let (tmpfs, mut fronted) = on_a_small_disk();
    tmpfs.fill();
    let ran = fronted.run(&["rollback"]).succeeded();
    let said = ran.printed.both();
    assert!(said.contains("all traffic is on r1"), "{said}");
    assert!(said.contains("Not in the journal yet"), "it must say that it is not recorded: {said}");
    // The move of the singleton has to be written down first: the reserve is there for that.
    assert!(said.contains("agent: stopped in r2, then started in r1"), "{said}");
    assert_eq!(agents(&fronted), (true, false));
    fronted.serves("v1");
    tmpfs.fill();
    fronted.cutover.kill();
    fronted.cutover.serve();
    fronted.serves("v1");
    assert_eq!(agents(&fronted), (true, false));
    tmpfs.empty();
}

#[test]
fn a_singleton_that_no_disk_has_room_to_record_says_so_and_moves_when_there_is_space() {
    let (tmpfs, fronted) = on_a_small_disk();
    std::fs::remove_file(tmpfs.folder.join("reserve-end")).expect("the reserve goes");
    // The journal frees a little when it is opened again after an error: until nothing is left.
    let mut refused = 0;
    while refused < 3 {
        tmpfs.fill();
        let noted = fronted.run(&["note", "o1", "the disk is full"]).printed.code;
        refused = if noted == 0 { 0 } else { refused + 1 };
    }
    let mut rollback = fronted.cutover.spawn(&["rollback"]);
    let mut lines = BufReader::new(rollback.stdout.take().expect("a pipe")).lines();
    let mut line_with = |word: &str| {
        let mut before = Vec::new();
        loop {
            match lines.next() {
                Some(line) => before.push(line.expect("a line")),
                None => panic!("the rollback ended without {word:?}: {before:#?}"),
            }
            if let Some(line) = before.iter().find(|line| line.contains(word)) {
                return line.clone();
            }
        }
    };
    line_with("all traffic is on r1");
    let waits = line_with("agent of r2 is left as it is");
    for words in ["no space is left", "Make space there", "moves by itself"] {
        assert!(waits.contains(words), "{waits}");
    }
    fronted.serves("v1");
    assert_eq!(agents(&fronted), (false, true), "nothing is done that is not written down");
    tmpfs.empty();
    line_with("agent: stopped in r2, then started in r1");
    assert_eq!(agents(&fronted), (true, false));
    let status = eventually("the rollback ends", Duration::from_secs(60), || {
        rollback.try_wait().expect("the state of a child")
    });
    assert!(status.success(), "{status}");
}

/// Two releases, the second one serves; the state is on a file system that can be filled.
fn on_a_small_disk() -> (Tmpfs, Fronted) {
    let tmpfs = Tmpfs::mount();
    let place = tmpfs.folder.clone();
    let fronted = Fronted::deployed_with_state(move |_| place.clone());
    fronted.deploy("good", &["--at-once"]).succeeded();
    (tmpfs, fronted)
}

/// Whether an agent runs: the one of the first release in green, that of the second one in blue.
fn agents(fronted: &Fronted) -> (bool, bool) {
    let runs = |color: &str| {
        let project = format!("{}-{color}", fronted.shop.project);
        let ids = engine::containers_of(&project, "agent");
        ids.iter().any(|id| engine::inspect(id, "{{.State.Running}}") == "true")
    };
    (runs("green"), runs("blue"))
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
        let size = ["-t", "tmpfs", "-o", "size=48m,mode=0700", "tmpfs", &target];
        engine::run("mount", &size, holder.path()).succeeded();
        Self { folder, _holder: holder }
    }

    /// May be called again.
    fn fill(&self) {
        use std::io::Write as _;
        let mut options = std::fs::File::options();
        let file = options.create(true).append(true).open(self.folder.join("ballast"));
        let mut file = file.expect("a file");
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
