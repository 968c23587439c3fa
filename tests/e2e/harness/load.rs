//! A load of many clients that keep their cookies, at a fixed rate, until it is told to stop.
//!
//! Open loop: the next request leaves when its time has come, whether or not the ones before were
//! answered, and its latency counts from that time. Every request is recorded; nothing is retried.
//! Clients share keep-alive connections (lanes), each lane from a loopback address of its own.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

/// How many connections the clients share.
const LANES: usize = 64;
/// How the ids of the load's requests begin.
pub(crate) const VISIT: &str = "visit-";
/// The cookie that keeps a client's place.
const PLACE: &str = "cutover";
/// A request that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// One request out of the mix; the mix is walked in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// A browser opens a page: such a request may be given an id.
    pub(crate) navigation: bool,
}

/// What a visitor of the shop does, through one port that routes the page and the API.
pub(crate) const VISITORS: &[Call] = &[
    Call { method: "GET", path: "/", navigation: true },
    Call { method: "GET", path: "/api/whoami", navigation: false },
    Call { method: "GET", path: "/style.css", navigation: false },
    Call { method: "GET", path: "/api/orders/count", navigation: false },
    Call { method: "POST", path: "/api/orders", navigation: false },
];

/// Only the page and its asset, for a port that knows no API.
pub(crate) const READERS: &[Call] = &[
    Call { method: "GET", path: "/", navigation: true },
    Call { method: "GET", path: "/style.css", navigation: false },
];

/// Only the API, for the port of the backend.
pub(crate) const CALLERS: &[Call] = &[
    Call { method: "GET", path: "/api/whoami", navigation: false },
    Call { method: "GET", path: "/api/orders/count", navigation: false },
    Call { method: "POST", path: "/api/orders", navigation: false },
];

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    /// Requests a second.
    pub(crate) rate: u32,
    pub(crate) clients: usize,
    pub(crate) mix: &'static [Call],
}

/// One request and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) client: usize,
    pub(crate) call: Call,
    /// When it was due; its latency counts from here.
    pub(crate) due: Instant,
    /// When its first byte may have left.
    pub(crate) sent: Instant,
    pub(crate) ended: Instant,
    /// 0 where there was no answer; `error` then says why.
    pub(crate) status: u16,
    pub(crate) release: String,
    /// The container that answered `/api/whoami`, by its own word.
    pub(crate) container: Option<String>,
    /// What it called itself in `X-Request-Id`, and so in the access log.
    pub(crate) id: String,
    /// Whether the client showed the cookie that keeps its place.
    pub(crate) has_cookie: bool,
    pub(crate) error: Option<String>,
}

impl Record {
    /// Anything but an answer below 400: the paths of a mix are there, and its clients are let in.
    pub(crate) fn failed(&self) -> bool {
        self.error.is_some() || self.status >= 400 || self.status == 0
    }
}

struct Shared {
    stop: AtomicBool,
    finished: AtomicUsize,
    records: Mutex<Vec<Record>>,
}

pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(plan: Plan) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            finished: AtomicUsize::new(0),
            records: Mutex::new(Vec::new()),
        });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime for the load");
                runtime.block_on(drive(plan, theirs));
            })
            .expect("a thread for the load");
        Self { shared, thread: Some(thread) }
    }

    /// Requests that ended so far, well or badly.
    pub(crate) fn finished(&self) -> usize {
        self.shared.finished.load(Ordering::Relaxed)
    }

    /// Waits until that many more requests have ended.
    pub(crate) fn wait_for(&self, more: usize) {
        let wanted = self.finished() + more;
        let limit = Duration::from_secs(60 + more as u64 / 50);
        super::eventually(&format!("{more} more requests"), limit, || {
            (self.finished() >= wanted).then_some(())
        });
    }

    /// What is known up to now.
    pub(crate) fn so_far(&self) -> Records {
        Records(self.shared.records.lock().expect("the load does not panic").clone())
    }

    /// What is known of the requests that were sent from this moment on.
    pub(crate) fn sent_since(&self, from: Instant) -> Records {
        let records = self.shared.records.lock().expect("the load does not panic");
        Records(records.iter().filter(|record| record.sent >= from).cloned().collect())
    }

    /// Ends the load; requests on their way are waited for.
    pub(crate) fn stop(mut self) -> Records {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the load does not panic");
        }
        self.so_far()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the load ended in a panic");
        }
    }
}

