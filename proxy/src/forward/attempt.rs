//! Asking an upstream: which endpoint, which connection, and whether to ask again.
//!
//! A connection that cannot be made is always tried at another endpoint of the same color. A reused
//! connection that dies before the first byte of the answer is tried once more if nothing was sent
//! or the method is idempotent and the budget allows. Invariant: a request that may have been acted
//! upon is never sent twice, and nothing is retried once an answer has begun.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use rustix::io::Errno;

use super::body::{Lent, Progress, Upload};
use super::exchange::Exchange;
use super::headers;
use super::upgrade::Asked;
use crate::error::Fault;
use crate::message::Class;
use crate::upstream::{Connection, Endpoint, FirstByte, Load, Tried, Upstream, connect};
use crate::worker::inbound::Inbound;
use crate::worker::watch::{Stage, Watch};

/// Attempts for one request at most, however many endpoints there are.
const MOST: u8 = 8;
/// A request that cannot be repeated, by its method or because it has a body, takes no connection
/// that was idle for longer: the shorter it was idle, the less likely its server is closing it.
const FRESH: Duration = Duration::from_secs(1);

/// The head of an answer, and the connection on which its body will come.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) lent: Lent,
    /// When the request was written and when the head of its answer was read, by the worker's
    /// clock; 0 where it was not seen.
    pub(crate) times: (u64, u64),
    /// Between two pieces of the body.
    pub(crate) limit: Duration,
}

/// What to do after an attempt that failed.
enum Next {
    /// Ask again with this request.
    Again(Box<Request<Upload>>),
    Fail(Fault),
}

/// Asks until there is an answer or nobody left to ask.
pub(crate) async fn ask(
    inbound: &Arc<Inbound>,
    exchange: &mut Exchange,
    parts: Parts,
    mut upload: Upload,
    asked: &Asked,
) -> Result<Answered, Fault> {
    let worker = &inbound.worker;
    let (upstream, deadlines) = {
        let lease = exchange.lease().ok_or(Fault::NoRoute)?;
        let upstream = lease.route().upstreams.get(lease.color).clone();
        (upstream, lease.app().spec.deadlines.clone())
    };
    upload.answer_within(deadlines.answer);
    upstream.earn(worker.index);
    let progress = upload.progress();
    let repeatable = is_idempotent(&parts.method) && progress.is_none();
    let mut request = Request::from_parts(parts, upload);
    let mut tried = Tried::default();
    let mut stale = false;
    for _ in 0..MOST {
        let Some(endpoint) = upstream.pick(worker.index, worker.now_ms(), &tried) else { break };
        let load = Load::new(endpoint.clone(), worker.index);
        exchange.attempt();
        let pooled = if stale { None } else { reuse(inbound, endpoint, repeatable) };
        let mut connection = match pooled {
            Some(connection) => connection,
            None => match fresh(inbound, endpoint, deadlines.connect).await {
                Ok(connection) => connection,
                Err(Fault::Exhausted) => return Err(Fault::Exhausted),
                Err(_) => {
                    tried.add(&upstream, endpoint);
                    if upstream.pick(worker.index, worker.now_ms(), &tried).is_none() {
                        return Err(Fault::Unreachable);
                    }
                    exchange.attempt_failed(Class::Connect);
                    continue;
                }
            },
        };
        let replay = replay(&connection, &request, repeatable);
        inbound.watch.arm(Stage::Answer, deadlines.answer);
        let answered = send(inbound, &mut connection, request, progress.as_deref(), asked).await;
        inbound.watch.disarm(Stage::Answer);
        match answered {
            Ok((response, times)) => {
                let lent = Lent { connection, load, upload: progress };
                return Ok(Answered { response, lent, times, limit: deadlines.progress });
            }
            Err(failure) => {
                let next = failure.next(connection.used, replay, &upstream, worker.index);
                stale = true;
                match next {
                    Next::Again(again) => request = *again,
                    Next::Fail(fault) => return Err(fault),
                }
            }
        }
    }
    Err(if upstream.endpoints.is_empty() { Fault::NoEndpoint } else { Fault::Unreachable })
}

fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

fn reuse(inbound: &Inbound, endpoint: &Arc<Endpoint>, repeatable: bool) -> Option<Connection> {
    let worker = &inbound.worker;
    let keep = worker.settings().timeouts.upstream_idle;
    let keep = if repeatable { keep } else { keep.min(FRESH) };
    endpoint.take(worker.index, worker.now_ms(), keep)
}

