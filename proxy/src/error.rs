//! What can go wrong, and whose fault it is.
//!
//! A [`Fault`] ends one request: it knows the status, the words for the client, and the class that
//! it counts as. Invariant: one place (`pages`) turns a fault into an answer, and no fault made by
//! a client has a class that charges a color (I16).

pub(crate) mod pages;

use std::io;
use std::net::SocketAddr;

use http::StatusCode;

use crate::message::{Class, Refused};

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {}", listen_reason(.error, .owner.as_deref(), .address))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
        /// Who has the port, as `nginx (pid 812)`, when that can be known.
        owner: Option<String>,
    },
    /// A socket that was handed in is not a listening one.
    #[error("an inherited socket is not usable: {0}")]
    Inherited(io::Error),
    /// A thread, a runtime or a socket option was refused.
    #[error("the proxy's threads could not be started: {0}")]
    Runtime(io::Error),
    /// The first table is not a good one.
    #[error("the routing table is not usable: {0}")]
    Table(#[from] Refused),
}

fn listen_reason(error: &io::Error, owner: Option<&str>, address: &SocketAddr) -> String {
    match owner {
        Some(owner) => format!("port {} is taken by {owner}", address.port()),
        None => error.to_string(),
    }
}

/// Why a request was not answered by an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request breaks a rule of HTTP; the text says which.
    Malformed(&'static str),
    /// The request's body was cut, badly framed or too slow.
    Upload,
    /// The client was too slow with the body.
    Slow,
    /// Something in the request is not supported.
    Unsupported(&'static str),
    /// An expectation other than `100-continue`.
    Expectation,
    /// No app has a route for it.
    NoRoute,
    /// The link to a preview is expired or forged.
    Preview,
    /// The request has come through here before.
    Loop,
    /// The color has no endpoint for the service.
    NoEndpoint,
    /// No endpoint could be reached.
    Unreachable,
    /// This host has no more descriptors, ports or memory for a connection: not the color's fault.
    Exhausted,
    /// The connection broke before the answer.
    Broken,
    /// The answer breaks a rule of HTTP.
    BadAnswer(&'static str),
    /// The upstream did not answer in time.
    TooLate,
    /// The request was ended by a drain or by the end of the proxy.
    Ended,
    /// Too many requests wait at the app's gate, or it waited for too long; when to come back, in
    /// seconds.
    Held(u32),
    /// The client closed its side while its request waited.
    Left,
    /// The app's gate is closed; when to come back, in seconds.
    Closed(u32),
}

impl Fault {
    /// The status that the client gets.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Upload | Self::Left => StatusCode::BAD_REQUEST,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Preview => StatusCode::FORBIDDEN,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::NoEndpoint | Self::Exhausted | Self::Ended | Self::Held(_) | Self::Closed(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Unreachable | Self::Broken | Self::BadAnswer(_) => StatusCode::BAD_GATEWAY,
            Self::TooLate => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What it counts as; the color is charged for its own faults only.
    pub(crate) fn class(self) -> Class {
        match self {
            Self::NoEndpoint | Self::Unreachable => Class::Connect,
            Self::Broken | Self::BadAnswer(_) => Class::Reset,
            Self::TooLate => Class::Timeout,
            _ => Class::ClientFault,
        }
    }

    /// Whether the connection to the client can carry another request.
    pub(crate) fn closes(self) -> bool {
        matches!(
            self,
            Self::Malformed(_)
                | Self::Upload
                | Self::Slow
                | Self::Unsupported(_)
                | Self::Ended
                | Self::Left
        )
    }

    /// When the client shall come back, in seconds; said with 503.
    pub(crate) fn retry_after_s(self) -> u32 {
        match self {
            Self::Held(seconds) | Self::Closed(seconds) => seconds,
            _ => 2,
        }
    }

    /// Words for the client: what happened, and what to do where there is something to do.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Malformed(rule) | Self::Unsupported(rule) => rule,
            Self::Upload => "the request body was cut off or badly framed",
            Self::Slow => "the request body did not arrive in time",
            Self::Expectation => "only the expectation 100-continue is supported",
            Self::NoRoute => "no application is configured for this address",
            Self::Preview => "this preview link is no longer valid; ask for a new one",
            Self::Loop => "the request came back to the proxy that sent it",
            Self::NoEndpoint => "the application is not running right now; try again in a moment",
            Self::Unreachable => "the application could not be reached; try again in a moment",
            Self::Exhausted => "the server is overloaded; try again in a moment",
            Self::Broken => "the application closed the connection without a complete answer",
            Self::BadAnswer(rule) => rule,
            Self::TooLate => "the application did not answer in time",
            Self::Ended => "the request was ended because the application is going away",
            Self::Held(_) => "the application is busy for a moment; try again in a few seconds",
            Self::Left => "the client closed its side while its request waited",
            Self::Closed(_) => "the site is down for maintenance and will be back soon",
        }
    }
}
