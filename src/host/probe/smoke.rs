//! Smoke probes: what has to work on a color, in the operator's own words.
//!
//! A request goes the way that a client's would, to the address that a color has for itself; a
//! command runs on this host, in the folder of the operator's file, as a group that ends with its
//! time limit. No shell is run, and nothing is judged here but this one probe.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::{ProbeError, ProbeSpec, probe_once};
use crate::host::process::{self, Spec};

/// How many lines of a command's output a failure shows.
const LINES: usize = 3;

/// One smoke probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smoke {
    /// Its name in messages.
    pub name: String,
    /// What is done.
    pub kind: SmokeKind,
    /// How long it may take.
    pub timeout: Duration,
}

/// What a smoke probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmokeKind {
    /// A GET.
    Http {
        /// Path and query.
        path: String,
        /// The host to ask for; `None`: that of the readiness probe.
        host: Option<String>,
        /// The statuses that pass.
        expect: Vec<RangeInclusive<u16>>,
        /// A text that the answer's body has to hold.
        body: Option<String>,
    },
    /// A command; exit code 0 passes.
    Command {
        /// Its words.
        words: Vec<String>,
        /// Where it runs.
        folder: PathBuf,
    },
}

/// The color that is asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its own address at the proxy.
    pub address: SocketAddr,
    /// The host that its readiness probe asks for.
    pub host: Option<String>,
}

/// Runs one probe, once.
///
/// # Errors
/// Why it did not pass, in a few words; what a command printed is not masked.
pub async fn run(smoke: &Smoke, asked: &Asked) -> Result<(), String> {
    match &smoke.kind {
        SmokeKind::Http { path, host, expect, body } => {
            let host = host.clone().or_else(|| asked.host.clone());
            let spec = ProbeSpec {
                address: asked.address,
                host: host.unwrap_or_else(|| "localhost".to_owned()),
                path: path.clone(),
                headers: Vec::new(),
                expect: expect.clone(),
                body: body.clone(),
                passes: 1,
                attempts: 1,
                interval: Duration::ZERO,
                timeout: smoke.timeout,
            };
            match probe_once(&spec).await {
                Ok(_) => Ok(()),
                Err(ProbeError::Failed { path, reason, .. }) => Err(format!("{path}: {reason}")),
                Err(ProbeError::Malformed { reason }) => {
                    Err(format!("the request cannot be made: {reason}"))
                }
            }
        }
        SmokeKind::Command { words, folder } => command(smoke, words, folder, asked).await,
    }
}

async fn command(
    smoke: &Smoke,
    words: &[String],
    folder: &PathBuf,
    asked: &Asked,
) -> Result<(), String> {
    let Some((program, arguments)) = words.split_first() else {
        return Err("the command is empty".to_owned());
    };
    // A path with a slash is looked up from the folder that the command runs in.
    let program = match program.contains('/') {
        true => folder.join(program).into_os_string(),
        false => program.into(),
    };
    let spec = Spec::new(program, smoke.timeout)
        .args(arguments)
        .folder(folder)
        .env("CUTOVER_URL", format!("http://{}", asked.address))
        .env("CUTOVER_HOST", asked.host.as_deref().unwrap_or("localhost"));
    let out = process::run(spec).await.map_err(|error| error.to_string())?;
    if out.status.success() {
        return Ok(());
    }
    let ended = match out.status.code() {
        Some(code) => format!("exit {code}"),
        None => "ended by a signal".to_owned(),
    };
    let said = match process::tail(&out.stderr, LINES) {
        nothing if nothing.is_empty() => {
            process::tail(&String::from_utf8_lossy(&out.stdout), LINES)
        }
        said => said,
    };
    Err(if said.is_empty() { ended } else { format!("{ended}: {said}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        Asked { address: SocketAddr::from(([127, 0, 0, 1], 4711)), host: Some("shop".into()) }
    }

    fn shell(script: &str) -> Smoke {
        let words = ["sh", "-c", script].map(str::to_owned).to_vec();
        let kind = SmokeKind::Command { words, folder: std::env::temp_dir() };
        Smoke { name: "buy".to_owned(), kind, timeout: Duration::from_secs(10) }
    }

    #[tokio::test]
    async fn a_command_knows_the_color_and_its_exit_code_counts() {
        let script = "test \"$CUTOVER_URL\" = http://127.0.0.1:4711";
        assert_eq!(run(&shell(script), &asked()).await, Ok(()));
        let failed = run(&shell("echo out; echo no stock >&2; exit 3"), &asked()).await;
        assert_eq!(failed, Err("exit 3: no stock".to_owned()));
        assert_eq!(run(&shell("echo out; false"), &asked()).await, Err("exit 1: out".to_owned()));
    }

    #[tokio::test]
    async fn a_command_that_hangs_fails_in_time() {
        let smoke = Smoke { timeout: Duration::from_millis(200), ..shell("sleep 300") };
        let error = run(&smoke, &asked()).await.expect_err("too long");
        assert!(error.contains("took longer than 200ms"), "{error}");
    }
}
