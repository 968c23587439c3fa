//! `pg_dump` and `pg_restore`, with their streams open: those of the server's own container, or
//! those
//! of this host where the server is outside of compose.
//!
//! The password goes by environment, never by argument, and is masked in what they say; the name of
//! a database goes inside a quoted connection string, since a bare one may be read as more than a
//! name. Each has an `application_name` like our own sessions, so that recovery ends it, too.

use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use cutover_model::OperationId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;

use crate::host::postgres::connect::{Located, Reach, Server};
use crate::host::postgres::error::DbError;
use crate::host::postgres::names::DbName;
use crate::host::process::{self, Spec, remedy, tail};
use crate::host::redact::Secrets;

/// How much is moved at a time.
pub(in crate::host::postgres) const CHUNK: usize = 128 * 1024;
/// How much of what a tool says about errors is kept.
const KEEP: u64 = 64 * 1024;

/// The first major version whose `pg_restore` begins with a setting that servers before refuse.
pub(in crate::host::postgres) const SETS_MORE: i32 = 17;

const TOO_NEW: &str = "pg_restore here is of a later version than the server, which refuses its \
                       settings; install the client tools of the server's version";

/// A tool that runs. Dropping it leaves the tool to its broken pipes.
pub(in crate::host::postgres) struct Running {
    program: &'static str,
    pub(in crate::host::postgres) stdin: Pin<Box<dyn AsyncWrite + Send>>,
    pub(in crate::host::postgres) stdout: Pin<Box<dyn AsyncRead + Send>>,
    ended: JoinHandle<Result<(i64, String), DbError>>,
    secrets: Secrets,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ended.abort();
    }
}

/// Starts a tool. `args`: without any that names a database.
pub(in crate::host::postgres) async fn start(
    server: &Server,
    operation: OperationId,
    program: &'static str,
    args: &[String],
) -> Result<Running, DbError> {
    let located = server.locate().await?;
    let env = environment(server, &located, operation);
    let mut command = vec![program.to_owned()];
    command.extend(args.iter().cloned());
    match (&located.container, &server.reach) {
        (Some(container), Reach::Service { docker, .. }) => {
            let running = docker.exec_streamed(container, &command, &env).await?;
            let inner = running.ended;
            let ended = tokio::spawn(async move {
                match inner.await {
                    Ok(ended) => ended.map_err(DbError::from),
                    Err(_) => Err(lost(program)),
                }
            });
            let (stdin, stdout) = (running.stdin, Box::pin(running.stdout));
            Ok(Running { program, stdin, stdout, ended, secrets: server.secrets() })
        }
        _ => on_this_host(server, program, args, &env),
    }
}

fn environment(
    server: &Server,
    located: &Located,
    operation: OperationId,
) -> Vec<(String, String)> {
    let mut env = vec![
        ("PGHOST".to_owned(), located.host.clone()),
        ("PGPORT".to_owned(), located.port.to_string()),
        ("PGUSER".to_owned(), server.user.clone()),
        ("PGAPPNAME".to_owned(), server.installation.session_name(operation)),
        ("PGCONNECT_TIMEOUT".to_owned(), "10".to_owned()),
        // Neither a file of the image nor one of this host decides who we are.
        ("PGPASSFILE".to_owned(), "/dev/null".to_owned()),
        ("LC_MESSAGES".to_owned(), "C".to_owned()),
    ];
    env.extend(server.tls.environment(located.container.is_some()));
    if let Some(password) = &server.password {
        env.push(("PGPASSWORD".to_owned(), password.expose().to_owned()));
    }
    env
}

