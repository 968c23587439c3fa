//! Which header fields pass, which are dropped, which are ours.
//!
//! Sources: RFC 9110 section 7.6 (Connection, hop-by-hop, Via), RFC 7239 (Forwarded). Invariant:
//! what `Connection` names is dropped before anything of ours is added, so that a client cannot make
//! us drop what we vouch for; framing fields never pass, they are made anew from the body.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, COOKIE, EXPECT, FORWARDED, HOST, MAX_FORWARDS, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming};

use super::target::Target;
use crate::client::{COLOR_HEADER, Visitor, strip_preview_cookie};
use crate::error::Fault;
use crate::worker::inbound::Inbound;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Fields that speak of this connection only.
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, UPGRADE, TRANSFER_ENCODING, HTTP2_SETTINGS];

/// Names that we set or judge by; some servers read `X_Forwarded_For` as the same thing.
const TWINS: [&str; 9] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "x-request-id",
    "x-cutover-color",
    "content-length",
    "transfer-encoding",
];

/// Only `100-continue` can be expected.
pub(crate) fn expectation(headers: &HeaderMap) -> Result<(), Fault> {
    let known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(EXPECT).iter().all(known) { Ok(()) } else { Err(Fault::Expectation) }
}

/// A request whose `Via` names us has come back: it would go round for ever.
pub(crate) fn seen_before(headers: &HeaderMap, inbound: &Inbound) -> Result<(), Fault> {
    let Some(name) = &inbound.worker.settings().via else { return Ok(()) };
    let ours = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        text.split(',').any(|entry| entry.split_ascii_whitespace().nth(1) == Some(name))
    };
    if headers.get_all(VIA).iter().any(ours) { Err(Fault::Loop) } else { Ok(()) }
}

/// Whether any field says that the request came through another proxy.
pub(crate) fn was_forwarded(headers: &HeaderMap) -> bool {
    [FORWARDED, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, REAL_IP, VIA]
        .iter()
        .any(|name| headers.contains_key(name))
}

/// Whether a field that lists tokens has this one.
pub(crate) fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        let text = value.to_str().unwrap_or_default();
        text.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
    })
}

/// Drops what speaks of one connection only: what `Connection` names, then the fixed set.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(','))
            .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
            .filter(|name| name != HOST)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Whether a field may stand behind a body: nothing that frames, routes, authenticates or speaks of
/// the connection, and nothing that we vouch for (RFC 9110, 6.5.1).
fn may_trail(name: &HeaderName) -> bool {
    let vouched = TWINS.contains(&name.as_str()) || [FORWARDED, VIA].contains(name);
    let fixed = [
        AUTHORIZATION,
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_RANGE,
        CONTENT_TYPE,
        COOKIE,
        EXPECT,
        HOST,
        MAX_FORWARDS,
        SET_COOKIE,
        TRAILER,
    ];
    !(vouched || HOP_BY_HOP.contains(name) || fixed.contains(name))
}

