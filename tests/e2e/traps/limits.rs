//! The kernel's limits: memory that a container has used up, and processes that cannot be started.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::stack::Stack;
use crate::harness::{engine, eventually, wire};

/// The stack with another command in its one service.
fn commands(stack: &Stack, command: &str) {
    let text = format!(
        "name: ${{STACK_PROJECT}}
services:
  web:
    image: shop-program:latest
    command: [{command}]
    environment:
      SHOP_RELEASE: one
      DATABASE_URL: postgres://nobody@127.0.0.1/none
    ports: [\"${{STACK_PORT}}:3001\"]
    mem_limit: 32m
"
    );
    stack.write("compose.yml", &text);
    stack.commit(command);
}

#[test]
fn a_container_out_of_memory_leaves_the_table_and_a_deploy_names_the_cause() {
    let stack = Stack::copy("memory-limits");
    commands(&stack, "/shop, backend");
    let mut cutover = stack.cutover_for("port = 3001", "/api/whoami", "");
    cutover.serve();
    cutover.run(&["deploy"]).succeeded();
    stack.answers(stack.port, "/api/whoami");

    // A release that is out of memory as soon as it starts.
    commands(&stack, "/shop, migrate, /x, /dev/zero");
    let ran = cutover.run(&["deploy", "--at-once"]).exits(1);
    ran.says(&["web", "out of memory, the kernel ended it", "r1 serves as before"]);
    stack.answers(stack.port, "/api/whoami");

    // The one that serves is: it keeps what it is sent until it has all of it.
    let serving = ["blue", "green"].iter().find_map(|color| stack.color(color, "web").pop());
    let serving = serving.expect("a container that serves");
    let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
    let address = engine::inspect(&serving, template);
    let address = address.split_whitespace().next().expect("an address").parse();
    let address = SocketAddr::new(address.expect("an address"), 3001);
    let mut stream = TcpStream::connect(address).expect("the container takes connections");
    let head = "POST /api/orders HTTP/1.1\r\nhost: shop\r\ncontent-length: 1073741824\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("it reads");
    while stream.write_all(&[b'x'; 65_536]).is_ok() {}
    eventually("it is out of memory", Duration::from_secs(20), || {
        (engine::inspect(&serving, "{{.State.OOMKilled}}") == "true").then_some(())
    });
    eventually("nobody is sent to it", Duration::from_secs(20), || {
        let answer = wire::get(stack.port, "/api/whoami").ok()?;
        (answer.status == 503).then_some(())
    });
    let why = "exited with code 137 (out of memory, the kernel ended it) at ";
    eventually("status says why it ended", Duration::from_secs(20), || {
        let status = cutover.run(&["status"]).printed.both();
        let is_told = status.contains("r1 has no running container of web");
        (is_told && status.contains(why)).then_some(())
    });
    let told = cutover.run(&["events"]).succeeded().printed.both();
    assert_eq!(told.matches(why).count(), 1, "{told}");
    let ran = cutover.run(&["status", "--check"]);
    assert_ne!(ran.printed.code, 0, "{}", ran.printed.both());
    // Started again, by whomever, it serves.
    engine::docker(&["start", &serving]).succeeded();
    stack.answers(stack.port, "/api/whoami");
    eventually("nothing is said of it any more", Duration::from_secs(20), || {
        (!cutover.run(&["status"]).printed.both().contains("exited with code")).then_some(())
    });
    // Somebody stops it, and is not named: the engine does not keep who it was.
    engine::docker(&["kill", &serving]).succeeded();
    eventually("status says that it was killed", Duration::from_secs(20), || {
        let status = cutover.run(&["status"]).printed.both();
        status.contains("exited with code 137 (SIGKILL: docker kill").then_some(())
    });
}

/// A control group that bounds how many tasks there may be, of version 1 or 2.
struct Tasks(PathBuf);

impl Tasks {
    fn make() -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let tree = if root.join("pids").is_dir() { root.join("pids") } else { root.to_owned() };
        let group = tree.join(format!("cutover-test-{}-tasks", std::process::id()));
        std::fs::create_dir(&group).expect("a control group");
        Self(group)
    }

    fn take(&self, pid: u32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("a process of ours");
    }

    /// Bounds them to those that are there now, and so many more; `None`: no bound.
    fn bound(&self, more: Option<u64>) {
        let now = std::fs::read_to_string(self.0.join("pids.current")).expect("a number");
        let now: u64 = now.trim().parse().expect("a number");
        let most = more.map_or_else(|| "max".to_owned(), |more| (now + more).to_string());
        std::fs::write(self.0.join("pids.max"), most).expect("it is bounded");
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        // Its processes have ended: this goes after the daemon.
        if let Err(error) = std::fs::remove_dir(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

#[test]
fn a_process_that_cannot_be_started_is_a_stated_error_and_no_hang() {
    let (tasks, stack) = (Tasks::make(), Stack::copy("plain"));
    let mut cutover = stack.cutover("");
    cutover.serve();
    cutover.run(&["deploy"]).succeeded();
    tasks.take(cutover.pid());
    stack.set_variables(&[("STACK_RELEASE", "two")]);
    stack.commit("two");
    for more in [0, 1, 4] {
        tasks.bound(Some(more));
        let ran = cutover.run(&["deploy", "--at-once"]);
        let said = ran.printed.both();
        assert!(matches!(ran.printed.code, 1 | 4), "{more}: {said}");
        // In the words of the system, of git, or of a program of Go's.
        let words = ["Resource temporarily unavailable", "create new OS thread"];
        assert!(words.iter().any(|word| said.contains(word)), "{more}: {said}");
        assert!(!said.contains("does not accept the compose file"), "{more}: {said}");
        assert!(ran.took < Duration::from_secs(60), "{more}: {:?}", ran.took);
        assert_eq!(stack.answers(stack.port, "/").release(), "one", "{more}");
        tasks.bound(None);
    }
    cutover.run(&["deploy", "--at-once"]).succeeded();
    assert_eq!(stack.answers(stack.port, "/").release(), "two");
}
