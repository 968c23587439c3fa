//! Commands of the beginning: the operator's file, the daemon, the demo.

pub mod adopt;
pub mod check;
pub mod demo;
pub mod init;
pub mod leave;
pub mod serve;
