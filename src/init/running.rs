//! Asks Docker and the running containers what `init` cannot read in files.
//!
//! Only GET requests to addresses of containers, each within two seconds; everything that does not
//! answer stays unknown. Ports of databases are never spoken to.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::duty::{self, Duty};
use super::images;
use super::seen::{Seen, SeenService, Spoken};
use super::stack::{Service, Stack};
use crate::host::docker::{Container, Docker, Filter};
use crate::host::{DockerError, facts};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where applications usually tell how they are, the most telling first.
const HEALTH: [&str; 6] =
    ["/api/health", "/health", "/healthz", "/api/healthz", "/_health", "/__heartbeat__"];

/// Looks at the operator's project.
///
/// # Errors
/// When Docker does not answer.
pub async fn look(
    docker: &Docker,
    stack: &Stack,
    now: jiff::Timestamp,
) -> Result<Seen, DockerError> {
    let containers = docker.containers(&Filter::project(&stack.name)).await?;
    let running = containers.iter().filter(|one| one.is_running() && !one.is_oneoff());
    let mut seen = Seen {
        memory_free: facts::room(Path::new("/"), Path::new("/")).memory_free,
        ..Seen::default()
    };
    for container in running {
        let Some(name) = container.service().map(str::to_owned) else { continue };
        let Some(service) = stack.services.get(&name) else { continue };
        seen.up = seen.up.max(age(container, now));
        let used = docker.memory_of(container).await?;
        let known = seen
            .services
            .entry(name.clone())
            .or_insert_with(|| SeenService { memory: Some(0), ..SeenService::default() });
        known.memory = known.memory.map(|sum| sum.saturating_add(used));
        if known.ports.is_empty()
            && duty::decide(&name, service, stack, &Seen::default()).0 == Duty::TwoCopies
        {
            ask_ports(container, service, known).await;
        }
    }
    Ok(seen)
}

fn age(container: &Container, now: jiff::Timestamp) -> Option<Duration> {
    let started: jiff::Timestamp = container.started_at.parse().ok()?;
    Duration::try_from(now.duration_since(started)).ok()
}

async fn ask_ports(container: &Container, service: &Service, known: &mut SeenService) {
    let Some(ip) = container.dial() else { return };
    let mut ports: Vec<u16> =
        service.ports.iter().filter(|port| !port.is_udp()).map(|port| port.target).collect();
    ports.sort_unstable();
    ports.dedup();
    ports.retain(|port| !images::is_debugger(*port) && images::spoken_on(*port).is_none());
    for port in ports {
        let spoken = spoken_on(SocketAddr::new(ip, port), service.health_path()).await;
        known.ports.insert(port, spoken);
    }
}

/// The most telling path that answers.
async fn spoken_on(address: SocketAddr, own: Option<String>) -> Spoken {
    let first = match get(address, "/").await {
        Ok(answer) => answer,
        Err(spoken) => return spoken,
    };
    let own = own.iter().map(String::as_str);
    for path in own.chain(HEALTH) {
        // Pages made in the browser answer every path with the same HTML: that tells nothing.
        if let Ok(answer) = get(address, path).await
            && answer.status == 200
            && !answer.is_page
        {
            return Spoken::Http { path: path.to_owned(), status: answer.status };
        }
    }
    Spoken::Http { path: "/".to_owned(), status: first.status }
}

struct Answer {
    status: u16,
    is_page: bool,
}

async fn get(address: SocketAddr, path: &str) -> Result<Answer, Spoken> {
    match tokio::time::timeout(PATIENCE, exchange(address, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(Spoken::Nothing),
    }
}

async fn exchange(address: SocketAddr, path: &str) -> Result<Answer, Spoken> {
    let stream = TcpStream::connect(address).await.map_err(|_| Spoken::Nothing)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Spoken::Other)?;
    let request = http::Request::get(path)
        .header(http::header::HOST, "localhost")
        .header(http::header::USER_AGENT, "cutover-init")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| Spoken::Nothing)?;
    // The connection is driven here, not in a task of its own: it ends with this question.
    let mut answer = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // With "close" it ends as soon as the answer is in, which is then there to be taken.
        _ = connection => answer.await,
    };
    let answer = answer.map_err(|_| Spoken::Other)?;
    let kind = answer.headers().get(http::header::CONTENT_TYPE);
    let is_page = kind.and_then(|kind| kind.to_str().ok()).is_some_and(|k| k.contains("html"));
    Ok(Answer { status: answer.status().as_u16(), is_page })
}