/// Requests in the order in which they ended.
#[derive(Clone, Debug)]
pub(crate) struct Records(pub(crate) Vec<Record>);

impl Records {
    pub(crate) fn failures(&self) -> Vec<&Record> {
        self.0.iter().filter(|record| record.failed()).collect()
    }

    /// Ends the test when a request failed, and shows the first ones.
    #[track_caller]
    pub(crate) fn assert_none_failed(&self) {
        let failures = self.failures();
        let first: Vec<String> = failures
            .iter()
            .take(5)
            .map(|record| {
                format!(
                    "{} {} status {} release {:?} after {:?}: {}",
                    record.call.method,
                    record.call.path,
                    record.status,
                    record.release,
                    record.ended - record.sent,
                    record.error.as_deref().unwrap_or("-")
                )
            })
            .collect();
        assert!(
            failures.is_empty(),
            "{} of {} requests failed:\n{}",
            failures.len(),
            self.0.len(),
            first.join("\n")
        );
    }

    /// Those sent in a span of time.
    pub(crate) fn sent_between(&self, from: Instant, to: Instant) -> Self {
        let inside = |record: &&Record| record.sent >= from && record.sent < to;
        Self(self.0.iter().filter(inside).cloned().collect())
    }

    /// How many answers each release gave.
    pub(crate) fn by_release(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for record in self.0.iter().filter(|record| !record.release.is_empty()) {
            *counts.entry(record.release.clone()).or_default() += 1;
        }
        counts
    }

    /// The release of each client's first answer.
    pub(crate) fn first_by_client(&self) -> HashMap<usize, String> {
        let mut sorted: Vec<&Record> =
            self.0.iter().filter(|record| !record.release.is_empty()).collect();
        sorted.sort_by_key(|record| record.sent);
        let mut first = HashMap::new();
        for record in sorted {
            first.entry(record.client).or_insert_with(|| record.release.clone());
        }
        first
    }

