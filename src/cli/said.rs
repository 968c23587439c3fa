//! What a command has to say, and its exit code. Commands make this; only `main` prints it.

/// The end of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Standard output: data.
    pub out: String,
    /// Standard error: talk.
    pub err: String,
    /// The exit code.
    pub exit: u8,
}
