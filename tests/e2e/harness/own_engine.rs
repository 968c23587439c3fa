//! A second container engine of the test's own, in a network namespace of its own, so that it can
//! be stopped and killed. The test reaches what runs in there over a pair of virtual interfaces.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use super::{engine, eventually, ports};

/// Whether containers go on without their engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LiveRestore {
    On,
    /// As Docker has it by default.
    Off,
}

pub(crate) struct OwnEngine {
    folder: TempDir,
    namespace: String,
    /// Our end of the pair.
    link: String,
    daemon: Option<Child>,
    restore: LiveRestore,
    /// The address inside, which the test can reach.
    pub(crate) address: std::net::Ipv4Addr,
    pub(crate) socket: PathBuf,
}

impl OwnEngine {
    pub(crate) fn start() -> Self {
        Self::start_with(LiveRestore::On)
    }

    pub(crate) fn start_with(restore: LiveRestore) -> Self {
        let folder =
            tempfile::Builder::new().prefix("cutover-engine-").tempdir().expect("a folder");
        let namespace = ports::project_name("net");
        // Neither a second one in this process nor one of another process gets the same names.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id() * 8 + STARTED.fetch_add(1, Ordering::Relaxed) % 8;
        let (third, fourth) = ((number / 64 % 250) as u8, (number % 64 * 4) as u8);
        let address = std::net::Ipv4Addr::new(10, 213, third, fourth + 2);
        let outside = std::net::Ipv4Addr::new(10, 213, third, fourth + 1);
        let (here, there) = (format!("cth{number:x}"), format!("ctt{number:x}"));
        ip(&["netns", "add", &namespace]);
        ip(&["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &namespace]);
        ip(&["addr", "add", &format!("{outside}/30"), "dev", &here]);
        ip(&["link", "set", &here, "up"]);
        ip(&["-n", &namespace, "addr", "add", &format!("{address}/30"), "dev", &there]);
        ip(&["-n", &namespace, "link", "set", &there, "up"]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        let socket = folder.path().join("docker.sock");
        let link = here;
        let mut own = Self { folder, namespace, link, daemon: None, restore, address, socket };
        own.launch();
        own
    }

    /// What runs a program inside of the namespace.
    pub(crate) fn prefix(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/run/netns/{}", self.namespace)]
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The file that stands for its network namespace.
    pub(crate) fn network(&self) -> PathBuf {
        PathBuf::from(format!("/run/netns/{}", self.namespace))
    }

    /// The rules of its network, without what they have counted.
    pub(crate) fn rules(&self) -> Vec<String> {
        let [program, net] = self.prefix();
        let list = |tool: &[&str]| {
            let all = [&[net.as_str()], tool].concat();
            engine::run(&program, &all, "/".as_ref()).succeeded().stdout
        };
        let mut rules = list(&["nft", "--stateless", "list", "ruleset"]);
        rules.push_str(&list(&["iptables-legacy", "-S"]));
        rules.push_str(&list(&["ip", "rule"]));
        rules.push_str(&list(&["ip", "-brief", "link"]));
        // The wires of containers get new names with each start.
        let is_wire = |line: &&str| line.starts_with("veth");
        rules.lines().filter(|line| !is_wire(line)).map(|line| line.trim().to_owned()).collect()
    }

    pub(crate) fn launch(&mut self) {
        assert!(self.daemon.is_none(), "this engine runs already");
        let [program, net] = self.prefix();
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        // Left by a kill. Where the machine's process 1 reaps slowly, dockerd takes the dead
        // containerd for a live one and waits for it.
        for left in ["pid", "exec/containerd/containerd.pid"] {
            if std::fs::exists(path(left)).unwrap_or(false) {
                std::fs::remove_file(path(left)).expect("a file of ours goes");
            }
        }
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path("log"))
            .expect("a log file");
        let daemon = Command::new(program)
            .args([&net, "dockerd", "--log-level=warn"])
            .arg(format!("--live-restore={}", self.restore == LiveRestore::On))
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--pidfile", &path("pid"), "-H", &self.host()])
            .args(["--default-address-pool", "base=10.214.0.0/16,size=24"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("dockerd starts");
        self.daemon = Some(daemon);
        eventually("the own engine answers", Duration::from_secs(60), || {
            (self.docker(&["version"]).code == 0).then_some(())
        });
    }

    pub(crate) fn docker(&self, arguments: &[&str]) -> engine::Printed {
        let host = self.host();
        let mut all = vec!["-H", &host];
        all.extend(arguments);
        engine::docker(&all)
    }

    /// Copies an image out of the machine's engine.
    pub(crate) fn load(&self, image: &str) {
        let file = self.folder.path().join("image.tar").display().to_string();
        engine::docker(&["save", "-o", &file, image]).succeeded();
        self.docker(&["load", "-i", &file]).succeeded();
    }

    pub(crate) fn signal(&self, name: &str) {
        super::daemon::signal(self.daemon.as_ref().expect("it runs").id(), name);
    }

    /// kill -9; the containers go on.
    pub(crate) fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().expect("a signal to our own child");
            daemon.wait().expect("the end of our own child");
        }
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("the own engine said:\n{log}");
        }
        if self.daemon.is_none() {
            self.launch();
        }
        self.signal("CONT");
        let ids = self.docker(&["ps", "-aq"]).stdout;
        for id in ids.lines() {
            self.docker(&["rm", "-f", "-v", id]);
        }
        self.signal("TERM");
        if let Some(mut daemon) = self.daemon.take() {
            eventually("the own engine stops", Duration::from_secs(30), || {
                daemon.try_wait().expect("the state of a child")
            });
        }
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let ours = self.folder.path().display().to_string();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for place in
            places.filter(|place| place.starts_with(&ours)).collect::<Vec<_>>().iter().rev()
        {
            engine::run("umount", &["-l", place], "/".as_ref());
        }
        // With its namespace the pair would go at some later time.
        engine::run("ip", &["link", "del", &self.link], "/".as_ref());
        engine::run("ip", &["netns", "del", &self.namespace], "/".as_ref());
    }
}

fn ip(arguments: &[&str]) {
    engine::run("ip", arguments, "/".as_ref()).succeeded();
}

/// Does something on a thread of its own inside of a network namespace. Sockets that it opens stay
/// inside.
pub(crate) fn inside<T: Send>(network: &Path, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        let space = std::fs::File::open(network).expect("a network namespace");
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("the namespace lets this thread in");
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter).join().expect("the work inside ends well"))
}
