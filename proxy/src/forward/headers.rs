//! Which header fields pass, which are dropped, which are ours.
//!
//! Sources: RFC 9110 section 7.6 (Connection, hop-by-hop, Via), RFC 7239 (Forwarded). Invariant:
//! what `Connection` names is dropped before anything of ours is added, so that a client cannot
//! make us drop what we vouch for; framing fields never pass, they are made anew from the body.

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

use super::present::Present;
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
const HOP_BY_HOP: [(Present, HeaderName); 7] = [
    (Present::CONNECTION, CONNECTION),
    (Present::KEEP_ALIVE, KEEP_ALIVE),
    (Present::PROXY_CONNECTION, PROXY_CONNECTION),
    (Present::TE, TE),
    (Present::UPGRADE, UPGRADE),
    (Present::TRANSFER_ENCODING, TRANSFER_ENCODING),
    (Present::HTTP2_SETTINGS, HTTP2_SETTINGS),
];

/// Only `100-continue` can be expected.
pub(crate) fn expectation(headers: &HeaderMap, present: Present) -> Result<(), Fault> {
    if !present.any(Present::EXPECT) {
        return Ok(());
    }
    let known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(EXPECT).iter().all(known) { Ok(()) } else { Err(Fault::Expectation) }
}

/// A request whose `Via` names us has come back: it would go round for ever.
pub(crate) fn seen_before(
    headers: &HeaderMap,
    present: Present,
    inbound: &Inbound,
) -> Result<(), Fault> {
    let Some(name) = &inbound.worker.settings().via else { return Ok(()) };
    if !present.any(Present::VIA) {
        return Ok(());
    }
    let ours = |value: &HeaderValue| {
        members(value).any(|entry| entry.split_ascii_whitespace().nth(1) == Some(name))
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
    let lines = headers.get_all(name).iter();
    lines.flat_map(members).any(|member| member.eq_ignore_ascii_case(token))
}

/// The members of one line of a list. One that is no text is none, and hides no other one.
fn members(line: &HeaderValue) -> impl Iterator<Item = &str> {
    let members = line.as_bytes().split(|byte| *byte == b',');
    members.filter_map(|member| std::str::from_utf8(member.trim_ascii()).ok())
}

/// Drops what speaks of one connection only: what `Connection` names, then the fixed set. Returns
/// what is present afterwards.
fn drop_hop_by_hop(headers: &mut HeaderMap, present: Present) -> Present {
    if !present.any(Present::HOP_BY_HOP) {
        return present;
    }
    let named = if present.any(Present::CONNECTION) { named(headers) } else { Vec::new() };
    for name in &named {
        headers.remove(name);
    }
    for (field, name) in &HOP_BY_HOP {
        if present.any(*field) {
            headers.remove(name);
        }
    }
    if named.is_empty() { present.without(Present::HOP_BY_HOP) } else { Present::look(headers) }
}

/// The fields that `Connection` names, but for those that are dropped anyway, and `Host`, which
/// nobody may take away.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let tokens = headers.get_all(CONNECTION).iter().flat_map(members);
    let known = ["close", "keep-alive", "upgrade", "te"];
    tokens
        .filter(|token| !known.iter().any(|known| known.eq_ignore_ascii_case(token)))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| name != HOST)
        .collect()
}

/// Whether a field may stand behind a body: nothing that frames, routes, authenticates or speaks of
/// the connection, and nothing that we vouch for (RFC 9110, 6.5.1).
fn may_trail(name: &HeaderName) -> bool {
    // Everything that is looked for is framing, hop-by-hop or ours, or reads like it.
    let vouched = Present::of(name.as_str()) != Present::default();
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
    !(vouched || fixed.contains(name))
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
    present: Present,
    inbound: &Inbound,
    target: &Target,
    visitor: Visitor,
    request_id: &HeaderValue,
) {
    let headers = &mut parts.headers;
    let trailers = present.any(Present::TE) && lists(headers, &TE, "trailers");
    // INVARIANT: what the client names is dropped before anything of ours is added.
    let present = drop_hop_by_hop(headers, present);
    for (field, name) in [
        (Present::EXPECT, EXPECT),
        (Present::CONTENT_LENGTH, CONTENT_LENGTH),
        (Present::COLOR, COLOR_HEADER),
    ] {
        if present.any(field) {
            headers.remove(name);
        }
    }
    if present.any(Present::TWIN) {
        drop_twins(headers);
    }
    if present.any(Present::COOKIE) {
        strip_preview_cookie(headers);
    }
    headers.reserve(8);
    if trailers {
        // TE goes from hop to hop: it is named in Connection again (RFC 9110, 10.1.4).
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
    forwarded(headers, present, inbound, target, visitor);
    headers.insert(REQUEST_ID, request_id.clone());
    via(headers, present, inbound);
}

fn drop_twins(headers: &mut HeaderMap) {
    let is_twin = |name: &&HeaderName| Present::of(name.as_str()) == Present::TWIN;
    let twins: Vec<HeaderName> = headers.keys().filter(is_twin).cloned().collect();
    for name in twins {
        headers.remove(name);
    }
}

/// `X-Forwarded-*`, `X-Real-IP` and `Forwarded`: from an untrusted peer they are replaced, from a
/// trusted one continued.
fn forwarded(
    headers: &mut HeaderMap,
    present: Present,
    inbound: &Inbound,
    target: &Target,
    visitor: Visitor,
) {
    let peer = inbound.peer.ip();
    let trusted = inbound.worker.settings().trusted_proxies.iter().any(|net| net.contains(peer));
    let element = present.any(Present::FORWARDED).then(|| element(peer, target));
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
    if present.any(Present::FORWARDED_PORT) {
        headers.remove(FORWARDED_PORT);
    }
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

fn via(headers: &mut HeaderMap, present: Present, inbound: &Inbound) {
    if let Some(ours) = &inbound.worker.shared.keys.via {
        if present.any(Present::VIA) {
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
    let present = drop_hop_by_hop(headers, Present::look(headers));
    if present.any(Present::CONTENT_LENGTH) {
        // One length: the body's, or the one that GET would have got.
        let length = match known {
            Some(length) if !bodiless => Some(HeaderValue::from(length)),
            _ => headers.get(CONTENT_LENGTH).cloned().filter(|_| bodiless),
        };
        match length {
            Some(length) => headers.insert(CONTENT_LENGTH, length),
            None => headers.remove(CONTENT_LENGTH),
        };
    }
    via(headers, present, inbound);
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
