//! Why a command did not do what it was asked: few kinds, ways on, an exit code.

use cutover_model::Way;
use serde::Serialize;

use super::exit::Exit;
use crate::adopt::offline::unit;
use crate::api::wire::ProblemKind;
use crate::client::ClientError;

/// A command's failure.
#[derive(Debug)]
pub struct CliError {
    /// What is wrong, in the operator's words, without the program's name.
    pub message: String,
    /// The ways on.
    pub ways: Vec<Way>,
    /// The exit code.
    pub exit: Exit,
    /// What kind of failure it is, where that leads on.
    pub(super) kind: Kind,
}

/// Failures that something else can be made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is what it is.
    #[default]
    Plain,
    /// Nobody answers: systemd may know more.
    Silence,
    /// Refused, because rows would be lost and nobody has accepted that.
    AsksLoss,
}

/// The end of every text about a command that changed nothing.
const UNCHANGED: &str = ". NOTHING WAS CHANGED.";

/// The same where traffic went back before the data was refused.
pub(super) const ONLY_DATA: &str =
    "The database is as it was; traffic went back before, and stays there.";

/// The failure as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct FailureLine<'a> {
    schema: &'static str,
    message: &'a str,
    ways: &'a [Way],
    exit: u8,
}

impl CliError {
    /// A failure without ways on.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { message: message.into(), ways: Vec::new(), exit, kind: Kind::Plain }
    }

    /// Nobody answers any more, in the middle of something.
    pub(super) fn silent(message: impl Into<String>) -> Self {
        Self { kind: Kind::Silence, ..Self::new(Exit::NoDaemon, message) }
    }

    /// The same, with what systemd says of the daemon, where nobody answered.
    pub(super) async fn with_unit(mut self) -> Self {
        if self.kind == Kind::Silence
            && let Some(unit) = unit::state().await
        {
            self.tell_unit(&unit);
        }
        self
    }

    fn tell_unit(&mut self, unit: &str) {
        self.message = match self.message.strip_suffix(UNCHANGED) {
            Some(said) => format!("{said} ({unit}){UNCHANGED}"),
            None => format!("{} ({unit})", self.message),
        };
    }

    /// Adds a way on.
    #[must_use]
    pub fn way(mut self, command: impl Into<String>, what: impl Into<String>) -> Self {
        self.ways.push(Way { command: command.into(), what: what.into() });
        self
    }

    /// Traffic has moved before this came of the data: it is not said that nothing was changed.
    pub(super) fn only_data_unchanged(&mut self) {
        if let Some(said) = self.message.strip_suffix(UNCHANGED) {
            self.message = format!("{said}. {ONLY_DATA}");
        }
    }

    pub(super) fn line(&self) -> FailureLine<'_> {
        let (message, ways) = (self.message.as_str(), self.ways.as_slice());
        FailureLine { schema: "cutover.problem/1", message, ways, exit: self.exit.code() }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Problem(problem) => {
                let exit = Exit::from_code(problem.exit);
                let kind = match problem.kind {
                    ProblemKind::AsksLoss => Kind::AsksLoss,
                    _ => Kind::Plain,
                };
                Self { message, ways: problem.ways, exit, kind }
            }
            ClientError::NoDaemon { .. } => Self::silent(format!("{message}{UNCHANGED}"))
                .way("sudo systemctl restart cutover", "starts it; it serves as it did before")
                .way("cutover serve", "runs it in the foreground, where it says what is wrong"),
            ClientError::NotPermitted { .. } => Self::new(Exit::NotPermitted, message)
                .way("sudo cutover …", "as root, or join the group that owns the socket"),
            ClientError::TimedOut { .. } => Self::new(Exit::TimedOut, message),
            ClientError::Broken(_) => Self::new(Exit::Failed, message)
                .way("cutover status", "says what is: what was asked for may have been accepted"),
            ClientError::Strange(_) => Self::new(Exit::Failed, message),
        }
    }
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use cutover_model::OperationId;

    use super::super::follow::out_of_sight;
    use super::*;

    #[test]
    fn what_systemd_says_stands_before_what_was_not_changed() {
        let why = "nobody listens".to_owned();
        let socket = "/run/cutover/cutover.sock".into();
        let mut error = CliError::from(ClientError::NoDaemon { socket, why });
        assert_eq!(error.kind, Kind::Silence);
        error.tell_unit("cutover.service: failed, 03:06:58");
        assert_eq!(
            error.message,
            "no answer on its socket /run/cutover/cutover.sock: nobody listens \
             (cutover.service: failed, 03:06:58). NOTHING WAS CHANGED."
        );
    }

    #[test]
    fn what_was_accepted_does_not_say_that_nothing_was_changed() {
        let gone = || ClientError::NoDaemon {
            socket: "/run/cutover/cutover.sock".into(),
            why: "nobody listens".to_owned(),
        };
        for error in [gone(), ClientError::Broken("in the middle of a line".to_owned())] {
            let error = out_of_sight(OperationId(7), error);
            assert_eq!((error.exit, error.kind), (Exit::NoDaemon, Kind::Silence));
            assert!(error.message.contains("what became of o7 is not known"), "{error:?}");
            assert!(error.ways.iter().any(|way| way.command == "cutover wait o7"), "{error:?}");
            assert!(!error.message.contains("NOTHING"), "{error:?}");
        }
    }

    #[test]
    fn what_moved_traffic_does_not_say_that_nothing_was_changed() {
        let mut error = CliError::new(Exit::Refused, "5 rows would be lost. NOTHING WAS CHANGED.");
        error.only_data_unchanged();
        assert!(!error.message.contains("NOTHING"), "{}", error.message);
        assert!(error.message.ends_with("stays there."), "{}", error.message);
        error.tell_unit("cutover.service: failed");
        assert!(!error.message.contains("NOTHING"), "{}", error.message);
    }
}
