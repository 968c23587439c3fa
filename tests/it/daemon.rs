//! The real program with a static app: `cutover serve` as a child, commands as a person types them,
//! and two small web servers that say which color they are.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything of these tests takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A web server that answers with its name; `/slow` waits until it is let go, `/broken` is a 500.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    pub(crate) is_slow: Arc<AtomicBool>,
    /// Slow requests that wait.
    pub(crate) waiting: Arc<AtomicUsize>,
}

impl Web {
    pub(crate) fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_slow = Arc::new(AtomicBool::new(true));
        let waiting = Arc::new(AtomicUsize::new(0));
        let gate = (Arc::clone(&is_slow), Arc::clone(&waiting));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (slow, waiting) = gate.clone();
                std::thread::spawn(move || answer(stream, name, &slow, &waiting));
            }
        });
        Self { address, is_slow, waiting }
    }
}

fn answer(stream: TcpStream, name: &str, slow: &AtomicBool, waiting: &AtomicUsize) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line);
        }
        if head.first().is_some_and(|line| line.contains("/slow")) {
            waiting.fetch_add(1, Ordering::SeqCst);
            until("the slow answer is let go", || !slow.load(Ordering::SeqCst));
        }
        let status = match head.first().is_some_and(|line| line.contains("/broken")) {
            true => "500 Internal Server Error",
            false => "200 OK",
        };
        let body = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{name}", name.len());
        if writer.write_all(body.as_bytes()).is_err() {
            return;
        }
    }
}

/// Looks again and again until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) exit: i32,
}

/// A folder with `cutover.toml`, its state, and a daemon.
pub(crate) struct Cutover {
    folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) blue: Web,
    pub(crate) green: Web,
    daemon: Option<Child>,
}

impl Cutover {
    /// Starts a daemon whose state is in `state`, or beside its file.
    pub(crate) fn start(state: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (blue, green) = (Web::start("blue"), Web::start("green"));
        // A port that was free a moment ago; a restart must come back on the same one.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let state = state.map_or_else(|| folder.path().join("state"), Path::to_owned);
        let text = format!(
            "version = 1\n\
             [[listen]]\naddress = \"{address}\"\n\
             [admin]\nsocket = \"{socket}\"\n\
             [state]\npath = \"{state}\"\n\
             [apps.shop.endpoints]\n\
             blue = {{ web = [\"{blue}\"] }}\ngreen = {{ web = [\"{green}\"] }}\n\
             [[apps.shop.routes]]\nservice = \"web\"\n",
            socket = folder.path().join("cutover.sock").display(),
            state = state.display(),
            blue = blue.address,
            green = green.address,
        );
        std::fs::write(folder.path().join("cutover.toml"), text).unwrap();
        let mut cutover = Self { folder, address, blue, green, daemon: None };
        cutover.serve();
        cutover
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("NO_COLOR", "1").env("CUTOVER_CONFIG", self.path("cutover.toml"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the daemon; it takes requests when this returns.
    pub(crate) fn serve(&mut self) {
        self.serve_logging_to(std::fs::File::create(self.path("log")).unwrap());
    }

    /// The same with another place for what it logs.
    pub(crate) fn serve_logging_to(&mut self, log: impl Into<Stdio>) {
        let mut command = self.command(&["serve"]);
        let mut child = command.stderr(log).spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
        assert!(line.contains("cutover listens on"), "{line}{}", log());
        self.daemon = Some(child);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Waits for the end that a signal leads to: its exit code, `None` by a signal.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().unwrap();
        let mut status = None;
        until("the daemon ends", || {
            status = daemon.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// Ends the daemon as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        let ended = self.command(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let exit = ended.status.code().unwrap_or(-1);
        Ran { out: text(ended.stdout), err: text(ended.stderr), exit }
    }

    /// Runs a command that has to end well; what it printed on stdout.
    pub(crate) fn good(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!(ran.exit, 0, "{words:?}: {ran:?}");
        ran.out
    }

    /// How many of `count` clients, each with an address of its own, green answers.
    pub(crate) fn greens(&self, count: usize) -> usize {
        (0..count).filter(|_| self.get("/") == "green").count()
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = self.ask(path);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split("\r\n\r\n").nth(1).unwrap_or(&answer).to_owned()
    }

    /// A request whose answer is not read yet. A navigation without a cookie draws its place anew.
    pub(crate) fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = "host: shop\r\nsec-fetch-mode: navigate\r\naccept: text/html\r\n";
        let request = format!("GET {path} HTTP/1.1\r\n{head}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }
}

impl Drop for Cutover {
    fn drop(&mut self) {
        self.kill();
        self.blue.is_slow.store(false, Ordering::SeqCst);
        self.green.is_slow.store(false, Ordering::SeqCst);
    }
}
