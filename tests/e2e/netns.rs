//! A host of its own for a test: network namespaces, tiny servers and clients in a loop.
//!
//! The namespaces stand for the host, for a client outside of it and for a container behind it.
//! They are gone when the value is dropped. Servers and clients are threads of the test that have
//! entered a namespace; they end when their handle is dropped or stopped.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Address of the host towards the clients.
pub(crate) const HOST: &str = "10.9.0.1";
/// A second address of the host.
pub(crate) const HOST_TOO: &str = "10.9.0.7";
/// Address of the host towards the clients, IPv6.
pub(crate) const HOST_V6: &str = "fd09::1";
/// Address of the container.
pub(crate) const CONTAINER: &str = "172.30.0.2";

/// A host, a client and a container.
pub(crate) struct Net {
    pub(crate) host: Space,
    pub(crate) client: Space,
    pub(crate) container: Space,
}

/// One network namespace.
#[derive(Clone)]
pub(crate) struct Space(Arc<Named>);

struct Named(Option<String>);

impl Drop for Named {
    fn drop(&mut self) {
        if let Some(name) = &self.0 {
            run("ip", &["netns", "del", name]);
        }
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Runs a tool of the host and wants it to succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    crate::harness::turn::take();
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Net {
    pub(crate) fn new() -> Self {
        let (host, client, container) = (Space::new("h"), Space::new("c"), Space::new("d"));
        let (h, c, d) = (host.name(), client.name(), container.name());
        for line in [
            format!("-n {h} link add v0 type veth peer name v1 netns {c}"),
            format!("-n {h} link add d0 type veth peer name d1 netns {d}"),
            format!("-n {h} addr add {HOST}/24 dev v0"),
            format!("-n {h} addr add {HOST_TOO}/24 dev v0"),
            format!("-n {h} addr add {HOST_V6}/64 dev v0 nodad"),
            format!("-n {c} addr add 10.9.0.2/24 dev v1"),
            format!("-n {c} addr add fd09::2/64 dev v1 nodad"),
            format!("-n {h} addr add 172.30.0.1/24 dev d0"),
            format!("-n {d} addr add {CONTAINER}/24 dev d1"),
            format!("-n {h} link set v0 up"),
            format!("-n {h} link set d0 up"),
            format!("-n {c} link set v1 up"),
            format!("-n {d} link set d1 up"),
            format!("-n {d} route add default via 172.30.0.1"),
        ] {
            run("ip", &line.split(' ').collect::<Vec<_>>());
        }
        host.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        Self { host, client, container }
    }

    /// What Docker does for `-p PORT:PORT`: destination NAT that goes around the input chains.
    pub(crate) fn publish_like_docker(&self, port: u16) {
        for line in [
            "-t nat -N DOCKER".to_owned(),
            "-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER".to_owned(),
            "-t nat -A OUTPUT -m addrtype --dst-type LOCAL ! -d 127.0.0.0/8 -j DOCKER".to_owned(),
            format!("-t nat -A DOCKER -p tcp --dport {port} -j DNAT --to {CONTAINER}:{port}"),
        ] {
            self.host.run("iptables", &line);
        }
    }
}

/// A client that stands outside of the machine itself, with a wire of its own to it.
pub(crate) struct Outside {
    pub(crate) client: Space,
    pub(crate) host: IpAddr,
}

impl Outside {
    pub(crate) fn new() -> Self {
        let client = Space::new("o");
        // Both ends and the addresses carry the process id and a count: tests run side by side,
        // and a name may have 15 letters.
        let number = std::process::id() * 8 + COUNT.fetch_add(1, Ordering::Relaxed) % 8;
        let (here, there) = (format!("cto{number:x}h"), format!("cto{number:x}c"));
        let net = format!("198.18.{}.{}", number % 256, (number / 256 % 63) * 4);
        let (net, last) = net.rsplit_once('.').unwrap();
        let last: u32 = last.parse().unwrap();
        let c = client.name();
        for line in [
            format!("link add {here} type veth peer name {there} netns {c}"),
            format!("addr add {net}.{}/30 dev {here}", last + 1),
            format!("-n {c} addr add {net}.{}/30 dev {there}", last + 2),
            format!("link set {here} up"),
            format!("-n {c} link set {there} up"),
        ] {
            run("ip", &line.split(' ').collect::<Vec<_>>());
        }
        Self { client, host: format!("{net}.{}", last + 1).parse().unwrap() }
    }
}

impl Space {
    /// The machine itself.
    pub(crate) fn machine() -> Self {
        Self(Arc::new(Named(None)))
    }

    fn new(what: &str) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cutover-test-{}-{number}{what}", std::process::id());
        run("ip", &["netns", "add", &name]);
        run("ip", &["-n", &name, "link", "set", "lo", "up"]);
        Self(Arc::new(Named(Some(name))))
    }

    pub(crate) fn name(&self) -> &str {
        self.0.0.as_deref().expect("the machine itself has no name")
    }

    /// Runs a tool inside, its arguments split at blanks.
    pub(crate) fn run(&self, program: &str, arguments: &str) -> String {
        let mut all = vec!["netns", "exec", self.name(), program];
        all.extend(arguments.split(' '));
        run("ip", &all)
    }

    /// Runs a closure on a thread inside.
    pub(crate) fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().unwrap()
    }

