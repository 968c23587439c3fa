//! The WebSocket handshake: passed on, and after the upstream's 101 the connections are joined.
//!
//! RFC 9110 section 7.8 and RFC 6455. Only `websocket` passes, only when `Connection` lists
//! `upgrade`, only after the upstream's 101. Invariant: a tunnel holds its lease and its place
//! under the limit of connections until both sides are closed.

mod frames;
mod tunnel;

use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, Version};
use hyper::body::{Body, Incoming};
use hyper::upgrade::{OnUpgrade, Upgraded};

use super::attempt::Answered;
use super::body::Answer;
use super::exchange::Exchange;
use super::headers::{self, lists};
use super::present::Present;
use crate::error::Fault;
use crate::upstream::UpstreamIo;
use crate::worker::inbound::ClientIo;
use tunnel::{Ends, Side};

/// What a client asked for besides an answer.
pub(crate) enum Asked {
    Nothing,
    /// A tunnel; the client's side of it will be here once 101 was sent.
    WebSocket(OnUpgrade),
}

/// What the request asks for.
pub(crate) fn asked(parts: &mut Parts, present: Present, body: &Incoming) -> Asked {
    if !present.any(Present::UPGRADE) {
        return Asked::Nothing;
    }
    // Whatever hyper thinks of the request must not travel on with it.
    let waiting = parts.extensions.remove::<OnUpgrade>();
    // With a body it would be open where that ends and the tunnel begins.
    let websocket = parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && body.is_end_stream()
        && lists(&parts.headers, &CONNECTION, "upgrade")
        && names_websocket(&parts.headers);
    match waiting {
        Some(waiting) if websocket => Asked::WebSocket(waiting),
        _ => Asked::Nothing,
    }
}

/// Whether `Upgrade` names WebSocket and nothing else.
fn names_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(UPGRADE).iter();
    let first = protocols.next().map(HeaderValue::as_bytes).unwrap_or_default();
    first.eq_ignore_ascii_case(b"websocket") && protocols.next().is_none()
}

impl Asked {
    /// Checks the fields of a 101 (RFC 9110, 7.8).
    ///
    /// # Errors
    /// [`Fault::BadAnswer`] if nobody asked, or if it is not the protocol that was asked for.
    pub(crate) fn switched(&self, headers: &HeaderMap) -> Result<(), Fault> {
        match self {
            Self::Nothing => {
                Err(Fault::BadAnswer("the application switched protocols without being asked"))
            }
            Self::WebSocket(_) if names_websocket(headers) => Ok(()),
            Self::WebSocket(_) => {
                Err(Fault::BadAnswer("the application switched to a protocol nobody asked for"))
            }
        }
    }

    /// Puts the hop-by-hop fields of the handshake back.
    pub(crate) fn to_upstream(&self, headers: &mut HeaderMap) {
        if matches!(self, Self::WebSocket(_)) {
            headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
    }
}

/// Answers 101 and joins the two connections in a task of their own.
pub(crate) fn open(mut exchange: Exchange, answered: Answered, asked: Asked) -> Response<Answer> {
    let Answered { mut response, lent, .. } = answered;
    let upstream = hyper::upgrade::on(&mut response);
    headers::to_client(&mut response, &exchange.method, &exchange.inbound);
    let response_headers = response.headers_mut();
    response_headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response_headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    exchange.become_tunnel();
    if let Asked::WebSocket(client) = asked {
        // The task ends with either side, with its deadline, or when its lease is ended.
        tokio::spawn(async move {
            if let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream)
                && let Some(ends) = ends(client, upstream)
            {
                tunnel::run(&exchange.inbound, ends).await;
            }
            drop((exchange, lent));
        });
    }
    response.map(|_| Answer::Empty)
}

/// The sockets under both connections, with what was read from them too far.
fn ends(client: Upgraded, upstream: Upgraded) -> Option<Ends> {
    let client = client.downcast::<ClientIo>().ok()?;
    let upstream = upstream.downcast::<UpstreamIo>().ok()?;
    Some(Ends {
        client: Side::new(client.io.stream, upstream.read_buf),
        upstream: Side::new(upstream.io.inner.into_inner(), client.read_buf),
    })
}
