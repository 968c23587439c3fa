//! Cutover.

pub mod host;
pub mod journal;