    /// The latency that this share of the requests did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut latencies: Vec<Duration> =
            self.0.iter().map(|record| record.ended - record.due).collect();
        latencies.sort();
        let index = (latencies.len() as f64 * share) as usize;
        latencies.get(index.min(latencies.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

#[derive(Debug)]
struct Job {
    client: usize,
    call: Call,
    due: Instant,
    turn: usize,
}

impl Job {
    fn id(&self) -> String {
        format!("{VISIT}{}", self.turn)
    }
}

type Jar = Mutex<HashMap<usize, HashMap<String, String>>>;

async fn drive(plan: Plan, shared: Arc<Shared>) {
    let jar: Arc<Jar> = Arc::default();
    let mut lanes = Vec::new();
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..LANES {
        // As many as a stall of half a minute at full rate can pile up on one lane.
        let (sender, receiver) = mpsc::channel(4096);
        lanes.push(sender);
        workers.spawn(lane(number, plan.address, receiver, jar.clone(), shared.clone()));
    }
    let pause = Duration::from_secs(1) / plan.rate;
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut turn = 0usize;
    while !shared.stop.load(Ordering::Relaxed) {
        let due = ticks.tick().await.into_std();
        let client = turn % plan.clients;
        // Each visit of a client does the next thing of the mix; the first one opens the page.
        let call = plan.mix[(turn / plan.clients) % plan.mix.len()];
        let job = Job { client, call, due, turn };
        turn += 1;
        if lanes[client % LANES].try_send(job).is_err() {
            panic!("a lane of the load is full: the server does not answer at all");
        }
    }
    drop(lanes);
    while workers.join_next().await.is_some() {}
}

async fn lane(
    number: usize,
    address: SocketAddr,
    mut jobs: mpsc::Receiver<Job>,
    jar: Arc<Jar>,
    shared: Arc<Shared>,
) {
    let mut connection = None;
    while let Some(job) = jobs.recv().await {
        let has_cookie = holds_place(job.client, &jar);
        let sent = Instant::now();
        let asked = exchange(number, address, &job, &jar, &mut connection);
        let outcome = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        };
        let (answer, error) = match outcome {
            Ok(answer) => (answer, None),
            Err(error) => {
                connection = None;
                (Answer::default(), Some(error))
            }
        };
        let record = Record {
            client: job.client,
            call: job.call,
            due: job.due,
            sent,
            ended: Instant::now(),
            status: answer.status,
            release: answer.release,
            container: answer.container,
            id: job.id(),
            has_cookie,
            error,
        };
        shared.records.lock().expect("no test panics with this lock").push(record);
        shared.finished.fetch_add(1, Ordering::Relaxed);
    }
}

type Sender = SendRequest<Full<Bytes>>;

#[derive(Default)]
struct Answer {
    status: u16,
    release: String,
    container: Option<String>,
}

async fn exchange(
    lane: usize,
    address: SocketAddr,
    job: &Job,
    jar: &Jar,
    kept: &mut Option<Sender>,
) -> Result<Answer, String> {
    let mut sender = match kept.take() {
        Some(sender) if !sender.is_closed() => sender,
        _ => connect(lane, address).await?,
    };
    let request = request_for(job, jar).map_err(|error| format!("request: {error}"))?;
    let said = |error: hyper::Error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    sender.ready().await.map_err(said)?;
    let answer = sender.send_request(request).await.map_err(said)?;
    let status = answer.status().as_u16();
    let release = answer.headers().get("x-release").and_then(|value| value.to_str().ok());
    let release = release.unwrap_or_default().to_owned();
    keep_cookies(job.client, answer.headers(), jar);
    let body = answer.into_body().collect().await;
    let body = body.map_err(|error| format!("body: {}", said(error)))?.to_bytes();
    *kept = Some(sender);
    Ok(Answer { status, release, container: hostname(job.call.path, &body) })
}

/// Who answered, where the page tells.
fn hostname(path: &str, body: &[u8]) -> Option<String> {
    if path != "/api/whoami" {
        return None;
    }
    let about: serde_json::Value = serde_json::from_slice(body).ok()?;
    about["hostname"].as_str().map(str::to_owned)
}

async fn connect(lane: usize, address: SocketAddr) -> Result<Sender, String> {
    let socket = tokio::net::TcpSocket::new_v4().map_err(|error| error.to_string())?;
    let last = u8::try_from(lane + 1).unwrap_or(1);
    if address.ip().is_loopback() {
        let source = SocketAddr::from((Ipv4Addr::new(127, 9, 0, last), 0));
        socket.bind(source).map_err(|error| format!("bind {source}: {error}"))?;
    }
    let stream = socket.connect(address).await.map_err(|error| format!("connect: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("handshake: {error}"))?;
    // Ends when its sender is dropped; its errors arrive at the request too.
    tokio::spawn(connection);
    Ok(sender)
}

fn request_for(job: &Job, jar: &Jar) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::builder()
        .method(job.call.method)
        .uri(job.call.path)
        .header("host", "shop.test")
        .header("user-agent", format!("visitor-{}", job.client))
        .header("x-request-id", job.id());
    if job.call.navigation {
        request = request
            .header("accept", "text/html,application/xhtml+xml")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document");
    }
    let jars = jar.lock().expect("no test panics with this lock");
    if let Some(cookies) = jars.get(&job.client)
        && !cookies.is_empty()
    {
        let pairs: Vec<String> =
            cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        request = request.header("cookie", pairs.join("; "));
    } else {
        // Else the address stands for the client, and many clients share the one of their lane.
        request = request.header("authorization", format!("Bearer visitor-{}", job.client));
    }
    let body = if job.call.method == "POST" { "cup" } else { "" };
    request.body(Full::from(body))
}

fn holds_place(client: usize, jar: &Jar) -> bool {
    let jars = jar.lock().expect("no test panics with this lock");
    jars.get(&client).is_some_and(|cookies| cookies.contains_key(PLACE))
}

fn keep_cookies(client: usize, headers: &http::HeaderMap, jar: &Jar) {
    for line in headers.get_all("set-cookie") {
        let text = line.to_str().unwrap_or_default();
        let pair = text.split(';').next().unwrap_or_default();
        if let Some((name, value)) = pair.split_once('=') {
            let mut jars = jar.lock().expect("no test panics with this lock");
            let mine = jars.entry(client).or_default();
            mine.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
}