/// Drops the trailers that must not pass.
pub(crate) fn trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            let dropped: Vec<HeaderName> =
                trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
            for name in dropped {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// Makes a client's fields the upstream's.
pub(crate) fn to_upstream(
    parts: &mut Parts,
    inbound: &Inbound,
    target: &Target,
    visitor: Visitor,
    request_id: &str,
) {
    let headers = &mut parts.headers;
    let trailers = lists(headers, &TE, "trailers");
    drop_hop_by_hop(headers);
    headers.remove(EXPECT);
    headers.remove(CONTENT_LENGTH);
    headers.remove(COLOR_HEADER);
    drop_twins(headers);
    strip_preview_cookie(headers);
    if trailers {
        // TE goes from hop to hop: it is named in Connection again (RFC 9110, 10.1.4).
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
    forwarded(headers, inbound, target, visitor);
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    via(headers, inbound);
}

fn drop_twins(headers: &mut HeaderMap) {
    let twin = |name: &HeaderName| {
        let text = name.as_str();
        text.contains('_')
            && TWINS.iter().any(|ours| {
                ours.len() == text.len()
                    && ours.bytes().zip(text.bytes()).all(|(a, b)| a == b || a == b'-' && b == b'_')
            })
    };
    if headers.keys().any(twin) {
        let twins: Vec<HeaderName> = headers.keys().filter(|name| twin(name)).cloned().collect();
        for name in twins {
            headers.remove(name);
        }
    }
}

/// `X-Forwarded-*`, `X-Real-IP` and `Forwarded`: from an untrusted peer they are replaced, from a
/// trusted one continued.
fn forwarded(headers: &mut HeaderMap, inbound: &Inbound, target: &Target, visitor: Visitor) {
    let peer = inbound.peer.ip();
    let trusted = inbound.worker.settings().trusted_proxies.iter().any(|net| net.contains(peer));
    let element = headers.contains_key(FORWARDED).then(|| element(peer, target));
    if trusted {
        append(headers, &FORWARDED_FOR, &inbound.peer_text);
        headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
        headers.entry(FORWARDED_HOST).or_insert_with(|| target.host.clone());
        if let Some(Ok(element)) = element.map(|text| HeaderValue::from_str(&text)) {
            append(headers, &FORWARDED, &element);
        }
        if let Ok(ip) = HeaderValue::from_str(&visitor.ip.to_canonical().to_string()) {
            headers.insert(REAL_IP, ip);
        }
        return;
    }
    headers.remove(FORWARDED_PORT);
    headers.insert(FORWARDED_FOR, inbound.peer_text.clone());
    headers.insert(REAL_IP, inbound.peer_text.clone());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    headers.insert(FORWARDED_HOST, target.host.clone());
    if let Some(Ok(element)) = element.map(|text| HeaderValue::from_str(&text)) {
        headers.insert(FORWARDED, element);
    }
}

/// One element of `Forwarded` (RFC 7239).
fn element(peer: IpAddr, target: &Target) -> String {
    let peer = match peer.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    };
    let host = target.host.to_str().unwrap_or_default();
    format!("for={peer};host=\"{host}\";proto=http")
}

/// Adds a member at the end of a list field, as one line.
fn append(headers: &mut HeaderMap, name: &HeaderName, member: &HeaderValue) {
    let mut joined = Vec::new();
    for value in headers.get_all(name).iter().chain([member]) {
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(value.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(name, value);
    }
}

fn via(headers: &mut HeaderMap, inbound: &Inbound) {
    if let Some(ours) = &inbound.worker.shared.keys.via {
        if headers.contains_key(VIA) {
            append(headers, &VIA, ours);
        } else {
            headers.insert(VIA, ours.clone());
        }
    }
}

/// Makes an upstream's fields the client's.
pub(crate) fn to_client(response: &mut Response<Incoming>, method: &Method, inbound: &Inbound) {
    let bodiless = *method == Method::HEAD || response.status() == StatusCode::NOT_MODIFIED;
    let known = response.body().size_hint().exact();
    *response.version_mut() = http::Version::HTTP_11;
    let headers = response.headers_mut();
    drop_hop_by_hop(headers);
    if headers.contains_key(CONTENT_LENGTH) {
        let first = headers.get(CONTENT_LENGTH).cloned();
        match first {
            // A length that describes the body that GET would have got.
            Some(length) if bodiless => {
                headers.insert(CONTENT_LENGTH, length);
            }
            _ => {
                headers.remove(CONTENT_LENGTH);
            }
        }
    }
    if let (false, Some(length)) = (bodiless, known.filter(|length| *length > 0)) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    via(headers, inbound);
}

/// What is wrong with the framing of an answer, if anything (RFC 9112, 6.1).
pub(crate) fn answer_framing(response: &Response<Incoming>) -> Result<(), Fault> {
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Fault::BadAnswer("the application used an unknown Transfer-Encoding"));
    }
    if response.headers().contains_key(CONTENT_LENGTH) {
        return Err(Fault::BadAnswer("the application gave its answer two lengths"));
    }
    Ok(())
}
