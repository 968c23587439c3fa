//! What is there: containers counted, endpoints proven, log lines read. Changes nothing.

use std::collections::BTreeMap;

use cutover_model::{Color, Containers, ReleaseId, ServiceName};

use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::ended::Ended;
use super::perform::{colored, docker, release_folder, secrets_of, text};
use super::{Reconciler, Work};
use crate::host::redact::Secrets;
use crate::host::{Endpoint, StackSettings, stack};

/// Lines that may wait for a slow reader; Docker keeps what is not read yet.
const FOLLOWED: usize = 256;

/// Log lines that a failure shows.
const LOG_LINES: usize = 6;

/// The newest log lines of a project's services, or of one of them, with secrets masked.
pub(super) async fn logs(
    settings: &StackSettings,
    (project, release): (&str, ReleaseId),
    service: Option<&str>,
    tail: usize,
) -> Result<Vec<(String, String)>, String> {
    let docker = docker(settings).await?;
    let folder = release_folder(settings, release);
    let secrets = if folder.exists() { secrets_of(&folder).await } else { Secrets::none() };
    let mut found = Vec::new();
    for container in colored(settings, &docker, project).await? {
        let name = container.service().unwrap_or("?").to_owned();
        if service.is_some_and(|wanted| wanted != name) {
            continue;
        }
        for line in docker.log_tail(&container, tail).await.map_err(text)? {
            let shown = format!("{} {}", line.time, secrets.mask(&line.text));
            found.push((line.time.clone(), (name.clone(), shown)));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let skipped = found.len().saturating_sub(tail);
    Ok(found.into_iter().skip(skipped).map(|(_, line)| line).collect())
}

/// The lines that a project's services printed last and print from now on, secrets masked. It ends
/// when their containers do, or when nobody reads any more.
pub(super) async fn follow_logs(
    settings: &StackSettings,
    (project, release): (&str, ReleaseId),
    service: Option<&str>,
    tail: usize,
) -> Result<mpsc::Receiver<(String, String)>, String> {
    let docker = docker(settings).await?;
    let folder = release_folder(settings, release);
    let secrets = if folder.exists() { secrets_of(&folder).await } else { Secrets::none() };
    let mut streams = Vec::new();
    for container in colored(settings, &docker, project).await? {
        let name = container.service().unwrap_or("?").to_owned();
        if service.is_none_or(|wanted| wanted == name) {
            let lines = docker.log_follow(&container, tail).map(move |line| (name.clone(), line));
            streams.push(lines.boxed());
        }
    }
    let (sender, receiver) = mpsc::channel(FOLLOWED);
    let mut all = futures_util::stream::select_all(streams);
    // Owned by its reader: it ends when the receiver is dropped, or with the last container.
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = all.next() => next,
                () = sender.closed() => return,
            };
            let Some((name, line)) = next else { return };
            let shown = match line {
                Ok(line) => format!("{} {}", line.time, secrets.mask(&line.text)),
                Err(error) => format!("(its log ends here: {error})"),
            };
            if sender.send((name, shown)).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The newest log lines of each container of a color that wrote any.
pub(super) async fn last_lines(settings: &StackSettings, color: Color, work: &Work) -> String {
    let Ok(docker) = docker(settings).await else { return String::new() };
    let project = work.projects.get(color).clone().unwrap_or_else(|| settings.project(color));
    let secrets = match work.release {
        Some((release, _)) => secrets_of(&release_folder(settings, release)).await,
        None => Secrets::none(),
    };
    let mut text = String::new();
    for container in colored(settings, &docker, &project).await.unwrap_or_default() {
        let lines = docker.log_tail(&container, LOG_LINES).await.unwrap_or_default();
        let service = container.service().unwrap_or("?");
        for line in lines {
            text.push_str(&format!("\n  {service}  {}", secrets.mask(&line.text)));
        }
    }
    text
}

/// Containers of a project that are not shared, singletons or ended jobs.
pub(super) async fn count(settings: &StackSettings, project: &str) -> Result<Containers, String> {
    let docker = docker(settings).await?;
    let mut counted = Containers::default();
    for container in colored(settings, &docker, project).await? {
        if container.service().is_some_and(|s| settings.is_singleton(s)) {
            continue;
        }
        match container.is_running() {
            true => counted.running += 1,
            false => counted.stopped += 1,
        }
    }
    Ok(counted)
}

/// What Docker shows of the containers of a color.
#[derive(Debug)]
pub struct Looked {
    /// The proven endpoints, by service.
    pub endpoints: BTreeMap<ServiceName, Vec<Endpoint>>,
    /// Containers that have ended.
    pub ended: Vec<Ended>,
}

pub(super) async fn endpoints(settings: &StackSettings, project: &str) -> Result<Looked, String> {
    let docker = docker(settings).await?;
    let containers = colored(settings, &docker, project).await?;
    let mut endpoints: BTreeMap<ServiceName, Vec<Endpoint>> = BTreeMap::new();
    for endpoint in stack::endpoints(&containers).map_err(text)? {
        endpoints.entry(endpoint.service.clone()).or_default().push(endpoint);
    }
    let ended = containers.iter().filter_map(Ended::of).collect();
    Ok(Looked { endpoints, ended })
}

impl Reconciler {
    /// Whether Docker answers now.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn is_answered(&self, stack: &StackSettings) -> Result<(), String> {
        docker(stack).await?.ping().await.map_err(text)
    }
}
