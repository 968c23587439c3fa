//! Cutover: a blue-green and canary traffic switcher for applications that run from a compose file.
//!
//! This library is the program's inside; `ARCHITECTURE.md` is its map. Traffic is the proxy's,
//! decisions are the model's, the operator's file is the config package's.

pub mod adopt;
pub mod api;
pub mod cli;
pub mod client;
pub mod controller;
pub mod crash;
pub mod daemon;
pub mod demo;
pub mod host;
pub mod init;
pub mod journal;
pub mod reconciler;
pub mod report;
pub mod text;
