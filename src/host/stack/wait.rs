//! Waiting for one service of a stack: until it runs and is healthy, or until a job has ended.
//!
//! A container that ends, is unhealthy or is restarted too often ends the wait at once, with the
//! last lines of its log. Where a container stands is decided by a pure function.

use std::time::Duration;

use tokio::time::Instant;

use super::{Fault, StackError, Starter, observe, of_service};
use crate::host::compose::{ColoredStack, ComposeError, Kind, Start, WaitFor};
use crate::host::docker::{Container, Health, LogLine, State, label};

/// How often containers are looked at while one is waited for.
const LOOK: Duration = Duration::from_millis(250);
/// How many lines of a faulty container's log go with the error.
const LOG_LINES: usize = 20;

impl Starter<'_> {
    fn say(&self, line: String) {
        if let Some(progress) = &self.progress
            && progress.try_send(line).is_err()
        {
            tracing::trace!("a line of progress was lost: its reader is slow");
        }
    }

    /// Compose would keep another release's containers for this one's.
    pub(super) async fn refuse_others(&self, stack: &ColoredStack) -> Result<(), StackError> {
        let wanted = stack.release.to_string();
        for container in observe(self.docker, &stack.project).await? {
            let release = container.labels.get(label::RELEASE).cloned();
            if release.as_ref() != Some(&wanted) {
                let (container, release) = (container.name, release.unwrap_or_default());
                return Err(StackError::OtherRelease { container, release });
            }
        }
        Ok(())
    }

    /// Whether a job ended well already: a repeat of the same deploy does not run it again.
    pub(super) async fn job_done(&self, project: &str, start: &Start) -> Result<bool, StackError> {
        let containers = of_service(self.docker, project, start).await?;
        let ended = |c: &Container| {
            c.state == State::Exited && c.exit_code == 0 && !c.started_at.starts_with("0001")
        };
        Ok(!containers.is_empty() && containers.iter().all(ended))
    }

    /// Waits for what a service waits for: in particular that it is healthy.
    pub(super) async fn await_edges(&self, project: &str, start: &Start) -> Result<(), StackError> {
        for (on, wait) in &start.after {
            if *wait != WaitFor::Healthy {
                continue;
            }
            let on = Start { service: on.clone(), kind: Kind::Service, ..start.clone() };
            self.await_up(project, &on).await?;
        }
        Ok(())
    }

    /// Waits until a service's containers run and are healthy, or a job's have ended well.
    pub(super) async fn await_up(&self, project: &str, start: &Start) -> Result<(), StackError> {
        self.await_woken(project, start, &[]).await
    }

    /// The same where some were frozen: what their health checks said before that does not count.
    pub(super) async fn await_woken(
        &self,
        project: &str,
        start: &Start,
        frozen: &[Container],
    ) -> Result<(), StackError> {
        let began = Instant::now();
        let limit = if start.kind == Kind::Job { self.limits.job } else { self.limits.ready };
        loop {
            let containers = of_service(self.docker, project, start).await?;
            let mut pending = containers.is_empty().then(|| "it has no container".to_owned());
            for container in &containers {
                match progress_of(container, start.kind, self.limits.restarts) {
                    Progress::Up => {}
                    Progress::Failed(Fault::Unhealthy { .. }) if is_stale(container, frozen) => {
                        pending = Some("its health check has not been made again yet".to_owned());
                    }
                    Progress::Pending(why) => pending = Some(why),
                    Progress::Failed(fault) => {
                        return Err(self.fault(start, container, fault).await);
                    }
                }
            }
            let Some(why) = pending else {
                let word = if start.kind == Kind::Job { "done" } else { "up" };
                self.say(format!(
                    "{} {word}, {:.1} s",
                    start.service,
                    began.elapsed().as_secs_f64()
                ));
                return Ok(());
            };
            if began.elapsed() > limit {
                let fault = Fault::TooSlow { limit, why };
                return Err(match containers.first() {
                    Some(container) => self.fault(start, container, fault).await,
                    None => StackError::NoContainer {
                        service: start.service.clone(),
                        project: project.to_owned(),
                    },
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Watches containers that have no health check for a while: one that crashes at its start
    /// runs whenever somebody looks only once.
    pub(super) async fn await_steady(
        &self,
        project: &str,
        starts: &[&Start],
    ) -> Result<(), StackError> {
        let began = Instant::now();
        let (mut calm, mut seen) = (Instant::now(), None);
        loop {
            let mut now = Vec::new();
            let mut pending = None;
            for start in starts.iter().filter(|start| start.kind != Kind::Job) {
                for container in of_service(self.docker, project, start).await? {
                    match progress_of(&container, start.kind, self.limits.restarts) {
                        Progress::Up if container.health != Health::None => {}
                        Progress::Up => now.push((container.id, container.pid)),
                        Progress::Failed(fault) => {
                            return Err(self.fault(start, &container, fault).await);
                        }
                        Progress::Pending(why) => pending = Some((*start, container, why)),
                    }
                }
            }
            if now.is_empty() && pending.is_none() {
                return Ok(());
            }
            if pending.is_some() || seen.as_ref() != Some(&now) {
                (calm, seen) = (Instant::now(), Some(now));
            }
            if calm.elapsed() >= self.limits.steady {
                return Ok(());
            }
            if let Some((start, container, why)) = pending
                && began.elapsed() > self.limits.ready
            {
                let fault = Fault::TooSlow { limit: self.limits.ready, why };
                return Err(self.fault(start, &container, fault).await);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn fault(&self, start: &Start, container: &Container, fault: Fault) -> StackError {
        StackError::Faulty {
            service: start.service.clone(),
            container: container.name.clone(),
            fault,
            log: self.log(container).await,
        }
    }

    async fn log(&self, container: &Container) -> Vec<LogLine> {
        let lines = self.docker.log_tail(container, LOG_LINES).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the log of a faulty container cannot be read");
            Vec::new()
        });
        let mask = |line: LogLine| LogLine { text: self.secrets.mask(&line.text), ..line };
        lines.into_iter().map(mask).collect()
    }

    /// Compose's error, with the container's own reason where it has one.
    pub(super) async fn explain(
        &self,
        project: &str,
        start: &Start,
        error: ComposeError,
    ) -> StackError {
        let containers = of_service(self.docker, project, start).await.unwrap_or_default();
        let at_fault = containers.into_iter().find(|container| !container.error.is_empty());
        match at_fault {
            Some(container) => {
                let reason = self.secrets.mask(&container.error);
                self.fault(start, &container, Fault::NotStarted { reason }).await
            }
            None => StackError::Compose(error),
        }
    }
}

/// Whether the health check of a container was not made since it was frozen.
fn is_stale(container: &Container, frozen: &[Container]) -> bool {
    frozen.iter().any(|was| was.id == container.id && was.checked_at == container.checked_at)
}

enum Progress {
    Up,
    Pending(String),
    Failed(Fault),
}

/// Where one container stands. Pure.
fn progress_of(container: &Container, kind: Kind, restarts: i64) -> Progress {
    let ended = Fault::Ended { code: container.exit_code, oom: container.oom_killed };
    match (kind, container.state) {
        (Kind::Job, State::Exited) if container.exit_code == 0 => Progress::Up,
        (Kind::Job, State::Exited | State::Dead) => Progress::Failed(ended),
        (Kind::Job, _) => Progress::Pending("it still runs".to_owned()),
        (_, State::Exited | State::Dead) if container.restarts == 0 => Progress::Failed(ended),
        _ if container.restarts > restarts => Progress::Failed(Fault::Restarting {
            times: container.restarts,
            code: container.exit_code,
            oom: container.oom_killed,
        }),
        (_, State::Running) => match container.health {
            Health::None | Health::Healthy => Progress::Up,
            Health::Starting => Progress::Pending("its health check has not passed yet".to_owned()),
            Health::Unhealthy => Progress::Failed(Fault::Unhealthy {
                output: container.health_output.clone().unwrap_or_default(),
            }),
        },
        (_, State::Exited | State::Dead) => Progress::Failed(ended),
        (_, State::Paused) => Progress::Pending("it is frozen".to_owned()),
        (_, State::Restarting) => Progress::Pending("it ended and is started again".to_owned()),
        (_, State::Created) => Progress::Pending("it is not started yet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(state: State, health: Health, restarts: i64, exit_code: i64) -> Container {
        Container {
            id: "1".to_owned(),
            name: "shop-green-web-1".to_owned(),
            labels: std::collections::BTreeMap::new(),
            image: String::new(),
            state,
            health,
            checked_at: "then".to_owned(),
            health_output: Some("curl: 7".to_owned()),
            pid: None,
            exit_code,
            oom_killed: exit_code == 137,
            restarts,
            error: String::new(),
            started_at: String::new(),
            finished_at: String::new(),
            networks: std::collections::BTreeMap::new(),
            stop_timeout: Duration::from_secs(10),
            memory_limit: None,
            volumes: Vec::new(),
            restart_policy: "no".to_owned(),
        }
    }

    fn check(kind: Kind, container: &Container) -> String {
        match progress_of(container, kind, 2) {
            Progress::Up => "up".to_owned(),
            Progress::Pending(why) => why,
            Progress::Failed(fault) => fault.to_string(),
        }
    }

    #[test]
    fn a_service_is_up_when_it_runs_and_its_check_passes() {
        let look = |state, health, restarts, code| {
            check(Kind::Service, &container(state, health, restarts, code))
        };
        assert_eq!(look(State::Running, Health::None, 0, 0), "up");
        assert_eq!(look(State::Running, Health::Healthy, 2, 0), "up");
        let starting = look(State::Running, Health::Starting, 0, 0);
        assert_eq!(starting, "its health check has not passed yet");
        let unhealthy = look(State::Running, Health::Unhealthy, 0, 0);
        assert_eq!(unhealthy, "is unhealthy by its own health check: curl: 7");
        assert_eq!(look(State::Exited, Health::None, 0, 1), "ended with exit code 1");
        assert_eq!(
            look(State::Exited, Health::None, 0, 137),
            "ended with exit code 137: out of memory, the kernel ended it"
        );
    }

    #[test]
    fn what_a_check_said_before_a_container_was_frozen_is_stale() {
        let was = container(State::Paused, Health::Unhealthy, 0, 0);
        let mut now = container(State::Running, Health::Unhealthy, 0, 0);
        assert!(is_stale(&now, std::slice::from_ref(&was)) && !is_stale(&now, &[]));
        now.checked_at = "now".to_owned();
        assert!(!is_stale(&now, &[was]), "it was made again");
    }

    #[test]
    fn restarts_are_counted_and_bounded() {
        let look = |restarts| {
            check(Kind::Service, &container(State::Restarting, Health::None, restarts, 1))
        };
        assert_eq!(look(2), "it ended and is started again");
        assert_eq!(look(3), "was started again 3 times, it ends with exit code 1");
    }

    #[test]
    fn a_job_is_done_when_it_ended_well() {
        let look = |state, code| check(Kind::Job, &container(state, Health::None, 0, code));
        assert_eq!(look(State::Exited, 0), "up");
        assert_eq!(look(State::Exited, 3), "ended with exit code 3");
        assert_eq!(look(State::Running, 0), "it still runs");
    }
}
