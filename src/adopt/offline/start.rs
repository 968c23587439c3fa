//! Starts the daemon from the command line: by systemd where it is in charge, else directly.
//!
//! Waits until the admin socket answers, so that a command that returns has told the truth.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::OfflineError;

/// The unit of the package.
pub const UNIT: &str = "cutover.service";

/// How the daemon is started.
#[derive(Debug, Clone)]
pub struct Start {
    /// The program, for a start without systemd.
    pub program: PathBuf,
    /// The operator's file.
    pub file: PathBuf,
    /// The admin socket to wait for.
    pub socket: PathBuf,
    /// Where a daemon started directly writes its log.
    pub log: PathBuf,
    /// How long it may take.
    pub limit: Duration,
}

/// Who started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// systemd, which will restart it.
    Systemd,
    /// This command; nobody restarts it.
    Directly {
        /// The process.
        pid: Option<u32>,
    },
}

/// Starts the daemon and waits until it answers.
///
/// # Errors
/// [`OfflineError::Start`] with the reason, as far as the daemon or systemd said one.
pub async fn start(how: &Start) -> Result<Started, OfflineError> {
    let failed = |text: String| OfflineError::Start(text);
    if is_systemds().await {
        systemctl(&["reset-failed", UNIT]).await.map_err(failed)?;
        systemctl(&["start", UNIT]).await.map_err(failed)?;
        answers(how, None).await?;
        return Ok(Started::Systemd);
    }
    let log = std::fs::File::create(&how.log)
        .map_err(|error| failed(format!("{}: {error}", how.log.display())))?;
    let mut command = std::process::Command::new(&how.program);
    command
        .args(["serve", "--config"])
        .arg(&how.file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // Ctrl-C in the operator's terminal must not reach it.
        .process_group(0);
    let mut child = Command::from(command)
        .spawn()
        .map_err(|error| failed(format!("{}: {error}", how.program.display())))?;
    answers(how, Some(&mut child)).await?;
    Ok(Started::Directly { pid: child.id() })
}

/// Stops a daemon that [`start`] has started, and waits until it has ended.
///
/// # Errors
/// [`OfflineError::Stop`] when it cannot be told, or goes on.
pub async fn stop(by: &Started, socket: &Path, limit: Duration) -> Result<(), OfflineError> {
    let pid = match by {
        Started::Systemd => {
            return systemctl(&["stop", UNIT]).await.map_err(OfflineError::Stop);
        }
        Started::Directly { pid } => pid.and_then(|pid| i32::try_from(pid).ok()),
    };
    let pid = pid.and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| OfflineError::Stop("its process is not known".to_owned()))?;
    rustix::process::kill_process(pid, Signal::TERM)
        .map_err(|error| OfflineError::Stop(error.to_string()))?;
    let end = Instant::now() + limit;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    while UnixStream::connect(socket).await.is_ok() {
        if Instant::now() >= end {
            let seconds = limit.as_secs();
            let text = format!("process {} goes on after {seconds} s", pid.as_raw_nonzero());
            return Err(OfflineError::Stop(text));
        }
        beat.tick().await;
    }
    Ok(())
}

/// Whether systemd runs this machine and knows the unit.
async fn is_systemds() -> bool {
    Path::new("/run/systemd/system").exists() && systemctl(&["cat", UNIT]).await.is_ok()
}

async fn systemctl(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("systemctl").args(arguments).stdin(Stdio::null()).output().await;
    let output = output.map_err(|error| format!("systemctl: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let talk = String::from_utf8_lossy(&output.stderr);
    Err(format!("systemctl {}: {}", arguments.join(" "), talk.lines().next().unwrap_or("failed")))
}

async fn answers(how: &Start, mut child: Option<&mut Child>) -> Result<(), OfflineError> {
    let end = Instant::now() + how.limit;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    loop {
        beat.tick().await;
        if UnixStream::connect(&how.socket).await.is_ok() {
            return Ok(());
        }
        let ended = child.as_mut().map(|child| child.try_wait());
        if let Some(Ok(Some(status))) = ended {
            return Err(OfflineError::Start(format!("{status}: {}", last_lines(&how.log))));
        }
        if Instant::now() >= end {
            let seconds = how.limit.as_secs();
            let log = how.log.display();
            return Err(OfflineError::Start(format!(
                "no answer on {} within {seconds} s; look at journalctl -u {UNIT} or {log}",
                how.socket.display()
            )));
        }
    }
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start_of(folder: &Path, script: &str) -> Start {
        use std::os::unix::fs::PermissionsExt as _;
        let program = folder.join("daemon");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Start {
            program,
            file: folder.join("cutover.toml"),
            socket: folder.join("sock"),
            log: folder.join("log"),
            limit: Duration::from_secs(5),
        }
    }

    #[tokio::test]
    async fn a_daemon_that_ends_at_once_tells_why() {
        let folder = tempfile::tempdir().unwrap();
        let how = start_of(folder.path(), "echo 'port 80 is taken by nginx' >&2; exit 3");
        let error = start(&how).await.unwrap_err().to_string();
        assert!(error.contains("port 80 is taken by nginx") && error.contains('3'), "{error}");
    }

    #[tokio::test]
    async fn a_daemon_counts_as_started_when_its_socket_answers() {
        let folder = tempfile::tempdir().unwrap();
        let how = start_of(folder.path(), "echo \"$@\" > \"$(dirname \"$0\")/said\"; sleep 30");
        let listener = std::os::unix::net::UnixListener::bind(&how.socket).unwrap();
        let Started::Directly { pid: Some(pid) } = start(&how).await.unwrap() else {
            panic!("systemd does not know the unit here")
        };
        let by = Started::Directly { pid: Some(pid) };
        let short = Duration::from_millis(50);
        let goes_on = stop(&by, &how.socket, short).await.unwrap_err().to_string();
        assert!(goes_on.contains(&pid.to_string()), "{goes_on}");
        drop(listener);
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        // Nobody may be left of it: the first signal was for all of them.
        match rustix::process::kill_process_group(pid, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
