//! The operator's habits: `docker compose up`, `--force-recreate`, `run` in the app's own folder.
//!
//! They hit the operator's own project, where the shared services are. Seen here, by its label: a
//! shared container that was made anew and is on no link; a singleton that runs although the stable
//! color has one; a service that gets no traffic. The first two are mended, the third is reported.
//! Nothing is removed, and no shared container is stopped or restarted.

use cutover_model::{ByColor, Color, ReleaseId};

use super::perform::{docker, folder_in, text};
use crate::host::compose::ColoredStack;
use crate::host::docker::{Container, Docker, Filter};
use crate::host::{StackSettings, files, shared};

/// What the controller knows at this moment.
#[derive(Debug, Clone)]
pub struct View {
    /// The operator's own project.
    pub operator: String,
    /// The color that has the singletons.
    pub stable: Color,
    /// The compose project of what is in each color.
    pub projects: ByColor<Option<String>>,
    /// The releases whose links may be mended: not that of a color that is being worked on.
    pub linkable: Vec<(Color, ReleaseId)>,
}

/// What was seen and done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tended {
    /// Shared containers that were linked to a color again.
    pub linked: Vec<(String, Color)>,
    /// Singletons that ran beside the stable color's, and are stopped: service and project.
    pub stopped: Vec<(String, String)>,
    /// Services with two copies that run in the operator's project and are in no color.
    pub unserved: Vec<Unserved>,
}

/// A container that gets no traffic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unserved {
    /// The container's id.
    pub id: String,
    /// When it was started last.
    pub started_at: String,
    /// Its service.
    pub service: String,
}

/// The operator's own project, by the releases that are there; `None`: none of them tells.
pub(super) async fn operators_project(
    settings: &StackSettings,
    releases: ByColor<Option<ReleaseId>>,
    projects: &ByColor<Option<String>>,
) -> Option<String> {
    for color in Color::BOTH {
        let Some(release) = *releases.get(color) else { continue };
        // An adopted stack is in the operator's project itself.
        let own = settings.project(color);
        if let Some(project) = projects.get(color).as_ref().filter(|project| **project != own) {
            return Some(project.clone());
        }
        if let Ok(stack) = files::load_stack(&folder_in(settings, release, color)).await {
            return Some(stack.operator_project);
        }
    }
    None
}

/// Looks at the operator's project and mends what can be mended.
pub(super) async fn tend(settings: &StackSettings, view: &View) -> Result<Tended, String> {
    let docker = docker(settings).await?;
    let mut found = all(&docker, &view.operator).await?;
    for project in Color::BOTH.into_iter().filter_map(|color| view.projects.get(color).as_ref()) {
        if *project != view.operator {
            found.extend(all(&docker, project).await?);
        }
    }
    let mut tended = Tended { unserved: unserved(settings, view, &found), ..Tended::default() };
    for (color, release) in &view.linkable {
        let folder = folder_in(settings, *release, *color);
        // An adopted release has no file of ours, and needs no link.
        let Ok(stack) = files::load_stack(&folder).await else { continue };
        let lost = unlinked(view, &stack, &found);
        if !lost.is_empty() {
            shared::link(&docker, settings, &stack).await.map_err(text)?;
            tended.linked.extend(lost.into_iter().map(|service| (service, *color)));
        }
    }
    for second in seconds(settings, view, &found) {
        docker.stop(second, None).await.map_err(text)?;
        let word = |word: Option<&str>| word.unwrap_or_default().to_owned();
        tended.stopped.push((word(second.service()), word(second.project())));
    }
    Ok(tended)
}

async fn all(docker: &Docker, project: &str) -> Result<Vec<Container>, String> {
    let mut found = docker.containers(&Filter::project(project)).await.map_err(text)?;
    found.retain(|container| !container.is_oneoff());
    Ok(found)
}

/// Shared services with a running container that is not on the color's link.
fn unlinked(view: &View, stack: &ColoredStack, found: &[Container]) -> Vec<String> {
    let Some(link) = &stack.link else { return Vec::new() };
    let is_shared = |c: &&Container| {
        let service = c.service();
        stack.shared.iter().any(|shared| Some(shared.service.as_str()) == service)
    };
    let lost = found
        .iter()
        .filter(|c| c.project() == Some(view.operator.as_str()) && c.is_running())
        .filter(is_shared)
        .filter(|c| !c.networks.contains_key(link));
    lost.filter_map(|c| c.service().map(str::to_owned)).collect()
}

