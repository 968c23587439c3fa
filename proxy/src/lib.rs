//! Data plane of Cutover: listeners, the routing table and its switch, the request path, pools.
//!
//! It has never heard of Docker, PostgreSQL or git; the control plane drives it by the serialisable
//! messages of [`message`].

pub mod message;
