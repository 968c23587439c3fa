//! The daemon under a limit of the kernel: of its memory, and of how many processes there may be.
//! By control groups of version 1 or 2, whichever this machine has.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use crate::daemon::Cutover;

/// A control group of the test's own; goes away at the end, when its process has ended.
struct Group(PathBuf);

impl Group {
    /// Version 1 has a tree for each controller, version 2 one tree for all.
    fn make(controller: &str) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let tree = match root.join(controller).is_dir() {
            true => root.join(controller),
            false => root.to_owned(),
        };
        let group = tree.join(format!("cutover-test-{}-{controller}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        Self(group)
    }

    /// Sets what version 1 calls `one` and version 2 `two`.
    fn set(&self, one: &str, two: &str, to: u64) {
        let name = if self.0.join(one).exists() { one } else { two };
        std::fs::write(self.0.join(name), to.to_string()).unwrap();
    }

    fn take(&self, pid: u32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    fn read(&self, one: &str, two: &str) -> String {
        let name = if self.0.join(one).exists() { one } else { two };
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(std::fs::remove_dir(&self.0));
    }
}

const MIB: u64 = 1 << 20;

#[test]
fn a_daemon_with_little_memory_is_not_ended_by_slow_clients_and_large_bodies() {
    let group = Group::make("memory");
    let mut cutover = Cutover::start(None);
    cutover.kill();
    group.set("memory.limit_in_bytes", "memory.max", 128 * MIB);
    cutover.serve();
    // What it touches from here on counts.
    group.take(cutover.pid());
    cutover.good(&["shift", "50%"]);

    // Requests that wait for their answers.
    let waiting: Vec<TcpStream> = (0..400).map(|_| cutover.ask("/slow")).collect();
    // Bodies that nobody reads: the colors answer after the head.
    let mut bodies = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(cutover.address).unwrap();
        let head = "POST /slow HTTP/1.1\r\nhost: shop\r\ncontent-length: 1073741824\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        bodies.push(stream);
    }
    let part = vec![b'x'; 1 << 20];
    let mut sent = 0;
    for _ in 0..64 {
        for stream in &mut bodies {
            sent += stream.write(&part).unwrap_or(0) as u64;
        }
    }
    // Heads that never end.
    let mut heads = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(cutover.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        drop(stream.write(b"GET / HTTP/1.1\r\nx-long: "));
        drop(stream.write(&part));
        heads.push(stream);
    }
    assert!(sent > 16 * MIB, "the bodies were not even begun with: {sent}");
    assert!(!cutover.get("/").is_empty(), "it still answers");
    cutover.good(&["rollback", "--detach"]);
    let ended = group.read("memory.oom_control", "memory.events");
    assert!(ended.lines().any(|line| line == "oom_kill 0"), "{ended}");
    assert_eq!(cutover.greens(5), 0);
    drop((waiting, bodies, heads));
    cutover.kill();
}
