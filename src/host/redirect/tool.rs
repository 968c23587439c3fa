//! Runs the small network tools of the host: `nft`, `iptables`, `ip`.
//!
//! Never through a shell, with an empty standard input or the text given, and with a time limit.
//! Their answers are cut to a bound. Knows nothing of what the tools are asked.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::RedirectError;

/// These tools answer in milliseconds; more means that the kernel's rule lock is stuck.
const LIMIT: Duration = Duration::from_secs(10);

/// What a tool answered.
pub(super) struct Answer {
    /// Whether it ended with 0.
    pub(super) good: bool,
    /// Its standard output.
    pub(super) text: String,
    /// Its standard error.
    pub(super) talk: String,
    /// The program and its first arguments, for messages.
    pub(super) program: String,
}

impl Answer {
    /// The answer's text, or the tool's own words as an error.
    pub(super) fn success(self) -> Result<String, RedirectError> {
        if self.good { Ok(self.text) } else { Err(self.failure()) }
    }

    /// The tool's own words as an error.
    pub(super) fn failure(self) -> RedirectError {
        let message = self.talk.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason");
        RedirectError::Failed {
            message: message.trim_start_matches("Error: ").chars().take(300).collect(),
            program: self.program,
        }
    }
}

/// Runs a tool to its end.
pub(super) async fn run(
    program: &str,
    arguments: &[&str],
    input: &str,
) -> Result<Answer, RedirectError> {
    let shown = arguments.iter().take(3).copied().collect::<Vec<_>>().join(" ");
    let name = format!("{program} {shown}");
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                RedirectError::NotPermitted(format!("the program \"{program}\" is not installed"))
            }
            _ => RedirectError::Io { what: format!("cannot run {program}"), source },
        })?;
    let stdin = child.stdin.take();
    let work = async {
        if let Some(mut stdin) = stdin {
            // A tool that refuses its arguments does not read: its exit code says so.
            match stdin.write_all(input.as_bytes()).await {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
                _ => {}
            }
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(LIMIT, work)
        .await
        .map_err(|_| RedirectError::Failed {
            program: name.clone(),
            message: format!("no answer within {} s", LIMIT.as_secs()),
        })?
        .map_err(RedirectError::io(format!("cannot run {program}")))?;
    Ok(Answer {
        good: output.status.success(),
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
        talk: String::from_utf8_lossy(&output.stderr).into_owned(),
        program: name,
    })
}
