//! What a running command has at hand: the options that all understand, the daemon, the output.

mod socket;

use std::sync::{Mutex, PoisonError};

use super::Global;
use super::failure::CliError;
use super::output::Output;
use super::show::Clock;
use crate::client::Client;
use crate::daemon::inherit::Inherited;

/// See the module.
#[derive(Debug)]
pub struct Session {
    /// Listening sockets that were handed to this process, until `serve` takes them.
    inherited: Mutex<Option<std::io::Result<Vec<Inherited>>>>,
    /// The options that all commands understand.
    pub global: Global,
    /// Prints.
    pub out: Output,
    pub(super) clock: Clock,
}

impl Session {
    /// For one command.
    #[must_use]
    pub fn new(global: Global, out: Output, inherited: std::io::Result<Vec<Inherited>>) -> Self {
        Self { inherited: Mutex::new(Some(inherited)), global, out, clock: Clock::local() }
    }

    /// The sockets that were handed to this process; nothing when they were taken before.
    ///
    /// # Errors
    /// When the environment promises descriptors that are not there.
    pub fn inherited(&self) -> std::io::Result<Vec<Inherited>> {
        let mut held = self.inherited.lock().unwrap_or_else(PoisonError::into_inner);
        held.take().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// The daemon; says which one it is when it is not the default one.
    ///
    /// # Errors
    /// When the file that names its socket is wrong.
    pub fn daemon(&self) -> Result<Client, CliError> {
        let found = socket::find(&self.global)?;
        if let Some(by) = &found.by {
            self.out.talk(&format!("(daemon at {}, {by})", found.socket.display()));
        }
        Ok(Client::new(found.socket))
    }

    /// The path of something of the app that was named, or of the only one.
    #[must_use]
    pub fn path(&self, rest: &str) -> String {
        format!("/v1/apps/{}/{rest}", self.global.app.as_deref().unwrap_or("-"))
    }
}
