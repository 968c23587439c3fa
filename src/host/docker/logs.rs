//! The last lines that a container printed.
//!
//! Control bytes are written out, so that a log line cannot forge another one or drive a terminal;
//! callers mask secrets with `redact` before a line leaves the host.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::{Stream, StreamExt};

use super::{ASK, Container, Docker, DockerError, translate, within};
use crate::host::process::escape;

/// The longest line that is kept.
const LINE: usize = 4_000;
/// The most lines that one call gives.
const MOST: usize = 10_000;

/// One line of a container's log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LogLine {
    /// When it was printed, RFC 3339 with nanoseconds; empty when the engine keeps no times.
    pub time: String,
    /// Which output it came from.
    pub source: Source,
    /// The text, control bytes written out.
    pub text: String,
}

/// The output of a container that a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Docker {
    /// The last `count` lines of a container, then every line that it prints, until it ends; an
    /// error ends the stream. It waits as long as its caller does.
    pub fn log_follow(
        &self,
        container: &Container,
        count: usize,
    ) -> impl Stream<Item = Result<LogLine, DockerError>> + Send + use<> {
        let options = LogsOptionsBuilder::default()
            .follow(true)
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .tail(&count.min(MOST).to_string())
            .build();
        let what = format!("following the log of {}", container.name);
        let stream = self.client.logs(&container.id, Some(options));
        stream.map(move |piece| piece.map(line).map_err(|error| translate(&what, error)))
    }

    /// The last `count` lines of a container, oldest first, by time.
    ///
    /// # Errors
    /// [`DockerError`], also when the container's log driver cannot be read from.
    pub async fn log_tail(
        &self,
        container: &Container,
        count: usize,
    ) -> Result<Vec<LogLine>, DockerError> {
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .tail(&count.min(MOST).to_string())
            .build();
        let stream = self.client.logs(&container.id, Some(options)).take(count.min(MOST));
        let collect = async {
            let mut lines = Vec::new();
            let mut stream = std::pin::pin!(stream);
            while let Some(piece) = stream.next().await {
                lines.push(line(piece?));
            }
            Ok(lines)
        };
        let what = format!("reading the log of {}", container.name);
        let mut lines = within(ASK + Duration::from_secs(5), what, collect).await?;
        lines.sort_by(|a: &LogLine, b| a.time.cmp(&b.time));
        Ok(lines)
    }
}

fn line(piece: LogOutput) -> LogLine {
    let source = match piece {
        LogOutput::StdErr { .. } => Source::Stderr,
        _ => Source::Stdout,
    };
    let bytes = piece.into_bytes();
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LINE)]).into_owned();
    let text = text.trim_end_matches(['\n', '\r']);
    let (time, text) = match text.split_once(' ') {
        Some((time, rest)) if time.len() >= 20 && time.contains('T') => (time, rest),
        _ if text.len() >= 20 && text.ends_with('Z') && text.contains('T') => (text, ""),
        _ => ("", text),
    };
    LogLine { time: time.to_owned(), source, text: escape(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_time_apart_and_cannot_drive_a_terminal() {
        let message = bytes::Bytes::from_static(b"2026-11-22T12:00:00.000000001Z a\x1b[2Jb\rc\n");
        let line = line(LogOutput::StdErr { message });
        assert_eq!(line.time, "2026-11-22T12:00:00.000000001Z");
        assert_eq!(line.text, "a\\u{1b}[2Jb\\rc");
        assert_eq!(line.source, Source::Stderr);
    }
}