    /// Runs asynchronous work on a runtime inside; everything it starts stays inside.
    pub(crate) fn block_on<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        self.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(work())
        })
    }

    fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let path = self.0.0.as_ref().map(|name| format!("/run/netns/{name}"));
        std::thread::spawn(move || {
            if let Some(path) = path {
                let space = std::fs::File::open(path).unwrap();
                move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            }
            work()
        })
    }
}

/// A server that answers every request with its label.
pub(crate) struct Server {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `listeners`, which are opened inside of the namespace.
    pub(crate) fn start(
        space: &Space,
        label: &'static str,
        listen: impl FnOnce() -> Vec<std::net::TcpListener> + Send + 'static,
    ) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = space.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                for listener in listen() {
                    listener.set_nonblocking(true).unwrap();
                    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                    tokio::spawn(async move {
                        loop {
                            let (stream, _) = listener.accept().await.unwrap();
                            tokio::spawn(answer(stream, label));
                        }
                    });
                }
                ready.send(()).unwrap();
                stopped.await.ok();
            });
        });
        is_ready.recv().unwrap();
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

async fn answer(mut stream: tokio::net::TcpStream, label: &'static str) {
    let mut buffer = [0; 2048];
    let port = stream.local_addr().unwrap().port();
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let body = format!("{label} {port}");
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// One client connection that is kept open.
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) fn connect(space: &Space, address: SocketAddr) -> std::io::Result<Self> {
        space.inside(move || Self::connect_here(address))
    }

    fn connect_here(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(Self(stream))
    }

    /// Asks for a page and gives the first word of the answer: the label of who answered.
    pub(crate) fn ask(&mut self) -> std::io::Result<String> {
        self.0.write_all(b"GET /who HTTP/1.1\r\nhost: test\r\n\r\n")?;
        let mut answer = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            match self.0.read(&mut buffer)? {
                0 => return Err(std::io::Error::other("closed without a whole answer")),
                n => answer.extend_from_slice(&buffer[..n]),
            }
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            if body.len() >= content_length(head) {
                return Ok(body.split_whitespace().next().unwrap_or_default().to_owned());
            }
        }
    }
}

fn content_length(head: &str) -> usize {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .expect("these servers tell the length")
}

/// Clients that open a connection, ask once, close, and start again.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    threads: Vec<JoinHandle<BTreeMap<String, u32>>>,
}

impl Load {
    /// One client for each target.
    pub(crate) fn start(space: &Space, targets: &[SocketAddr]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU32::new(0));
        let threads = targets
            .iter()
            .map(|target| {
                let (stop, asked, target) = (Arc::clone(&stop), Arc::clone(&asked), *target);
                space.spawn(move || {
                    let mut counts = BTreeMap::new();
                    while !stop.load(Ordering::Relaxed) {
                        let result = Client::connect_here(target).and_then(|mut c| c.ask());
                        let key = result.unwrap_or_else(|e| format!("FAILED {target}: {e}"));
                        *counts.entry(key).or_insert(0) += 1;
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    counts
                })
            })
            .collect();
        Self { stop, asked, threads }
    }

    /// Waits until that many more requests were answered.
    pub(crate) fn pass(&self, requests: u32) {
        let goal = self.asked.load(Ordering::Relaxed) + requests;
        let end = Instant::now() + Duration::from_secs(30);
        while self.asked.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < end, "the clients got no answers for 30 s");
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Ends the clients: how many answers each label gave, failures by their text.
    pub(crate) fn stop(self) -> BTreeMap<String, u32> {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = BTreeMap::new();
        for thread in self.threads {
            for (key, count) in thread.join().unwrap() {
                *total.entry(key).or_insert(0) += count;
            }
        }
        total
    }
}

/// `address:port` of a text address.
pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), port)
}
