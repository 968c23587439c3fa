//! Child processes with a time limit.
//!
//! A child runs in a process group of its own with its standard input closed; when the limit
//! passes, or when the caller drops the future, the whole group is ended, grandchildren too.
//! Output is kept up to a bound, the end of it for errors; lines may be streamed to a bounded
//! channel, and a slow reader loses lines, it never holds up the child.
//!
//! INVARIANT: no call here runs a shell; arguments are handed over one by one.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// How much of each stream is kept: enough for the largest rendered compose file, and the most
/// memory that a runaway child can cost.
const KEEP: usize = 16 * 1024 * 1024;
/// How long a group may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(3);
/// The longest line that is streamed; the rest of it is cut.
const LINE: usize = 2_000;

/// A command to run. Its `Debug` shows neither arguments nor values: either may hold a secret.
#[derive(Clone)]
pub struct Spec {
    program: OsString,
    args: Vec<OsString>,
    folder: Option<PathBuf>,
    set: Vec<(OsString, OsString)>,
    unset: Vec<OsString>,
    limit: Duration,
    lines: Option<mpsc::Sender<String>>,
    priority: Priority,
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<_> = self.set.iter().map(|(key, _)| key).collect();
        f.debug_struct("Spec")
            .field("program", &self.program)
            .field("folder", &self.folder)
            .field("set", &set)
            .finish_non_exhaustive()
    }
}

/// How much of the machine a child may take from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// As much as this program.
    #[default]
    Normal,
    /// What the others leave: `nice 10`, idle I/O class.
    Low,
}

/// What a child left behind.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, as text.
    pub stderr: String,
}

/// Why a child gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program is not there or may not be run.
    #[error("cannot run {program}: {error}; {}", remedy(error))]
    Start {
        /// The program.
        program: String,
        /// The system's reason.
        error: std::io::Error,
    },
    /// It took longer than it may; its whole process group was ended.
    #[error("{program} took longer than {limit:?} and was ended; its last words: {tail}")]
    Limit {
        /// The program and its first argument.
        program: String,
        /// The limit.
        limit: Duration,
        /// The end of its standard error.
        tail: String,
    },
    /// Its output could not be read.
    #[error("cannot read what {program} prints: {error}")]
    Read {
        /// The program.
        program: String,
        /// The system's reason.
        error: std::io::Error,
    },
    /// It printed more than is kept.
    #[error("{program} printed more than {KEEP} bytes; this is not the output it should give")]
    TooMuch {
        /// The program.
        program: String,
    },
}

/// What to do about a program that cannot be started.
pub(crate) fn remedy(error: &std::io::Error) -> &'static str {
    // EMFILE and ENFILE, which have no kind of their own.
    const NO_DESCRIPTORS: [Option<i32>; 2] = [Some(24), Some(23)];
    match error.kind() {
        _ if NO_DESCRIPTORS.contains(&error.raw_os_error()) => {
            "no more files can be opened: look at the limits (LimitNOFILE, ulimit -n)"
        }
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::OutOfMemory => {
            "no more processes can be started: look at the limits (TasksMax, ulimit -u) and at \
             the free memory"
        }
        _ => "is it installed and on the PATH?",
    }
}

impl Spec {
    /// A command with a time limit.
    #[must_use]
    pub fn new(program: impl Into<OsString>, limit: Duration) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            folder: None,
            set: Vec::new(),
            unset: Vec::new(),
            limit,
            lines: None,
            priority: Priority::Normal,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets the folder it runs in.
    #[must_use]
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.set.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Takes a variable out of its environment.
    #[must_use]
    pub fn without(mut self, key: impl AsRef<OsStr>) -> Self {
        self.unset.push(key.as_ref().to_owned());
        self
    }

    /// Streams both outputs, line by line, control bytes escaped; lines are lost when the channel
    /// is full.
    #[must_use]
    pub fn lines(mut self, lines: mpsc::Sender<String>) -> Self {
        self.lines = Some(lines);
        self
    }

