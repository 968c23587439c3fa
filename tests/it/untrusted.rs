//! State that cannot be trusted: a journal of a newer Cutover, damaged or missing files, doors that
//! cannot be opened. Traffic goes on, a rollback is possible, and nothing is written on top.

use std::path::Path;
use std::sync::Arc;

use cutover::journal::{NewFact, StateLock, Store};
use cutover_model::{AppName, Millis, Seq};

use crate::daemon::{Cutover, until};

fn shop() -> AppName {
    AppName::new("shop").unwrap()
}

fn fact(kind: &str, bytes: &str) -> NewFact {
    NewFact {
        kind: kind.to_owned(),
        version: 1,
        actor: "li".to_owned(),
        operation: None,
        time: Millis(1),
        bytes: bytes.as_bytes().to_vec(),
    }
}

/// Appends facts as a daemon would; the last place, and that of the newest snapshot.
fn append(state: &Path, facts: &[NewFact]) -> (Seq, Option<Seq>) {
    let lock = Arc::new(StateLock::take(state, Millis(1)).unwrap());
    let mut store = Store::open(state, lock, "node", Millis(1)).unwrap();
    let (mut head, epoch) = (store.head(&shop()).unwrap(), store.epoch());
    for facts in facts.chunks(200) {
        head = store.append(&shop(), head, epoch, facts).unwrap();
    }
    let snapshot = store.replay(&shop(), 1).unwrap().snapshot.map(|snapshot| snapshot.seq);
    store.rest();
    (head, snapshot)
}

/// The journal's file with nothing beside it.
fn journal(cutover: &Cutover) -> Vec<u8> {
    append(&cutover.path("state"), &[]);
    std::fs::read(cutover.path("state/journal.db")).unwrap()
}

