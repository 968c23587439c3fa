//! One command in a container of its own: a migration, run once before a color starts.
//!
//! The container has a name of ours, so that it can be ended and removed when the limit passes or
//! when an earlier try was killed half-way; ending compose alone would leave it running.

use std::time::Duration;

use cutover_model::ServiceName;
use tokio::sync::mpsc;

use super::StackError;
use crate::host::compose::{Compose, ComposeError, Generated};
use crate::host::docker::Docker;
use crate::host::process::ProcessError;

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
    service: &ServiceName,
    command: &[String],
    limit: Duration,
    progress: Option<mpsc::Sender<String>>,
) -> Result<RunOutput, StackError> {
    let name = format!("{}-{service}-once", generated.project);
    remove_named(docker, &name).await?;
    let result = compose.run(generated, service.as_str(), &name, command, limit, progress).await;
    match result {
        Ok(output) => Ok(output),
        Err(error @ ComposeError::Process(ProcessError::Limit { .. })) => {
            remove_named(docker, &name).await?;
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
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
