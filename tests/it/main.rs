//! Integration tests.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod admin;
mod commands;
mod daemon;
mod demo;
mod faults;
mod full_disk;
mod gate;
mod help;
mod init;
mod lost;
mod ports;
mod proofs;
mod reload;
mod report;
mod scheduled;
mod tidy;
mod untrusted;
