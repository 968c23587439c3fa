//! The data plane through raw sockets: what clients and upstreams see, byte by byte.
//!
//! Upstreams are small blocking servers in threads of the test; clients write and read text. No
//! test sleeps: each waits for a condition with a deadline.

mod harness;
mod routing;
