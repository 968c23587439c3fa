//! Ending a container at once, where its own grace time is too long; a frozen one does not run
//! again.

use bollard::query_parameters::KillContainerOptionsBuilder;

use super::containers::{Container, State};
use super::{CHANGE, Docker, DockerError, within};

impl Docker {
    /// Ends a container by SIGKILL; a frozen one gets no instruction more. It does not come back by
    /// its restart policy. One that does not run, or is gone, is success.
    ///
    /// # Errors
    /// [`DockerError`] when it may still run.
    pub async fn kill(&self, container: &Container) -> Result<(), DockerError> {
        self.keep_stopped(container).await?;
        let what = format!("ending {}", container.name);
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let call = self.client.kill_container(&container.id, Some(options));
        match within(CHANGE, what, call).await {
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => match self.container(&container.id).await {
                Ok(now) if !matches!(now.state, State::Running | State::Paused) => Ok(()),
                _ => Err(error),
            },
            Ok(()) => Ok(()),
        }
    }
}