    /// Sets its priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    fn name(&self) -> String {
        let first = self.args.iter().find(|arg| !arg.to_string_lossy().starts_with('-'));
        let program = self.program.to_string_lossy();
        match first {
            Some(arg) => format!("{program} {}", arg.to_string_lossy()),
            None => program.into_owned(),
        }
    }

    fn command(&self) -> Command {
        let mut command = match self.priority {
            Priority::Normal => Command::new(&self.program),
            Priority::Low => low_priority(&self.program),
        };
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).process_group(0);
        for key in &self.unset {
            command.env_remove(key);
        }
        command.envs(self.set.iter().map(|(key, value)| (key, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }
}

/// `ionice -c3 nice -n 10 program`, as far as these tools are there.
fn low_priority(program: &OsStr) -> Command {
    let found = |tool: &str| {
        std::env::var_os("PATH").and_then(|path| {
            std::env::split_paths(&path).map(|dir| dir.join(tool)).find(|p| p.is_file())
        })
    };
    let mut words: Vec<OsString> = Vec::new();
    if let Some(ionice) = found("ionice") {
        words.extend([ionice.into(), "-c3".into(), "-t".into()]);
    }
    if let Some(nice) = found("nice") {
        words.extend([nice.into(), "-n".into(), "10".into()]);
    }
    words.push(program.to_owned());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// Ends the whole group when it is dropped before the child has ended.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id
            && let Err(error) = kill_process_group(id, signal)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(%error, "a child's process group could not be ended");
        }
    }

    async fn end(&mut self) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            tracing::debug!("a child did not end when asked to");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Runs a command to its end.
///
/// # Errors
/// [`ProcessError`] when it cannot be started, takes too long or prints too much. An exit status
/// other than 0 is not an error here.
pub async fn run(spec: Spec) -> Result<Output, ProcessError> {
    // Boxed: what awaits this many times would otherwise be as large as all of it together.
    Box::pin(run_to_end(spec)).await
}

async fn run_to_end(spec: Spec) -> Result<Output, ProcessError> {
    let program = spec.name();
    let mut child = spec
        .command()
        .spawn()
        .map_err(|error| ProcessError::Start { program: program.clone(), error })?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let mut group = Group { child, id };
    let (mut stdout, mut stderr) = (Kept::new(spec.lines.clone()), Kept::new(spec.lines.clone()));
    let work = async {
        let (out, err, status) =
            tokio::join!(stdout.read(out), stderr.read(err), group.child.wait());
        out.and(err).and(status)
    };
    match tokio::time::timeout(spec.limit, work).await {
        Ok(Ok(status)) => {
            // The group's number may belong to others from now on.
            group.id = None;
            if stdout.overflowed {
                return Err(ProcessError::TooMuch { program });
            }
            let stderr = String::from_utf8_lossy(&stderr.bytes).into_owned();
            Ok(Output { status, stdout: stdout.bytes, stderr })
        }
        Ok(Err(error)) => Err(ProcessError::Read { program, error }),
        Err(_) => {
            group.end().await;
            let tail = tail(&String::from_utf8_lossy(&stderr.bytes), 3);
            Err(ProcessError::Limit { program, limit: spec.limit, tail })
        }
    }
}

/// The last `count` lines that are not blank, joined by `; `, control bytes escaped.
#[must_use]
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let end = lines.iter().position(|line| is_crash(line)).map_or(lines.len(), |last| last + 1);
    let start = end.saturating_sub(count);
    lines[start..end].iter().map(|line| escape(line)).collect::<Vec<_>>().join("; ")
}

/// Whether a program of Go's, such as `docker`, has crashed: what follows are its registers.
#[must_use]
pub fn crashed(said: &str) -> bool {
    said.lines().any(|line| is_crash(line.trim()))
}

fn is_crash(line: &str) -> bool {
    line.starts_with("fatal error: ") || line == "SIGABRT: abort"
}

