//! One command inside a running container.
//!
//! Arguments and environment are handed over one by one, no shell. Secrets go by environment, never
//! by argument. When the limit passes the result is an error, but the engine knows no way to end
//! the process: callers run only commands that end by themselves.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures_util::StreamExt;

use super::{ASK, Container, Docker, DockerError, within};

/// How much of each output is kept.
const KEEP: usize = 1024 * 1024;

/// What a command inside a container left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code.
    pub code: i64,
    /// Its standard output, up to 1 MiB.
    pub stdout: String,
    /// Its standard error, up to 1 MiB.
    pub stderr: String,
}

impl Docker {
    /// Runs a command inside a running container and waits for its end.
    ///
    /// # Errors
    /// [`DockerError`] when the container does not run or the limit passes; an exit code other
    /// than 0 is not an error here.
    pub async fn exec(
        &self,
        container: &Container,
        command: &[&str],
        env: &[(&str, &str)],
        limit: Duration,
    ) -> Result<ExecOutput, DockerError> {
        let what = format!(
            "running {} inside {}",
            command.first().copied().unwrap_or("nothing"),
            container.name
        );
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
            env: Some(env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
            ..CreateExecOptions::<String>::default()
        };
        let made = within(ASK, &what, self.client.create_exec(&container.id, options)).await?;
        let run = async {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            let started = self.client.start_exec(&made.id, None::<StartExecOptions>).await?;
            if let StartExecResults::Attached { mut output, .. } = started {
                while let Some(piece) = output.next().await {
                    let piece = piece?;
                    let kept = match piece {
                        LogOutput::StdErr { .. } => &mut stderr,
                        _ => &mut stdout,
                    };
                    let bytes = piece.into_bytes();
                    let room = KEEP.saturating_sub(kept.len());
                    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
            }
            Ok((stdout, stderr))
        };
        let (stdout, stderr) = within(limit, &what, run).await?;
        let end = within(ASK, &what, self.client.inspect_exec(&made.id)).await?;
        let code = end.exit_code.ok_or(DockerError::Incomplete { what, field: "ExitCode" })?;
        Ok(ExecOutput {
            code,
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }
}
