//! The real `cutover` program: commands with a deadline, and `cutover serve` as a child that is
//! killed at the end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::engine::Printed;
use super::eventually;

/// Longer than any command of these tests takes.
const PATIENCE: Duration = Duration::from_secs(180);

/// One `cutover.toml` with its state, and perhaps a daemon.
pub(crate) struct Cutover {
    folder: PathBuf,
    config: PathBuf,
    log: PathBuf,
    daemon: Option<Child>,
    /// The process ids of all daemons of this value, also of ended ones.
    started: Vec<u32>,
    /// What stands before the program, such as `nsenter --net=FILE`.
    inside: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Cutover {
    /// Commands run in `folder`, which holds `cutover.toml`; what the daemon says goes to `log`.
    pub(crate) fn new(folder: &Path, log: &Path) -> Self {
        super::turn::take();
        Self {
            folder: folder.to_owned(),
            config: folder.join("cutover.toml"),
            log: log.to_owned(),
            daemon: None,
            started: Vec::new(),
            inside: Vec::new(),
            variables: Vec::new(),
        }
    }

    /// The same program inside of a network namespace, with another engine.
    pub(crate) fn inside(mut self, prefix: &[&str], variables: &[(&str, &str)]) -> Self {
        self.inside = prefix.iter().map(|word| (*word).to_owned()).collect();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.variables = variables.iter().map(owned).collect();
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_cutover").to_owned();
        let words: Vec<&String> = self.inside.iter().chain([&program]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(arguments);
        command.current_dir(&self.folder).env("CUTOVER_CONFIG", &self.config);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// Runs a command to its end and returns what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        let started = Instant::now();
        let out = tempfile::tempfile().expect("a file for stdout");
        let err = tempfile::tempfile().expect("a file for stderr");
        let mut child = command
            .stdout(out.try_clone().expect("a second handle"))
            .stderr(err.try_clone().expect("a second handle"))
            .spawn()
            .expect("cutover starts");
        let status = eventually(&format!("the end of cutover {arguments:?}"), PATIENCE, || {
            child.try_wait().expect("the state of a child")
        });
        let took = started.elapsed();
        let code = status.code().unwrap_or(-1);
        let printed = Printed { stdout: read_back(out), stderr: read_back(err), code };
        Ran { printed, took }
    }

    /// Starts a command and leaves it running; the caller ends it.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cutover starts")
    }

    /// Sets a variable for the daemon and the commands from now on, or takes it away.
    pub(crate) fn variable(&mut self, name: &str, value: Option<&str>) {
        self.variables.retain(|(known, _)| known != name);
        if let Some(value) = value {
            self.variables.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Starts the daemon and waits until its commands are answered.
    pub(crate) fn serve(&mut self) {
        self.serve_with(&[]);
    }

    /// The same with more words behind `serve`.
    pub(crate) fn serve_with(&mut self, more: &[&str]) {
        self.start_daemon(more);
        eventually("the daemon answers", Duration::from_secs(30), || {
            if let Some(child) = self.daemon.as_mut()
                && let Some(status) = child.try_wait().expect("the state of a child")
            {
                panic!("the daemon ended with {status}:\n{}", self.said());
            }
            (self.run(&["status"]).printed.code != 69).then_some(())
        });
    }

    /// Starts the daemon and waits for nothing.
    pub(crate) fn start_daemon(&mut self, more: &[&str]) {
        assert!(self.daemon.is_none(), "this daemon runs already");
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        let mut arguments = vec!["serve"];
        arguments.extend(more);
        let child = self
            .command(&arguments)
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("cutover serve starts");
        self.started.push(child.id());
        self.daemon = Some(child);
    }

    /// The process ids of the daemons that were started so far.
    pub(crate) fn started(&self) -> &[u32] {
        &self.started
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon runs").id()
    }

    /// kill -9, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            child.kill().expect("a signal to our own child");
            child.wait().expect("the end of our own child");
        }
    }

    /// Whether the daemon has ended by itself.
    pub(crate) fn has_died(&mut self) -> bool {
        let child = self.daemon.as_mut().expect("a daemon was started");
        child.try_wait().expect("the state of a child").is_some()
    }

    /// SIGTERM, and waits for the orderly end.
    pub(crate) fn stop(&mut self) -> i32 {
        let Some(mut child) = self.daemon.take() else { return 0 };
        signal(child.id(), "TERM");
        let status = eventually("the daemon stops", Duration::from_secs(60), || {
            child.try_wait().expect("the state of a child")
        });
        status.code().unwrap_or(-1)
    }

    /// Daemons that a command of this test started by itself: their words name our file.
    fn left_running(&self) -> Vec<u32> {
        let ours = self.config.display().to_string();
        let processes = std::fs::read_dir("/proc").expect("the processes");
        let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(|pid: &u32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).into_owned();
            words.contains(&ours) && words.contains("serve")
        })
        .collect()
    }

    /// What the daemon printed.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Cutover {
    fn drop(&mut self) {
        self.kill();
        for pid in self.left_running() {
            // It may have ended since; then there is nothing to do.
            super::engine::run("kill", &["-KILL", &pid.to_string()], Path::new("/"));
        }
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            let last = &lines[lines.len().saturating_sub(60)..];
            eprintln!("the daemon's last lines:\n{}", last.join("\n"));
        }
    }
}

/// What a command printed and how long it took.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) printed: Printed,
    pub(crate) took: Duration,
}

impl Ran {
    pub(crate) fn succeeded(self) -> Self {
        self.exits(0)
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        let Printed { stdout, stderr, .. } = &self.printed;
        assert_eq!(self.printed.code, code, "stdout:\n{stdout}\nstderr:\n{stderr}");
        self
    }

    /// All of these words stand in what it printed.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        let both = self.printed.both();
        for word in words {
            assert!(both.contains(word), "{word:?} is missing in:\n{both}");
        }
        self
    }
}

/// Sends a signal to a process that this test started.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()
        .expect("the kill command");
    assert!(sent.success(), "no signal {name} to {pid}");
}

fn read_back(mut file: File) -> String {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind().expect("the start of a file");
    file.read_to_end(&mut bytes).expect("what was printed");
    String::from_utf8_lossy(&bytes).into_owned()
}
