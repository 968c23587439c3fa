//! `age`: encrypting an archive to a public key, and reading one back with the private key.
//!
//! The program of that name does it, one process for a file, never through a shell. A decrypted
//! archive goes through a pipe and is never written.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::host::process::{self, Spec, tail};

/// How much of what it says about errors is kept.
const KEEP: u64 = 16 * 1024;

/// How long it may take to say its version.
const ASKED: Duration = Duration::from_secs(10);

/// Why `age` cannot be run on this host; `None`: it can.
pub async fn missing() -> Option<String> {
    missing_as("age").await
}

async fn missing_as(program: &str) -> Option<String> {
    let asked = process::run(Spec::new(program, ASKED).args(["--version"])).await;
    asked.err().map(|error| error.to_string())
}

/// Replaces a file by its encrypted form.
///
/// # Errors
/// Why not, in a sentence; the file is then as it was.
pub async fn encrypt(path: &Path, recipient: &str, limit: Duration) -> Result<(), String> {
    let encrypted = path.with_extension("age");
    let spec = Spec::new("age", limit)
        .args(["--encrypt", "--recipient", recipient, "--output"])
        .arg(&encrypted)
        .arg(path);
    let out = process::run(spec).await.map_err(|error| {
        format!("the backup cannot be encrypted: {error}. Install Debian's age")
    })?;
    if !out.status.success() {
        let said = tail(&out.stderr, 3);
        return Err(format!("age refused to encrypt the backup: {said}"));
    }
    let replaced = std::fs::File::open(&encrypted)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(&encrypted, path));
    replaced.map_err(|error| format!("{}: {error}", path.display()))
}

/// An archive that is being decrypted.
#[derive(Debug)]
pub struct Decrypting {
    child: Child,
    /// The archive.
    pub plain: ChildStdout,
    said: JoinHandle<String>,
}

impl Decrypting {
    /// Begins to decrypt a file.
    ///
    /// # Errors
    /// When this host has no `age`.
    pub fn start(path: &Path, identity: &Path) -> Result<Self, String> {
        let mut command = Command::new("age");
        command.args(["--decrypt", "--identity"]).arg(identity).arg(path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            format!("this host cannot run age ({error}), which the backup is encrypted with")
        })?;
        let (Some(plain), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("age was lost".to_owned());
        };
        let said = tokio::spawn(async move {
            let mut said = Vec::new();
            drop(stderr.take(KEEP).read_to_end(&mut said).await);
            String::from_utf8_lossy(&said).into_owned()
        });
        Ok(Self { child, plain, said })
    }

    /// After the last byte: whether it was the whole archive.
    ///
    /// # Errors
    /// Age's words: a wrong key, or a file that is damaged.
    pub async fn end(mut self) -> Result<(), String> {
        let status = self.child.wait().await.map_err(|error| format!("age was lost: {error}"))?;
        if status.success() {
            return Ok(());
        }
        let said = self.said.await.unwrap_or_default();
        Err(format!("age cannot decrypt it: {}", tail(&said, 2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_is_missing_is_known_before_it_is_needed() {
        assert_eq!(missing_as("true").await, None);
        let why = missing_as("cutover-age-that-is-nowhere").await.expect("it is missing");
        assert!(why.contains("cutover-age-that-is-nowhere"), "{why}");
    }
}
