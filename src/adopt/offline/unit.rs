//! What systemd says of the daemon's unit, for a command that got no answer.
//!
//! Asked within a short time and for words only: where systemd is not in charge, does not know the
//! unit or does not answer, nothing is said.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::start::UNIT;

/// How long systemd may take: somebody waits for the ways on.
const LIMIT: Duration = Duration::from_secs(1);

/// `cutover.service: failed, 03:06:58`, when systemd runs here and knows the unit.
pub async fn state() -> Option<String> {
    if !Path::new("/run/systemd/system").exists() {
        return None;
    }
    ask("systemctl", LIMIT).await
}

async fn ask(program: impl AsRef<std::ffi::OsStr>, limit: Duration) -> Option<String> {
    let asked = Command::new(program)
        .args(["show", UNIT, "--timestamp=unix"])
        .args(["--property=LoadState,ActiveState,SubState,StateChangeTimestamp"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(limit, asked).await.ok()?.ok()?;
    read(&String::from_utf8_lossy(&output.stdout))
}

fn read(text: &str) -> Option<String> {
    let value = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::trim)
    };
    if value("LoadState")? != "loaded" {
        return None;
    }
    let state = match (value("ActiveState")?, value("SubState")) {
        ("activating", Some("auto-restart")) => "is being restarted",
        (state, _) => state,
    };
    let seconds = value("StateChangeTimestamp").and_then(|at| at.strip_prefix('@')?.parse().ok());
    let since = seconds.map_or_else(String::new, |seconds: i64| {
        format!(", {}", crate::text::clock(seconds.saturating_mul(1_000)))
    });
    Some(format!("{UNIT}: {state}{since}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_state_stands_with_its_time() {
        let text = "LoadState=loaded\nActiveState=failed\nSubState=failed\n\
                    StateChangeTimestamp=@1732676818\n";
        let clock = crate::text::clock(1_732_676_818_000);
        assert_eq!(read(text), Some(format!("cutover.service: failed, {clock}")));
        let never = "LoadState=loaded\nActiveState=inactive\nSubState=dead\n\
                     StateChangeTimestamp=\n";
        assert_eq!(read(never).as_deref(), Some("cutover.service: inactive"));
        assert_eq!(read("LoadState=not-found\nActiveState=inactive\n"), None);
        assert_eq!(read(""), None);
    }

    #[tokio::test]
    async fn a_systemd_that_does_not_answer_is_not_waited_for() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("systemctl");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 600\n").expect("a program");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("its rights");
        let began = std::time::Instant::now();
        assert_eq!(ask(&program, Duration::from_millis(50)).await, None);
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