async fn fresh(
    inbound: &Inbound,
    endpoint: &Arc<Endpoint>,
    deadline: Duration,
) -> Result<Connection, Fault> {
    let worker = &inbound.worker;
    let header_bytes = worker.settings().limits.header_bytes;
    // Boxed: it is rare, and would make every request's future larger.
    match Box::pin(connect(endpoint.address, deadline, header_bytes, worker.began())).await {
        Ok(connection) => {
            endpoint.reached(worker.index);
            Ok(connection)
        }
        Err(error) if is_exhaustion(&error) => {
            tracing::warn!(%error, "this host cannot make more connections");
            Err(Fault::Exhausted)
        }
        Err(error) => {
            tracing::debug!(address = %endpoint.address, %error, "no connection to an endpoint");
            endpoint.failed(worker.index, worker.now_ms());
            Err(Fault::Unreachable)
        }
    }
}

/// Whether the error is about this host and not about the endpoint.
fn is_exhaustion(error: &std::io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        code,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL)
    )
}

/// A copy of the request, where it may be needed: it may be repeated, and goes on a connection that
/// may be closing.
fn replay(
    connection: &Connection,
    request: &Request<Upload>,
    repeatable: bool,
) -> Option<Request<Upload>> {
    let Upload::Empty { stated } = *request.body() else { return None };
    (connection.used && repeatable).then(|| {
        let mut copy = Request::new(Upload::Empty { stated });
        request.method().clone_into(copy.method_mut());
        request.uri().clone_into(copy.uri_mut());
        request.headers().clone_into(copy.headers_mut());
        copy
    })
}

/// An attempt that ended without an answer.
struct Failure {
    fault: Fault,
    /// The request, if no byte of it was written.
    unsent: Option<Box<Request<Upload>>>,
    /// Whether the answer had begun.
    begun: bool,
}

impl Failure {
    fn new(fault: Fault) -> Self {
        Self { fault, unsent: None, begun: true }
    }

    fn next(
        self,
        used: bool,
        replay: Option<Request<Upload>>,
        upstream: &Upstream,
        worker: usize,
    ) -> Next {
        if let Some(request) = self.unsent {
            return Next::Again(request);
        }
        match replay {
            Some(request) if used && !self.begun && upstream.spend(worker) => {
                Next::Again(Box::new(request))
            }
            _ => Next::Fail(self.fault),
        }
    }
}

/// Sends the request and waits for the head of its answer, under the watch.
async fn send(
    inbound: &Inbound,
    connection: &mut Connection,
    request: Request<Upload>,
    progress: Option<&Progress>,
    asked: &Asked,
) -> Result<(Response<Incoming>, (u64, u64)), Failure> {
    let first = connection.begin();
    let mut answer = pin!(connection.sender.try_send_request(request));
    let watch: &Watch = &inbound.watch;
    let answered = std::future::poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(answered) => Poll::Ready(Ok(answered)),
        Poll::Pending if watch.has_fired(Stage::Body) => Poll::Ready(Err(Fault::Slow)),
        Poll::Pending if watch.has_fired(Stage::Answer) => Poll::Ready(Err(Fault::TooLate)),
        Poll::Pending if watch.is_ended() => Poll::Ready(Err(Fault::Ended)),
        Poll::Pending => Poll::Pending,
    })
    .await
    .map_err(Failure::new)?;
    match answered {
        Ok(response) => {
            let times = first.answered();
            check(response, asked).map(|response| (response, times)).map_err(Failure::new)
        }
        Err(error) => Err(judge(error, &first, progress)),
    }
}

fn check(response: Response<Incoming>, asked: &Asked) -> Result<Response<Incoming>, Fault> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        asked.switched(response.headers())?;
    }
    headers::answer_framing(&response)?;
    Ok(response)
}

fn judge(
    mut error: hyper::client::conn::TrySendError<Request<Upload>>,
    first: &FirstByte,
    progress: Option<&Progress>,
) -> Failure {
    if progress.is_some_and(Progress::is_faulty) {
        return Failure::new(Fault::Upload);
    }
    let unsent = error.take_message().map(Box::new);
    let error = error.into_error();
    tracing::debug!(%error, "an upstream did not answer");
    let fault = if error.is_parse() {
        Fault::BadAnswer("the application's answer is not HTTP")
    } else {
        Fault::Broken
    };
    Failure { fault, unsent, begun: first.came() }
}
