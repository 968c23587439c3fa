//! One request from its head to its end: what is recorded about it.
//!
//! Invariant: every attempt ends in one count, every request in one access record, whichever way it
//! ends; a client that leaves before the answer charges nobody (I16).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cutover_model::Role;
use http::{HeaderValue, Method, Request, StatusCode, Uri};

use crate::client::{Choice, Visitor};
use crate::error::Fault;
use crate::message::{Class, Outcome, Routed};
use crate::signals::AccessRecord;
use crate::worker::inbound::{Inbound, Stay};
use crate::worker::lease::Lease;
use crate::worker::watch::Stage;

/// The most of a method that any record keeps: a method may be as long as a head.
const METHOD: usize = 32;
/// The most of a path that a failure's record keeps.
const PATH: usize = 120;
/// The most of a target that an access record keeps.
const TARGET: usize = 2_000;
const HEX: &[u8; 16] = b"0123456789abcdef";
/// The longest request id that is taken over from a client.
const ID: usize = 128;

/// One request on its way.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) method: Method,
    uri: Uri,
    /// Only where there is an access log.
    host: Option<HeaderValue>,
    started: Instant,
    /// When the read ended that brought the end of the head, by the worker's clock; 0: not known,
    /// or the request waited for something that is not of our making.
    read: u64,
    pub(crate) request_id: HeaderValue,
    pub(crate) visitor: Visitor,
    routed: Option<Way>,
    attempts: u8,
    status: u16,
    latency_us: u64,
    ended: bool,
}

#[derive(Debug)]
struct Way {
    lease: Lease,
    routed: Routed,
    role: Role,
    client: u64,
}

impl Exchange {
    pub(crate) fn begin<B>(inbound: &Arc<Inbound>, request: &Request<B>) -> Self {
        inbound.watch.begin_serving();
        let read = inbound.notes.head_was_read();
        let logged = inbound.worker.settings().access_log.is_some();
        Self {
            inbound: inbound.clone(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: request.headers().get(http::header::HOST).filter(|_| logged).cloned(),
            started: match read {
                0 => Instant::now(),
                read => inbound.worker.began() + Duration::from_nanos(read),
            },
            read,
            request_id: request_id(request.headers().get("x-request-id")),
            visitor: Visitor { ip: inbound.peer.ip() },
            routed: None,
            attempts: 0,
            status: 0,
            latency_us: 0,
            ended: false,
        }
    }

    pub(crate) fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    pub(crate) fn routed(&mut self, lease: Lease, choice: &Choice) {
        let split = lease.app().spec.split;
        let role = if lease.color == split.stable { Role::Stable } else { Role::Canary };
        let keys = &self.inbound.worker.shared.keys;
        let key = choice.key().unwrap_or_else(|| self.inbound.address_key(self.visitor.ip));
        let client = keys.name(key);
        self.routed = Some(Way { lease, routed: choice.routed(), role, client });
    }

    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.routed.as_ref().map(|way| &way.lease)
    }

    /// The answer was 101: from now on the lease is a tunnel's, and the record is written.
    pub(crate) fn become_tunnel(&mut self) {
        self.end(None);
        self.inbound.watch.disarm(Stage::Head);
        if let Some(way) = &mut self.routed {
            way.lease.become_tunnel();
            self.inbound.watch.hold(way.lease.id());
            self.inbound.watch.become_stream();
        }
    }