/// Singletons that run outside of the stable color while its own runs, too. Where the stable color
/// has none running, the other one may be all there is: it stays.
fn seconds<'a>(
    settings: &StackSettings,
    view: &View,
    found: &'a [Container],
) -> Vec<&'a Container> {
    let Some(stable) = view.projects.get(view.stable).as_deref() else { return Vec::new() };
    let runs = |service: Option<&str>| {
        let mut own = found.iter().filter(|c| c.project() == Some(stable) && c.is_running());
        own.any(|c| c.service() == service)
    };
    let is_second = |c: &&Container| {
        c.is_running()
            && c.project() != Some(stable)
            && c.service().is_some_and(|service| settings.is_singleton(service))
            && runs(c.service())
    };
    found.iter().filter(is_second).collect()
}

/// Services with two copies that run in the operator's project, where that is in no color.
fn unserved(settings: &StackSettings, view: &View, found: &[Container]) -> Vec<Unserved> {
    let is_a_color =
        Color::BOTH.iter().any(|color| view.projects.get(*color).as_ref() == Some(&view.operator));
    if is_a_color {
        return Vec::new();
    }
    let is_copied = |service: &str| {
        !settings.is_shared(service)
            && !settings.is_singleton(service)
            && !settings.jobs.iter().any(|job| job.as_str() == service)
    };
    let running =
        found.iter().filter(|c| c.project() == Some(view.operator.as_str()) && c.is_running());
    let seen = |c: &Container| {
        let service = c.service().filter(|service| is_copied(service))?.to_owned();
        Some(Unserved { id: c.id.clone(), started_at: c.started_at.clone(), service })
    };
    running.filter_map(seen).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use cutover_model::{AppName, ServiceName};

    use super::*;
    use crate::host::docker::{Health, State, label};

    fn container(project: &str, service: &str, state: State) -> Container {
        let labels = [(label::PROJECT, project), (label::SERVICE, service)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Container {
            id: format!("{project}/{service}"),
            name: format!("{project}-{service}-1"),
            labels: BTreeMap::from(labels),
            image: String::new(),
            state,
            health: Health::None,
            checked_at: String::new(),
            health_output: None,
            pid: None,
            exit_code: 0,
            oom_killed: false,
            restarts: 0,
            error: String::new(),
            started_at: "2026-11-22T12:00:00Z".to_owned(),
            finished_at: String::new(),
            networks: BTreeMap::new(),
            stop_timeout: Duration::from_secs(10),
            memory_limit: None,
            volumes: Vec::new(),
            restart_policy: "no".to_owned(),
        }
    }

    fn settings() -> StackSettings {
        let app = AppName::new("shop").unwrap();
        let mut settings = StackSettings::new(app, "/srv/shop".into(), "/var/lib/shop".into());
        settings.shared.insert(ServiceName::new("postgres").unwrap());
        settings.singletons.insert(ServiceName::new("agent").unwrap());
        settings
    }

    fn view(blue: &str, green: &str, stable: Color) -> View {
        View {
            operator: "shop".to_owned(),
            stable,
            projects: ByColor { blue: Some(blue.to_owned()), green: Some(green.to_owned()) },
            linkable: Vec::new(),
        }
    }

    #[test]
    fn a_singleton_beside_the_stable_one_is_a_second_wherever_it_runs() {
        let found = [
            container("shop", "agent", State::Running),
            container("shop-green", "agent", State::Running),
            container("shop-blue", "agent", State::Exited),
        ];
        let ids = |stable| {
            let view = view("shop-blue", "shop-green", stable);
            let seconds = seconds(&settings(), &view, &found);
            seconds.into_iter().map(|c| c.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ids(Color::Green), ["shop/agent"]);
        assert!(ids(Color::Blue).is_empty(), "blue's own does not run: nothing is second to it");
    }

    #[test]
    fn the_adopted_stacks_singleton_is_the_one_that_is_meant_while_it_is_stable() {
        let found = [
            container("shop", "agent", State::Running),
            container("shop-green", "agent", State::Running),
        ];
        let view = view("shop", "shop-green", Color::Blue);
        let ids: Vec<_> =
            seconds(&settings(), &view, &found).into_iter().map(|c| c.id.clone()).collect();
        assert_eq!(ids, ["shop-green/agent"]);
    }

    #[test]
    fn what_runs_in_the_operators_project_is_unserved_only_when_it_is_in_no_color() {
        let found = [
            container("shop", "backend", State::Running),
            container("shop", "postgres", State::Running),
            container("shop", "agent", State::Running),
            container("shop", "frontend", State::Exited),
            container("shop-green", "backend", State::Running),
        ];
        let seen = |view: &View| {
            let unserved = unserved(&settings(), view, &found);
            unserved.into_iter().map(|u| u.service).collect::<Vec<_>>()
        };
        assert_eq!(seen(&view("shop-blue", "shop-green", Color::Green)), ["backend"]);
        assert!(seen(&view("shop", "shop-green", Color::Green)).is_empty());
    }
}
