//! Keeping a release from writing: its containers are stopped, or paused where seconds count.
//!
//! Both colors' connection strings lead to the restored data, and workers never pass the proxy.

use std::time::Instant;

use super::{Database, Trouble};
use crate::host::docker::{Container, Docker, DockerError, Filter, State};
use crate::reconciler::perform;
use crate::text;

impl Database {
    async fn containers(&self, project: &str) -> Result<(Docker, Vec<Container>), Trouble> {
        let Some(stack) = &self.stack else {
            let why = "what runs on fixed endpoints cannot be stopped from here";
            return Err(Trouble::Refused(why.to_owned()));
        };
        let docker = perform::docker(stack).await.map_err(Trouble::Away)?;
        let found = docker.containers(&Filter::project(project)).await;
        let mut found = found.map_err(|error| Trouble::Away(error.to_string()))?;
        // An adopted release lies in the operator's own project, beside what both colors share.
        let shared = |container: &Container| {
            stack.shared.iter().any(|shared| container.service() == Some(shared.as_str()))
        };
        found.retain(|container| !shared(container));
        Ok((docker, found))
    }

    /// Stops every container of a project that runs; stopped ones are left. What was done, in
    /// words.
    ///
    /// # Errors
    /// [`Trouble::Away`] when Docker does not answer or does not do it.
    pub async fn stop(&self, project: &str) -> Result<String, Trouble> {
        let started = Instant::now();
        let (docker, containers) = self.containers(project).await?;
        let running: Vec<&Container> = containers.iter().filter(|c| c.is_running()).collect();
        all(running.iter().map(|container| docker.stop(container, None))).await?;
        let count = text::number_of(running.len(), "container");
        Ok(format!("{project} stopped, {count}, {}", text::duration(started.elapsed())))
    }

    /// How many containers of a project run.
    ///
    /// # Errors
    /// [`Trouble::Away`] when Docker does not answer.
    pub async fn running(&self, project: &str) -> Result<usize, Trouble> {
        let (_, containers) = self.containers(project).await?;
        Ok(containers.iter().filter(|container| container.is_running()).count())
    }

    /// Pauses every container of a project that runs: milliseconds, and nothing of it runs any
    /// more. How many there were.
    ///
    /// # Errors
    /// [`Trouble::Away`]; some of them may be paused then.
    pub async fn pause(&self, project: &str) -> Result<usize, Trouble> {
        let (docker, containers) = self.containers(project).await?;
        let running: Vec<&Container> = containers.iter().filter(|c| c.is_running()).collect();
        all(running.iter().map(|container| docker.pause(container))).await?;
        Ok(running.len())
    }

    /// Lets paused containers go on; none is paused is success.
    ///
    /// # Errors
    /// [`Trouble::Away`].
    pub async fn unpause(&self, project: &str) -> Result<(), Trouble> {
        let (docker, containers) = self.containers(project).await?;
        let paused = containers.iter().filter(|container| container.state == State::Paused);
        all(paused.map(|container| docker.unpause(container))).await
    }

    /// Ends every container of a project at once, paused ones without a further instruction.
    ///
    /// # Errors
    /// [`Trouble::Away`].
    pub async fn kill(&self, project: &str) -> Result<(), Trouble> {
        let (docker, containers) = self.containers(project).await?;
        all(containers.iter().map(|container| docker.kill(container))).await
    }
}

/// All at once: each may take its whole grace time.
async fn all(
    calls: impl Iterator<Item = impl Future<Output = Result<(), DockerError>>>,
) -> Result<(), Trouble> {
    for done in futures_util::future::join_all(calls).await {
        done.map_err(|error| Trouble::Away(error.to_string()))?;
    }
    Ok(())
}
