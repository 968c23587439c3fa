//! The data plane through raw sockets: what clients and upstreams see, byte by byte.
//!
//! Upstreams are small blocking servers in threads of the test; clients write and read text. No
//! test sleeps: each waits for a condition with a deadline.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clients;
mod deadlines;
mod faults;
mod framing;
mod gate;
mod harness;
mod headers;
mod listening;
mod pages;
mod pooling;
mod ports;
mod routing;
mod signals;
mod streaming;
mod switching;
mod tunnels;