/// A line with its control bytes written out, so that it cannot forge other lines or drive a
/// terminal. Tabs stay.
#[must_use]
pub fn escape(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if c.is_control() && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The end of a stream, and its lines on the way.
struct Kept {
    bytes: Vec<u8>,
    overflowed: bool,
    line: Vec<u8>,
    lines: Option<mpsc::Sender<String>>,
}

impl Kept {
    fn new(lines: Option<mpsc::Sender<String>>) -> Self {
        Self { bytes: Vec::new(), overflowed: false, line: Vec::new(), lines }
    }

    async fn read<R: AsyncRead + Unpin>(&mut self, stream: Option<R>) -> std::io::Result<()> {
        let Some(mut stream) = stream else { return Ok(()) };
        let mut buffer = vec![0_u8; 8192];
        loop {
            let count = stream.read(&mut buffer).await?;
            if count == 0 {
                self.send_line();
                return Ok(());
            }
            self.take(&buffer[..count]);
        }
    }

    fn take(&mut self, chunk: &[u8]) {
        let room = KEEP.saturating_sub(self.bytes.len());
        self.overflowed |= chunk.len() > room;
        self.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if self.lines.is_none() {
            return;
        }
        for &byte in chunk {
            if byte == b'\n' || byte == b'\r' {
                self.send_line();
            } else if self.line.len() < LINE {
                self.line.push(byte);
            }
        }
    }

    fn send_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        if let Some(lines) = &self.lines
            && lines.try_send(escape(String::from_utf8_lossy(&line).trim_end())).is_err()
        {
            tracing::trace!("a line of progress was lost: its reader is slow");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_of_a_go_program_is_told_in_its_first_words() {
        let said = "reading\nruntime/cgo: pthread_create failed: Resource temporarily unavailable\n\
                    SIGABRT: abort\nPC=0x1 m=0\n\nrflags 0x246\ngs     0x0\n";
        assert!(crashed(said) && !crashed("service web: fatal error: no image"));
        let told = "runtime/cgo: pthread_create failed: Resource temporarily unavailable; \
                    SIGABRT: abort";
        assert_eq!(tail(said, 2), told);
        assert_eq!(tail("one\ntwo\n", 1), "two");
    }

    fn shell(script: &str, limit: Duration) -> Spec {
        Spec::new("sh", limit).args(["-c", script])
    }

    #[test]
    fn no_argument_and_no_value_is_in_a_debug_text() {
        let spec =
            Spec::new("psql", Duration::from_secs(1)).arg("sesame").env("PGPASSWORD", "open");
        let text = format!("{spec:?}");
        assert!(text.contains("psql") && text.contains("PGPASSWORD"), "{text}");
        assert!(!text.contains("sesame") && !text.contains("open"), "{text}");
    }

    #[tokio::test]
    async fn output_and_status_come_back() {
        let out = run(shell("echo one; echo two >&2; exit 3", Duration::from_secs(10))).await;
        let out = out.expect("runs");
        assert_eq!(out.status.code(), Some(3));
        assert_eq!(out.stdout, b"one\n");
        assert_eq!(out.stderr, "two\n");
    }

    #[tokio::test]
    async fn a_child_that_takes_too_long_is_ended_with_its_grandchildren() {
        let script = "sleep 300 & echo $! >&2; wait";
        let error = run(shell(script, Duration::from_millis(500))).await.expect_err("too long");
        let ProcessError::Limit { tail, .. } = error else { panic!("{error}") };
        let pid: u32 = tail.trim().parse().expect("the grandchild's pid");
        let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while !gone() {
            assert!(std::time::Instant::now() < deadline, "the grandchild still runs");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn lines_are_streamed_with_control_bytes_escaped() {
        let (sender, mut lines) = mpsc::channel(8);
        let spec = shell("printf 'a\\033[1mb\\nlast'", Duration::from_secs(10)).lines(sender);
        run(spec).await.expect("runs");
        assert_eq!(lines.recv().await.as_deref(), Some("a\\u{1b}[1mb"));
        assert_eq!(lines.recv().await.as_deref(), Some("last"));
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = run(Spec::new("no-such-program", Duration::from_secs(1))).await;
        let error = error.expect_err("not there").to_string();
        assert!(error.contains("cannot run no-such-program"), "{error}");
    }

    #[tokio::test]
    async fn low_priority_is_low() {
        let spec = Spec::new("nice", Duration::from_secs(10)).priority(Priority::Low);
        let out = run(spec).await.expect("runs");
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "10");
    }
}