    pub(crate) fn attempt(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    /// The head of the answer is there.
    pub(crate) fn head(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.latency_us = self.elapsed_us();
    }

    /// It waited at a gate: that time is not the proxy's own.
    pub(crate) fn waited(&mut self) {
        self.read = 0;
    }

    /// The answer goes to the client now: its first write tells how long the request was with us.
    /// `times`: when it was written to the upstream, and when the answer's head was read.
    pub(crate) fn leads_to_client(&self, (sent, answered): (u64, u64)) {
        // A second attempt is time that the first endpoint took.
        if self.read == 0 || sent < self.read || answered < sent || self.attempts != 1 {
            return;
        }
        if let Some(way) = &self.routed {
            let stay = Stay { before: sent - self.read, answered };
            self.inbound.notes.leave(stay, way.lease.spot());
        }
    }

    /// When the head was parsed, by the wall clock.
    fn at_ms(&self) -> i64 {
        let began = SystemTime::now().checked_sub(self.started.elapsed());
        let since = began.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// An attempt failed and another one follows.
    pub(crate) fn attempt_failed(&self, class: Class) {
        self.count(class, None, self.elapsed_us());
    }

    /// The answer was delivered, or broke off after its head: `broken` by the upstream.
    pub(crate) fn end(&mut self, broken: Option<Class>) {
        let class = broken.unwrap_or_else(|| class_of(self.status));
        self.finish(class, Some(self.status));
    }

    /// The request ends with a page of ours.
    pub(crate) fn fail(&mut self, fault: Fault) {
        self.status = fault.status().as_u16();
        self.latency_us = self.elapsed_us();
        self.finish(fault.class(), None);
    }

    /// The request ends with an answer of ours that is no failure.
    pub(crate) fn end_own(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.latency_us = self.elapsed_us();
        self.finish(Class::Ok, None);
    }

    fn finish(&mut self, class: Class, status: Option<u16>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let latency = if self.latency_us == 0 { self.elapsed_us() } else { self.latency_us };
        self.latency_us = latency;
        self.count(class, status, latency);
        self.inbound.worker.log(|| self.access(class));
        // What was read before the answer was there is the head of no later request.
        self.inbound.notes.head_was_read();
        let watch = &self.inbound.watch;
        watch.release();
        watch.end_serving();
        watch.keep(crate::worker::watch::Stage::Head, self.inbound.worker.settings().timeouts.idle);
    }

    fn count(&self, class: Class, status: Option<u16>, latency_us: u64) {
        let worker = &self.inbound.worker;
        let Some(way) = &self.routed else {
            worker.unrouted.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let color = way.lease.color_table();
        color.series.record(worker.index, way.routed, class, latency_us);
        if class.is_failure() {
            worker.record(Outcome {
                at_ms: self.at_ms(),
                app: way.lease.app().spec.app.clone(),
                release: color.release,
                color: way.lease.color,
                role: way.role,
                generation: way.lease.local.table.generation,
                route: u16::try_from(way.lease.route).unwrap_or(u16::MAX),
                class,
                status,
                method: cut(self.method.as_str(), METHOD).to_owned(),
                path: cut(self.uri.path(), PATH).to_owned(),
                client: way.client,
                latency_us,
                attempt: self.attempts,
                routed: way.routed,
            });
        }
    }

    fn access(&self, class: Class) -> AccessRecord {
        let way = self.routed.as_ref();
        let host = self.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let target = self.uri.path_and_query().map_or("", |target| target.as_str());
        let target = crate::client::without_token(target);
        AccessRecord {
            at_ms: self.at_ms(),
            generation: match way {
                Some(way) => way.lease.local.table.generation,
                None => self.inbound.worker.shared.board.table.load().generation,
            },
            app: way.map(|way| way.lease.app().spec.app.clone()),
            release: way.and_then(|way| way.lease.color_table().release),
            color: way.map(|way| way.lease.color),
            role: way.map(|way| way.role),
            routed: way.map(|way| way.routed),
            class,
            status: self.status,
            method: cut(self.method.as_str(), METHOD).to_owned(),
            host: cut(host, PATH).to_owned(),
            target: cut(&target, TARGET).to_owned(),
            client: self.visitor.ip,
            request_id: self.request_id().to_owned(),
            latency_us: self.latency_us,
            attempts: self.attempts,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended {
            // The client left. After the head the status stands for itself; before it nobody is
            // to blame.
            let class = if self.status == 0 { Class::ClientFault } else { class_of(self.status) };
            let status = (self.status != 0).then_some(self.status);
            self.finish(class, status);
        }
    }
}

fn class_of(status: u16) -> Class {
    match status {
        500.. => Class::ServerError,
        400..500 => Class::ClientError,
        _ => Class::Ok,
    }
}

/// Takes over a harmless id, or draws one.
fn request_id(given: Option<&HeaderValue>) -> HeaderValue {
    let harmless = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:+/=@".contains(b);
    match given {
        Some(id) if (1..=ID).contains(&id.len()) && id.as_bytes().iter().all(harmless) => {
            id.clone()
        }
        _ => {
            let mut text = [0; 32];
            for (pair, byte) in text.chunks_mut(2).zip(rand::random::<[u8; 16]>()) {
                for (digit, half) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                    *digit = HEX[usize::from(half)];
                }
            }
            HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0"))
        }
    }
}

/// At most `most` bytes, on a character boundary.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}
