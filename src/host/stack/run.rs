//! One command in a container of its own: a migration, run once before a color starts.
//!
//! The container has a name of ours, so that it can be ended and removed when the limit passes or
//! when an earlier try was killed half-way; ending compose alone would leave it running.

use std::time::Duration;

use cutover_model::ServiceName;
use tokio::sync::mpsc;

use super::StackError;
use crate::host::compose::{Compose, ComposeError, Generated};
use crate::host::docker::{Container, Docker};
use crate::host::process::{ProcessError, Spec};

/// What runs in a container of its own.
#[derive(Debug, Clone, Copy)]
pub struct Once<'a> {
    /// The service whose image it is.
    pub service: &'a ServiceName,
    /// The words of the command; none: the service's own.
    pub command: &'a [String],
    /// Variables instead of those of the file.
    pub env: &'a [(String, String)],
    /// How long it may take.
    pub limit: Duration,
}

impl Once<'_> {
    /// The end of a call of compose. Values go by environment: arguments can be read by everybody.
    pub(in crate::host) fn of(&self, mut spec: Spec) -> Spec {
        for (name, value) in self.env {
            spec = spec.args(["-e", name.as_str()]).env(name, value);
        }
        spec.arg(self.service.as_str()).args(self.command)
    }
}

/// How a command in a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOutput {
    /// Its exit code.
    pub code: i32,
    /// The last lines that it printed, escaped; mask secrets before showing them.
    pub tail: Vec<String>,
}

/// Runs a command once in a container of a service's image, on the color's networks, and removes
/// the container. A container that an earlier, killed try left is removed first.
///
/// # Errors
/// [`StackError`] when it could not run or took too long; an exit code other than 0 is not an
/// error here.
pub async fn run_once(
    docker: &Docker,
    compose: &Compose,
    generated: &Generated,
    once: &Once<'_>,
    progress: Option<mpsc::Sender<String>>,
) -> Result<RunOutput, StackError> {
    let name = self::once(&generated.project, once.service);
    remove_named(docker, &name).await?;
    let result = compose.run(generated, &name, once, progress).await;
    match result {
        Ok(output) => Ok(output),
        Err(error @ ComposeError::Process(ProcessError::Limit { .. })) => {
            remove_named(docker, &name).await?;
            Err(error.into())
        }
        Err(error) => {
            // Compose may have started it before it failed; the first reason is the one to tell.
            if let Err(left) = remove_named(docker, &name).await {
                tracing::warn!(%left, %name, "a container may run on");
            }
            Err(error.into())
        }
    }
}

/// Removes what a killed [`run_once`] left running; nothing there is success.
///
/// # Errors
/// [`StackError`] when Docker does not do it.
pub async fn end_once(
    docker: &Docker,
    project: &str,
    service: &ServiceName,
) -> Result<(), StackError> {
    remove_named(docker, &once(project, service)).await
}

fn once(project: &str, service: &ServiceName) -> String {
    format!("{project}-{service}-once")
}

/// Starts a service once more, beside the one that runs; an earlier one of ours is removed first.
/// The caller ends it by [`end_beside`].
///
/// # Errors
/// [`StackError`] when it could not be started.
pub async fn start_beside(
    docker: &Docker,
    compose: &Compose,
    generated: &Generated,
    once: &Once<'_>,
) -> Result<Container, StackError> {
    let name = beside(&generated.project, once.service);
    remove_named(docker, &name).await?;
    compose.run_beside(generated, &name, once).await?;
    Ok(docker.container(&name).await?)
}

/// Removes what [`start_beside`] started in a project; nothing there is success.
///
/// # Errors
/// [`StackError`] when Docker does not do it.
pub async fn end_beside(
    docker: &Docker,
    project: &str,
    service: &ServiceName,
) -> Result<(), StackError> {
    remove_named(docker, &beside(project, service)).await
}

fn beside(project: &str, service: &ServiceName) -> String {
    format!("{project}-{service}-beside")
}

async fn remove_named(docker: &Docker, name: &str) -> Result<(), StackError> {
    match docker.container(name).await {
        Ok(container) => Ok(docker.remove(&container).await?),
        Err(error) if error.is_missing() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A command line as a shell splits it: spaces, quotes, backslashes; no variables, no globs.
/// `None`: a quote is not closed, or there is no word.
#[must_use]
pub fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('"') | None, '\\') => word.get_or_insert_default().push(chars.next()?),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (quote.is_none() && !words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_as_a_shell_does() {
        let split = |line: &str| words(line).map(|words| words.join("|"));
        assert_eq!(
            split("npx prisma  migrate deploy").as_deref(),
            Some("npx|prisma|migrate|deploy")
        );
        assert_eq!(
            split(r#"sh -c "a 'b' \"c\"" '' d\ e"#).as_deref(),
            Some(r#"sh|-c|a 'b' "c"||d e"#)
        );
        assert_eq!(split("'open"), None);
        assert_eq!(split("  "), None);
    }
}
