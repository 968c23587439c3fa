//! Why a container has ended, as far as the engine knows it: its exit code, a signal, the kernel.
//!
//! Pure. Who sent a signal the engine does not keep, so nobody is named. Whether it matters that
//! the container has ended is its reader's to say.

use crate::host::docker::{Container, State};
use crate::text;

/// A container of a color that does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its service.
    pub service: String,
    /// Its exit code.
    pub code: i64,
    /// Who it is, how it ended and when, in words.
    pub told: String,
}

impl Ended {
    /// `None`: it runs, or has never run.
    pub(super) fn of(container: &Container) -> Option<Self> {
        let is_over = matches!(container.state, State::Exited | State::Dead | State::Restarting);
        let service = container.service().filter(|_| is_over)?.to_owned();
        if container.started_at.starts_with("0001") {
            return None;
        }
        let (name, code) = (&container.name, container.exit_code);
        let at = container.finished_at.parse::<jiff::Timestamp>().ok();
        let at =
            at.map_or_else(String::new, |at| format!(" at {}", text::day(at.as_millisecond())));
        let again = match container.state {
            State::Restarting => "; Docker starts it again",
            _ => "",
        };
        let why = why(code, container.oom_killed);
        let told = format!("{service} ({name}) exited with code {code} ({why}){at}{again}");
        Some(Self { service, code, told })
    }
}

/// What an exit code says. From 128 on it is a signal's, by the convention of shells and of Docker.
fn why(code: i64, oom: bool) -> String {
    match (code, oom) {
        (_, true) => "out of memory, the kernel ended it".to_owned(),
        (0, _) => "it ended by itself, or as it was told to".to_owned(),
        (125..=127, _) => "its command could not be run".to_owned(),
        (130, _) => "SIGINT: somebody interrupted it".to_owned(),
        (134, _) => "SIGABRT: it gave itself up".to_owned(),
        (137, _) => "SIGKILL: docker kill, a docker stop past its time, or the host".to_owned(),
        (139, _) => "SIGSEGV: a crash of the program".to_owned(),
        (143, _) => "SIGTERM: somebody stopped it".to_owned(),
        (129..=192, _) => format!("signal {}", code - 128),
        _ => "its own error".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_what_is_known_of_an_end_and_no_more() {
        assert!(why(137, true).starts_with("out of memory"));
        assert!(why(137, false).starts_with("SIGKILL"));
        assert!(why(143, false).starts_with("SIGTERM"));
        assert_eq!(why(159, false), "signal 31");
        assert_eq!(why(1, false), "its own error");
        assert!(why(0, false).contains("as it was told to"));
    }
}
