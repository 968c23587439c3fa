//! The client's address and scheme: the peer's, or what a trusted proxy says.
//!
//! It decides nothing by them. Invariant: what a stranger writes into a header changes neither; the
//! chain in `X-Forwarded-For` is believed from its end, as far as trusted proxies wrote it.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};

use crate::worker::inbound::Inbound;

/// The client as far as its address tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// The address that the client is taken to have.
    pub(crate) ip: IpAddr,
}

/// The last address in `X-Forwarded-For` that no trusted proxy has, if the peer is trusted; the
/// peer otherwise.
pub(crate) fn visitor(headers: &HeaderMap, inbound: &Inbound) -> Visitor {
    let trusted = &inbound.worker.settings().trusted_proxies;
    let peer = inbound.peer.ip().to_canonical();
    let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(ip));
    if trusted.is_empty() || !is_trusted(peer) {
        return Visitor { ip: peer };
    }
    let mut last = peer;
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let entries = lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|b| *b == b','));
    for entry in entries {
        // Anything that is no address ends the chain: what lies beyond cannot be believed.
        let text = std::str::from_utf8(entry.trim_ascii()).unwrap_or_default();
        let Ok(ip) = text.parse::<IpAddr>() else { break };
        last = ip.to_canonical();
        if !is_trusted(last) {
            break;
        }
    }
    Visitor { ip: last }
}

/// How the client came to us or to the trusted proxy before us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// By `X-Forwarded-Proto` of a trusted proxy. Our own listeners speak plain HTTP.
pub(crate) fn scheme(headers: &HeaderMap, inbound: &Inbound) -> Scheme {
    let trusted = &inbound.worker.settings().trusted_proxies;
    let said = headers.get("x-forwarded-proto").map(HeaderValue::as_bytes);
    if said == Some(b"https") && trusted.iter().any(|net| net.contains(inbound.peer.ip())) {
        Scheme::Https
    } else {
        Scheme::Http
    }
}
