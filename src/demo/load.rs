//! The clients of the demo: some hundred browsers that keep their cookies and never stop asking.
//!
//! A few tasks share them; each has one connection that it keeps, as a browser would, and reports
//! every answer. Counts nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cutover_model::Color;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rand::Rng as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::shop::COLOR;
use super::tally::{Answer, Outcome};

/// How many clients there are.
pub const CLIENTS: u32 = 600;
/// Tasks that share them; each has a connection.
const TASKS: u32 = 12;
/// Each task asks this often: 240 requests a second in all.
const EVERY: Duration = Duration::from_millis(50);
/// Longer than any answer of the demo takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// Answers that may wait to be counted: some seconds of them.
const QUEUE: usize = 1_024;

/// The running clients.
#[derive(Debug)]
pub struct Load {
    answers: mpsc::Receiver<Answer>,
    act: Arc<AtomicU32>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Load {
    /// Starts to ask.
    #[must_use]
    pub fn start(public: SocketAddr) -> Self {
        let (report, answers) = mpsc::channel(QUEUE);
        let act = Arc::new(AtomicU32::new(0));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        for task in 0..TASKS {
            let clients = (task..CLIENTS).step_by(TASKS as usize);
            let group = Group {
                public,
                clients: clients.map(|number| Client { number, cookie: None }).collect(),
                act: Arc::clone(&act),
                connection: None,
            };
            let (report, stop) = (report.clone(), stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = group.ask_on(report) => {}
                }
            });
        }
        Self { answers, act, stop, tasks }
    }

    /// The next answer; `None` when all clients have ended.
    pub async fn next(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }

    /// Questions from now on belong to the next act; its number.
    pub fn next_act(&self) -> u32 {
        self.act.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Ends the clients.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        drop(self.answers);
        self.tasks.wait().await;
    }
}

struct Client {
    number: u32,
    cookie: Option<String>,
}

struct Group {
    public: SocketAddr,
    clients: Vec<Client>,
    act: Arc<AtomicU32>,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Group {
    async fn ask_on(mut self, report: mpsc::Sender<Answer>) {
        let mut beat = tokio::time::interval(EVERY);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            let index = rand::rng().random_range(0..self.clients.len());
            let act = self.act.load(Ordering::SeqCst);
            let answered = tokio::time::timeout(PATIENCE, self.ask(index)).await;
            let outcome = answered.ok().flatten().unwrap_or_else(|| {
                self.connection = None;
                Outcome::Lost
            });
            let client = self.clients.get(index).map_or(0, |client| client.number);
            if report.send(Answer { client, act, outcome }).await.is_err() {
                return;
            }
        }
    }

    /// One question of one client; `None`: no answer.
    async fn ask(&mut self, index: usize) -> Option<Outcome> {
        let request = self.request(index)?;
        let sender = self.sender().await?;
        let answer = sender.send_request(request).await.ok()?;
        let outcome = outcome(&answer);
        let cookie = cookie(&answer);
        answer.into_body().collect().await.ok()?;
        if let (Some(cookie), Some(client)) = (cookie, self.clients.get_mut(index)) {
            client.cookie = Some(cookie);
        }
        Some(outcome)
    }

    fn request(&self, index: usize) -> Option<Request<Empty<Bytes>>> {
        let mut request = Request::builder()
            .uri("/")
            .header(header::HOST, self.public.to_string())
            .header(header::ACCEPT, "text/html")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document");
        if let Some(cookie) = self.clients.get(index).and_then(|client| client.cookie.as_ref()) {
            request = request.header(header::COOKIE, cookie);
        }
        request.body(Empty::new()).ok()
    }

    /// The kept connection, or a new one where it was closed, as a server may do when it is idle.
    async fn sender(&mut self) -> Option<&mut SendRequest<Empty<Bytes>>> {
        let mut kept = self.connection.take();
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        if kept.is_none() {
            let stream = TcpStream::connect(self.public).await.ok()?;
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
            let (sender, connection) = handshake.await.ok()?;
            // It ends with the sender.
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a demo client's connection ended");
                }
            });
            kept = Some(sender);
        }
        self.connection = kept;
        self.connection.as_mut()
    }
}

fn outcome(answer: &Response<Incoming>) -> Outcome {
    let color = answer.headers().get(COLOR).and_then(|value| value.to_str().ok());
    match color.and_then(|color| color.parse::<Color>().ok()) {
        Some(color) if answer.status().is_success() => Outcome::Good(color),
        Some(color) => Outcome::Failed(color),
        None => Outcome::Lost,
    }
}

/// The pair that goes back as `Cookie`.
fn cookie(answer: &Response<Incoming>) -> Option<String> {
    let set = answer.headers().get(header::SET_COOKIE)?.to_str().ok()?;
    set.split(';').next().map(|pair| pair.trim().to_owned())
}
