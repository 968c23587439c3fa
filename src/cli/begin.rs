//! Commands of the beginning: the operator's file, the daemon, the demo.

pub mod check;
pub mod demo;
pub mod init;
pub mod serve;