fn on_this_host(
    server: &Server,
    program: &'static str,
    args: &[String],
    env: &[(String, String)],
) -> Result<Running, DbError> {
    let mut command = tokio::process::Command::new(program);
    command.args(args).envs(env.iter().cloned()).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| DbError::Preflight {
        what: match error.kind() {
            std::io::ErrorKind::NotFound => format!(
                "this host has no {program}, which a server outside of compose needs; install \
                 Debian's postgresql-client in the server's version"
            ),
            _ => format!("this host cannot run {program} ({error}): {}", remedy(&error)),
        },
    })?;
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(lost(program));
    };
    let ended = tokio::spawn(async move {
        let mut said = Vec::new();
        let mut stderr = stderr.take(KEEP);
        let (read, status) = tokio::join!(stderr.read_to_end(&mut said), child.wait());
        read.and(status.map(|status| i64::from(status.code().unwrap_or(-1))))
            .map(|code| (code, String::from_utf8_lossy(&said).into_owned()))
            .map_err(|error| {
                DbError::Process(process::ProcessError::Read { program: program.to_owned(), error })
            })
    });
    let (stdin, stdout) = (Box::pin(stdin), Box::pin(stdout));
    Ok(Running { program, stdin, stdout, ended, secrets: server.secrets() })
}

fn lost(program: &str) -> DbError {
    DbError::Tool { tool: program.to_owned(), code: -1, tail: "it was lost".to_owned() }
}

impl Running {
    /// Tells the tool that nothing more comes.
    pub(in crate::host::postgres) async fn close_input(&mut self) {
        // One that has ended already cannot be told; its end says why.
        if let Err(error) = self.stdin.shutdown().await {
            tracing::debug!(%error, program = self.program, "its input was closed already");
        }
    }

    /// Feeds it; `false`: it takes no more, its end says why.
    pub(in crate::host::postgres) async fn feed(&mut self, bytes: &[u8]) -> bool {
        self.stdin.write_all(bytes).await.is_ok()
    }

    /// Waits for its end; anything but exit code 0 is an error.
    pub(in crate::host::postgres) async fn end(&mut self) -> Result<(), DbError> {
        let ended = match (&mut self.ended).await {
            Ok(ended) => ended,
            Err(_) => Err(lost(self.program)),
        };
        match ended? {
            (0, _) => Ok(()),
            (_, said)
                if self.program == "pg_restore"
                    && said.contains("parameter \"transaction_timeout\"") =>
            {
                Err(DbError::Preflight { what: TOO_NEW.to_owned() })
            }
            (code, said) => Err(DbError::Tool {
                tool: self.program.to_owned(),
                code,
                tail: tail(&self.secrets.mask(&said), 3),
            }),
        }
    }

    /// Reads all that it prints while nothing is fed, up to `most` bytes; the rest is passed over.
    pub(in crate::host::postgres) async fn output(
        &mut self,
        most: usize,
    ) -> Result<String, DbError> {
        let (mut kept, mut buffer) = (Vec::new(), vec![0; CHUNK]);
        loop {
            let count = match self.stdout.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            let room = most.saturating_sub(kept.len()).min(count);
            kept.extend_from_slice(&buffer[..room]);
        }
        Ok(String::from_utf8_lossy(&kept).into_owned())
    }
}

/// A connection string with nothing but the name of a database.
pub(in crate::host::postgres) fn dbname(name: &DbName) -> String {
    let quoted = name.as_str().replace('\\', "\\\\").replace('\'', "\\'");
    format!("dbname='{quoted}'")
}

/// The major version of the tools: that of the container's, or of this host's.
pub(in crate::host::postgres) async fn tools_major(server: &Server) -> Result<i32, DbError> {
    let limit = Duration::from_secs(20);
    let said = match (&server.reach, server.locate().await?.container) {
        (Reach::Service { docker, .. }, Some(container)) => {
            docker.exec(&container, &["pg_dump", "--version"], &[], limit).await?.stdout
        }
        _ => {
            let out = process::run(Spec::new("pg_dump", limit).arg("--version")).await?;
            String::from_utf8_lossy(&out.stdout).into_owned()
        }
    };
    let number = said.split_whitespace().find_map(|word| {
        word.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok())
    });
    number.ok_or_else(|| DbError::Tool {
        tool: "pg_dump --version".to_owned(),
        code: 0,
        tail: process::escape(said.trim()),
    })
}
