//! One command inside a running container with its streams open: for what is too large to keep.
//!
//! Standard output is handed over as it comes, with back-pressure; standard error is kept up to a
//! bound. Closing the input is shutting it down. Dropping the running command drops its
//! connection to the engine; the process inside goes on until it writes or reads the next time.

use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures_util::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::{ASK, Container, Docker, DockerError, translate, within};

/// How much of the standard error is kept: its end.
const KEEP: usize = 64 * 1024;
/// How much may lie between the engine and the reader.
const BETWEEN: usize = 256 * 1024;

/// A command that runs.
pub struct Streamed {
    /// Its standard input.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// Its standard output.
    pub stdout: DuplexStream,
    /// Its end: exit code and the end of its standard error.
    pub ended: JoinHandle<Result<(i64, String), DockerError>>,
}

impl Docker {
    /// Starts a command inside a running container with its streams open.
    ///
    /// # Errors
    /// [`DockerError`] when the container does not run or the engine refuses.
    pub async fn exec_streamed(
        &self,
        container: &Container,
        command: &[String],
        env: &[(String, String)],
    ) -> Result<Streamed, DockerError> {
        let program = command.first().map_or("nothing", String::as_str);
        let what = format!("running {program} inside {}", container.name);
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            env: Some(env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
            ..CreateExecOptions::<String>::default()
        };
        let made = within(ASK, &what, self.client.create_exec(&container.id, options)).await?;
        let start = StartExecOptions { output_capacity: Some(64 * 1024), ..Default::default() };
        let started = within(ASK, &what, self.client.start_exec(&made.id, Some(start))).await?;
        let StartExecResults::Attached { mut output, input } = started else {
            return Err(DockerError::Incomplete { what, field: "stream" });
        };
        let (mut to_reader, stdout) = tokio::io::duplex(BETWEEN);
        let docker = self.clone();
        let ended = tokio::spawn(async move {
            let mut stderr = Vec::new();
            let mut reading = true;
            while let Some(piece) = output.next().await {
                match piece.map_err(|error| translate(&what, error))? {
                    LogOutput::StdErr { message } => keep_end(&mut stderr, &message),
                    // A reader that is gone wants the end only.
                    piece if reading => {
                        reading = to_reader.write_all(&piece.into_bytes()).await.is_ok();
                    }
                    _ => {}
                }
            }
            let end = within(ASK, &what, docker.client.inspect_exec(&made.id)).await?;
            let code = end.exit_code.ok_or(DockerError::Incomplete { what, field: "ExitCode" })?;
            // Only now: who has read everything may ask for the end at once.
            drop(to_reader);
            Ok((code, String::from_utf8_lossy(&stderr).into_owned()))
        });
        Ok(Streamed { stdin: input, stdout, ended })
    }
}

fn keep_end(kept: &mut Vec<u8>, more: &[u8]) {
    kept.extend_from_slice(more);
    if kept.len() > KEEP {
        kept.drain(..kept.len() - KEEP);
    }
}
