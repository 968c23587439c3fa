//! The engine's events, as a bounded queue of notices.
//!
//! A notice says that something about a container changed; it is a hint to look, not a truth to
//! act on. Whenever events may have been lost (the connection was cut, the engine hung, the queue
//! was full) the next notice is [`Notice::Relist`]: look at everything anew.
//!
//! INVARIANT: after any gap `Relist` comes before the next event, and the events that follow begin
//! before it, so that nothing that happens while the reader lists is missed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Docker, DockerError, label};

/// Events of a busy host while the reader looks at Docker once; more than that is one `Relist`.
const QUEUE: usize = 256;
/// How often the engine is asked whether it still is there, since a hung one sends no events.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The longest pause between two tries to connect.
const PAUSE: Duration = Duration::from_secs(5);

/// What is worth looking at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The stream begins, or events may have been lost: list everything.
    Relist,
    /// The engine cannot be reached: nothing is known until the next `Relist`.
    Away {
        /// Why.
        reason: String,
    },
    /// Something happened to a container that compose made.
    Container {
        /// Its id.
        id: String,
        /// Its project.
        project: String,
        /// Its service.
        service: String,
        /// The engine's word: `start`, `die`, `oom`, `health_status: healthy`, `destroy`…
        action: String,
        /// Its exit code, with `die`.
        exit_code: Option<i64>,
    },
    /// A container joined or left a network.
    Network {
        /// The network.
        network: String,
        /// The container's id.
        container: String,
        /// `connect` or `disconnect`.
        action: String,
    },
}

/// Which projects to watch; other containers' events are left out.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Docker's socket, as for [`Docker::connect`].
    pub socket: Option<PathBuf>,
    /// The compose projects.
    pub projects: Vec<String>,
}

/// A running watch; it ends when this is dropped.
#[derive(Debug)]
pub struct Events {
    notices: mpsc::Receiver<Notice>,
    task: JoinHandle<()>,
}

impl Events {
    /// Starts watching, on the current runtime. The connection is made, and made again, by itself.
    #[must_use]
    pub fn start(watch: Watch) -> Self {
        let (sender, notices) = mpsc::channel(QUEUE);
        Self { notices, task: tokio::spawn(Watcher { watch, sender, lost: Lost::No }.run()) }
    }

    /// The next notice; `None` only when the watch has ended.
    pub async fn next(&mut self) -> Option<Notice> {
        self.notices.recv().await
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    No,
    Yes,
}

struct Watcher {
    watch: Watch,
    sender: mpsc::Sender<Notice>,
    lost: Lost,
}

impl Watcher {
    async fn run(mut self) {
        let mut pause = Duration::from_millis(100);
        while !self.sender.is_closed() {
            let began = tokio::time::Instant::now();
            let error = match Docker::connect(self.watch.socket.as_deref()).await {
                Ok(docker) => self.follow(&docker).await,
                Err(error) => error,
            };
            if self.sender.try_send(Notice::Away { reason: error.to_string() }).is_err() {
                tracing::debug!(%error, "nobody reads that Docker is away");
            }
            if began.elapsed() > Duration::from_secs(30) {
                pause = Duration::from_millis(100);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE);
        }
    }

    /// Streams until the connection breaks or the engine stops answering.
    async fn follow(&mut self, docker: &Docker) -> DockerError {
        let kinds = vec!["container".to_owned(), "network".to_owned()];
        let filters = HashMap::from([("type".to_owned(), kinds)]);
        // From a moment before now, so that nothing between the listing and the stream is missed.
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |time| time.as_secs().saturating_sub(1));
        let options =
            EventsOptionsBuilder::default().filters(&filters).since(&since.to_string()).build();
        let mut stream = std::pin::pin!(docker.client.events(Some(options)));
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.lost = Lost::Yes;
        loop {
            self.relist_if_lost();
            tokio::select! {
                event = stream.next() => match event {
                    Some(Ok(event)) => self.event(event),
                    Some(Err(error)) => return super::translate("following events", error),
                    None => return DockerError::Broken {
                        what: "following events".to_owned(),
                        text: "the engine closed the stream".to_owned(),
                    },
                },
                _ = heartbeat.tick() => if let Err(error) = docker.ping().await {
                    return error;
                },
                () = self.sender.closed() => return DockerError::Broken {
                    what: "following events".to_owned(),
                    text: "nobody listens any more".to_owned(),
                },
            }
        }
    }

    fn event(&mut self, event: EventMessage) {
        if let Some(notice) = notice(event, &self.watch.projects) {
            self.say(notice);
        }
    }

    /// After a loss nothing is said before `Relist` is: what it would say is in the listing.
    fn say(&mut self, notice: Notice) {
        self.relist_if_lost();
        if self.lost == Lost::Yes || self.sender.try_send(notice).is_err() {
            self.lost = Lost::Yes;
        }
    }

    fn relist_if_lost(&mut self) {
        if self.lost == Lost::Yes && self.sender.try_send(Notice::Relist).is_ok() {
            self.lost = Lost::No;
        }
    }
}

fn notice(event: EventMessage, projects: &[String]) -> Option<Notice> {
    let action = event.action?;
    let actor = event.actor?;
    let id = actor.id?;
    let attributes = actor.attributes.unwrap_or_default();
    if action == "connect" || action == "disconnect" {
        let network = attributes.get("name")?.clone();
        return Some(Notice::Network {
            network,
            container: attributes.get("container")?.clone(),
            action,
        });
    }
    let project = attributes.get(label::PROJECT)?.clone();
    if !projects.contains(&project) {
        return None;
    }
    // Health checks and `exec` make two events each time they run; nothing changes by them.
    if action.starts_with("exec_") || action == "top" || action == "attach" {
        return None;
    }
    let exit_code = attributes.get("exitCode").and_then(|code| code.parse().ok());
    let service = attributes.get(label::SERVICE).cloned().unwrap_or_default();
    Some(Notice::Container { id, project, service, action, exit_code })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::EventActor;

    fn event(action: &str, attributes: &[(&str, &str)]) -> EventMessage {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        EventMessage {
            action: Some(action.to_owned()),
            actor: Some(EventActor {
                id: Some("abc".to_owned()),
                attributes: Some(attributes.collect()),
            }),
            ..EventMessage::default()
        }
    }

    #[test]
    fn only_watched_projects_are_told_of() {
        let labels = [(label::PROJECT, "shop-green"), (label::SERVICE, "web"), ("exitCode", "137")];
        let seen = notice(event("die", &labels), &["shop-green".to_owned()]);
        assert!(matches!(seen, Some(Notice::Container { exit_code: Some(137), .. })), "{seen:?}");
        assert_eq!(notice(event("die", &labels), &["other".to_owned()]), None);
        assert_eq!(notice(event("exec_start: x", &labels), &["shop-green".to_owned()]), None);
    }

    #[tokio::test]
    async fn a_full_queue_becomes_one_relist() {
        let (sender, mut notices) = mpsc::channel(1);
        let watch = Watch { socket: None, projects: vec!["p".to_owned()] };
        let mut watcher = Watcher { watch, sender, lost: Lost::No };
        let labels = [(label::PROJECT, "p")];
        watcher.event(event("start", &labels));
        watcher.event(event("die", &labels));
        assert!(matches!(notices.recv().await, Some(Notice::Container { .. })));
        watcher.event(event("start", &labels));
        assert_eq!(notices.recv().await, Some(Notice::Relist));
    }
}