/// Waits until the last good table is the one that gives green everything.
fn kept(cutover: &Cutover) {
    let tables = cutover.path("state/tables.json");
    let is_green = |text: String| text.contains(r#""said":{"shop":{"split":{"stable":"green""#);
    until("the table is kept", || std::fs::read_to_string(&tables).is_ok_and(is_green));
}

fn put(cutover: &Cutover, bytes: &[u8]) {
    for name in ["journal.db-wal", "journal.db-shm"] {
        drop(std::fs::remove_file(cutover.path("state").join(name)));
    }
    std::fs::write(cutover.path("state/journal.db"), bytes).unwrap();
}

#[test]
fn a_newer_journal_is_served_and_left_and_a_rollback_made_meanwhile_counts() {
    let mut cutover = Cutover::start(None);
    cutover.good(&["shift", "100%"]);
    kept(&cutover);
    cutover.kill();
    let good = journal(&cutover);
    let line = r#"{"fact":"line","operation":null,"level":"step","label":"","text":"x"}"#;
    let mut facts = vec![fact("line", line); 600];
    facts.push(fact("made_by_a_newer_one", "{}"));
    let before = append(&cutover.path("state"), &facts);

    cutover.serve();
    assert_eq!(cutover.greens(20), 20, "the last good table serves");
    let status = cutover.good(&["status"]);
    assert!(status.contains("TROUBLE: the journal of shop cannot be trusted"), "{status}");
    assert!(status.contains("rollback   traffic: to r1 in blue"), "{status}");
    assert!(status.contains("If you want r1 back, now:    cutover rollback"), "{status}");
    assert!(status.contains("Install the newer version again"), "{status}");
    for refused in [["shift", "10%"], ["note", "o1"], ["undo", "o1"]] {
        let text = (refused[0] == "note").then_some("text");
        let words: Vec<&str> = refused.into_iter().chain(text).collect();
        assert_ne!(cutover.run(&words).exit, 0, "{words:?}");
    }
    let ran = cutover.run(&["rollback", "--detach"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(ran.out.contains("DONE: all traffic is on r1"), "{ran:?}");
    assert_eq!(cutover.greens(20), 0);
    // Longer than a refused write is left alone before it is tried again.
    let log = || std::fs::read_to_string(cutover.path("log")).unwrap();
    let start = std::time::Instant::now();
    until("a second try would have been made", || start.elapsed().as_millis() > 2_500);
    assert!(!log().contains("panicked"), "{}", log());
    cutover.kill();
    assert_eq!(append(&cutover.path("state"), &[]), before, "nothing was added to the journal");

    // It is started again, and then the newer one is installed again.
    cutover.serve();
    assert_eq!(cutover.greens(20), 0);
    cutover.kill();
    put(&cutover, &good);
    cutover.serve();
    assert_eq!(cutover.greens(20), 0);
    let status = cutover.good(&["status"]);
    assert!(status.contains("serves     r1") && status.contains("standby    r2"), "{status}");
    assert!(!status.contains("TROUBLE"), "{status}");
    cutover.good(&["shift", "30%"]);
}

#[test]
fn a_damaged_or_missing_journal_stops_no_traffic_and_no_rollback() {
    let mut cutover = Cutover::start(None);
    cutover.good(&["shift", "100%"]);
    kept(&cutover);
    cutover.kill();
    let good = journal(&cutover);
    let mut flipped = good.clone();
    let at = good.len() - 100;
    flipped.iter_mut().skip(at).for_each(|byte| *byte ^= 0x55);
    for (bytes, why) in [(flipped, "is damaged"), (Vec::new(), "is missing or empty")] {
        put(&cutover, &bytes);
        cutover.serve();
        assert_eq!(cutover.greens(20), 20, "{why}");
        let status = cutover.good(&["status"]);
        assert!(
            status.contains("TROUBLE: the journal of shop") && status.contains(why),
            "{status}"
        );
        cutover.kill();
        assert_eq!(std::fs::read(cutover.path("state/journal.db")).unwrap(), bytes);
    }
    let ran = cutover.run(&["rollback", "--offline"]);
    let started = crate::commands::Started(cutover.path("state/lock"));
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(ran.out.contains("with r1 at 100 % instead of r2"), "{ran:?}");
    assert!(!ran.out.contains("Undo this"), "{ran:?}");
    assert_eq!(cutover.greens(20), 0);
    cutover.good(&["rollback", "--to", "r2", "--detach"]);
    assert_eq!(cutover.greens(20), 20);
    drop(started);
}

#[test]
fn a_lost_weights_file_and_cookie_key_stop_no_start() {
    let mut cutover = Cutover::start(None);
    cutover.good(&["shift", "100%"]);
    cutover.kill();
    let weights = vec![7_u8; 128 * 1024];
    std::fs::write(cutover.path("state/weights"), &weights).unwrap();
    std::fs::write(cutover.path("state/cookie.key"), "short").unwrap();
    cutover.serve();
    assert_eq!(cutover.greens(20), 20);
    let status = cutover.good(&["status"]);
    assert!(status.contains("TROUBLE: the cookie key: "), "{status}");
    assert!(status.contains("Remove it and a new one is made"), "{status}");
    assert!(status.contains("the weights file: ") && status.contains("is damaged"), "{status}");
    cutover.good(&["rollback", "--detach"]);
    assert_eq!(cutover.greens(20), 0);
    until("the rollback is kept", || cutover.good(&["events"]).contains("all to blue"));
    cutover.kill();
    assert_eq!(std::fs::read(cutover.path("state/weights")).unwrap(), weights);
    assert_eq!(std::fs::read(cutover.path("state/cookie.key")).unwrap(), b"short");
    cutover.serve();
    assert_eq!(cutover.greens(20), 0);
}

#[test]
fn doors_beside_traffic_that_cannot_be_opened_are_tried_again() {
    let mut cutover = Cutover::start(None);
    cutover.kill();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = taken.local_addr().unwrap();
    let (log, folder) = (cutover.path("logs/access.log"), cutover.path("logs"));
    let file = cutover.path("cutover.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let doors =
        format!("[proxy]\naccess_log = \"{}\"\n[admin]\nmetrics = \"{metrics}\"\n", log.display());
    std::fs::write(&file, text.replace("[admin]\n", &doors)).unwrap();
    cutover.serve();
    assert_eq!(cutover.get("/"), "blue");
    let status = cutover.good(&["status"]);
    assert!(status.contains("note       [admin] metrics: "), "{status}");
    assert!(status.contains("note       [proxy] access_log: "), "{status}");
    drop(taken);
    std::fs::create_dir(&folder).unwrap();
    until("both work", || !cutover.good(&["status"]).contains("note  "));
    cutover.get("/");
    until("a line is there", || std::fs::read_to_string(&log).is_ok_and(|t| t.contains("\"/\"")));
}

#[test]
fn an_admin_socket_that_cannot_be_made_stops_no_traffic() {
    let mut cutover = Cutover::start(None);
    cutover.kill();
    // A folder of this name with something in it cannot be replaced.
    let socket = cutover.path("cutover.sock");
    drop(std::fs::remove_file(&socket));
    std::fs::create_dir_all(socket.join("x")).unwrap();
    cutover.serve();
    assert_eq!(cutover.get("/"), "blue");
    assert_eq!(cutover.run(&["status"]).exit, 69);
    std::fs::remove_dir_all(&socket).unwrap();
    until("commands work", || cutover.run(&["status"]).exit == 0);
}

#[test]
fn a_folder_in_which_only_a_log_is_takes_a_first_start() {
    let cutover = Cutover::start(None);
    let state = cutover.path("fresh");
    std::fs::create_dir(&state).unwrap();
    cutover::journal::disk::make_folder(&state).unwrap();
    std::fs::write(state.join("serve.log"), "").unwrap();
    let lock = Arc::new(StateLock::take(&state, Millis(1)).unwrap());
    assert!(Store::open(&state, lock, "node", Millis(1)).is_ok());
}

/// Delays the daemon's next syncs by this many seconds.
struct SlowDisk(std::process::Child);

impl SlowDisk {
    fn on(pid: u32, seconds: u32) -> Self {
        use std::io::{BufRead as _, BufReader};
        let inject = format!("inject=fsync,fdatasync:delay_enter={}:when=1", seconds * 1_000_000);
        let mut child = std::process::Command::new("strace")
            .args(["-f", "-e", "trace=fsync,fdatasync", "-e", &inject, "-p", &pid.to_string()])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("attached") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "strace does not attach");
        }
        std::thread::spawn(move || said.lines().for_each(drop));
        Self(child)
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap_or(());
        drop(self.0.wait());
    }
}

#[test]
fn a_change_that_the_disk_takes_late_is_never_called_unchanged() {
    let cutover = Cutover::start(None);
    // Longer than the journal waits for the disk, shorter than it waits to ask.
    let slow = SlowDisk::on(cutover.pid(), 7);
    let ran = cutover.run(&["shift", "100%"]);
    drop(slow);
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(!ran.err.contains("NOTHING WAS CHANGED"), "{ran:?}");
    assert_eq!(cutover.greens(20), 20, "the table has what the journal has");
    let status = cutover.good(&["status"]);
    assert!(status.contains("serves     r2"), "{status}");
}
